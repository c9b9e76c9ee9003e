"""Which arrays of a container are X, y and weights: as named, as in the fit, or as is usual."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import zarr

from daskalt.data.containers import (
    Container,
    DatasetContainer,
    GroupContainer,
    is_inside,
    open_store,
)
from daskalt.data.labelled import is_dataset
from daskalt.errors import InputError

__all__ = ["Chosen", "Named", "choose", "choose_features", "takes_names"]

Method = TypeVar("Method", bound=Callable[..., Any])


class Named(NamedTuple):
    """A container, and the names of those of its arrays that are the features."""

    data: Any
    X: str | Sequence[str]


def takes_names(method: Method) -> Method:
    """Let a method be called with a container and, as a keyword beside it, the names for X.

    Its signature stays that of scikit-learn, whose first argument is called X.
    """

    @wraps(method)
    def call(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        if args and "X" in kwargs:
            args = (Named(args[0], kwargs.pop("X")), *args[1:])
        return method(estimator, *args, **kwargs)

    return cast(Method, call)


class Chosen(NamedTuple):
    """Arrays for X, y and the weights, and by which names a container has them."""

    X: Any
    y: Any
    sample_weight: Any
    members: dict[str, str | list[str]]


def choose(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    fit: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> Chosen:
    """Return the arrays that a user means.

    Parameters
    ----------
    X : container, Named or array-like
        What is no Zarr group, path of one or xarray Dataset is left as it is.
    y, sample_weight : str, list of str or array-like, optional
        Names of arrays in the container; a text that it does not have as a name is left as it is.
    fit : dict, optional
        Names that the fit had, for what is not given. Without it X is the two-dimensional array
        "X", or else all arrays but coordinates, y and weights, sorted by name; these are "y" and
        "sample_weight".
    columns : list of str, optional
        Names of the features in the fit, to be preferred to all arrays.

    Raises
    ------
    InputError
        When there is no array of a name, or its rows are not those of the others.
    StorageError
        When a store is missing or unreadable.
    """
    data, wanted, box = _open(X)
    if box is None:
        return Chosen(data, y, sample_weight, {})
    names = _Names(box, fit or {})
    if isinstance(y, str) and y == box.target and not box.has(y):
        y = "y"
    if sample_weight is None and (y is None or names.are_names(y)):
        sample_weight = names.usual("sample_weight")
    if y is None:
        y = names.usual("y")
    members = {
        role: named
        for role, given in (("y", y), ("sample_weight", sample_weight))
        if (named := names.named(role, given)) is not None
    }
    features = names.features(wanted, columns, members)
    arrays = {"y": y, "sample_weight": sample_weight}
    arrays |= {role: box.pick(role, named) for role, named in members.items()}
    like = arrays["y"] if "y" in members else None
    members = {"X": features, **members}
    _refuse_twice(members)
    return Chosen(box.pick("X", features, like), arrays["y"], arrays["sample_weight"], members)


def _refuse_twice(members: dict[str, Any]) -> None:
    """Raise InputError where an array is in more than one place, or in one more than once."""
    listed = Counter(
        name
        for names in members.values()
        for name in ([names] if isinstance(names, str) else names)
    )
    twice = sorted(name for name, count in listed.items() if count > 1)
    if twice:
        raise InputError(
            f"X, y and sample_weight name {', '.join(map(repr, twice))} twice: {members}. Name "
            "each array once."
        )


def choose_features(
    X: Any, fit: Mapping[str, Any] | None = None, columns: Sequence[str] | None = None
) -> Any:
    """Return the array that a user means by X, where there are no targets; see `choose`."""
    data, wanted, box = _open(X)
    if box is None:
        return data
    return box.pick("X", _Names(box, fit or {}).features(wanted, columns, {}))


def _open(X: Any) -> tuple[Any, Any, Container | None]:
    """What X is, the names that were given with it, and its arrays by name if it has any."""
    data, wanted = X if isinstance(X, Named) else (X, None)
    if isinstance(data, str | Path):
        data = open_store(data, "X")
    box: Container | None = None
    if isinstance(data, zarr.Group):
        box = GroupContainer(data)
    elif is_dataset(data):
        box = DatasetContainer(data)
    elif wanted is not None:
        raise InputError(
            f"X={wanted!r} beside a first argument of type {type(data).__name__}: only of a Zarr "
            "group or an xarray Dataset can X name arrays. Give X once, as an array."
        )
    return data, wanted, box


class _Names:
    """Which names stand for what, as far as the user does not say."""

    def __init__(self, box: Container, fit: Mapping[str, Any]) -> None:
        self.box = box
        self.fit = fit

    def are_names(self, given: Any) -> bool:
        """Whether ``given`` is the name of an array, or a list of such."""
        if isinstance(given, str):
            return self.box.has(given)
        listed = isinstance(given, list | tuple) and len(given) > 0
        return listed and all(isinstance(name, str) and self.box.has(name) for name in given)

    def named(self, role: str, given: Any) -> str | list[str] | None:
        """What is given for targets or weights, if that is names; None if it is arrays."""
        if self.are_names(given):
            return given if isinstance(given, str) else list(given)
        if isinstance(given, str) and _is_word(given):
            raise self.box.lacks(role, [given])
        return None

    def usual(self, role: str) -> Any:
        """The names that targets or weights had in the fit, or else have; None without such."""
        before = self.fit.get(role)
        if before is None:
            return role if self.box.has(role) and not self.box.is_coordinate(role) else None
        if self.are_names(before):
            return before
        if role == "y":
            listed = [before] if isinstance(before, str) else before
            raise self.box.lacks(role, [n for n in listed if not self.box.has(n)], fit=True)
        return None

    def features(
        self, wanted: Any, columns: Sequence[str] | None, others: dict[str, Any]
    ) -> str | list[str]:
        """The names of the features: as given, those of the fit, "X", or all that remain."""
        if wanted is not None:
            return self._there(wanted)
        before = self.fit.get("X")
        if before is not None and self.are_names(before):
            return before
        if columns is not None and all(map(self.box.has, columns)):
            return list(columns)
        if before is not None:
            return self._there(before, fit=True)
        array = self.box.get("X")
        if array is not None and array.ndim == 2:
            return "X"
        beside = {"y", "sample_weight"}
        for names in others.values():
            beside |= {names} if isinstance(names, str) else set(names)
        rest = [name for name in self.box.variables if name not in beside]
        if not rest:
            raise self.box.lacks("X", ["X"])
        return rest[0] if len(rest) == 1 and self.box.get(rest[0]).ndim != 1 else rest

    def _there(self, wanted: Any, fit: bool = False) -> str | list[str]:
        listed = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(listed, list | tuple | np.ndarray) or not len(listed):
            raise InputError(
                "X beside a first argument must be the name of an array in that, or a list of "
                f"names; got {type(wanted).__name__}. Give the features once, as an array, or name "
                "them."
            )
        wrong = [name for name in listed if not (isinstance(name, str) and self.box.has(name))]
        if wrong:
            raise self.box.lacks("X", wrong, fit)
        return wanted if isinstance(wanted, str) else [str(name) for name in listed]


def _is_word(text: str) -> bool:
    """Whether a text is more likely a name that is not there than the path of a store."""
    return is_inside(text) and "/" not in text and "." not in text and not Path(text).exists()

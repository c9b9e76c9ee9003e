"""Which arrays of a container are X, y and weights: as named, as in the fit, or by default."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import zarr

from daskalt.data.containers import (
    SHOWN,
    Container,
    DatasetContainer,
    GroupContainer,
    is_inside,
    open_store,
)
from daskalt.data.identity import names_of
from daskalt.data.labelled import is_data_array, is_dataset
from daskalt.errors import InputError

__all__ = ["Chosen", "Named", "choose_arrays", "choose_features", "takes_names", "without_names"]

Method = TypeVar("Method", bound=Callable[..., Any])


class Named(NamedTuple):
    """A container, and the names of its arrays that are the features."""

    data: Any
    X: str | Sequence[str]


def takes_names(method: Method) -> Method:
    """Let a function take a container and, as a further keyword, the names for X.

    Its signature stays that of scikit-learn, with an argument called X.
    """
    place = list(signature(method).parameters).index("X")

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > place and "X" in kwargs:
            rows = Named(args[place], kwargs.pop("X"))
            args = (*args[:place], rows, *args[place + 1 :])
        return method(*args, **kwargs)

    return cast(Method, call)


@contextmanager
def without_names(**cures: str) -> Iterator[None]:
    """Replace the cures in errors inside where names cannot be given, by argument."""
    try:
        yield
    except InputError as error:
        words = str(error)
        for role, cure in cures.items():
            words = words.replace(f"Name what is meant by {role}=.", cure)
        raise type(error)(words) from error


class Chosen(NamedTuple):
    """Arrays for X, y and the weights, and their names in the container."""

    X: Any
    y: Any
    sample_weight: Any
    members: dict[str, str | list[str]]


def choose_arrays(
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
        Anything but a Zarr group, the path of one or an xarray Dataset is returned as it is.
    y, sample_weight : str, list of str or array-like, optional
        Names of arrays in the container; a text that is no name in it is a path. An array of the
        container itself is treated like its name.
    fit : dict, optional
        Names in the fit, for those not given; empty if it had none, and then the features are the
        two-dimensional array "X" or must be named. None if this is the fit: X is that
        array "X", or else all arrays but coordinates, y and weights, sorted by name; these are "y"
        and "sample_weight".
    columns : list of str, optional
        Names of the features in the fit, preferred to all arrays.

    Raises
    ------
    InputError
        When there is no array of a name, or its rows do not match those of the others.
    StorageError
        When a store is missing or unreadable.
    """
    data, wanted, box = _open(X)
    if box is None:
        return Chosen(data, y, sample_weight, {})
    names = _Names(box, fit)
    if isinstance(y, str) and y == box.target and not box.has(y):
        y = "y"
    handed = {"y": y, "sample_weight": sample_weight}
    y, sample_weight = (names.recognised(role, array) for role, array in handed.items())
    if sample_weight is None and (y is None or names.are_names(y)):
        sample_weight = names.usual("sample_weight")
    if y is None:
        y = names.usual("y")
    members = {
        role: named
        for role, given in (("y", y), ("sample_weight", sample_weight))
        if (named := names.named(role, given)) is not None
    }
    arrays = {"y": y, "sample_weight": sample_weight}
    features = names.features(wanted, columns, members, arrays)
    arrays |= {role: box.pick(role, named) for role, named in members.items()}
    like = arrays["y"] if "y" in members else None
    members = {"X": features, **members}
    _refuse_twice(members)
    # Their own labels have to be checked.
    arrays |= {role: array for role, array in handed.items() if is_data_array(array)}
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
    """Return the array that a user means by X, where there are no targets; see `choose_arrays`."""
    data, wanted, box = _open(X)
    if box is None:
        return data
    return box.pick("X", _Names(box, fit).features(wanted, columns, {}, {}))


def _open(X: Any) -> tuple[Any, Any, Container | None]:
    """X itself, the names that were given with it, and its arrays by name if it has any."""
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
            f"X={_shown(wanted)} beside a first argument of type {type(data).__name__}: only of a "
            "Zarr group or an xarray Dataset can X name arrays. Give X once, as an array."
        )
    return data, wanted, box


class _Names:
    """The names of each role, as far as the user does not give them."""

    def __init__(self, box: Container, fit: Mapping[str, Any] | None) -> None:
        self.box = box
        self.predicts = fit is not None
        self.fit = fit or {}

    def are_names(self, given: Any) -> bool:
        """Whether ``given`` is the name of an array, or a list of such."""
        if isinstance(given, str):
            return self.box.has(given)
        listed = _listed(given)
        return bool(listed) and all(self.box.has(name) for name in listed or ())

    def named(self, role: str, given: Any) -> str | list[str] | None:
        """The names given for targets or weights; None if arrays are given."""
        if self.are_names(given):
            return given if isinstance(given, str) else _listed(given)
        if role == "y" and isinstance(given, int):
            raise InputError(
                f"y={given}: only text can name the targets. Rename that {self.box.thing}, as in "
                f'.rename({{{given}: "{given}"}}).'
            )
        wrong = [given] if isinstance(given, str) and _is_word(given) else []
        listed = _listed(given)
        if listed and not self._are_labels(listed):
            wrong = [name for name in listed if not self.box.has(name)]
        if wrong:
            raise self.box.lacks(role, wrong)
        return None

    def _are_labels(self, listed: list[str]) -> bool:
        """Whether texts are more likely the labels of rows than names."""
        if len(set(listed)) < len(listed):
            return True
        arrays = [self.box.get(name) for name in self.box.names]
        return (len(listed),) in {array.shape[:1] for array in arrays if array is not None}

    def recognised(self, role: str, given: Any) -> Any:
        """The name of targets or weights that are given as an array of the container itself."""
        if isinstance(given, Path) or (isinstance(given, str) and not self._is_name(given)):
            opened = open_store(given, role)
            given = opened if isinstance(opened, zarr.Array) else given
        if given is None or isinstance(given, str | Path) or not hasattr(given, "shape"):
            return given
        name = self.box.name_of(given)
        return given if name is None else name

    def _is_name(self, text: str) -> bool:
        return self.box.has(text) or _is_word(text)

    def usual(self, role: str) -> Any:
        """The names of targets or weights in the fit, or else by default; None without any."""
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
        self,
        wanted: Any,
        columns: Sequence[str] | None,
        others: dict[str, Any],
        arrays: dict[str, Any],
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
        if self.predicts:
            raise self._unknown(columns)
        rest = self._rest(others, arrays)
        return rest[0] if len(rest) == 1 and self.box.get(rest[0]).ndim != 1 else rest

    def _unknown(self, columns: Sequence[str] | None) -> InputError:
        """The error for a container in which the features of the fit cannot be identified."""
        if columns is not None:
            return self.box.lacks("X", [name for name in columns if not self.box.has(name)], True)
        return InputError(
            f"X: the fit had no names of features, so it is not known which of the "
            f"{self.box.thing}s of {self.box.place} they are: {self.box.names[:SHOWN]}. Name what "
            "is meant by X=."
        )

    def _rest(self, others: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
        """All that are neither targets nor weights."""
        beside = {"y", "sample_weight"}
        for names in others.values():
            beside |= {names} if isinstance(names, str) else set(names)
        rest = [name for name in self.box.variables if name not in beside]
        if not rest:
            raise self.box.lacks("X", ["X"])
        for role in arrays.keys() - others.keys():
            same = sorted({*names_of(arrays[role])} & {*rest})
            if same:
                raise InputError(
                    f"{role} is called {same[0]!r}, as is one of the {self.box.thing}s of "
                    f"{self.box.place}, which would be a feature. If they are the same, name it, "
                    f'as in {role}="{same[0]}"; if not, name the features, as in X=[...].'
                )
        return rest

    def _there(self, wanted: Any, fit: bool = False) -> str | list[str]:
        listed = [wanted] if isinstance(wanted, str) else _listed(wanted)
        if not listed:
            raise InputError(
                "X beside a first argument must be the name of an array in that, or a list of "
                f"names, all text; got {_shown(wanted)}. Give the features once, as an array, or "
                "name them; names that are no text are changed by .rename."
            )
        wrong = [name for name in listed if not self.box.has(name)]
        if wrong:
            raise self.box.lacks("X", wrong, fit)
        return wanted if isinstance(wanted, str) else listed


def _listed(given: Any) -> list[str] | None:
    """The texts of a list, a flat array or an index of pandas that holds nothing else."""
    if isinstance(given, np.ndarray) or hasattr(given, "get_indexer"):
        given = given.tolist() if given.ndim == 1 else None
    if not isinstance(given, list | tuple):
        return None
    return [str(name) for name in given] if all(isinstance(n, str) for n in given) else None


def _shown(given: Any) -> str:
    """A short description of what was given in place of names, without the rows of an array."""
    if isinstance(given, str) or _listed(given):
        return repr(given if isinstance(given, str) else _listed(given)[:SHOWN])  # type: ignore
    if isinstance(given, list | tuple):
        wrong = next((item for item in given if not isinstance(item, str)), None)
        inside = "nothing" if wrong is None else repr(wrong)[:40]
        return f"a {type(given).__name__} with {inside} in it"
    return f"<{type(given).__name__}>"


def _is_word(text: str) -> bool:
    """Whether a text is more likely a name that is not there than the path of a store."""
    return is_inside(text) and "/" not in text and "." not in text and not Path(text).exists()

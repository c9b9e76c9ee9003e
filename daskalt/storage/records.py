"""Values as JSON and arrays, and back: only types that the reader names are constructed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from daskalt.errors import InputError

__all__ = ["decode", "encode"]

# What JSON cannot say is an object with one key in brackets. Arrays are named after where they
# first occur, and written once.


def encode(
    value: Any, where: str, arrays: dict[str, np.ndarray], types: Mapping[str, Any] | None = None
) -> Any:
    """Return a value as plain values for JSON, and add its arrays to ``arrays``.

    Parameters
    ----------
    value : Any
        Numbers, text, None, lists, tuples, dictionaries, arrays, random states, and objects of
        ``types``.
    where : str
        What the value is called, in errors and as the beginning of its arrays' names.
    arrays : dict
        The arrays so far, by name.
    types : mapping, optional
        By name, named tuples and classes that have scikit-learn's `get_params`. None stands for
        any named tuple.

    Raises
    ------
    InputError
        If there is anything else, saying where.
    """
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(each, f"{where}.{k}", arrays, types) for k, each in enumerate(value)]
    if isinstance(value, dict) and all(map(_plain, value)):
        return {key: encode(each, f"{where}.{key}", arrays, types) for key, each in value.items()}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject and value.dtype.kind != "T":
        return {"<array>": _put(value, where, arrays)}
    mark, inner = _parted(value, where, types)
    return {mark: encode(inner, where, arrays, types)}


def _plain(key: Any) -> bool:
    return isinstance(key, str) and not key.startswith("<")


def _put(array: np.ndarray, where: str, arrays: dict[str, np.ndarray]) -> str:
    """The name of an array among others, to which it is added if it is new."""
    known = (name for name, other in arrays.items() if other is array)
    name = next(known, where if where not in arrays else f"{where}#{len(arrays)}")
    arrays[name] = array
    return name


def _parted(value: Any, where: str, types: Mapping[str, Any] | None) -> tuple[str, Any]:
    """The kind of a value, and its parts."""
    name = type(value).__name__
    if type(value) is tuple:
        return "<tuple>", list(value)
    if isinstance(value, dict):
        return "<dict>", [list(pair) for pair in value.items()]
    if isinstance(value, np.ndarray):  # of text, or of objects, which NumPy would pickle
        return "<objects>", value.tolist()
    if isinstance(value, np.random.RandomState):
        return "<random state>", value.get_state(legacy=False)
    if isinstance(value, tuple) and (types is None or types.get(name) is type(value)):
        return "<object>", [name, value._asdict()]  # type: ignore[attr-defined]
    if types is not None and types.get(name) is type(value):
        return "<object>", [name, value.get_params(deep=False)]
    raise InputError(
        f"{where} is of type {name}, which cannot be written. "
        "Give a number, text, list, dict or array."
    )


def decode(value: Any, arrays: Mapping[str, np.ndarray], types: Mapping[str, Any]) -> Any:
    """Return what `encode` wrote; KeyError or TypeError if it cannot have written that.

    Parameters
    ----------
    value : Any
        As read from JSON.
    arrays : mapping
        The arrays, by name.
    types : mapping
        The classes that may be constructed, by name.
    """
    if isinstance(value, list):
        return [decode(each, arrays, types) for each in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value), "")
    if _plain(mark) or len(value) != 1:
        return {key: decode(each, arrays, types) for key, each in value.items()}
    if mark == "<array>":
        return arrays[value[mark]]
    inner = decode(value[mark], arrays, types)
    if mark == "<object>":
        name, fields = inner
        return types[name](**fields)
    return _MADE[mark](inner)


def _objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _random_state(state: dict) -> np.random.RandomState:
    random = np.random.RandomState()
    random.set_state(state)
    return random


_MADE: dict[str, Any] = {
    "<tuple>": tuple,
    "<dict>": dict,
    "<objects>": _objects,
    "<random state>": _random_state,
}

"""The requirements on an array, checked before any of it is read."""

from typing import Any

import numpy as np

from daskalt.errors import InputError, InputTypeError

__all__ = [
    "check_array",
    "check_shape",
    "kind_of",
    "numbers_of_objects",
    "refuse_masked",
    "refuse_sparse",
    "text_of_objects",
]

# "y" and "sample_weight" by name; every other name is that of features.
MINIMUM = "while a minimum of 1 is required"


def kind_of(name: str) -> str:
    """``"y"``, ``"sample_weight"`` or ``"X"``: the role of an argument called ``name``."""
    if name == "classes":
        return "y"
    for kind in ("y", "sample_weight"):
        if name == kind or name.startswith((f"{kind} ", f"{kind}_")):
            return kind
    return "X"


def check_array(array: Any, name: str) -> None:
    """Raise InputError when shape or type of an array cannot be what ``name`` stands for."""
    check_shape(tuple(array.shape), name)
    _check_dtype(np.dtype(array.dtype), name)


def check_shape(shape: tuple, name: str) -> None:
    """Raise InputError when ``shape`` cannot be that of what ``name`` stands for."""
    kind = kind_of(name)
    if kind == "X" and len(shape) < 2:
        raise InputError(
            f"Expected 2D array, got {'scalar array' if not shape else '1D array'} instead: {name} "
            f"has shape {shape}. Reshape your data either using {name}.reshape(-1, 1) if it has a "
            f"single feature or {name}.reshape(1, -1) if it is a single sample."
        )
    if kind == "X" and len(shape) > 2:
        raise InputError(
            f"Found array with dim {len(shape)}, while dim <= 2 is required: {name} has shape "
            f"{shape}. Lay the features of a row side by side: {name}.reshape(len({name}), -1)."
        )
    if kind == "y" and len(shape) not in (1, 2):
        raise InputError(
            f"y should be a 1d array, or 2d with a column for each output; {name} has shape "
            f"{shape}. Reshape it to one row for each row of X."
        )
    if kind == "sample_weight" and len(shape) != 1:
        raise InputError(
            f"Sample weights must be 1D array or scalar; {name} has shape {shape}. "
            "Give one number for each row of X."
        )
    if shape[0] == 0:
        raise InputError(
            f"Found array with 0 sample(s) (shape={shape}) {MINIMUM}: {name} has no rows. "
            "Check how it was selected."
        )
    if len(shape) == 2 and shape[1] == 0:
        raise InputError(
            f"Found array with 0 feature(s) (shape={shape}) {MINIMUM}: {name} has no columns. "
            "Check how it was selected."
        )


def _check_dtype(dtype: np.dtype, name: str) -> None:
    if dtype.kind == "c":
        raise InputError(
            f"Complex data not supported: {name} has dtype {dtype}. "
            f"Give real and imaginary parts as columns of their own."
        )
    if dtype.kind in "OSUT" and kind_of(name) == "y":
        return
    if dtype.kind in "OSUT":
        raise InputError(
            f"dtype='numeric' is not compatible with {name} of dtype {dtype}: it holds objects or "
            f"text. Convert your data to numeric values, e.g. {name}.astype('float32')."
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(
            f"{name} has dtype {dtype}, which is no number of at most 64 bits. "
            f"Convert it, e.g. {name}.astype('float64')."
        )


def refuse_sparse(value: Any, name: str) -> None:
    """Raise InputError for sparse matrices of any library."""
    module = type(value).__module__
    if module.startswith(("scipy.sparse", "sparse.")) or hasattr(value, "sparse"):
        raise InputError(
            f"{name} is sparse ({type(value).__name__}), and dense data is required. "
            f"Convert it: {name}.toarray(), or block by block for a Dask array."
        )


def refuse_masked(value: Any, name: str, start: int = 0) -> None:
    """Raise InputError where entries are masked, as their hidden values would be used.

    ``start`` is the number of the first row.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row, *columns = np.argwhere(np.ma.getmaskarray(value))[0].tolist()
        raise InputError(
            f"{name} is masked, first at {_place([start + row, *columns])}. Fill or drop the "
            f"masked entries, e.g. {name}.filled(0)."
        )


def numbers_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """An array of Python numbers as float64; InputError where an entry is no number."""
    entries = array.ravel().tolist()
    if not all(issubclass(kind, _NUMBERS) for kind in set(map(type, entries))):
        first = next(i for i, entry in enumerate(entries) if not isinstance(entry, _NUMBERS))
        place = _place(np.unravel_index(first, array.shape))
        if _is_missing(entries[first]):
            raise InputTypeError(
                f"Input {name} contains NaN: {entries[first]!r} at {place} stands for a missing "
                "value. Leave such rows out or impute them first, with sklearn.impute for example."
            )
        raise InputTypeError(
            f"{name} has entries of type {type(entries[first]).__name__}, the first "
            f"{_shown(entries[first])} at {place}: each argument must be neither a string nor any "
            "other object but a real number. Convert your data to numeric values, e.g. "
            f"{name}.astype('float64')."
        )
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InputError(
            f"{name} holds integers that float64 cannot ({error}). Divide them by their scale."
        ) from error


def text_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Labels held as objects, as fixed-width text, numbers or booleans."""
    entries = array.ravel().tolist()
    kinds = set(map(type, entries))
    for allowed, dtype in _LABELS:
        if all(issubclass(kind, allowed) for kind in kinds):
            return _labels_as(array, dtype, name)
    for row, entry in enumerate(entries):
        if _is_missing(entry):
            place = _place(np.unravel_index(row, array.shape))
            raise InputError(
                f"Unknown label type: unknown. {name} has no value at {place}, but {entry!r}. "
                "Drop rows without a label."
            )
    listed = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(
        f"Unknown label type: unknown. {name} has entries of type {listed}, and labels are all "
        f"text, all numbers or all booleans. Convert them, e.g. {name}.astype(str)."
    )


_NUMBERS = (bool, int, float, np.integer, np.floating, np.bool_)
_LABELS: tuple[tuple[tuple[type, ...], type], ...] = (
    ((str,), np.str_),
    ((bytes,), np.bytes_),
    ((bool, np.bool_), np.bool_),
    ((int, np.integer), np.int64),
    ((int, float, np.integer, np.floating), np.float64),
)


def _labels_as(array: np.ndarray, dtype: Any, name: str) -> np.ndarray:
    try:
        return array.astype(dtype)
    except OverflowError as error:
        raise InputError(
            f"{name} holds integers of more than 64 bits ({error}). Convert it to smaller numbers, "
            "or labels to text."
        ) from error


def _is_missing(entry: Any) -> bool:
    """Whether an entry is None, NaN, or a missing value of pandas."""
    if type(entry).__name__ in ("NoneType", "NAType", "NaTType"):
        return True
    return isinstance(entry, float | np.floating) and bool(np.isnan(entry))


def _place(index: Any) -> str:
    row, *columns = (int(i) for i in index)
    return f"row {row}, column {columns[0]}" if columns else f"row {row}"


def _shown(entry: Any) -> str:
    text = repr(entry)
    return text if len(text) <= 40 else f"{text[:37]}..."

"""What an array must be to be trained on, said before any of it is read."""

from typing import Any

import numpy as np

from daskalt.errors import InputError, InputTypeError

__all__ = ["check_array", "kind_of", "numbers_of_objects", "refuse_sparse", "text_of_objects"]

# "y" and "sample_weight" by name; every other name is that of features.
MINIMUM = "while a minimum of 1 is required"


def kind_of(name: str) -> str:
    """``"y"``, ``"sample_weight"`` or ``"X"``: what an argument called ``name`` holds."""
    for kind in ("y", "sample_weight"):
        if name == kind or name.startswith((f"{kind} ", f"{kind}_")):
            return kind
    return "X"


def check_array(array: Any, name: str) -> None:
    """Raise InputError when shape or type of an array cannot be what ``name`` stands for."""
    _check_shape(tuple(array.shape), name)
    _check_dtype(np.dtype(array.dtype), name)


def _check_shape(shape: tuple, name: str) -> None:
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


def numbers_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """An array of Python numbers as float64; InputError where an entry is no number."""
    kinds = set(map(type, array.ravel().tolist()))
    wrong = [kind for kind in kinds if not issubclass(kind, bool | int | float | np.number)]
    if wrong:
        raise InputTypeError(
            f"{name} has dtype object, and its entries are of type {wrong[0].__name__}: each "
            "argument must be neither a string nor any other object but a real number. "
            f"Convert it, e.g. {name}.astype('float64')."
        )
    return array.astype(np.float64)


def text_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Labels held as objects as fixed-width text, numbers or booleans, which all of them are."""
    kinds = set(map(type, array.ravel().tolist()))
    if all(issubclass(kind, str) for kind in kinds):
        return array.astype(np.str_)
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(np.bool_)
    if all(issubclass(kind, int | np.integer) for kind in kinds):
        return array.astype(np.int64)
    if all(issubclass(kind, int | float | np.number) for kind in kinds):
        return array.astype(np.float64)
    listed = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(
        f"Unknown label type: unknown. {name} has dtype object and mixes entries of type {listed}. "
        f"Drop rows without a label and convert the rest, e.g. {name}.astype(str)."
    )

"""Rows in memory, of arrays, lists and data frames, checked and as sources."""

from typing import Any

import numpy as np

from daskalt.data.checks import (
    check_array,
    check_shape,
    kind_of,
    numbers_of_objects,
    refuse_masked,
    text_of_objects,
)
from daskalt.data.finite import check_finite
from daskalt.data.labelled import feature_names, is_data_array
from daskalt.data.readers import MemorySource
from daskalt.errors import InputError, InputTypeError

__all__ = ["as_classes", "check_columns", "column_names", "from_memory", "is_dask_frame"]


def from_memory(value: Any, name: str, columns: list[str] | None = None) -> MemorySource:
    """The rows of an array, a list or a data frame as a source, checked except for their numbers.

    ``columns`` are the names of its columns, where these are known.
    """
    check_columns(value, name)
    array = _as_numpy(value, name)
    if array.dtype.kind == "O" and not array.ndim:
        raise InputError(
            f"{name} is of type {type(value).__name__}, which is no array. Give one row for each "
            "sample, as an array or a list."
        )
    check_shape(array.shape, name)
    if array.dtype.kind == "T" or (array.dtype.kind in "US" and isinstance(value, list | tuple)):
        array = _as_objects(array, value)
    if array.dtype.kind == "O":
        array = _from_objects(array, value, name)
    check_array(array, name)
    return MemorySource(array, name, columns)


def _as_numpy(value: Any, name: str) -> np.ndarray:
    if value is None:
        raise InputError(f"{name} is None. Give one row for each sample.")
    refuse_masked(value, name)
    try:
        return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{name} is no array: {error}. Give rows of equal length, all numbers."
        ) from error


def _as_objects(array: np.ndarray, value: Any) -> np.ndarray:
    """Text as it was given: NumPy silently makes text of numbers beside it."""
    return np.asarray(array if array.dtype.kind == "T" else value, dtype=object)


def _from_objects(array: np.ndarray, value: Any, name: str) -> np.ndarray:
    if kind_of(name) == "y":
        return text_of_objects(array, name)
    try:
        return numbers_of_objects(array, name)
    except InputTypeError as error:
        suspects = _columns_of_kind(value, "O")
        if not suspects:
            raise
        raise InputTypeError(f"{error} Columns of that type: {', '.join(suspects)}.") from None


def check_columns(frame: Any, name: str) -> None:
    """Refuse data frames with columns that are never numbers: dates, categories."""
    if kind_of(name) == "y":
        return
    numbers = "biufcO" if not is_dask_frame(frame) else "biuf"
    wrong = [
        f"{column} ({dtype})"
        for column, dtype in _dtypes(frame).items()
        if _kind(dtype) not in numbers or str(dtype) == "category"
    ]
    if wrong:
        raise InputError(
            f"dtype='numeric' is not compatible with columns of {name}: {', '.join(wrong)}. "
            "Encode them as numbers or drop them."
        )


def _columns_of_kind(frame: Any, kind: str) -> list[str]:
    return [str(column) for column, dtype in _dtypes(frame).items() if _kind(dtype) == kind]


def _dtypes(frame: Any) -> dict:
    dtypes = getattr(frame, "dtypes", None)
    return dict(dtypes.items()) if getattr(frame, "ndim", 0) == 2 and dtypes is not None else {}


def _kind(dtype: Any) -> str:
    return getattr(dtype, "kind", "O")


def column_names(value: Any) -> list[str] | None:
    """Column names where all are text, like scikit-learn's feature names."""
    if is_data_array(value):
        return feature_names(value)
    names = getattr(value, "columns", None)
    if names is None:
        return None
    names = list(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def as_classes(values: Any) -> np.ndarray:
    """The labels that a user lists as ``classes``, sorted and each once.

    Raises
    ------
    InputError
        When they are not one row of labels, all numbers or all text.
    """
    shape = _as_numpy(values, "classes").shape
    if len(shape) != 1:
        raise InputError(f"classes must be a list of labels; its shape is {shape}.")
    labels = from_memory(values, "classes").array
    check_finite(labels, "classes", 0, len(labels))
    return np.unique(labels)


def is_dask_frame(value: Any) -> bool:
    """Say whether ``value`` is a Dask DataFrame or Series."""
    return hasattr(value, "to_dask_array") and hasattr(value, "npartitions")

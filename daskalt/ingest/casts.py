"""Whole columns of a batch as numbers, truth values or text."""

from typing import Any

import numpy as np

from daskalt.errors import InputError

__all__ = [
    "MISSING_MARKS",
    "booleans_of",
    "categories_of",
    "first_that_is_no_number",
    "floats_of",
    "has_leading_zeros",
    "integers_of",
    "is_encoded",
    "is_integer",
    "is_text",
    "kind_of_type",
    "numpy_type_of",
    "texts_of",
    "without_marks",
]

# What stands for a missing value in CSV, as in pandas.
MISSING_MARKS = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
]  # fmt: skip
TRUE, FALSE = ["True", "TRUE", "true"], ["False", "FALSE", "false"]


def is_text(dtype: Any) -> bool:
    """Say whether an Arrow type is one of text."""
    import pyarrow.types as types

    return types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype)


def is_integer(dtype: Any) -> bool:
    """Say whether an Arrow type is one of integers."""
    import pyarrow

    return pyarrow.types.is_integer(dtype)


def is_encoded(dtype: Any) -> bool:
    """Say whether an Arrow type keeps each different value once."""
    import pyarrow

    return pyarrow.types.is_dictionary(dtype)


def kind_of_type(dtype: Any, name: str, file: str) -> str | None:
    """The kind of a column by its Arrow type: boolean, integer, float or text; None if empty.

    Raises
    ------
    InputError
        For dates, nested values and anything else that is neither a number nor text.
    """
    import pyarrow.types as types

    if types.is_dictionary(dtype) or is_text(dtype):
        return "text"
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_integer(dtype):
        return "integer"
    if types.is_floating(dtype) or types.is_decimal(dtype):
        return "float"
    if types.is_null(dtype):
        return None
    raise InputError(
        f"{file}: column {name!r} is of type {dtype}, neither numbers nor text. Leave it out by "
        f"exclude={name!r}, or make numbers of it first."
    )


def numpy_type_of(dtype: Any) -> np.dtype:
    """The NumPy type that holds the numbers of an Arrow type."""
    import pyarrow.types as types

    if types.is_decimal(dtype) or types.is_null(dtype):
        return np.dtype(np.float64)
    return np.dtype(dtype.to_pandas_dtype())


def floats_of(column: Any) -> Any:
    """A column as float64, or None where some text in it is no number.

    Spaces around a number do not count, and nothing but spaces is a missing value.
    """
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = texts_of(column)
    if not is_text(column.type):
        return column.cast(pyarrow.float64(), safe=False)
    return _cast(column, pyarrow.float64())


def integers_of(column: Any) -> Any:
    """Integers as they are, text as int64; None where it is anything else."""
    import pyarrow

    if pyarrow.types.is_integer(column.type):
        return column
    if not is_text(column.type) or _has_an_x(column):
        return None
    return _cast(column, pyarrow.int64())


def _has_an_x(column: Any) -> bool:
    """Whether there may be hexadecimal numbers, which Arrow reads as integers."""
    text = column.buffers()[-1]
    text = b"" if text is None else text.to_pybytes()
    return b"x" in text or b"X" in text


def _cast(column: Any, dtype: Any) -> Any:
    """Text as numbers of a type; None where some of it is no such number."""
    import pyarrow

    for prepare in (_as_is, _trimmed):
        try:
            return prepare(column).cast(dtype)
        except pyarrow.ArrowInvalid:
            continue
    return None


def has_leading_zeros(column: Any) -> bool:
    """Whether there is text such as "007", which a number would not keep, unlike "0.5"."""
    import pyarrow.compute as compute

    if not is_text(column.type):
        return False
    found = compute.match_substring_regex(column, r"^\s*[+-]?0[0-9]")
    return bool(compute.any(found).as_py())


def booleans_of(column: Any) -> Any:
    """A column as truth values, or None where it holds anything else."""
    import pyarrow
    import pyarrow.compute as compute

    if pyarrow.types.is_boolean(column.type):
        return column
    if not is_text(column.type):
        return None
    known = compute.is_in(column, pyarrow.array([*TRUE, *FALSE, None]))
    if not compute.all(known).as_py():
        return None
    true = compute.is_in(column, pyarrow.array(TRUE))
    return compute.if_else(column.is_null(), None, true)


def texts_of(column: Any) -> Any:
    """A column of any type as text."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pyarrow.string())


def categories_of(column: Any) -> Any:
    """A column of any type as text, each different one kept once, with a number for each row."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        if column.dictionary.type == pyarrow.string() and column.dictionary.null_count == 0:
            return column
        column = column.cast(column.type.value_type)
    return column.cast(pyarrow.string()).dictionary_encode()


def first_that_is_no_number(column: Any) -> int:
    """The row of the first text that is no number, where there is one."""
    start, stop = 0, len(column)
    while stop - start > 1:
        middle = (start + stop) // 2
        if floats_of(column.slice(start, middle - start)) is None:
            stop = middle
        else:
            start = middle
    return start


def _as_is(column: Any) -> Any:
    return column


def without_marks(column: Any) -> Any:
    """Text in which marks of missing values are missing."""
    import pyarrow
    import pyarrow.compute as compute

    missing = compute.is_in(column, pyarrow.array(MISSING_MARKS))
    return compute.if_else(missing, None, column)


def _trimmed(column: Any) -> Any:
    """Text without spaces around it and without a plus sign; marks of missing values missing."""
    import pyarrow.compute as compute

    column = compute.utf8_trim_whitespace(column)
    return without_marks(compute.replace_substring_regex(column, r"^\+([0-9.])", r"\1"))

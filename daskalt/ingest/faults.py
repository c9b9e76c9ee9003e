"""Errors for fields that cannot be used: file, row, column and cure."""

from typing import Any

from daskalt.errors import InputError
from daskalt.ingest.casts import first_that_is_no_number
from daskalt.ingest.frames import Batch

__all__ = ["no_number", "no_value", "not_finite"]


def no_number(name: str, column: Any, batch: Batch, cure: str) -> InputError:
    """The error for a column of text whose values must be numbers."""
    row = first_that_is_no_number(column)
    value = str(column[row].as_py())[:80]
    return InputError(
        f"{batch.file}: column {name!r} holds {value!r} at row {batch.first + row} (counted from "
        f"0), which is no number. {cure}"
    )


def no_value(name: str, row: int, batch: Batch, cure: str) -> InputError:
    """The error for a missing value."""
    return InputError(
        f"{batch.file}: row {batch.first + row} (counted from 0) has no value in column {name!r}. "
        f"{cure}."
    )


def not_finite(name: str, value: float, row: int, batch: Batch) -> str:
    """The message for a number that is not finite."""
    return (
        f"{batch.file}: column {name!r} holds {value} at row {batch.first + row} (counted from 0), "
        "which is not finite. Repair it, or leave the field empty."
    )

"""Kind, range and values of one column, after some of its rows."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from daskalt.data.recipe import Column, Target
from daskalt.ingest.casts import (
    booleans_of,
    floats_of,
    has_leading_zeros,
    integers_of,
    is_encoded,
    is_text,
    kind_of_type,
    numpy_type_of,
)
from daskalt.ingest.frames import Mistyped

__all__ = ["Tally", "column_of", "target_of"]

LARGEST_WHOLE = 2.0**53  # float64 tells all integers below apart
_TYPES = {"boolean": "bool", "integer": "int64", "float": "float64", "text": "text"}


@dataclass(eq=False)
class Tally:
    """What is known of one column so far.

    Attributes
    ----------
    kind : {"boolean", "integer", "float", "text"} or None
        The narrowest that holds all values; None while there are none.
    fixed : bool
        Whether a recipe says what it must be.
    truths : bool
        Whether truth values may come for the numbers of a recipe.
    codes : bool
        Whether it may be text, so that numbers with leading zeros make it such.
    stored : bool
        Whether the file says its type, which is else found by reading.
    dtype : numpy.dtype
        Of a stored column, the type that holds its numbers.
    counts : dict or None
        How often each text or class occurred; None once there are too many.
    width : int
        Characters of the longest text.
    infinite : str, optional
        Message about the first number that is not finite.
    """

    name: str
    kind: str | None = None
    dtype: np.dtype | None = None
    fixed: bool = False
    truths: bool = False
    codes: bool = False
    stored: bool = False
    read_as_numbers: bool = False
    low: float = np.inf
    high: float = -np.inf
    missing: int = 0
    counts: dict[Any, int] | None = field(default_factory=dict)
    width: int = 0
    infinite: str | None = None

    @property
    def late(self) -> bool:
        """Whether it turned out to be text when some of it had been read as numbers."""
        return self.kind == "text" and self.read_as_numbers

    @property
    def type(self) -> str:
        """The name of its type in a recipe."""
        if self.kind == "text" or self.dtype is None:
            return _TYPES[self.kind or "float"]
        return self.dtype.name

    def read(self, column: Any, file: str) -> Any:
        """The rows as int64 or float64 where the column is numbers so far, else None."""
        if self.stored and not (self.fixed and is_text(column.type)):
            return self._read_stored(column, file)
        if column.null_count == len(column):
            return None if self.kind == "text" else floats_of(column)
        if self.kind == "text" or is_encoded(column.type):
            self.kind = "text"
            return None
        numbers, kind = self._numbers(column)
        if numbers is None or (self.codes and kind == "float" and has_leading_zeros(column)):
            self.kind = "text"
            return None
        self.read_as_numbers = True
        if numbers.null_count < len(numbers):
            if kind == "float" and self.kind != "float":
                numbers, kind = _whole(column, numbers)
            if self.truths and self.kind is not None:
                kind = _WIDER[max(_WIDER.index(kind), _WIDER.index(self.kind))]
            self.kind = kind
        return numbers

    def _numbers(self, column: Any) -> tuple[Any, str]:
        """Some rows as numbers, if they are, and whether they are truth values."""
        numbers = floats_of(column) if self.kind != "boolean" or self.truths else None
        either = self.truths if self.fixed else self.kind in (None, "boolean")
        if numbers is None and either:
            return _booleans_as_floats(column), "boolean"
        return numbers, "float"

    def _read_stored(self, column: Any, file: str) -> Any:
        kind = kind_of_type(column.type, self.name, file)
        if "text" in (kind, self.kind):
            self.kind = "text"
            return None
        if kind is not None:
            self.read_as_numbers = True
            dtype = numpy_type_of(column.type)
            self.dtype = dtype if self.dtype is None else np.result_type(self.dtype, dtype)
            self.kind = _WIDER[max(_WIDER.index(kind), _WIDER.index(self.kind or kind))]
        return floats_of(column)

    def count(self, values: list, counts: list[int], most: int) -> None:
        """Count values; drop the counts once there are too many distinct ones."""
        if self.counts is not None:
            for value, count in zip(values, counts, strict=True):
                self.counts[value] = self.counts.get(value, 0) + count
            if len(self.counts) > most:
                self.counts = None

    @property
    def parsed_type(self) -> Any:
        """The Arrow type as which CSV may be read, by what is known so far."""
        import pyarrow

        if self.kind == "text":
            return pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        return pyarrow.float64() if self.kind in ("integer", "float") else pyarrow.string()


_WIDER = ["boolean", "integer", "float", "text"]


def _booleans_as_floats(column: Any) -> Any:
    found = booleans_of(column)
    return None if found is None else floats_of(found)


def _whole(column: Any, numbers: Any) -> tuple[Any, str]:
    """Numbers and their kind: integers if all are whole, exact where float64 is not."""
    values = numbers.to_numpy(zero_copy_only=False)
    if not ((np.trunc(values) == values) | np.isnan(values)).all():
        return numbers, "float"
    if np.fmax.reduce(np.abs(values), initial=0) < LARGEST_WHOLE:
        return numbers, "integer"
    if not is_text(column.type):
        raise Mistyped("integers that float64 cannot tell apart")
    exact = integers_of(column)
    return (numbers, "float") if exact is None else (exact, "integer")


def column_of(tally: Tally, median: float) -> Column:
    """The feature as a recipe keeps it."""
    if tally.kind == "text":
        assert tally.counts is not None
        texts: list[str | None] = sorted(tally.counts)
        counts = [tally.counts[text] for text in texts]
        if tally.missing:
            texts, counts = [*texts, None], [*counts, tally.missing]
        return Column(
            tally.name, "category", "text", tally.missing, categories=texts, counts=counts
        )
    integers = tally.kind in ("boolean", "integer")
    low, high, fill = (_plain(value, integers) for value in (tally.low, tally.high, median))
    return Column(tally.name, "number", tally.type, tally.missing, low, high, fill)


def target_of(tally: Tally) -> Target:
    """The target as a recipe keeps it."""
    integers = tally.kind in ("boolean", "integer")
    if tally.kind == "float" or tally.counts is None:
        if tally.kind == "text":
            return Target(tally.name, "text")
        low, high = _plain(tally.low, integers), _plain(tally.high, integers)
        return Target(tally.name, tally.type, low, high)
    classes = sorted(tally.counts)
    counts = [tally.counts[each] for each in classes]
    if tally.kind == "boolean":
        classes = [bool(each) for each in classes]
    elif integers:
        classes = [int(each) for each in classes]
    ends = (classes[0], classes[-1]) if tally.kind == "integer" else ()
    target = Target(tally.name, tally.type, *ends)
    return replace(target, classes=classes, counts=counts)


def _plain(value: float, integers: bool) -> float:
    return int(value) if integers and value == int(value) else value

"""What one reading of a frame tells: kinds and ranges of its columns, categories, medians."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from daskalt.data.casts import (
    booleans_of,
    categories_of,
    first_that_is_no_number,
    floats_of,
    integers_of,
    is_encoded,
    is_text,
    kind_of_type,
    numpy_type_of,
    texts_of,
)
from daskalt.data.frames import Batch, Mistyped
from daskalt.data.medians import RowSample
from daskalt.data.recipe import Column, Recipe, Target
from daskalt.data.roles import Roles
from daskalt.errors import InputError
from daskalt.wording import plural

__all__ = ["Census", "Rules", "Tally", "no_number", "no_value", "not_finite"]

LARGEST_WHOLE = 2.0**53  # float64 tells all integers below apart
FEW_CLASSES = 1000  # of a target whose classes are counted
_TYPES = {"boolean": "bool", "integer": "int64", "float": "float64", "text": "text"}


@dataclass(frozen=True)
class Rules:
    """What is to be done about text and missing values; see `daskalt.data.ingest.ingest`."""

    categorical: str = "auto"
    missing: str = "median"
    unknown: str = "own"
    max_categories: int = 256


@dataclass(eq=False)
class Tally:
    """What is known of one column so far.

    Attributes
    ----------
    kind : {"boolean", "integer", "float", "text"} or None
        The narrowest that holds all values; None while there are none.
    fixed : bool
        Whether a recipe says what it must be.
    stored : bool
        Whether the file says its type, which is else found by reading.
    dtype : numpy.dtype
        Of a stored column, the type that holds its numbers.
    counts : dict or None
        How often each text or class was met; None once there are too many.
    width : int
        Characters of the longest text.
    infinite : str, optional
        Where a number was met that is not finite, as an error says it.
    """

    name: str
    kind: str | None = None
    dtype: np.dtype | None = None
    fixed: bool = False
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
        numbers = floats_of(column) if self.kind != "boolean" else None
        kind = "float"
        if numbers is None and self.kind in (None, "boolean"):
            numbers, kind = _booleans_as_floats(column), "boolean"
        if numbers is None:
            self.kind = "text"
            return None
        self.read_as_numbers = True
        if numbers.null_count < len(numbers):
            if kind == "float" and self.kind != "float":
                numbers, kind = _whole(column, numbers)
            self.kind = kind
        return numbers

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

    @property
    def parsed_type(self) -> Any:
        """The Arrow type that CSV may be read as, going by what is known."""
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
    import pyarrow.compute as compute

    if not compute.all(compute.equal(compute.trunc(numbers), numbers)).as_py():
        return numbers, "float"
    if (compute.max(compute.abs(numbers)).as_py() or 0) < LARGEST_WHOLE:
        return numbers, "integer"
    if not is_text(column.type):
        raise Mistyped("integers that float64 cannot tell apart")
    exact = integers_of(column)
    return (numbers, "float") if exact is None else (exact, "integer")


class Census:
    """Types, ranges, categories and medians over all batches of a frame.

    Parameters
    ----------
    roles : Roles
    rules : Rules
    stored : bool
        Whether the files say the types of their columns.
    text : sequence of str
        Columns that are known to be text.
    recipe : Recipe, optional
        What was learnt before of the features; then only the types of these rows are found.
    """

    def __init__(
        self,
        roles: Roles,
        rules: Rules,
        *,
        stored: bool,
        text: Sequence[str] = (),
        recipe: Recipe | None = None,
    ) -> None:
        self.roles = roles
        self.rules = rules
        self.recipe = recipe
        self.categories: set[str] = set()
        if recipe is not None:
            self.categories = {c.name for c in recipe.columns if c.categories is not None}
            text = [*self.categories, *(t.name for t in recipe.targets if t.type == "text")]
        fixed = [] if recipe is None else roles.features
        self.tallies = [
            Tally(
                name,
                "text" if name in text else None,
                fixed=name in fixed,
                stored=stored,
            )
            for name in roles.read
        ]
        self.features = self.tallies[: len(roles.features)]
        self.targets = self.tallies[len(roles.features) :][: len(roles.targets)]
        self.weights = self.tallies[len(roles.features) + len(roles.targets) :]
        self.sample = None if recipe else RowSample(len(self.features))
        self.rows = 0
        self.left_out = 0

    @property
    def late(self) -> list[str]:
        """Columns of text of which some rows were read as numbers: all must be read again."""
        return [tally.name for tally in self.tallies if tally.late and not tally.fixed]

    def guess_types(self, batch: Batch) -> dict[str, Any]:
        """Arrow types that the columns of CSV may be read as, going by some rows of text."""
        for tally in self.tallies:
            tally.read(batch.rows.column(tally.name), batch.file)
        return {tally.name: tally.parsed_type for tally in self.tallies}

    def add(self, batch: Batch) -> Batch:
        """Take in some rows, and return them as they were read: numbers, and text encoded.

        Raises
        ------
        InputError
            When a value will not do, naming file, row and column.
        """
        if not len(batch.rows):
            return batch
        values = np.full((len(batch.rows), len(self.tallies)), np.nan, order="F")
        texts, read = {}, []
        for place, tally in enumerate(self.tallies):
            column = batch.rows.column(tally.name)
            numbers = tally.read(column, batch.file)
            if numbers is None:
                self._refuse_text(tally, column, batch)
                texts[place] = numbers = categories_of(column)
            else:
                values[:, place] = numbers.to_numpy(zero_copy_only=False)
            read.append(numbers)
        holes = np.isnan(values)
        for place, column in texts.items():
            holes[:, place] = column.is_null().to_numpy(zero_copy_only=False)
        self._refuse_holes(holes, batch)
        self._count(values, holes, texts, batch)
        return batch._replace(rows=_record_batch(read, self.roles.read))

    def _count(
        self, values: np.ndarray, holes: np.ndarray, texts: dict[int, Any], batch: Batch
    ) -> None:
        keep: np.ndarray | None = None
        all_values = values
        if self.rules.missing == "drop" and holes.any():
            keep = np.logical_not(holes.any(axis=1))
            values, holes = values[keep], holes[keep]
        self.rows += len(values)
        self.left_out += len(batch.rows) - len(values)
        lows, highs = (reach.reduce(values, axis=0, initial=np.nan) for reach in (np.fmin, np.fmax))
        if np.isinf(lows).any() or np.isinf(highs).any():
            self._find_infinite(all_values, batch)
        for tally, low, high, missing in zip(
            self.tallies, lows.tolist(), highs.tolist(), holes.sum(axis=0).tolist(), strict=True
        ):
            tally.missing += missing
            if low == low:
                tally.low, tally.high = min(tally.low, low), max(tally.high, high)
        for place, column in texts.items():
            self._count_texts(self.tallies[place], _kept(column, keep))
        for place, tally in enumerate(self.targets, len(self.features)):
            if tally.kind in ("boolean", "integer"):
                classes, counts = np.unique(values[:, place], return_counts=True)
                _add(tally, classes.tolist(), counts.tolist(), FEW_CLASSES)
        self._refuse_too_many()
        if self.sample is not None:
            self.sample.add(values[:, : len(self.features)])

    def _count_texts(self, tally: Tally, column: Any) -> None:
        import pyarrow
        import pyarrow.compute as compute

        codes = column.indices.drop_null().to_numpy()
        found = np.bincount(codes, minlength=len(column.dictionary))
        texts = column.dictionary.filter(pyarrow.array(found > 0))
        tally.width = max(tally.width, compute.max(compute.utf8_length(texts)).as_py() or 0)
        if not tally.fixed:
            most = self.rules.max_categories if tally in self.features else FEW_CLASSES
            _add(tally, texts.to_pylist(), found[found > 0].tolist(), most)

    # What is refused

    def _refuse_text(self, tally: Tally, column: Any, batch: Batch) -> None:
        if tally in self.targets and len(self.targets) == 1 and not self._several:
            return
        if tally.fixed:
            allowed = tally.name in self.categories
        else:
            allowed = tally in self.features and self.rules.categorical == "auto"
        if not allowed and column.null_count < len(column):
            column = texts_of(column)
            raise no_number(tally.name, column, batch, self._cure(tally))

    @property
    def _several(self) -> bool:
        return isinstance(self.roles.target, list)

    def _cure(self, tally: Tally) -> str:
        if tally in self.targets:
            return "Several targets must be numbers."
        if tally in self.weights:
            return "Row weights must be numbers."
        if tally.fixed:
            return "The recipe has it as numbers: repair the file."
        return (
            "Let text become categories by categorical='auto', encode it, or leave the column out "
            f"by exclude={tally.name!r}."
        )

    def _refuse_holes(self, holes: np.ndarray, batch: Batch) -> None:
        """Missing targets and weights, and missing features where these are errors."""
        if self.rules.missing == "drop":
            return
        first = 0 if self.rules.missing == "error" else len(self.features)
        refused = np.argwhere(holes[:, first:])
        if len(refused):
            row, place = refused[0].tolist()
            tally = self.tallies[first + place]
            cure = "Leave such rows out by missing='drop'"
            if tally in self.features:
                cure += ", or fill them by missing='median'"
            raise no_value(tally.name, row, batch, cure)

    def _find_infinite(self, values: np.ndarray, batch: Batch) -> None:
        """Note where a number is not finite: an error if the column is not text after all."""
        for place in np.flatnonzero(np.isinf(values).any(axis=0)).tolist():
            tally, row = self.tallies[place], int(np.isinf(values[:, place]).argmax())
            if tally.infinite is None:
                tally.infinite = not_finite(tally.name, values[row, place], row, batch)

    def _refuse_too_many(self) -> None:
        long = [repr(tally.name) for tally in self.features if tally.counts is None]
        if long and self.recipe is None:
            raise InputError(
                f"Text in {'column' if len(long) == 1 else 'columns'} {', '.join(long)} takes more "
                f"than {self.rules.max_categories} different values, as names and free text do. "
                f"Leave it out by exclude={','.join(name.strip(chr(39)) for name in long)!r}, or "
                "give a larger max_categories."
            )

    # What it comes to

    def finish(self) -> Recipe:
        """What was learnt, once all rows were taken in.

        Raises
        ------
        InputError
            When nothing is left to train on.
        """
        for tally in self.tallies:
            if tally.infinite is not None and tally.kind != "text":
                raise InputError(tally.infinite)
        if self.rows == 0:
            raise InputError(
                f"All {plural(self.left_out, 'row')} were left out, each for a missing value. Fill "
                "them by missing='median', or leave columns out by exclude=."
            )
        facts: dict[str, Any] = {
            "targets": [_target(tally) for tally in self.targets],
            "several": self._several,
            "weight": self.roles.weight,
            "ident": self.roles.ident,
            "excluded": self.roles.excluded,
            "missing": self.rules.missing,
            "unknown": self.rules.unknown,
            "rows": self.rows,
            "left_out": self.left_out,
        }
        if self.recipe is not None:
            if not self.targets:  # they stay known, for whoever predicts them
                del facts["targets"], facts["several"]
            return replace(self.recipe, reused=True, **facts)
        recipe = Recipe(self._columns(), medians=self._medians_of, **facts)
        _refuse_equal_names(recipe)
        return recipe

    @property
    def _medians_of(self) -> str:
        assert self.sample is not None
        if self.sample.exact:
            return "all rows"
        return f"a uniform sample of {plural(self.sample.size, 'row')}"

    def _columns(self) -> list[Column]:
        assert self.sample is not None
        empty = [tally.name for tally in self.features if tally.missing == self.rows]
        if empty:
            raise InputError(
                f"There is no value at all in {', '.join(map(repr, empty))}. Leave it out by "
                f"exclude={','.join(empty)!r}."
            )
        medians = self.sample.medians().tolist()
        return [
            _column(tally, median) for tally, median in zip(self.features, medians, strict=True)
        ]


def _record_batch(columns: list[Any], names: list[str]) -> Any:
    import pyarrow

    return pyarrow.RecordBatch.from_arrays(columns, names)


def _kept(column: Any, keep: np.ndarray | None) -> Any:
    import pyarrow

    return column if keep is None else column.filter(pyarrow.array(keep))


def _add(tally: Tally, values: list, counts: list[int], most: int) -> None:
    """Count values; forget the counts once there are too many different ones."""
    if tally.counts is not None:
        for value, count in zip(values, counts, strict=True):
            tally.counts[value] = tally.counts.get(value, 0) + count
        if len(tally.counts) > most:
            tally.counts = None


def _column(tally: Tally, median: float) -> Column:
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


def _target(tally: Tally) -> Target:
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


def _refuse_equal_names(recipe: Recipe) -> None:
    names = recipe.encoded
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(
                f"Two features would be called {name!r}: one of a category, and another. Rename a "
                "column."
            )
        seen.add(name)


def no_number(name: str, column: Any, batch: Batch, cure: str) -> InputError:
    """The error of a column of text whose values had to be numbers."""
    row = first_that_is_no_number(column)
    value = str(column[row].as_py())[:80]
    return InputError(
        f"{batch.file}: column {name!r} holds {value!r} at row {batch.first + row} (counted from "
        f"0), which is no number. {cure}"
    )


def no_value(name: str, row: int, batch: Batch, cure: str) -> InputError:
    """The error of a missing value."""
    return InputError(
        f"{batch.file}: row {batch.first + row} (counted from 0) has no value in column {name!r}. "
        f"{cure}."
    )


def not_finite(name: str, value: float, row: int, batch: Batch) -> str:
    """What to say of a number that is not finite."""
    return (
        f"{batch.file}: column {name!r} holds {value} at row {batch.first + row} (counted from 0), "
        "which is not finite. Repair it, or leave the field empty."
    )

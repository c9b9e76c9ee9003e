"""What one reading of a frame finds: kinds and ranges of its columns, categories, medians."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskalt.data.recipe import Column, Recipe
from daskalt.errors import InputError
from daskalt.ingest.casts import categories_of, is_integer, texts_of
from daskalt.ingest.faults import no_number, no_value, not_finite
from daskalt.ingest.frames import Batch
from daskalt.ingest.medians import RowSample
from daskalt.ingest.roles import Roles
from daskalt.ingest.tally import Tally, column_of, target_of
from daskalt.wording import plural

__all__ = ["Census", "Rules"]

FEW_CLASSES = 1000  # of a target whose classes are counted


@dataclass(frozen=True)
class Rules:
    """How text and missing values are treated; see `daskalt.ingest.ingest.ingest`."""

    categorical: str = "auto"
    missing: str = "median"
    unknown: str = "own"
    max_categories: int = 256


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
        A recipe learnt earlier; then only the types of these rows are found.
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
        fixed = {} if recipe is None else {c.name: c.truths for c in recipe.columns}
        codes = set() if self._several else set(roles.targets)
        codes |= set(roles.features if recipe is None and rules.categorical == "auto" else ())
        self.tallies = [
            Tally(
                name,
                "text" if name in text else None,
                fixed=name in fixed,
                truths=fixed.get(name, False),
                codes=name in codes,
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
        """Columns of text, some rows of which were read as numbers: all must be read again."""
        return [tally.name for tally in self.tallies if tally.late and not tally.fixed]

    def guess_types(self, batch: Batch) -> dict[str, Any]:
        """Arrow types that the columns of CSV may be read as, going by some rows of text."""
        for tally in self.tallies:
            tally.read(batch.rows.column(tally.name), batch.file)
        return {tally.name: tally.parsed_type for tally in self.tallies}

    def add(self, batch: Batch) -> Batch:
        """Add some rows, and return them as they were read: numbers, and text encoded.

        Raises
        ------
        InputError
            When a value cannot be used, naming file, row and column.
        """
        if not len(batch.rows):
            return batch
        values = np.full((len(batch.rows), len(self.tallies)), np.nan, order="F")
        texts, integers, read = {}, {}, []
        for place, tally in enumerate(self.tallies):
            column = batch.rows.column(tally.name)
            numbers = tally.read(column, batch.file)
            if numbers is None:
                self._refuse_text(tally, column, batch)
                texts[place] = numbers = categories_of(column)
            else:
                values[:, place] = numbers.to_numpy(zero_copy_only=False)
                whole = next((c for c in (column, numbers) if is_integer(c.type)), None)
                if whole is not None and tally in self.targets:
                    integers[place] = whole  # float64 cannot tell all of them apart
            read.append(numbers)
        holes = np.isnan(values)
        for place, column in texts.items():
            holes[:, place] = column.is_null().to_numpy(zero_copy_only=False)
        self._refuse_holes(holes, batch)
        self._count(values, holes, texts, integers, batch)
        return batch._replace(rows=_record_batch(read, self.roles.read))

    def _count(
        self,
        values: np.ndarray,
        holes: np.ndarray,
        texts: dict[int, Any],
        integers: dict[int, Any],
        batch: Batch,
    ) -> None:
        keep: np.ndarray | None = None
        all_values = values
        if self.rules.missing == "drop" and holes.any():
            keep = np.logical_not(holes.any(axis=1))
            values, holes = values[keep], holes[keep]
        self.rows += len(values)
        self.left_out += len(batch.rows) - len(values)
        lows, highs = (reach.reduce(values, axis=0, initial=np.nan) for reach in (np.fmin, np.fmax))
        if self.weights and lows[-1] < 0:
            self._refuse_negative(all_values[:, -1], keep, batch)
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
                exact = integers.get(place)
                found = values[:, place] if exact is None else _kept(exact, keep).to_numpy()
                classes, counts = np.unique(found, return_counts=True)
                tally.count(classes.tolist(), counts.tolist(), FEW_CLASSES)
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
            tally.count(texts.to_pylist(), found[found > 0].tolist(), most)

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

    def _refuse_negative(self, weights: np.ndarray, keep: np.ndarray | None, batch: Batch) -> None:
        row = int(np.flatnonzero((weights < 0) & (True if keep is None else keep))[0])
        raise InputError(
            f"{batch.file}: column {self.weights[0].name!r} holds {weights[row]:g} at row "
            f"{batch.first + row} (counted from 0): weights must be 0 or more. Repair it, or leave "
            "weight out."
        )

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
                f"than {self.rules.max_categories} different values, as names, free text and codes "
                "such as 007 do. Leave it out by "
                f"exclude={','.join(name.strip(chr(39)) for name in long)!r}, or give a larger "
                "max_categories."
            )

    # What it comes to

    def finish(self) -> Recipe:
        """The recipe and the layout, once all rows were added.

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
            "targets": [target_of(tally) for tally in self.targets],
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
            if not self.targets:  # they are kept, to decode predictions
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
            column_of(tally, median) for tally, median in zip(self.features, medians, strict=True)
        ]


def _record_batch(columns: list[Any], names: list[str]) -> Any:
    import pyarrow

    return pyarrow.RecordBatch.from_arrays(columns, names)


def _kept(column: Any, keep: np.ndarray | None) -> Any:
    import pyarrow

    return column if keep is None else column.filter(pyarrow.array(keep))


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

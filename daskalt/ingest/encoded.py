"""A frame read twice: once to learn a recipe and a layout, once more to be encoded by them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daskalt.compute.bars import counted
from daskalt.data.ahead import mapped_ahead
from daskalt.data.recipe import Column, Recipe
from daskalt.data.table import Block
from daskalt.data.writers import Layout
from daskalt.errors import InputError
from daskalt.ingest.census import Census, Rules
from daskalt.ingest.encoding import Encoder
from daskalt.ingest.frames import FrameFiles, Mistyped
from daskalt.ingest.roles import Roles
from daskalt.ingest.spool import Spool
from daskalt.ingest.tally import Tally

__all__ = ["EncodedFrames"]

EXACT_INTEGERS = 2.0**-4  # float32 keeps a millionth of the range of a column this wide


class EncodedFrames:
    """The rows of some files as numbers.

    Parameters
    ----------
    frames : FrameFiles
    roles : Roles
    rules : Rules
    dtype : dtype, optional
        Type to store the features in.
    recipe : Recipe, optional
        A recipe learnt earlier; else it is learnt from these rows.
    folder : Path
        Where parsed CSV is kept, in about as many bytes.
    """

    def __init__(
        self,
        frames: FrameFiles,
        roles: Roles,
        rules: Rules,
        folder: Path,
        dtype: Any = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.frames = frames
        self.roles = roles
        self.rules = rules
        self.dtype = dtype
        self.known = recipe
        self.stored = frames.kind == "parquet"
        self.spool = Spool(folder / "parsed")

    def survey(self, *, progress: bool = False) -> tuple[Recipe, Layout]:
        """Read everything once; return the recipe, and a layout that holds all rows.

        With ``progress`` a bar is shown.

        Raises
        ------
        InputError
            When a value cannot be used, naming file, row and column.
        """
        census = self._census((), progress)
        if census.late:
            census = self._census(census.late, progress)
        recipe = census.finish()
        return recipe, self._layout(census, recipe)

    def _census(self, text: Sequence[str], progress: bool) -> Census:
        """The census of all rows: read as the first of them suggest, else as text."""
        try:
            census = self._read_all(text, self._guess(text), progress)
        except Mistyped:
            census = self._read_all(text, None, progress)
        if census.rows + census.left_out == 0:
            raise InputError(
                f"{self.frames.files[0]} holds no rows below its header. Check the input."
            )
        return census

    def _new_census(self, text: Sequence[str]) -> Census:
        return Census(self.roles, self.rules, stored=self.stored, text=text, recipe=self.known)

    def _guess(self, text: Sequence[str]) -> dict[str, Any] | None:
        """Types of the columns of CSV that the first rows suggest."""
        if self.stored:
            return None
        first = self.frames.first_rows(self.roles.read)
        return None if first is None else self._new_census(text).guess_types(first)

    def _read_all(
        self, text: Sequence[str], types: Mapping[str, Any] | None, progress: bool
    ) -> Census:
        census = self._new_census(text)
        self.spool.clear()
        with counted("parsing", self.frames.about_rows(), "rows", progress) as count:
            for batch in self.frames.batches(self.roles.read, types=types):
                read = census.add(batch)
                if not self.stored and len(read.rows):
                    self.spool.append(read)
                count.update(len(batch.rows))
            count.settle()
        return census

    def blocks(self, recipe: Recipe, layout: Layout) -> Iterator[Block]:
        """The rows in order, in the types of the layout; parsed CSV is removed with them."""
        encoder = Encoder(recipe)
        stored = self.frames.batches(self.roles.read) if self.stored else self.spool.batches()
        parts = encoder.parts(stored, layout.arrays["X"][1])
        yield from mapped_ahead(encoder.block, ((part, layout) for part in parts))
        self.spool.clear()

    def _layout(self, census: Census, recipe: Recipe) -> Layout:
        arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        arrays["X"] = ((len(recipe.encoded),), self._feature_type(census, recipe))
        if census.targets:
            shape = (len(census.targets),) if isinstance(self.roles.target, list) else ()
            arrays["y"] = (shape, self._target_type(census.targets))
        if census.weights:
            arrays["sample_weight"] = ((), np.dtype(np.float64))
        return Layout(census.rows, arrays, recipe.encoded)

    def _target_type(self, targets: list[Tally]) -> np.dtype:
        if targets[0].kind == "text":
            return np.dtype(f"U{max(1, targets[0].width)}")
        return np.result_type(*(tally.type for tally in targets))

    def _feature_type(self, census: Census, recipe: Recipe) -> np.dtype:
        pairs = list(zip(census.features, recipe.columns, strict=True))
        numbers = [Range.of(tally, column) for tally, column in pairs if tally.kind != "text"]
        indicators = len(numbers) < len(pairs)
        if indicators:
            numbers.append(Range(0, 1, True, np.dtype(np.int8)))
        if self.dtype is not None:
            return _checked(np.dtype(self.dtype), numbers)
        if self.stored:
            return np.result_type(*(number.dtype for number in numbers))
        if all(number.whole for number in numbers):
            return _integer_type(numbers, signed=indicators)
        return np.dtype(np.float32 if all(number.narrow for number in numbers) else np.float64)


class Range:
    """The range of the numbers of a feature, including those that fill missing values."""

    def __init__(self, low: float, high: float, whole: bool, dtype: np.dtype) -> None:
        self.low = low
        self.high = high
        self.whole = whole
        self.dtype = dtype

    @classmethod
    def of(cls, tally: Tally, column: Column) -> "Range":
        """The range of a column that is numbers."""
        whole = tally.kind in ("boolean", "integer", None)
        low, high, dtype = tally.low, tally.high, np.dtype(tally.type)
        dtype = np.dtype(np.int8) if dtype.kind == "b" else dtype
        if tally.missing and column.fill is not None:
            low, high = min(low, column.fill), max(high, column.fill)
            if column.fill != int(column.fill):
                whole, dtype = False, np.result_type(dtype, np.float32)
        return cls(low, high, whole, dtype)

    @property
    def narrow(self) -> bool:
        """Whether float32 keeps a millionth of the range."""
        reach, spread = max(abs(self.low), abs(self.high)), self.high - self.low
        return reach < 1e38 and (spread == 0 or spread >= EXACT_INTEGERS * reach)


def _integer_type(numbers: list[Range], *, signed: bool) -> np.dtype:
    """The smallest type for integers; unsigned bytes would be scaled like pictures."""
    low, high = min(number.low for number in numbers), max(number.high for number in numbers)
    for name in ("i1", "u1", "i2", "u2", "i4", "u4"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max and not (signed and name[0] == "u"):
            return np.dtype(name)
    return np.dtype(np.int64)


def _checked(dtype: np.dtype, numbers: list[Range]) -> np.dtype:
    """The requested type, if it holds all numbers."""
    if dtype.kind in "biu":
        limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for number in numbers:
            if not number.whole or number.low < limits[0] or number.high > limits[1]:
                raise InputError(
                    f"dtype={dtype.name!r} cannot hold the features: there are "
                    f"{'integers' if number.whole else 'numbers'} from {number.low:g} to "
                    f"{number.high:g}. Leave dtype out, or give a wider type."
                )
    return dtype

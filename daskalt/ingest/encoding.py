"""Rows of a frame as blocks of numbers, by a recipe."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from daskalt.data.recipe import Column, Recipe
from daskalt.data.table import Block
from daskalt.data.writers import Layout
from daskalt.errors import InputError
from daskalt.ingest.casts import (
    booleans_of,
    categories_of,
    floats_of,
    integers_of,
    is_text,
    texts_of,
)
from daskalt.ingest.faults import no_number, no_value, not_finite
from daskalt.ingest.frames import Batch

__all__ = ["Encoder"]

ENCODED_BYTES = 16 << 20  # of a block, several of which are in memory at once


class Encoder:
    """Encodes batches of a frame as a recipe says.

    Parameters
    ----------
    recipe : Recipe
    missing, unknown : str, optional
        Treatment of missing values and unknown categories, in place of the recipe's.
    """

    def __init__(
        self, recipe: Recipe, *, missing: str | None = None, unknown: str | None = None
    ) -> None:
        import pyarrow

        self.recipe = recipe
        self.missing = missing or recipe.missing
        self.unknown = unknown or recipe.unknown
        self.width = len(recipe.encoded)
        self.fills = {c.name: c.fill is not None or c.kind == "category" for c in recipe.columns}
        self.categories = {
            column.name: pyarrow.array(column.categories, pyarrow.string())
            for column in recipe.columns
            if column.categories is not None
        }

    def parts(self, batches: Iterable[Batch], dtype: np.dtype) -> Iterator[Batch]:
        """Batches cut so that each becomes a small block, however many features there are."""
        rows = max(1, ENCODED_BYTES // (self.width * dtype.itemsize))
        for batch in batches:
            for start in range(0, len(batch.rows), rows):
                yield batch._replace(first=batch.first + start, rows=batch.rows.slice(start, rows))

    def features(self, batch: Batch, dtype: np.dtype) -> np.ndarray:
        """Every row as numbers.

        Raises
        ------
        InputError
            When a value cannot be used, naming file, row and column; missing values are such
            where there are no medians to fill them with.
        """
        X, holes, strange = self._encode(batch, dtype)
        self._refuse_strange(strange, batch, None)
        refused = [
            (int(where.argmax()), name)
            for name, where in holes
            if self.missing != "median" or not self.fills[name]
        ]
        if refused:
            row, name = min(refused)
            cure = "Fill it as the training data says by missing='median'"
            cure = cure if self.fills[name] else "Repair the file: the model knows no fill for it"
            raise no_value(name, row, batch, cure)
        return X

    def block(self, batch: Batch, layout: Layout) -> Block:
        """The rows in the types of a layout, without those that have a missing value."""
        X, holes, strange = self._encode(batch, layout.arrays["X"][1])
        others = {
            name: [batch.rows.column(column) for column in columns]
            for name, columns in self._beside(layout).items()
        }
        keep = self._complete(len(X), holes, [c for part in others.values() for c in part])
        self._refuse_strange(strange, batch, keep)
        arrays = {
            name: _array([_kept(column, keep) for column in columns], *layout.arrays[name])
            for name, columns in others.items()
        }
        return Block(X if keep is None else X[keep], arrays.get("y"), arrays.get("sample_weight"))

    def _beside(self, layout: Layout) -> dict[str, list[str]]:
        """Names of the columns of targets and weights that are to be stored."""
        named = {"y": [target.name for target in self.recipe.targets]}
        if self.recipe.weight is not None:
            named["sample_weight"] = [self.recipe.weight]
        return {name: columns for name, columns in named.items() if name in layout.arrays}

    def _complete(
        self, rows: int, holes: list[tuple[str, np.ndarray]], others: list[Any]
    ) -> np.ndarray | None:
        """Which rows are complete, where incomplete ones are to be left out."""
        if self.missing != "drop":
            return None
        gaps = np.zeros(rows, bool)
        for _, where in holes:
            gaps |= where
        for column in others:
            numbers = column if not is_text(column.type) else floats_of(column)
            gaps |= _nulls(column if numbers is None else numbers)
        return ~gaps if gaps.any() else None

    def _encode(
        self, batch: Batch, dtype: np.dtype
    ) -> tuple[np.ndarray, list[tuple[str, np.ndarray]], list[tuple[str, np.ndarray]]]:
        """Numbers, and the rows that had missing values or unknown categories, by column."""
        X = np.zeros((len(batch.rows), self.width), dtype, order="F")
        holes: list[tuple[str, np.ndarray]] = []
        strange: list[tuple[str, np.ndarray]] = []
        place = 0
        for column in self.recipe.columns:
            values = batch.rows.column(column.name)
            if column.categories is None:
                missing = _fill_numbers(X[:, place], values, column, batch)
            else:
                missing, unknown = self._fill_indicators(X[:, place:], values, column)
                if unknown.any():
                    strange.append((column.name, unknown))
            if missing is not None:
                holes.append((column.name, missing))
            place += len(column.encoded)
        return X, holes, strange

    def _fill_indicators(
        self, X: np.ndarray, values: Any, column: Column
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Write ones; return which rows had no value, if any, and which an unknown one."""
        import pyarrow.compute as compute

        values = categories_of(values)
        known_texts = self.categories[column.name]
        texts = compute.index_in(values.dictionary, value_set=known_texts)
        # After the last text comes the place of what is missing.
        missing = len(known_texts) - 1 if known_texts.null_count else -1
        of_texts = np.append(texts.fill_null(-1).to_numpy(zero_copy_only=False), missing)
        codes = of_texts[values.indices.fill_null(len(texts)).to_numpy()]
        known = codes >= 0
        rows = np.flatnonzero(known)
        X[rows, codes[rows]] = 1
        return (_nulls(values) if values.null_count else None), ~known

    def _refuse_strange(
        self, strange: list[tuple[str, np.ndarray]], batch: Batch, keep: np.ndarray | None
    ) -> None:
        """Refuse unknown categories in the rows that are kept."""
        if self.unknown != "error":
            return
        for name, where in strange:
            found = np.flatnonzero(where if keep is None else where & keep)
            if len(found):
                self._refuse_unknown(int(found[0]), name, batch)

    def _refuse_unknown(self, row: int, name: str, batch: Batch) -> None:
        value = batch.rows.column(name)[row].as_py()
        words = "no value" if value is None else f"{str(value)[:80]!r}"
        raise InputError(
            f"{batch.file}: column {name!r} holds {words} at row {batch.first + row} "
            "(counted from 0), which training never met. Take it as a category of its own by "
            "unknown='own'."
        )


def _fill_numbers(out: np.ndarray, values: Any, column: Column, batch: Batch) -> np.ndarray | None:
    """Write numbers, the fill where one is missing; return which rows had none, if any."""
    import pyarrow

    numbers = _numbers(values, column, out.dtype)
    if numbers is None:
        cure = "It was numbers when the recipe was learnt: repair the file."
        raise no_number(column.name, texts_of(values), batch, cure)
    whole = out.dtype.kind in "iu" and pyarrow.types.is_integer(numbers.type)
    if numbers.null_count and whole:
        out[:] = numbers.fill_null(int(column.fill or 0)).to_numpy(zero_copy_only=False)
        return _nulls(numbers)
    found = numbers.to_numpy(zero_copy_only=False)
    if found.dtype.kind != "f" or np.isfinite(found).all():
        out[:] = found
        return None
    missing = np.isnan(found)
    if not (missing | np.isfinite(found)).all():
        row = int(np.isinf(found).argmax())
        raise InputError(not_finite(column.name, found[row], row, batch))
    out[:] = np.where(missing, 0 if column.fill is None else column.fill, found)
    return missing


def _numbers(values: Any, column: Column, dtype: np.dtype) -> Any:
    import pyarrow

    if column.truths:
        truths = booleans_of(values)
        if truths is not None:
            return truths.cast(pyarrow.int8())
    integers = integers_of(values) if dtype.kind in "iu" else None
    return floats_of(values) if integers is None else integers


def _nulls(column: Any) -> np.ndarray:
    return column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)


def _kept(column: Any, keep: np.ndarray | None) -> Any:
    import pyarrow

    return column if keep is None else column.filter(pyarrow.array(keep))


def _array(columns: list[Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Targets or weights, none of them missing."""
    if dtype.kind == "U":
        return _texts(columns[0], dtype)
    arrays = [_target_numbers(column, dtype) for column in columns]
    return np.stack(arrays, axis=1) if shape else arrays[0]


def _target_numbers(column: Any, dtype: np.dtype) -> np.ndarray:
    numbers = None
    if dtype.kind == "b":
        numbers = booleans_of(column)
    elif dtype.kind in "iu":
        numbers = integers_of(column)
    numbers = floats_of(column) if numbers is None else numbers
    return numbers.to_numpy(zero_copy_only=False).astype(dtype)


def _texts(column: Any, dtype: np.dtype) -> np.ndarray:
    """Text of a fixed width; each different one becomes an object of Python only once."""
    encoded = categories_of(column)
    different = np.array(encoded.dictionary.to_pylist(), dtype)
    return different[encoded.indices.to_numpy(zero_copy_only=False)]

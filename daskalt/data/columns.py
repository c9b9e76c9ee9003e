"""One-dimensional arrays, and narrow ones, side by side as the columns of one."""

import uuid
from collections.abc import Sequence
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from daskalt.data.readers import KEPT_BYTES, SlicedSource, Source, ZarrSource
from daskalt.data.rows import contiguous, native

__all__ = ["ColumnsSource", "beside", "lazy_beside"]


class ColumnsSource(Source):
    """Rows whose columns lie in sources of as many rows, in chunks of any length.

    What a source has for a row, of any shape, is laid flat.

    Blocks follow the longest chunks, which are the dearest to read twice.
    """

    def __init__(
        self, sources: Sequence[Source], name: str = "X", columns: list[str] | None = None
    ) -> None:
        self.sources = tuple(sources)
        self.name = name
        self.columns = columns
        width = sum(prod(source.shape[1:]) for source in sources)
        self.shape = (len(sources[0]), width)
        self.dtype = native(np.result_type(*(source.dtype for source in sources)))
        longest = max(sources, key=lambda source: source.chunk_rows or 0)
        self.chunk_rows, self.offset = longest.chunk_rows, longest.offset
        self._token = uuid.uuid4().hex

    @property
    def in_memory(self) -> bool:
        return all(source.in_memory for source in self.sources)

    @property
    def kept(self) -> bool:
        few = self.nbytes <= KEPT_BYTES
        return few and all(source.in_memory or source.kept for source in self.sources)

    def read(self, start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        first = 0
        for source in self.sources:
            part = _flat(self._read(source, start, stop))
            rows[:, first : first + part.shape[1]] = part
            first += part.shape[1]
        return rows

    def _read(self, source: Source, start: int, stop: int) -> np.ndarray:
        if self.kept:
            return source.read(start, stop)
        # Each may be small enough to stay decoded, and all of them together not.
        while isinstance(source, SlicedSource):
            start, stop = source.start + start, source.start + stop
            source = source.source
        read = source.decode if isinstance(source, ZarrSource) else source.read
        return read(start, stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        if not (self.kept or self.in_memory):
            return super().read_rows(rows)
        parts = (_flat(source.read_rows(rows)) for source in self.sources)
        return contiguous(beside(*parts), self.dtype)


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), prod(rows.shape[1:]))


def beside(*parts: np.ndarray) -> np.ndarray:
    """Return arrays of as many rows side by side, in the type that holds them all."""
    return np.column_stack(parts)


def lazy_beside(arrays: Sequence[da.Array]) -> da.Array:
    """Return Dask arrays of as many rows side by side, in blocks that end where any of theirs do.

    Each has all of its columns in one block.
    """
    pairs: list[Any] = []
    for number, array in enumerate(arrays):
        pairs += [array, ("row", f"column {number}")[: array.ndim]]
    dtype = native(np.result_type(*(array.dtype for array in arrays)))
    return da.blockwise(
        beside,
        ("row", "columns"),
        *pairs,
        new_axes={"columns": sum(prod(array.shape[1:]) for array in arrays)},
        concatenate=True,
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )

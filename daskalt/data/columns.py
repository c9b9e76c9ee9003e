"""One-dimensional arrays, and narrow ones, side by side as the columns of one."""

import uuid
from collections.abc import Sequence
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from daskalt.data.decoded import KEPT_BYTES, decoded
from daskalt.data.readers import SlicedSource, Source, ZarrSource
from daskalt.data.rows import native

__all__ = ["ColumnsSource", "beside", "lazy_beside"]


class ColumnsSource(Source):
    """Rows whose columns lie in sources of as many rows, in chunks of any length.

    The entries of a source for a row, of any shape, are flattened.

    Blocks follow the longest chunks, which cost most to read twice.
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
        self._own = uuid.uuid4().hex

    @property
    def in_memory(self) -> bool:
        return all(source.in_memory for source in self.sources)

    @property
    def kept(self) -> bool:
        return self.nbytes <= KEPT_BYTES and not self.in_memory

    def decoding_bytes(self, rows: int, threads: int, spare: int = 0) -> int:
        return max(part.reading_bytes(rows, threads, spare) for part in self.sources)

    @property
    def _token(self) -> str:
        # Another when a part has learnt of its chunks anew, and nothing decoded may be used again.
        parts = (_part(source, 0, 0)[0] for source in self.sources)
        return f"{self._own} {hash(tuple(getattr(part, '_token', None) for part in parts))}"

    def read(self, start: int, stop: int) -> np.ndarray:
        return decoded(self).read(start, stop) if self.kept else self.decode(start, stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return decoded(self).read_rows(rows) if self.kept else super().read_rows(rows)

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` from the sources."""
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        first = 0
        for source in self.sources:
            part = _flat(_decode(source, start, stop))
            rows[:, first : first + part.shape[1]] = part
            first += part.shape[1]
        return rows


def _decode(source: Source, start: int, stop: int) -> np.ndarray:
    """Rows of a part, which is not kept decoded by itself."""
    source, start, stop = _part(source, start, stop)
    read = source.decode if isinstance(source, ZarrSource) else source.read
    return read(start, stop)


def _part(source: Source, start: int, stop: int) -> tuple[Source, int, int]:
    """The source that rows are a range of, and where they are in it."""
    while isinstance(source, SlicedSource):
        start, stop = source.start + start, source.start + stop
        source = source.source
    return source, start, stop


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

"""Aligned features, targets and row weights, and the blocks of rows that training works on."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from daskalt.data.decoded import KEPT_BYTES, PIECE_BYTES
from daskalt.data.readers import SlicedSource, Source
from daskalt.errors import InputError
from daskalt.wording import plural

__all__ = ["Block", "Table", "good_rows", "kept_bytes"]

MEBIBYTE = 1 << 20
PLACE_BYTES = 32  # of a row that is dealt by itself, in the plan of a pass


class Block(NamedTuple):
    """A range of rows in memory; None where the table has no such array."""

    X: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """Features, targets and row weights, row by row.

    Attributes
    ----------
    X, y, weight : Source
        The arrays.
    single : bool
        Whether rows are dealt one by one, not in blocks: all fit in the memory that a pass mixes,
        so no plan depends on chunks, or on whether the rows are stored at all.
    members : dict or None
        Names of the arrays in what holds them, under "X", "y" and "sample_weight".

    Raises
    ------
    InputError
        When the arrays differ in their rows.
    """

    X: Source
    y: Source | None = None
    weight: Source | None = None
    single: bool = False
    members: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_rows(self.present)

    @property
    def present(self) -> dict[str, Source]:
        """The sources that there are, under the names ``X``, ``y`` and ``sample_weight``."""
        members = {"X": self.X, "y": self.y, "sample_weight": self.weight}
        return {name: source for name, source in members.items() if source is not None}

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.X)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all arrays."""
        return sum(source.row_bytes for source in self.present.values())

    @property
    def mixed_bytes(self) -> int:
        """Bytes of a row for the limit of what is mixed in memory, the same for any storage.

        Of text, for one, the type in memory differs from that in a store. Its place in the order
        counts too.
        """
        values = sum(int(np.prod(s.shape[1:], dtype=np.int64)) for s in self._beside_features)
        return self.X.row_bytes + 8 * values + PLACE_BYTES

    @property
    def _beside_features(self) -> list[Source]:
        return [source for source in (self.y, self.weight) if source is not None]

    @property
    def chunk_rows(self) -> int:
        """Rows that a plan keeps together."""
        return 1 if self.single else self.X.chunk_rows or 1

    def pass_bytes(self, again: bool) -> int:
        """Bytes of one row that a pass reads, the first or ``again``."""
        sources = self.present.values()
        return sum(source.row_bytes for source in sources if not (again and source.kept))

    @property
    def nbytes(self) -> int:
        """Bytes of all rows over all arrays."""
        return self.n_rows * self.row_bytes

    @property
    def order_bytes(self) -> int:
        """Bytes of the indices of single rows in the plan of a pass, or of a view in memory."""
        if self.single:
            return 2 * PLACE_BYTES * self.n_rows
        return 4 * self.n_rows if self.in_memory else 0

    def reading_bytes(self, rows: int, threads: int, spare: int = 0, single: bool = False) -> int:
        """Return the bytes of blocks that are being read; see `Source.reading_bytes`."""
        if self.single:  # decoded a piece at a time
            rows = min(self.n_rows, PIECE_BYTES // max(1, self.X.row_bytes))
        sources = self.present.values()
        return sum(source.reading_bytes(rows, threads, spare, single) for source in sources)

    @property
    def kept(self) -> bool:
        """Whether all rows are in the memory of the process, or stay there once read."""
        return all(source.in_memory or source.kept for source in self.present.values())

    @property
    def in_memory(self) -> bool:
        """Whether all rows are in the memory of this process."""
        return all(source.in_memory for source in self.present.values())

    def read(self, start: int, stop: int) -> Block:
        """Rows ``start`` to ``stop`` of all arrays."""
        return Block(*self._each(lambda source: source.read(start, stop)))

    def read_rows(self, rows: np.ndarray) -> Block:
        """The rows at the indices ``rows``, in that order."""
        return Block(*self._each(lambda source: source.read_rows(rows)))

    def rows_slice(self, start: int, stop: int) -> "Table":
        """Rows ``start`` to ``stop`` as a table of their own, without reading them."""
        return self.each(lambda source: SlicedSource(source, start, stop))

    def each(self, change: Callable[[Source], Source]) -> "Table":
        """The table with ``change`` applied to each array."""
        X, y, weight = self._each(change)
        return Table(X, y, weight, self.single, self.members)

    def block_bounds(self, rows: int | None = None) -> list[tuple[int, int]]:
        """First and one past the last row of each block.

        Unless rows are single, blocks end where chunks of ``X`` end, so that no chunk is read
        twice. They depend on the data and on ``rows`` alone.

        Parameters
        ----------
        rows : int, optional
            Rows wanted in a block: rounded down to whole chunks, at least one. By default about
            4 MiB of ``X``, and no more than some thousand rows.
        """
        if rows is None:
            rows = good_rows(self.n_rows, self.X.row_bytes)
        chunk = self.chunk_rows
        size = max(1, rows // chunk) * chunk
        first = size - (0 if self.single else self.X.offset % size)
        edges = [0, *range(first, self.n_rows, size), self.n_rows]
        return [(a, b) for a, b in pairwise(edges) if a < b]

    def _each(self, read: Callable[[Source], Any]) -> list[Any]:
        members = (self.X, self.y, self.weight)
        return [None if source is None else read(source) for source in members]


def kept_bytes(*tables: Table) -> int:
    """Return the bytes of the decoded arrays that a process keeps of some tables."""
    sources = [source for table in tables for source in table.present.values()]
    return min(KEPT_BYTES, sum(source.nbytes for source in sources if source.kept))


def check_rows(arrays: dict) -> None:
    """Raise InputError when the arrays, named by their keys, differ in their rows."""
    counts = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            "Found input variables with inconsistent numbers of samples: "
            f"{list(counts.values())}; "
            + ", ".join(f"{name} has {plural(rows, 'row')}" for name, rows in counts.items())
            + ". Give each row of X one entry of every other array."
        )


def good_rows(n_rows: int, row_bytes: int) -> int:
    """Rows that make a good chunk or block of an array: a function of the data alone.

    About 4 MiB, but 256 to 4096 rows while that is at most 64 MiB and at most some ten thousand
    chunks: a step of training needs hundreds of rows at least, thousands at most.
    """
    row_bytes = max(1, row_bytes)
    large = 4 * MEBIBYTE // row_bytes
    rows = min(max(large, 256), 4096)
    rows = max(rows, min(large, n_rows // 10_000))
    return max(1, min(rows, 64 * MEBIBYTE // row_bytes))

"""Rows laid out for a fit: the same plan for the same rows, wherever they are stored or read.

Few rows are dealt one by one. Many are read in blocks; rows in memory in those of the copy in Zarr
that is made of them where other processes must reach them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daskalt.data.readers import Source
from daskalt.data.staging import copy_to_scratch, promised_copy
from daskalt.data.table import Table, good_rows

__all__ = ["Arrangement", "mixing_bytes"]

MIXING_BYTES = 64 << 20


def mixing_bytes(memory: int | None) -> int:
    """Return how many bytes of rows are mixed in memory, at most a 16th of the memory allowed."""
    return MIXING_BYTES if memory is None else min(MIXING_BYTES, memory // 16)


class ArrangedSource(Source):
    """Rows in memory in an order of their own, in the chunks that a copy in Zarr would have."""

    def __init__(self, source: Source, order: np.ndarray | None, chunk_rows: int) -> None:
        self.source = source
        self.order = order
        self.name = source.name
        self.shape = source.shape
        self.dtype = source.dtype
        self.columns = source.columns
        self.chunk_rows = min(chunk_rows, max(1, len(source)))

    @property
    def in_memory(self) -> bool:
        return True

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.order is None:
            return self.source.read(start, stop)
        return self.source.read_rows(self.order[start:stop])

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.source.read_rows(rows if self.order is None else self.order[rows])


@dataclass(frozen=True)
class Arrangement:
    """How the rows of a fit are laid out.

    Attributes
    ----------
    shuffle : bool or "global"
        The parameter of the estimators.
    mixes : bool
        Whether it matters which rows share a step or are held out.
    seed : int
        Of the order.
    memory : int or None
        The limit of a process set by the user, in bytes.
    scratch : str, Path or None
        Where copies go.
    shared : bool
        Whether other processes must reach the rows.
    """

    shuffle: bool | str
    mixes: bool
    seed: int
    memory: int | None = None
    scratch: str | Path | None = None
    shared: bool = False

    def arrange(self, table: Table, *, promised: bool = False) -> Table:
        """Return the table as the fit reads it; any copy may be a promised one.

        Rows in memory are shuffled wherever they are mixed, since it costs next to nothing:
        as a view, or while they are copied. Both have the order of `shuffle_to_zarr`.
        """
        single = self._fits(table)
        shuffled = self.shuffles(table)
        if self.copies(table):
            seed = self.seed if shuffled else None
            copy = promised_copy(table) if promised else copy_to_scratch(table, self.scratch, seed)
            return replace(copy, single=single)
        if single or not table.in_memory:
            return replace(table, single=single)
        order = self._order(table.n_rows) if shuffled and not promised else None
        rows = good_rows(table.n_rows, table.X.row_bytes)
        return table.each(lambda source: ArrangedSource(source, order, rows))

    def shuffles(self, table: Table) -> bool:
        """Say whether all rows are put in another order; few are mixed in every pass anyway."""
        if self._fits(table):
            return False
        return self.shuffle == "global" or bool(self.shuffle and self.mixes and table.in_memory)

    def copies(self, table: Table) -> bool:
        """Say whether the rows are copied."""
        return self.shared if table.in_memory else self.shuffles(table)

    def _fits(self, table: Table) -> bool:
        """Whether all rows fit in what is mixed."""
        return table.n_rows * table.mixed_bytes <= mixing_bytes(self.memory)

    def _order(self, n_rows: int) -> np.ndarray:
        order = np.argsort(np.random.default_rng(self.seed).random(n_rows), kind="stable")
        return order.astype(np.uint32) if n_rows <= 1 << 32 else order

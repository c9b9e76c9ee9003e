"""What the full-batch methods share: variables of every row on disk, a generation an iteration."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from daskalt.data.store import absolute
from daskalt.data.zstore import ZStore
from daskalt.network import Network
from daskalt.solvers.base import Problem, Solver

__all__ = ["FullBatch", "kept_arrays"]


class FullBatch(Solver):
    """A method whose step is a pass over all rows, and whose states hold a ``store`` or None.

    Subclasses take ``store`` as a parameter and name what lies in it.
    """

    full_batch = True
    store: Any

    def layout(self, problem: Problem) -> dict[str, int]:
        """Return the name and width of every array that holds a variable of the rows."""
        raise NotImplementedError

    @property
    def kept_at(self) -> str | None:
        """Where the variables and the checkpoints outlive the fit."""
        return None if self.store is None else str(self.store)

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the iterations that a fit makes unless told."""
        return 30

    def variable_bytes(self, problem: Problem) -> int:
        """Return the bytes of a row's variables, of one generation."""
        return sum(self.layout(problem).values()) * np.dtype(problem.dtype).itemsize

    def allocate(
        self, problem: Problem, rows: int, block_rows: int, scratch: Any, place: str | None = None
    ) -> ZStore:
        """Return the store of the rows' variables, which is not laid out yet."""
        layout = self.layout(problem)
        return ZStore(
            location=absolute(self.kept_at or place or ZStore.place(scratch)),
            rows=rows,
            names=tuple(layout),
            widths=tuple(layout.values()),
            chunk_rows=block_rows,
            dtype=np.dtype(problem.dtype).name,
            kept=self.kept_at is not None,
        )

    def detach(self, state: Any) -> Any:
        """Return the state as it can be put down: where its variables lie may change."""
        return state._replace(store=None)

    def attach(self, state: Any, storage: ZStore) -> Any:
        """Return a state that was put down, with the store of its variables."""
        return state._replace(store=storage)


def kept_arrays(store: ZStore | None, generation: int, count: int) -> list[da.Array]:
    """Return the first ``count`` variables of a generation as Dask arrays.

    Raises
    ------
    AttributeError
        If they were not kept, or no longer are.
    """
    if store is None or not store.kept:
        raise AttributeError(
            "z is removed after a fit. Give the solver a place to keep it, such as "
            "BatchAltMin(store='path/of/z.zarr')."
        )
    if store.generation != generation:
        raise AttributeError(
            f"{store.location} has no z of iteration {generation}: the fit has gone on, or "
            "another has taken its place."
        )
    return store.arrays(generation)[:count]

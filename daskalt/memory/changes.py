"""Changes that may make a fit take less memory, the mildest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from daskalt.data.readers import Source
from daskalt.data.staging import Promised
from daskalt.data.table import Table
from daskalt.memory.limits import Limit
from daskalt.memory.peaks import Machine

__all__ = ["Sizes", "changes"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fit that decide how much memory it takes.

    Attributes
    ----------
    table : Table
        The rows, in their chunks.
    machine : Machine
        Where the fit runs.
    given : Limit or None
        The limit set by the user.
    batch_size : int or None
        Rows of a step; None leaves it to "auto" or as it is.
    """

    table: Table
    machine: Machine
    given: Limit | None
    batch_size: int | None = None


def changes(sizes: Sizes, batch_size: int | None, limit: int) -> Iterator[tuple[str, Sizes]]:
    """Yield changes in words, and the sizes that they lead to.

    Parameters
    ----------
    sizes : Sizes
        The sizes that are too large.
    batch_size : int or None
        Rows of a step of these; None where a step has all rows.
    limit : int
        The limit of every process.
    """
    table, machine = sizes.table, sizes.machine
    tight, words = sizes, ""
    if sizes.given is None:
        tight = replace(sizes, given=Limit(limit, "the parameter memory_limit"))
        words = f"memory_limit={limit}"
        yield words, tight
    batches = [] if batch_size is None else _smaller(batch_size)
    for size in batches:
        yield f"batch_size={size}", replace(sizes, batch_size=size)
    few = replace(machine, threads=1)
    fewer = "threads_per_worker=1" if machine.workers else "dask.config.set(num_workers=1)"
    if machine.threads > 1:
        yield fewer, replace(sizes, machine=few)
    narrow = list(_narrower(table))
    for rows, other in narrow:
        yield _chunks(rows), replace(sizes, table=other)
    steps: list[int | None] = [*batches] or [None]
    for smaller in steps:
        batch = "" if smaller is None else f"batch_size={smaller}"
        both = replace(tight, batch_size=smaller)
        if machine.threads > 1:
            yield _joined(words, batch, fewer), replace(both, machine=few)
        for rows, other in narrow[-1:]:
            yield _joined(words, batch, _chunks(rows)), replace(both, table=other)
            if machine.threads > 1:
                slow = replace(both, table=other, machine=few)
                yield _joined(words, batch, fewer, _chunks(rows)), slow


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))


def _chunks(rows: int) -> str:
    return f"X in chunks of {rows} rows"


def _smaller(size: int) -> list[int]:
    """Some smaller sizes of a step, down to few rows."""
    return [size // part for part in (2, 4, 8, 16, 64, 256) if size // part >= 8]


def _narrower(table: Table) -> Iterator[tuple[int, Table]]:
    """The same table in smaller chunks."""
    if table.in_memory:
        return
    for part in (4, 16, 64):
        rows = (table.X.chunk_rows or 1) // part
        if rows < 16:
            return
        yield rows, Table(*(_promised(each, rows) for each in (table.X, table.y, table.weight)))


def _promised(source: Source | None, rows: int) -> Any:
    return None if source is None else Promised(source.name, source.shape, source.dtype, rows)

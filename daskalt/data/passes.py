"""The plan of one pass over the data: which blocks are read, mixed and dealt into which steps.

A pass reads the blocks in a random order, in groups of several blocks. Within a group the blocks
are dealt to *lanes*; each lane reads its own blocks, mixes their rows in memory, and gives every
step of the group an equal share of them. So a step is `lanes` tasks, its rows come from all blocks
of the group, and every block is read once. The plan depends on the data, the parameters and the
seed, never on the number of threads or workers.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from daskalt.compute.graph import task_threads
from daskalt.data.table import Block, Table
from daskalt.kernels.workspace import recycled

__all__ = [
    "Group",
    "Lane",
    "PassPlan",
    "all_blocks",
    "count_rows",
    "in_order",
    "plan_blocks",
    "plan_pass",
    "read_ahead",
    "read_lane",
    "reader",
]

CHUNK_ROWS = 4096  # least rows of a task of a reduction


@dataclass(frozen=True)
class Lane:
    """Blocks that one task reads, and how it mixes and shares out their rows."""

    starts: np.ndarray  # first row of each block
    stops: np.ndarray  # one past the last row of each block
    seed: tuple[int, ...] | None  # of the mixing; None keeps the order
    place: int = 0  # of its first row, where the rows of a pass are numbered

    @property
    def rows(self) -> int:
        """Rows that the lane holds in memory."""
        return int(np.sum(self.stops - self.starts))

    @property
    def longest(self) -> int:
        """Rows of its longest block, the most of one call."""
        return int(np.max(self.stops - self.starts))

    def shares(self, steps: int) -> list[tuple[int, int]]:
        """Bounds of the rows of each of the group's steps."""
        edges = np.linspace(0, self.rows, steps + 1).astype(int).tolist()
        return list(pairwise(edges))


@dataclass(frozen=True)
class Group:
    """Blocks that are in memory together, and the number of steps made of them."""

    lanes: tuple[Lane, ...]
    steps: int
    whole: bool = False  # one step of more blocks than fit in memory: read where they are used
    apart: bool = True  # whether other processes may take lanes; their steps may be too short

    @property
    def rows(self) -> int:
        """Rows of all lanes."""
        return sum(lane.rows for lane in self.lanes)

    @property
    def share(self) -> int:
        """Most rows that a lane gives to a step."""
        return max(-(-lane.rows // self.steps) for lane in self.lanes)


@dataclass(frozen=True)
class PassPlan:
    """All groups of a pass, in order."""

    groups: tuple[Group, ...]

    @property
    def steps(self) -> int:
        """Steps of the whole pass."""
        return sum(group.steps for group in self.groups)


def all_blocks(table: Table) -> np.ndarray:
    """Return the bounds of every block of a table, of shape (blocks, 2)."""
    return np.array(table.block_bounds(), dtype=np.int64).reshape(-1, 2)


def count_rows(bounds: np.ndarray) -> int:
    """Return the number of rows in some blocks."""
    return int(np.sum(bounds[:, 1] - bounds[:, 0]))


def plan_pass(
    table: Table,
    bounds: np.ndarray,
    *,
    batch_size: int,
    lanes: int,
    buffer_rows: int,
    seed: tuple[int, ...] | None,
    apart: bool = True,
) -> PassPlan:
    """Return the plan of one pass over some blocks of ``table``.

    Parameters
    ----------
    table : Table
        The rows.
    bounds : ndarray of shape (blocks, 2)
        First row of each block of the pass, and one past its last.
    batch_size : int
        Rows of a step. Steps of a group are equal to within a row a lane, so the actual number
        differs a little from this.
    lanes : int
        Tasks of a step.
    buffer_rows : int
        Rows that a group holds in memory, at least one step's.
    seed : tuple of int or None
        Seed of the pass; None reads and uses the rows in their order.
    apart : bool
        Whether the tasks of a step have so much to do that other processes may take some.
    """
    rows = bounds[:, 1] - bounds[:, 0]
    order = np.arange(len(bounds))
    if seed is not None:
        if table.single:  # these are the blocks
            singles = _ranges(bounds[:, 0], bounds[:, 1])
            bounds = np.stack([singles, singles + 1], axis=1)
            rows, order = np.ones(len(bounds), int), np.arange(len(bounds))
        order = np.random.default_rng(seed).permutation(order)
    n_groups = min(max(1, round(rows.sum() / max(buffer_rows, batch_size))), len(order))
    groups = []
    for number, members in enumerate(np.array_split(order, n_groups)):
        lanes_of_group = tuple(
            Lane(part[:, 0], part[:, 1], None if seed is None else (*seed, number, k))
            for k, part in enumerate(_deal(bounds[members], lanes, table))
        )
        steps = max(1, round(rows[members].sum() / batch_size))
        groups.append(Group(lanes_of_group, steps, apart=apart))
    return PassPlan(tuple(groups))


def _deal(bounds: np.ndarray, lanes: int, table: Table) -> list[np.ndarray]:
    """Blocks divided among lanes, as evenly as whole chunks allow."""
    if not table.single:
        bounds = _cut(bounds, table.chunk_rows, table.X.offset)
    if len(bounds) < lanes:  # fewer chunks than tasks: each is read in parts
        bounds = _cut(bounds, -(-int(np.ptp(bounds, axis=1).max()) // lanes), 0)
    parts = [part for part in np.array_split(bounds, lanes) if len(part)]
    return parts if table.single else [_joined(part) for part in parts]


def _cut(bounds: np.ndarray, size: int, offset: int) -> np.ndarray:
    """Blocks cut where ``row + offset`` is a multiple of ``size``."""
    pieces = []
    for start, stop in bounds.tolist():
        first = (start + offset) // size * size + size - offset
        edges = np.array([start, *range(first, stop, size), stop])
        pieces.append(np.stack([edges[:-1], edges[1:]], axis=1))
    return np.concatenate(pieces)


def _joined(bounds: np.ndarray) -> np.ndarray:
    """Blocks with adjacent ones merged."""
    apart = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1]) + 1
    return np.stack(
        [bounds[np.r_[0, apart], 0], bounds[np.r_[apart - 1, len(bounds) - 1], 1]], axis=1
    )


def plan_blocks(bounds: np.ndarray, rows: int) -> PassPlan:
    """Return a pass of one step, whose lanes take ``rows`` rows each, in order and numbered."""
    edges = np.concatenate([[0], np.cumsum(bounds[:, 1] - bounds[:, 0])])
    lanes = []
    for place in range(0, int(edges[-1]), rows):
        end = min(place + rows, int(edges[-1]))
        first = int(np.searchsorted(edges, place, side="right")) - 1
        last = int(np.searchsorted(edges, end, side="left"))
        part = bounds[first:last].copy()
        part[0, 0] += place - edges[first]
        part[-1, 1] -= edges[last] - end
        part = _joined(part)
        lanes.append(Lane(part[:, 0], part[:, 1], None, place))
    return PassPlan((Group(tuple(lanes), 1, whole=True),))


def in_order(bounds: np.ndarray) -> list[Lane]:
    """Return blocks as lanes of at least CHUNK_ROWS rows each where there are as many, unmixed."""
    rows = np.cumsum(bounds[:, 1] - bounds[:, 0])
    ends = np.flatnonzero(np.diff((rows - 1) // CHUNK_ROWS)) + 1
    parts = np.split(bounds, ends)
    return [Lane(part[:, 0], part[:, 1], None) for part in parts]


def read_lane(table: Table, lane: Lane, check: Callable[..., None] | None = None) -> Block:
    """Return the rows of a lane, read block by block and mixed.

    ``check`` is called with every block read from storage, its bounds and, where these are not all
    rows between them, its rows.
    """
    if table.single:
        rows = _ranges(lane.starts, lane.stops)
        rows = rows if lane.seed is None else _mixed(rows, lane.seed)
        block = table.read_rows(rows)
        if check is not None and not table.in_memory and len(rows):
            check(block, int(rows.min()), int(rows.max()) + 1, rows)
        return block
    places = np.arange(lane.rows)
    if lane.seed is not None:
        places = _mixed(places, lane.seed)
    columns: list[Any] = [None, None, None]
    done = 0
    for start, stop in zip(lane.starts.tolist(), lane.stops.tolist(), strict=True):
        block = table.read(start, stop)
        if check is not None:
            check(block, start, stop)
        here = places[done : done + stop - start]
        for k, part in enumerate(block):
            columns[k] = _scatter(columns[k], part, here, lane.rows)
        done += stop - start
    return Block(*columns)


def read_ahead(read: Callable[[Any], Any], places: Sequence[Any]) -> Iterator[Any]:
    """Yield what ``read`` returns for each place; the next is read while one is in use."""
    if len(places) == 1:
        yield read(places[0])
        return
    coming = reader().submit(read, places[0])
    for place in places[1:]:
        here = coming.result()
        coming = reader().submit(read, place)
        yield here
        del here  # not held while the next is waited for
    yield coming.result()


def reader() -> ThreadPoolExecutor:
    """Return the threads of this process that read while others compute, one for each of those."""
    return _readers(task_threads())


@cache
def _readers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="daskalt-read")


os.register_at_fork(after_in_child=_readers.cache_clear)  # threads do not survive a fork


def _scatter(
    column: np.ndarray | None, part: np.ndarray | None, places: np.ndarray, rows: int
) -> np.ndarray | None:
    """Copy the rows of a block once, to the places that the mixing gives them."""
    if part is None:
        return None
    if column is None:
        fresh = recycled if part.dtype.kind in "biuf" else np.empty
        column = fresh((rows, *part.shape[1:]), part.dtype)
    elif part.dtype != column.dtype:  # text of varying width
        column = column.astype(np.promote_types(column.dtype, part.dtype))
    target, numbers = column, part.dtype.kind in "biuf" and part.dtype == column.dtype
    if numbers and part.ndim == 2 and part.flags.c_contiguous:
        row = f"V{part.shape[1] * part.itemsize}"  # NumPy copies items twice as fast as rows
        target, part = column.view(row), part.view(row)
    target[places] = part
    return column


def _mixed(rows: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(rows)


def _ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """All integers of the half-open ranges, one after another."""
    lengths = stops - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return np.arange(int(lengths.sum())) + offsets

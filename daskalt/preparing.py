"""What a fit settles before its first step: which rows, read how, sampled and held out."""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskalt.data.arranging import mixing_bytes
from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, read_lane
from daskalt.data.table import Block, Table
from daskalt.errors import (
    DivergenceError,
    UnshuffledWarning,
)
from daskalt.network import Network
from daskalt.reduction import call
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import Reading, WholeBlocks

__all__ = [
    "INITIAL_ROWS",
    "LEAST_WATCHED",
    "SAMPLE_BLOCKS",
    "SAMPLE_ROWS",
    "Held",
    "all_blocks",
    "choose_blocks",
    "choose_reading",
    "compile_step",
    "count_rows",
    "hold_out",
    "most_batch_rows",
    "sample_rows",
    "thin_out",
    "warn_if_sorted",
]

SAMPLE_ROWS = 4096  # rows that the scaling and the initial weights are found on
SAMPLE_BLOCKS = 16
WATCHED_ROWS, LEAST_WATCHED, WATCHED_BYTES = 1024, 64, 1 << 20  # of it, scored after every pass
INITIAL_ROWS = 1024  # of the sample, on which the initial weights are set
BLOCK_BYTES = 16 << 20  # rows and z of a block of a full-batch method
_compiled: set[tuple] = set()  # what this process has compiled, or loaded, already
TASK_FLOPS = 200e6  # a task of less work costs more to hand out than it saves


def choose_blocks(
    table: Table, bounds: np.ndarray, network: Network, memory: int | None = None
) -> WholeBlocks:
    """Return how a full-batch method takes all rows: in blocks of at most 16 MiB.

    There are at least 32 where that leaves 256 rows or more to each. Blocks are whole chunks where
    chunks are smaller. ``memory`` is the limit that the user has set: a block is a 64th of it at
    most.
    """
    size = BLOCK_BYTES if memory is None else min(BLOCK_BYTES, memory // 64)
    row_bytes = table.mixed_bytes + 4 * sum(network.widths)
    rows = max(1, min(size // row_bytes, max(256, -(-count_rows(bounds) // 32))))
    chunk = table.chunk_rows
    return WholeBlocks(rows // chunk * chunk if rows > chunk else rows)


def choose_reading(
    table: Table,
    network: Network,
    batch_size: int,
    tasks: int | str,
    seed: int | None,
    memory: int | None = None,
) -> Reading:
    """Return how rows are read and dealt into steps, from the data and the parameters alone.

    Unless told otherwise the tasks of a step have at least 500 rows each. ``memory`` is the limit
    that the user has set: the rows mixed are a 16th of it at most.
    """
    buffer = mixing_bytes(memory)
    if tasks == "auto":
        tasks = 2 ** int(np.log2(np.clip(batch_size / 1000, 2, 16)))
        if batch_size * 3 * network.flops < 2 * TASK_FLOPS:
            tasks = 1
    return Reading(
        batch_size=batch_size,
        lanes=min(int(tasks), batch_size),
        buffer_rows=max(batch_size, buffer // max(1, table.mixed_bytes)),
        seed=seed,
    )


def most_batch_rows(table: Table, network: Network, memory: int | None) -> int:
    """Return the most rows that "auto" gives a step: those of a 16th of the memory there may be."""
    if memory is None:
        return table.n_rows
    return max(1, memory // 16 // (table.mixed_bytes + 16 * sum(network.widths)))


def all_blocks(table: Table) -> np.ndarray:
    """Return the bounds of every block of a table, of shape (blocks, 2)."""
    return np.array(table.block_bounds(), dtype=np.int64).reshape(-1, 2)


def count_rows(bounds: np.ndarray) -> int:
    """Return the number of rows in some blocks."""
    return int(np.sum(bounds[:, 1] - bounds[:, 0]))


def warn_if_sorted(clustering: float, outputs: int, reading: Reading, table: Table) -> None:
    """Warn when the rows mixed in memory cannot even out the order that they are stored in.

    Parameters
    ----------
    clustering : float
        How much more alike the targets of a block are than those of shuffled rows (1).
    outputs : int
        Outputs of the network: the more labels, the more rows it takes to meet them all.
    """
    if reading.buffer_rows >= table.n_rows or clustering < 10:
        return
    if reading.buffer_rows / clustering < 100 * outputs:
        warnings.warn(
            "The rows are stored in an order that follows y, sorted by label for instance, and "
            f"mixing {reading.buffer_rows} of {table.n_rows} rows in memory does not even it out: "
            "steps see few labels at a time, and training suffers. Set shuffle='global' to train "
            "on a shuffled copy in scratch, or make one with `daskalt ingest`.",
            UnshuffledWarning,
            stacklevel=3,
        )


def hold_out(
    table: Table, fraction: float, seed: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the rows to train on and of those held out.

    Few rows are drawn one by one, the same share of every label if there are ``labels``. Of many,
    whole blocks are drawn, so that none is read for both, and of the last of them the rows that
    are wanting.
    """
    rng = np.random.default_rng((seed, 2))
    if not table.single:
        return _hold_out_blocks(all_blocks(table), fraction, rng)
    held = np.zeros(table.n_rows, bool)
    groups = [np.arange(table.n_rows)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for rows in groups:
        held[rng.choice(rows, round(fraction * len(rows)), replace=False)] = True
    if not held.any():
        held[rng.integers(table.n_rows)] = True
    bounds = np.arange(table.n_rows)[:, None] + [0, 1]
    return bounds[~held], bounds[held]


def _hold_out_blocks(
    bounds: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    rows = count_rows(bounds)
    wanted = int(np.clip(round(fraction * rows), 1, rows - 1))
    order = rng.permutation(len(bounds))
    ends = np.cumsum((bounds[:, 1] - bounds[:, 0])[order])
    last = int(np.searchsorted(ends, wanted))  # the block in which there are enough
    held, kept = np.sort(order[:last]), np.sort(order[last + 1 :])
    start, stop = bounds[order[last]]
    cut = stop - (wanted - (ends[last] - (stop - start)))
    parts = bounds[held], np.array([[cut, stop]]), bounds[kept], np.array([[start, cut]])
    held_out, trained = np.concatenate(parts[:2]), np.concatenate(parts[2:])
    trained = trained[trained[:, 0] < trained[:, 1]]
    return trained[np.argsort(trained[:, 0])], held_out[np.argsort(held_out[:, 0])]


def compile_step(solver: Solver, problem: Problem, state: Any, table: Table) -> None:
    """Compile the kernels of a step by taking one, here, on a few rows, and drop the result.

    Workers on this machine then load them from Numba's cache on disk. Compiling the same kernels
    at the same time, they could read what another is still writing.
    """
    network = problem.network
    kinds = (repr(solver), network.activations, network.loss, problem.dtype, table.X.dtype)
    if kinds in _compiled:
        return
    _compiled.add(kinds)
    rows = problem.rows(table.read(0, min(8, table.n_rows)))
    with suppress(DivergenceError):  # so few rows may not do
        solver.update(problem, state, solver.map(problem, state, rows))


def sample_rows(table: Table, bounds: np.ndarray, seed: int) -> Block:
    """Return up to SAMPLE_ROWS rows: all of them, or the first few of some random blocks."""
    rng = np.random.default_rng((seed, 1))
    if count_rows(bounds) > SAMPLE_ROWS:
        if table.single:
            lengths = bounds[:, 1] - bounds[:, 0]
            rows = np.sort(rng.choice(int(lengths.sum()), SAMPLE_ROWS, replace=False))
            block = np.searchsorted(np.cumsum(lengths), rows, side="right")
            rows = rows - (np.cumsum(lengths) - lengths)[block] + bounds[block, 0]
            bounds = rows[:, None] + [0, 1]
        else:
            chosen = np.sort(rng.permutation(len(bounds))[:SAMPLE_BLOCKS])
            starts = bounds[chosen, 0]
            stops = np.minimum(bounds[chosen, 1], starts + SAMPLE_ROWS // len(chosen))
            bounds = np.stack([starts, stops], axis=1)
    return call(read_lane, table, Lane(bounds[:, 0], bounds[:, 1], None), check_block)


def thin_out(sample: Block, n_rows: int) -> Block:
    """Return some rows of a sample that have weight, whose loss takes little beside a pass."""
    if sample.weight is not None and sample.weight.any():
        with_weight = sample.weight.ravel() > 0
        sample = _select(sample, with_weight)
    row_bytes = sum(part[:1].nbytes for part in sample if part is not None)
    most = min(n_rows // 50, WATCHED_ROWS, WATCHED_BYTES // max(1, row_bytes))
    every = -(-len(sample.X) // max(most, LEAST_WATCHED))
    return _select(sample, slice(None, None, every))


def _select(block: Block, rows: np.ndarray | slice) -> Block:
    X, y, weight = (None if part is None else part[rows].copy() for part in block)
    assert X is not None
    return Block(X, y, weight)


@dataclass(frozen=True)
class Held:
    """Rows that are scored after every pass, not trained on."""

    table: Table
    bounds: np.ndarray
    given: Table  # as they were before they were laid out

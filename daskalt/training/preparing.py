"""Preparations of a fit: the rows to train on, held-out rows, samples, and compilation."""

import warnings
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from daskalt.compute.graph import call
from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, all_blocks, count_rows, read_lane
from daskalt.data.table import Block, Table
from daskalt.errors import (
    DivergenceError,
    UnshuffledWarning,
)
from daskalt.network.problem import Problem
from daskalt.solvers.base import Solver
from daskalt.training.reading import Reading, WholeBlocks

__all__ = [
    "INITIAL_ROWS",
    "LEAST_WATCHED",
    "SAMPLE_BLOCKS",
    "SAMPLE_ROWS",
    "Held",
    "compile_step",
    "hold_out",
    "identity_of",
    "sample_rows",
    "thin_out",
    "warn_if_sorted",
]

SAMPLE_ROWS = 4096  # rows from which scaling and initial weights are found
SAMPLE_BLOCKS = 16
WATCHED_ROWS, LEAST_WATCHED, WATCHED_BYTES = 1024, 64, 1 << 20  # rows scored after a pass
INITIAL_ROWS = 1024  # rows of the sample, by which the initial weights are set
_compiled: set[tuple] = set()  # what this process has compiled or loaded already


def warn_if_sorted(
    clustering: float, outputs: int, reading: Reading | WholeBlocks, table: Table
) -> None:
    """Warn when mixing rows in memory cannot even out their stored order.

    Parameters
    ----------
    clustering : float
        How much more alike the targets of a block are than if rows were shuffled (1).
    outputs : int
        Outputs of the network: with more labels it takes more rows to have them all.
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
    whole blocks are drawn, so that none is read for both, and a part of the last one.
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
    last = int(np.searchsorted(ends, wanted))  # the block that completes the share
    held, kept = np.sort(order[:last]), np.sort(order[last + 1 :])
    start, stop = bounds[order[last]]
    cut = stop - (wanted - (ends[last] - (stop - start)))
    parts = bounds[held], np.array([[cut, stop]]), bounds[kept], np.array([[start, cut]])
    held_out, trained = np.concatenate(parts[:2]), np.concatenate(parts[2:])
    trained = trained[trained[:, 0] < trained[:, 1]]
    return trained[np.argsort(trained[:, 0])], held_out[np.argsort(held_out[:, 0])]


def identity_of(value: Any) -> Hashable:
    """Return a text that identifies a solver by its class and all its parameters."""
    if isinstance(value, BaseEstimator):
        given = value.get_params(deep=False)
        return type(value), *((name, identity_of(given[name])) for name in sorted(given))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


def compile_step(solver: Solver, problem: Problem, state: Any, table: Table) -> None:
    """Compile the kernels of a step by making one in this process on a few rows.

    Workers on this machine then load them from Numba's cache on disk. If they compiled at
    the same time, one could read what another is still writing.
    """
    network = problem.network
    kinds = (
        identity_of(solver),
        *(phi.digest for phi in network.activations),
        network.loss.digest,
        problem.dtype,
        table.X.dtype,
    )
    if kinds in _compiled:
        return
    _compiled.add(kinds)
    rows = problem.rows(table.read(0, min(8, table.n_rows)))
    with suppress(DivergenceError):  # so few rows may not suffice
        statistics, _ = solver.map(problem, state, rows)
        solver.update(problem, state, statistics)


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
    """Return a few weighted rows of a sample, whose loss costs little beside a pass."""
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
    given: Table  # before they were put in the order of the fit

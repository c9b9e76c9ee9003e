"""The peak memory of the processes of a fit, part by part.

A process's peak is what it has before the fit, plus the largest of the phases: the sample at the
start, the steps, the scoring of held-out rows, the end. Nothing here depends on the number of rows,
except what is bounded anyway: the tasks of one graph, and small arrays that stay decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import zarr

from daskalt.data.passes import CHUNK_ROWS, PassPlan
from daskalt.data.readers import KEPT_BYTES, PIECE_BYTES, SlicedSource, Source, ZarrSource
from daskalt.data.table import PLACE_BYTES, Table
from daskalt.preparing import INITIAL_ROWS, SAMPLE_BLOCKS, SAMPLE_ROWS
from daskalt.reduction import FAN_IN
from daskalt.rehearsal import Rehearsal
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import GRAPH_TASKS
from daskalt.solvers.pass_graph import TASKS_PER_THREAD

__all__ = ["BEFORE", "Machine", "Work", "client_peak", "worker_peak"]

BEFORE = "the process before the fit"
TASK_BYTES = 5_000  # of a task while its graph runs
BLAS_BYTES = 8 << 20  # of the packing buffers that OpenBLAS keeps for a thread
# What a process comes to hold that no array accounts for: the threads of Dask and of Zarr, their
# libraries, and memory that the allocator keeps between uses.
LIBRARIES_BYTES = 32 << 20
READER_BYTES = 24 << 20  # that the allocator keeps for a thread that reads
WORKER_BYTES = 330 << 20  # a worker process with daskalt imported and its kernels loaded
KERNEL_BYTES = 48 << 20  # kernels that a worker has yet to load
MARGIN = 0.1  # of everything beside the process as it is


@dataclass(frozen=True)
class Machine:
    """Where a fit runs.

    Attributes
    ----------
    threads : int
        Tasks that this process runs at once; of a worker process if there are any.
    workers : int or None
        Worker processes; None where tasks run in this one.
    worker_bytes : int or None
        What the largest worker takes now, if that is known.
    """

    threads: int
    workers: int | None = None
    worker_bytes: int | None = None


@dataclass(frozen=True)
class Work:
    """What is done: the steps of a pass and what they are made of."""

    solver: Solver
    problem: Problem
    table: Table
    plan: PassPlan
    rehearsal: Rehearsal
    held: Table | None
    checkpoints: bool
    staged: bool = False  # whether the rows are first copied from this process's memory

    @property
    def whole(self) -> bool:
        """Whether a step takes all rows."""
        return self.plan.groups[0].whole

    @property
    def lanes(self) -> int:
        """Most tasks of a step."""
        return max(len(group.lanes) for group in self.plan.groups)

    @property
    def row_bytes(self) -> float:
        """Bytes of a row in memory: features as stored, targets encoded, weight."""
        loss, itemsize = self.problem.network.loss, self.problem.dtype.itemsize
        outputs = self.problem.network.n_outputs
        y = 4 if loss.coded and outputs > 1 else outputs * itemsize
        weighted = self.table.weight is not None or self.problem.class_factors is not None
        return self.table.X.row_bytes + y + itemsize * weighted


class _Rows(NamedTuple):
    held: int  # in memory at once, of a group and of the next
    mapped: int  # by one task
    read: int  # by one call
    spare: int  # chunks that a read may touch beside those that it has whole
    single: bool  # whether one call reads a lane


def client_peak(work: Work, machine: Machine, base: int) -> dict[str, int]:
    """Return the parts of the peak of the process that fits, in bytes."""
    start = _start(work, machine)
    end = {"states": _states(work, 2), "fitted attributes": _fitted(work)}
    if machine.workers is None:
        phases = [start, _steps(work, machine.threads, 1.0), end, _scoring(work, machine.threads)]
    else:
        phases = [start, _gathered(work), end]
    return _peak(base, LIBRARIES_BYTES, phases)


def worker_peak(work: Work, machine: Machine) -> dict[str, int] | None:
    """Return the parts of the peak of the largest worker; None where there are none."""
    if machine.workers is None:
        return None
    threads = machine.threads
    share = -(-work.lanes // machine.workers) / work.lanes
    steps = _steps(work, threads, share)
    lanes = 1 if work.whole else -(-work.lanes // machine.workers)
    # Every lane has a copy of the state; one is left of the pass before, one of the best.
    copies = lanes + 2
    steps["states"] = copies * work.rehearsal.state + lanes * work.rehearsal.fresh
    # All roots of the tree come to every worker, and lie there beside what they were sent as.
    steps["statistics"] += work.rehearsal.statistics * min(work.lanes, FAN_IN)
    base = machine.worker_bytes or WORKER_BYTES
    loaded = LIBRARIES_BYTES + (KERNEL_BYTES if machine.worker_bytes else 0)
    return _peak(base, loaded, [steps, _scoring(work, threads)])


def _peak(base: int, libraries: int, phases: list[dict[str, int]]) -> dict[str, int]:
    parts = max(phases, key=lambda phase: sum(phase.values()))
    parts = {BEFORE: base, "libraries": libraries} | parts
    margin = int(MARGIN * (sum(parts.values()) - base))
    return {name: int(size) for name, size in (parts | {"margin": margin}).items() if size > 0}


# Phases


def _start(work: Work, machine: Machine) -> dict[str, int]:
    """Finding the scaling and the initial weights on a sample."""
    table, widths = work.table, work.problem.network.widths
    rows = min(SAMPLE_ROWS, table.n_rows)
    doubles = 0 if table.X.dtype == np.uint8 else 3 * 8 * rows * work.problem.network.n_features
    itemsize = work.problem.dtype.itemsize
    # Gaussian numbers are drawn in double precision, and scaled in a copy.
    layers = work.problem.network.sizes
    weights = 16 * max(layers) + itemsize * sum(layers)
    activations = INITIAL_ROWS * itemsize * (sum(widths) + 2 * max(widths))
    sample = rows * table.row_bytes
    reading = _reading_bytes(table, -(-rows // SAMPLE_BLOCKS), 1, 1)
    if machine.workers is not None:  # it comes over the network
        reading = sample
    return {
        "sample": 2 * sample + max(doubles, weights + activations),
        # Keys are sorted for a shuffled view.
        "order of the rows": 20 * table.n_rows if table.in_memory and not table.single else 0,
        "blocks being read": reading,
        "arrays kept decoded": _kept_bytes(table),
    }


def _steps(work: Work, threads: int, share: float) -> dict[str, int]:
    """The steps of the passes, in a process that has a share of the lanes."""
    rehearsal, table = work.rehearsal, work.table
    rows = _rows(work, threads)
    held = rows.held if work.whole else int(np.ceil(rows.held * share))
    per_thread = rehearsal.map.at(rows.mapped)
    if rehearsal.survey is not None:
        per_thread = max(per_thread, rehearsal.survey.at(rows.mapped))
    tasks = min(GRAPH_TASKS, _pass_tasks(work))
    return {
        "rows in memory": int(held * work.row_bytes),
        "order of the rows": _order_bytes(table),
        "blocks being read": _reading_bytes(table, rows.read, threads, rows.spare, rows.single),
        "threads that read": 0 if table.kept else threads * READER_BYTES,
        "arrays kept decoded": _kept_bytes(table),
        "working memory of the threads": threads * (per_thread + BLAS_BYTES),
        "statistics": _statistics(work, threads),
        "update": rehearsal.update,
        "states": _states(work, 1),
        "z being read and written": _variables(work, rows.mapped, threads),
        "graph": tasks * TASK_BYTES,
    }


def _scoring(work: Work, threads: int) -> dict[str, int]:
    """Scoring held-out rows after a pass, in the workspaces that the steps have left."""
    if work.held is None:
        return {}
    rows = CHUNK_ROWS + (work.held.X.chunk_rows or 1)
    mapped = _rows(work, threads).mapped
    per_thread = work.rehearsal.score.at(rows) + work.rehearsal.map.at(mapped) + BLAS_BYTES
    return {
        "rows in memory": int(threads * rows * work.row_bytes),
        "blocks being read": _reading_bytes(work.held, rows, threads, 1),
        "arrays kept decoded": _kept_bytes(work.table, work.held),
        "working memory of the threads": threads * per_thread,
        "states": _states(work, 1),
    }


def _gathered(work: Work) -> dict[str, int]:
    """What the client of a cluster holds: graphs, and the state that they start from."""
    tasks = min(GRAPH_TASKS, _pass_tasks(work))
    # In the graph, packed, sent, at the scheduler, fetched, and where the fit would go back to;
    # where it last stood, and the best.
    copies = 8 if work.checkpoints else 6
    return {"graph": 2 * tasks * TASK_BYTES, "states": copies * work.rehearsal.state}


# Parts


def _rows(work: Work, threads: int) -> _Rows:
    groups = work.plan.groups
    lanes = [lane for group in groups for lane in group.lanes]
    longest = max(lane.rows for lane in lanes)
    read = max(int(np.max(lane.stops - lane.starts)) for lane in lanes)
    if work.table.single:
        read = min(work.table.n_rows, PIECE_BYTES // max(1, work.table.X.row_bytes))
    single = all(len(lane.starts) == 1 for lane in lanes)
    if work.whole:
        ahead = 2 if _branch(len(groups[0].lanes), threads) > 1 else 1
        return _Rows(min(threads * ahead, len(lanes)) * longest, longest, read, 1, single)
    sizes = [sum(lane.rows for lane in group.lanes) for group in groups]
    held = max(sum(sizes[i : i + 2]) for i in range(len(sizes)))
    mapped = max(-(-lane.rows // group.steps) for group in groups for lane in group.lanes)
    return _Rows(held, mapped, read, 0, single)


def _branch(blocks: int, threads: int) -> int:
    """Blocks that a task of a step of all rows maps."""
    level = 0
    while blocks // FAN_IN ** (level + 1) >= TASKS_PER_THREAD * threads and level < 2:
        level += 1
    return FAN_IN**level


def _pass_tasks(work: Work) -> int:
    if work.whole:
        return 2 * work.lanes
    surveyed = 2 if work.rehearsal.survey else 1
    total = 0
    for group in work.plan.groups:
        lanes = len(group.lanes)
        steps = group.steps if lanes > 1 or surveyed > 1 else 1  # one task makes all of one lane
        total += surveyed * (lanes + 1) * (steps + 1)
    return total


def _statistics(work: Work, threads: int) -> int:
    """Results of maps that wait to be combined, and those of combining them."""
    size, lanes = work.rehearsal.statistics, work.lanes
    if work.whole:
        height = int(np.ceil(np.log(max(lanes, 2)) / np.log(FAN_IN)))
        alive = min(lanes, (FAN_IN - 1) * height + threads) + threads
    else:
        alive = min(lanes, FAN_IN + threads) + (lanes > 1)
    return alive * size + work.rehearsal.surveyed * _surveys(work, threads)


def _surveys(work: Work, threads: int) -> int:
    """Statistics of the inputs that are in memory at once, which run where an update leaves room.

    Each lane has a total until all lanes do, each thread one in the making, and a few wait to be
    added; where a group has few of them, half have not begun while the others are summed.
    """
    pieces = max(group.steps * len(group.lanes) for group in work.plan.groups)
    return max(work.lanes, min(-(-pieces // 2), work.lanes + threads + 2))


def _states(work: Work, chain: int) -> int:
    """The state and what of it there is more than once."""
    rehearsal = work.rehearsal
    copies = chain + 3  # of the pass before, of those around the best
    return rehearsal.state + copies * rehearsal.fresh + rehearsal.initial


def _fitted(work: Work) -> int:
    layers = work.problem.network.sizes
    return 16 * (layers[0] + layers[-1]) + 2 * work.problem.dtype.itemsize * sum(layers)


def _variables(work: Work, rows: int, threads: int) -> int:
    """Chunks of z as they are on disk, beside those in use."""
    width = max(work.problem.network.units)
    stored = work.solver.variable_bytes(work.problem) > 0
    return 2 * threads * rows * width * work.problem.dtype.itemsize * stored


def _reading_bytes(table: Table, rows: int, threads: int, spare: int, single: bool = False) -> int:
    """Blocks that are being read, and the chunks that they are decoded from, as stored too.

    Where one call reads a lane, the lane's own memory is not taken before the chunks are let go.
    """
    total = 0
    for source in table.present.values():
        if source.in_memory:
            continue
        chunk = min(source.chunk_rows or 1, len(source))
        at_once = min(zarr.config.get("async.concurrency"), -(-rows // chunk) + spare)
        pool = min(32, (os.cpu_count() or 1) + 4)  # of Zarr, which all readers share
        decoding = min(threads * at_once, pool)
        copies = 2 if _is_compressed(source) else 1
        block, chunks = threads * rows, copies * decoding * chunk
        total += (max(block, chunks) if single else block + chunks) * source.row_bytes
    return total


def _order_bytes(table: Table) -> int:
    """Where single rows are in the plan of a pass, or those in memory in a shuffled view."""
    if table.single:
        return 2 * PLACE_BYTES * table.n_rows
    return 4 * table.n_rows if table.in_memory else 0


def _kept_bytes(*tables: Table) -> int:
    sources = [source for table in tables for source in table.present.values()]
    return min(KEPT_BYTES, sum(source.nbytes for source in sources if _is_kept(source)))


def _is_kept(source: Source) -> bool:
    return source.kept


def _is_compressed(source: Source) -> bool:
    source = _whole(source)
    return not isinstance(source, ZarrSource) or bool(source.array.compressors)


def _whole(source: Source) -> Source:
    """The source of which another is a range of rows."""
    while isinstance(source, SlicedSource):
        source = source.source
    return source

"""The peak memory of the processes of a fit, part by part.

A process's peak is the memory it has before the fit, plus the largest of the phases: the sample at
the start, the steps, the scoring of held-out rows, the end. Nothing here depends on the number of
rows, except what is bounded anyway: the tasks of one graph, and small arrays that stay decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from daskalt.data.passes import CHUNK_ROWS, PassPlan
from daskalt.data.scaling import SCALING_BYTES
from daskalt.data.table import Table, kept_bytes
from daskalt.memory.rehearsal import Rehearsal
from daskalt.network.problem import Problem
from daskalt.solvers.base import RowVariables
from daskalt.training.job import Job
from daskalt.training.occupancy import Occupancy, count_tasks, occupancy
from daskalt.training.pass_graph import Scheduler
from daskalt.training.preparing import INITIAL_ROWS, SAMPLE_BLOCKS, SAMPLE_ROWS

__all__ = ["BEFORE", "Machine", "Work", "client_peak", "worker_peak"]

BEFORE = "the process before the fit"
TASK_BYTES = 5_000  # of a task while its graph runs
BLAS_BYTES = 8 << 20  # of the packing buffers that OpenBLAS keeps for a thread
# Memory of a process that no array accounts for: the threads of Dask and of Zarr, their
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
    """The fit that is planned, and the machine that it runs on."""

    job: Job
    plan: PassPlan  # of the first pass
    rehearsal: Rehearsal
    held: Table | None
    checkpoints: bool
    machine: Machine

    @property
    def row_bytes(self) -> float:
        """Bytes of a row in memory: features as stored, targets encoded, weight."""
        loss, itemsize = self.job.problem.network.loss, self.job.problem.dtype.itemsize
        outputs = self.job.problem.network.n_outputs
        y = 4 if loss.coded and outputs > 1 else outputs * itemsize
        weighted = self.job.table.weight is not None or self.job.problem.class_factors is not None
        return self.job.table.X.row_bytes + y + itemsize * weighted

    @cached_property
    def occupancy(self) -> Occupancy:
        """What a process that runs tasks holds of a pass at once."""
        return occupancy(self.plan, self.machine.threads, self.machine.workers)

    @cached_property
    def graph_bytes(self) -> int:
        """Bytes of the tasks of a graph."""
        workers = self.machine.workers
        scheduler = Scheduler(
            self.machine.threads * (workers or 1), cluster=workers is not None, here=workers is None
        )
        return TASK_BYTES * count_tasks(self.job, self.plan, scheduler)


def client_peak(work: Work, base: int) -> dict[str, int]:
    """Return the parts of the peak of the process that fits, in bytes."""
    start = _start(work)
    end = {"states": _states(work, 2), "fitted attributes": _fitted(work)}
    if work.machine.workers is None:
        phases = [start, _steps(work), end, _scoring(work)]
    else:
        phases = [start, _gathered(work), end]
    return _peak(base, LIBRARIES_BYTES, phases)


def worker_peak(work: Work) -> dict[str, int] | None:
    """Return the parts of the peak of the largest worker; None where there are none."""
    if work.machine.workers is None:
        return None
    steps, rehearsal, lanes = _steps(work), work.rehearsal, work.occupancy.lanes
    # Every lane has a copy of the state; one is left of the pass before, one of the best.
    steps["states"] = (lanes + 2) * rehearsal.state + lanes * rehearsal.fresh
    base = work.machine.worker_bytes or WORKER_BYTES
    loaded = LIBRARIES_BYTES + (KERNEL_BYTES if work.machine.worker_bytes else 0)
    return _peak(base, loaded, [steps, _scoring(work)])


def _peak(base: int, libraries: int, phases: list[dict[str, int]]) -> dict[str, int]:
    parts = max(phases, key=lambda phase: sum(phase.values()))
    parts = {BEFORE: base, "libraries": libraries} | parts
    margin = int(MARGIN * (sum(parts.values()) - base))
    return {name: int(size) for name, size in (parts | {"margin": margin}).items() if size > 0}


# Phases


def _start(work: Work) -> dict[str, int]:
    """Finding the scaling and the initial weights on a sample."""
    table = work.job.table
    rows = min(SAMPLE_ROWS, table.n_rows)
    sample = rows * table.row_bytes
    reading = table.reading_bytes(-(-rows // SAMPLE_BLOCKS), 1, spare=1)
    if work.machine.workers is not None:  # it comes over the network
        reading = sample
    return {
        "sample": 2 * sample + max(SCALING_BYTES, _initial(work.job.problem)),
        # Keys are sorted for a shuffled view.
        "order of the rows": 20 * table.n_rows if table.in_memory and not table.single else 0,
        "blocks being read": reading,
        "arrays kept decoded": kept_bytes(table),
    }


def _initial(problem: Problem) -> int:
    """Finding the initial weights."""
    itemsize, layers, widths = problem.dtype.itemsize, problem.network.sizes, problem.network.widths
    # Gaussian numbers are drawn in double precision, and scaled in a copy.
    weights = 16 * max(layers) + itemsize * sum(layers)
    return weights + INITIAL_ROWS * itemsize * (sum(widths) + 2 * max(widths))


def _steps(work: Work) -> dict[str, int]:
    """The steps of the passes, in a process that runs tasks."""
    rehearsal, table, here = work.rehearsal, work.job.table, work.occupancy
    threads = work.machine.threads
    per_thread = rehearsal.map.at(here.mapped)
    return {
        "rows in memory": int(here.held * work.row_bytes),
        "order of the rows": table.order_bytes,
        "blocks being read": table.reading_bytes(here.read, threads, here.spare, here.single),
        "threads that read": 0 if table.kept else threads * READER_BYTES,
        "arrays kept decoded": kept_bytes(table),
        "working memory of the threads": threads * (per_thread + BLAS_BYTES),
        "statistics": here.statistics * rehearsal.statistics,
        "update": rehearsal.update,
        "states": _states(work, 1),
        "z being read and written": _variables(work),
        "graph": work.graph_bytes,
    }


def _scoring(work: Work) -> dict[str, int]:
    """Scoring held-out rows after a pass, in the workspaces that the steps have left."""
    held, rehearsal, threads = work.held, work.rehearsal, work.machine.threads
    if held is None:
        return {}
    rows = CHUNK_ROWS + (held.X.chunk_rows or 1)
    per_thread = rehearsal.score.at(rows) + rehearsal.map.at(work.occupancy.mapped) + BLAS_BYTES
    return {
        "rows in memory": int(threads * rows * work.row_bytes),
        "blocks being read": held.reading_bytes(rows, threads, spare=1),
        "arrays kept decoded": kept_bytes(work.job.table, held),
        "working memory of the threads": threads * per_thread,
        "states": _states(work, 1),
    }


def _gathered(work: Work) -> dict[str, int]:
    """What the client of a cluster holds: graphs, and the state that they start from."""
    # In the graph, packed, sent, at the scheduler, fetched, and where the fit would go back to;
    # where it last stood, and the best.
    copies = 8 if work.checkpoints else 6
    return {"graph": 2 * work.graph_bytes, "states": copies * work.rehearsal.state}


# Parts


def _states(work: Work, chain: int) -> int:
    """The state, and the copies of it or of its parts."""
    rehearsal = work.rehearsal
    copies = chain + 3  # of the pass before, of those around the best
    return rehearsal.state + copies * rehearsal.fresh + rehearsal.initial


def _fitted(work: Work) -> int:
    layers = work.job.problem.network.sizes
    return 16 * (layers[0] + layers[-1]) + 2 * work.job.problem.dtype.itemsize * sum(layers)


def _variables(work: Work) -> int:
    """Chunks of z as they are on disk, beside those in use."""
    rows = 2 * work.machine.threads * work.occupancy.mapped
    width = max(work.job.problem.network.units)
    stored = isinstance(work.job.solver, RowVariables)
    return rows * width * work.job.problem.dtype.itemsize * stored

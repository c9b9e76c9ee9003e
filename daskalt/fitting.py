"""From a problem and a table of rows to a trained state: reading, passes, stopping."""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from daskalt import __version__
from daskalt.checkpoint import checksum
from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, read_lane
from daskalt.data.table import Block, Table
from daskalt.errors import (
    DivergenceError,
    DivergenceWarning,
    ObjectiveWarning,
    RefusalWarning,
    UnshuffledWarning,
)
from daskalt.keeping import Keeper, Standing, stoppable
from daskalt.kernels.workspace import release
from daskalt.network import Network
from daskalt.progress import listen
from daskalt.reduction import call, fetch
from daskalt.scoring import score_rows, score_table
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import Halt, Pass, Reading, WholeBlocks, run_passes
from daskalt.solvers.pass_graph import Position
from daskalt.statistics import Score

__all__ = [
    "INITIAL_ROWS",
    "Held",
    "Monitor",
    "Training",
    "all_blocks",
    "choose_blocks",
    "choose_reading",
    "compile_step",
    "count_rows",
    "hold_out",
    "identify",
    "most_batch_rows",
    "sample_rows",
    "train",
    "warn_if_sorted",
]

SAMPLE_ROWS = 4096  # rows that the scaling and the initial weights are found on
SAMPLE_BLOCKS = 16
SOUND_ROWS = 256  # that the final weights are tried on
INITIAL_ROWS = 1024  # of the sample, on which the initial weights are set
BUFFER_BYTES = 64 << 20  # rows mixed in memory
BLOCK_BYTES = 16 << 20  # rows and z of a block of a full-batch method
_compiled: set[tuple] = set()  # what this process has compiled, or loaded, already
PARTED_PASSES, PARTED_RISE = 5, 1.1  # passes and rise of the loss that are no chance
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
    row_bytes = table.row_bytes + 4 * sum(network.widths)
    rows = max(1, min(size // row_bytes, max(256, -(-count_rows(bounds) // 32))))
    chunk = table.X.chunk_rows or 1
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
    buffer = BUFFER_BYTES if memory is None else min(BUFFER_BYTES, memory // 16)
    if tasks == "auto":
        tasks = 2 ** int(np.log2(np.clip(batch_size / 1000, 2, 16)))
        if batch_size * 3 * network.flops < 2 * TASK_FLOPS:
            tasks = 1
    return Reading(
        batch_size=batch_size,
        lanes=min(int(tasks), batch_size),
        buffer_rows=max(batch_size, buffer // max(1, table.row_bytes)),
        seed=seed,
    )


def most_batch_rows(table: Table, network: Network, memory: int | None) -> int:
    """Return the most rows that "auto" gives a step: those of a 16th of the memory there may be."""
    if memory is None:
        return table.n_rows
    return max(1, memory // 16 // (table.row_bytes + 16 * sum(network.widths)))


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

    In memory single rows are drawn, the same share of every label if there are ``labels``; from
    storage whole blocks are, so that none is read for both.
    """
    rng = np.random.default_rng((seed, 2))
    if table.in_memory:
        held = np.zeros(table.n_rows, bool)
        groups = [np.arange(table.n_rows)]
        if labels is not None:
            groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        for rows in groups:
            held[rng.choice(rows, round(fraction * len(rows)), replace=False)] = True
        if not held.any():
            held[rng.integers(table.n_rows)] = True
        bounds = np.arange(table.n_rows)[:, None] + [0, 1]
    else:
        bounds = all_blocks(table)
        held = np.zeros(len(bounds), bool)
        count = int(np.clip(round(fraction * len(bounds)), 1, max(1, len(bounds) - 1)))
        held[rng.choice(len(bounds), count, replace=False)] = True
        if len(bounds) == 1:  # one block: its last rows are held out
            cut = min(int(np.ceil((1 - fraction) * table.n_rows)), table.n_rows - 1)
            return np.array([[0, cut]])[: min(cut, 1)], np.array([[cut, table.n_rows]])
    return bounds[~held], bounds[held]


def compile_step(solver: Solver, problem: Problem, state: Any, table: Table) -> None:
    """Compile the kernels of a step by taking one, here, on a few rows, and drop the result.

    Workers on this machine then load them from Numba's cache on disk. Compiling the same kernels
    at the same time, they could read what another is still writing.
    """
    network = problem.network
    kinds = (repr(solver), network.activation, network.loss, problem.dtype, table.X.dtype)
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
        if table.in_memory:
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


@dataclass(frozen=True)
class Held:
    """Rows that are scored after every pass, not trained on."""

    table: Table
    bounds: np.ndarray


@dataclass
class Monitor:
    """Keeps the history of a fit and says when to stop.

    What is watched is the loss of the forward pass: of the held-out rows if `early_stopping`,
    else of the training rows as the passes met them. Where that is `divergence` times its best or
    more, or where the solver gives up, the fit has come apart: it ends, with the weights of the
    best pass.
    """

    tol: float
    patience: int
    early_stopping: bool
    divergence: float = np.inf
    scores_start: bool = False  # whether the loss of a pass is of the weights before it
    before: Any = None  # the state that the next pass starts from
    diverged: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = np.inf
    best_state: Any = None
    stale: int = 0
    warned: bool = False  # of steps that were refused
    parted: bool = False  # whether the objective has fallen without the loss

    def recall(self, history: list[dict[str, Any]], best_state: Any) -> None:
        """Take in the passes of the fit that this one goes on from, and its best state."""
        for record in history:
            self._judge(record)
        self.best_state = best_state

    def met(self, state: Any) -> Standing:
        """Return what of the fit has to be kept, with the state that it is in now."""
        return Standing(state, self.best_state, self.history)

    def see(self, result: Pass, record: dict[str, Any]) -> str | None:
        """Take in a pass; return the reason to stop, or None."""
        best = self._judge(record)
        self._compare_objective()
        given_up = record.get("given_up")
        if best and not given_up:  # nor is what is left of such a pass comparable
            # The mean loss of several steps vouches for the weights that they led to.
            of_start = self.scores_start or result.steps == 1
            earlier = of_start and not self.early_stopping
            self.best_state = self.before if earlier else result.state
        self.before = result.state
        if given_up:
            return self.fall_back(given_up.rstrip("."))
        self._tell_of_refusals(record)
        loss = record["validation_loss" if self.early_stopping else "loss"]
        if not loss < self.divergence * max(self.best_loss, 1e-300) and not _unscored(record):
            return self.fall_back(f"the forward loss rose from {self.best_loss:.3g} to {loss:.3g}")
        if record.get("converged"):
            return "the solver has converged"
        if self.stale >= self.patience:
            where = "validation" if self.early_stopping else "training"
            return f"{where} loss fell by less than tol={self.tol} for {self.stale} passes"
        return None

    def fall_back(self, reason: str) -> str:
        """Return why the fit ends with its best weights, and warn of it."""
        self.diverged = True
        left = "before the last sound step" if self.best_state is None else "of the best pass"
        reason = f"the method diverged: {reason}; the weights are those {left}"
        warnings.warn(reason[0].upper() + reason[1:] + ".", DivergenceWarning, stacklevel=4)
        return reason

    def _tell_of_refusals(self, record: dict[str, Any]) -> None:
        """Warn, once, of steps that left no trace in the weights."""
        if self.warned or not record.get("refused"):
            return
        self.warned = True
        warnings.warn(
            f"In pass {record['pass']} the solver met numbers that were not finite "
            f"{record['refused']} times, and left these steps out. {record['refusal']}",
            RefusalWarning,
            stacklevel=4,
        )

    def _compare_objective(self) -> None:
        """Warn, once, when a solver's objective falls for some passes and the loss does not."""
        recent = self.history[-PARTED_PASSES - 1 :]
        if self.parted or len(recent) <= PARTED_PASSES or "objective" not in recent[0]:
            return
        objectives = [record["objective"] for record in recent]
        losses = [record["loss"] for record in recent]
        if max(np.diff(objectives)) < 0 and min(losses[1:]) > PARTED_RISE * losses[0]:
            self.parted = True
            warnings.warn(
                f"In {PARTED_PASSES} passes the objective fell from {objectives[0]:.3g} to "
                f"{objectives[-1]:.3g}, but the loss of the forward pass rose from {losses[0]:.3g} "
                f"to {losses[-1]:.3g}: z drifts away from what the weights predict. Raise mu of "
                "the solver.",
                ObjectiveWarning,
                stacklevel=4,
            )

    def _judge(self, record: dict[str, Any]) -> bool:
        """Add a pass to the history; say whether it is the best so far."""
        self.history.append(record)
        loss = record["validation_loss" if self.early_stopping else "loss"]
        self.stale = self.stale + 1 if loss > self.best_loss - self.tol else 0
        best = loss < self.best_loss
        if best:
            self.best_loss = loss
        return best


def identify(
    facts: dict[str, Any],
    solver: Solver,
    problem: Problem,
    reading: Reading | WholeBlocks,
    **more: Any,
) -> dict[str, Any]:
    """Return what a fit must have in common with another to go on from its checkpoint, as JSON.

    The first difference is named, so ``facts``, of rows and parameters, come first.
    """
    network = problem.network
    parameters = {name: v for name, v in solver.get_params().items() if name != "store"}
    facts = {
        **facts,
        "daskalt": __version__,
        "solver": type(solver).__name__,
        **parameters,
        "widths": network.widths,
        "activation": network.activation,
        "loss": f"{network.loss.name} on {network.loss.link_name}",
        "penalty": problem.penalty,
        "scaling": checksum(*problem.scaling),
        "dtype": np.dtype(problem.dtype).name,
        **asdict(reading),
        **more,
    }
    return json.loads(json.dumps(facts, default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else repr(value)


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how the rows are read."""

    solver: Solver
    problem: Problem
    table: Table
    bounds: np.ndarray
    reading: Reading | WholeBlocks
    held: Held | None = None
    verbose: bool = False
    keeper: Keeper | None = None


def train(
    job: Training, state: Any, passes: range, monitor: Monitor, position: Position | None = None
) -> Any:
    """Return the trained state: the last, or under early stopping the best.

    Parameters
    ----------
    state : Any
        Where training starts.
    passes : range
        Numbers of the passes to make.
    monitor : Monitor
        Watches them.
    position : Position, optional
        Where in the first pass to go on from.
    """
    began = time.perf_counter()
    if monitor.history:
        began -= monitor.history[-1]["total_seconds"]
    steps = job.reading.plan(job.table, job.bounds, passes.start).steps
    bar = tqdm(
        total=steps * len(passes),
        initial=0 if position is None else position.steps,
        desc="daskalt",
        unit="step",
        disable=not job.verbose,
    )
    monitor.before = state
    with bar, _ended_by_divergence(monitor), stoppable(job.keeper), listen(bar.update) as topic:
        for result in run_passes(
            job.solver,
            job.problem,
            job.table,
            job.bounds,
            job.reading,
            state,
            passes,
            topic if job.verbose else None,
            position,
            None if job.keeper is None else job.keeper.pace,
        ):
            if isinstance(result, Halt):
                if job.keeper is not None:
                    job.keeper.halt(monitor.met(result.state), result.position)
                continue
            record = _record(job, result)
            record["total_seconds"] = time.perf_counter() - began
            bar.set_postfix({k: f"{v:.4g}" for k, v in record.items() if "loss" in k or "acc" in k})
            reason = monitor.see(result, record)
            if reason is not None:
                bar.total = bar.n
                if job.verbose:
                    bar.write(f"Stopped after pass {result.number + 1}: {reason}.")
                break
            if job.keeper is not None and result.number + 1 < passes.stop:
                job.keeper.save(monitor.met(result.state))
    release()
    kept_best = monitor.early_stopping or monitor.diverged
    best = monitor.best_state if kept_best else None
    state = _sound(job, monitor, fetch(monitor.before if best is None else best))
    if job.keeper is not None:
        job.keeper.save(monitor.met(state), finished=True)
    return state


def _sound(job: Training, monitor: Monitor, state: Any) -> Any:
    """The state whose weights the last step led to, if no number overflows under them.

    No later step has looked at these weights.
    """
    if call(_finite_loss, job.problem, state.weights, job.table, job.bounds[:1]):
        return state
    before = getattr(getattr(state, "caution", None), "before", None)
    others = [] if before is None else [state._replace(weights=before)]
    others += [] if monitor.best_state is None else [fetch(monitor.best_state)]
    for other in others:
        if call(_finite_loss, job.problem, other.weights, job.table, job.bounds[:1]):
            monitor.fall_back("numbers overflow under the weights of the last step")
            return other
    raise DivergenceError(
        "Numbers overflow under the weights that the fit led to: let the solver take smaller "
        "steps, lower alpha, and look for extreme values in X."
    )


def _finite_loss(problem: Problem, weights: Any, table: Table, bounds: np.ndarray) -> bool:
    """Whether the first rows of a block have a finite loss."""
    start, stop = bounds[0].tolist()
    rows = problem.rows(table.read(start, min(stop, start + SOUND_ROWS)))
    return bool(np.isfinite(score_rows(problem, weights, rows).loss))


def _record(job: Training, result: Pass) -> dict[str, Any]:
    """What the history has of a pass."""
    record: dict[str, Any] = {"pass": result.number + 1}
    record |= _quality(job.problem, result.score, "refused" in result.report) | result.report
    record["seconds"] = result.seconds
    if job.held is not None:
        score = score_table(job.problem, result.state, job.held.table, job.held.bounds)
        quality = _quality(job.problem, score)
        record |= {f"validation_{name}": value for name, value in quality.items()}
    # A first iteration has no variables to read yet, and keeps some arrays once they are read.
    kept, rows = job.solver.variable_bytes(job.problem), count_rows(job.bounds)
    record["bytes_read"] = result.rows * job.table.pass_bytes(again=result.number > 0)
    record["bytes_read"] += rows * kept if result.number > 0 else 0
    record["bytes_written"] = rows * kept
    return record


@contextmanager
def _ended_by_divergence(monitor: Monitor) -> Iterator[None]:
    """Let a fit that has weights to fall back on end where its numbers overflow."""
    try:
        yield
    except DivergenceError as error:
        if monitor.best_state is None:
            raise
        monitor.fall_back(str(error).split(":")[0].lower())


def _unscored(record: dict[str, Any]) -> bool:
    """Say whether a pass has no forward loss, since each of its steps was refused."""
    return "refused" in record and bool(np.isnan(record["loss"]))


def _quality(problem: Problem, score: Score, refused: bool = False) -> dict[str, float]:
    if refused and not score.weight > 0:
        return {"loss": np.nan}
    quality = {"loss": score.mean_loss}
    if problem.classifies:
        quality["accuracy"] = score.accuracy
    elif score.target is not None:
        quality["r2"] = score.r2
    return quality

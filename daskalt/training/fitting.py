"""The run of a fit: from a problem and a table of rows to a trained state."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from daskalt import __version__
from daskalt.compute.graph import call_on, fetch
from daskalt.data.fingerprint import checksum
from daskalt.data.passes import PassPlan, count_rows
from daskalt.data.watch import Watch
from daskalt.errors import DivergenceError
from daskalt.kernels.workspace import release
from daskalt.network.problem import Problem, Rows
from daskalt.network.scoring import score_table
from daskalt.solvers.base import Recovering, Solver
from daskalt.training.drivers import run
from daskalt.training.history import PassRecord, quality_of
from daskalt.training.job import Halt, Job, Pass, Position
from daskalt.training.keeping import Keeper
from daskalt.training.listeners import Listener, Underway, telling
from daskalt.training.monitor import Monitor
from daskalt.training.preparing import Held, identity_of
from daskalt.training.reading import Reading, WholeBlocks
from daskalt.training.ruin import far_above, worth_of_rows, worth_of_table

__all__ = [
    "Training",
    "identify",
    "rows_done",
    "train",
]


def identify(
    facts: dict[str, Any],
    solver: Solver,
    problem: Problem,
    reading: Reading | WholeBlocks,
    **more: Any,
) -> dict[str, Any]:
    """Return the facts, as JSON, that must be equal for a fit to resume another's checkpoint.

    The first difference is named, so ``facts``, of rows and parameters, come first.
    """
    network = problem.network
    parameters = {name: v for name, v in solver.get_params().items() if name != "store"}
    facts = {
        **facts,
        "daskalt": __version__,
        "solver": type(solver).__name__,
        **{f"solver__{name}": value for name, value in parameters.items()},
        "widths": network.widths,
        "inputs": [[own.name, own.width, own.start] for own in network.inputs],
        "activation": " ".join(layer.phi.name for layer in network.layers if layer.phi),
        "activation_digest": " ".join(layer.phi.digest for layer in network.layers if layer.phi),
        "sources": [[layer.sources, layer.weights] for layer in network.layers],
        "loss": f"{network.loss.name} on {network.loss.link.name}",
        "loss_digest": network.loss.digest,
        "penalty": problem.penalty,
        "scaling": checksum(*problem.scaling[:2]),
        "dtype": np.dtype(problem.dtype).name,
        **asdict(reading),
        **more,
    }
    return json.loads(json.dumps(facts, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    # A function's own repr has its address, which another process does not share.
    named = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{named}" if named else str(identity_of(value))


@dataclass(frozen=True)
class Training:
    """A job, with what is monitored, reported and kept while it runs.

    Attributes
    ----------
    job : Job
        The job to run.
    sample : Rows
        A sample of the training rows, for a first check for ruined weights.
    judges : bool
        Whether the sample suffices to suspect weights whose numbers do not overflow.
    trivial : float
        Loss of a network whose outputs are zero.
    watch : Watch
        Checks that the stored rows do not change.
    held : Held or None
        Rows that are scored after every pass.
    plan : Plan or None
        The memory, passes and bytes that were planned.
    keeper : Keeper or None
        Writes checkpoints.
    listeners : sequence of Listener
        Are informed of the progress of the fit.
    so_far : callable or None
        Makes an estimator from this, a state and its history.
    """

    job: Job
    sample: Rows
    trivial: float
    watch: Watch
    held: Held | None = None
    judges: bool = True
    plan: Any = None
    keeper: Keeper | None = None
    listeners: Sequence[Listener] = ()
    so_far: Callable[[Any, Any, Monitor], Any] | None = None


def train(
    training: Training, state: Any, monitor: Monitor, position: Position | None = None
) -> Any:
    """Return the trained state: the last, or with early stopping the best; never a ruined one.

    Parameters
    ----------
    training : Training
        What is trained.
    state : Any
        The state to continue from; the monitor knows the initial one.
    monitor : Monitor
        Keeps the history; it has been started.
    position : Position, optional
        Where to continue in the first pass.
    """
    job, keeper = training.job, training.keeper
    began = time.perf_counter()
    if monitor.history:
        began -= monitor.history[-1].total_seconds
    if position is not None:
        began -= position.seconds
    monitor.state = state
    plan = job.reading.plan(job.table, job.bounds, job.passes.start)
    underway = _underway(training, monitor)
    with _ended_by_divergence(monitor), telling(training.listeners, underway) as told:
        told.begin(0 if position is None else rows_done(plan, position))
        job = replace(job, topic=told.topic, pace=None if keeper is None else keeper.pace)
        for result in run(job, state, position or Position(job.passes.start)):
            if isinstance(result, Halt):
                told.halt(rows_done(plan, result.position))
                if keeper is not None:
                    keeper.halt(monitor.met(result.state), result.position)
                continue
            record = _record(training, result)
            if keeper is None:  # which checks before it writes anything
                training.watch.check()
            seconds = time.perf_counter() - began
            end = monitor.see(result, record._replace(total_seconds=seconds))
            _weigh(job, monitor)
            told.passed()
            if end is not None:
                break
            if keeper is not None and result.number + 1 < job.passes.stop:
                keeper.save(monitor.met(result.state))
    release()
    training.watch.check()
    state = _last_sound(training, monitor)
    if keeper is not None:
        keeper.save(monitor.met(monitor.state)._replace(chosen=state))
    return fetch(state)


def _underway(training: Training, monitor: Monitor) -> Underway:
    """A fit as its listeners see it."""

    def model() -> Any:
        assert training.so_far is not None
        best = monitor.best[0] if monitor.best else monitor.state
        return training.so_far(training, best, monitor)

    job = training.job
    return Underway(training, monitor, job.passes.stop, count_rows(job.bounds), model)


def rows_done(plan: PassPlan, position: Position) -> int:
    """Return roughly how many rows of a pass are done at a position in it."""
    lanes = [lane for group in plan.groups for lane in group.lanes]
    rows = sum(lane.rows for lane in lanes)
    if plan.groups[0].whole:
        return rows if position.steps else sum(lane.rows for lane in lanes[: position.blocks])
    return round(rows * position.steps / plan.steps)


def _last_sound(training: Training, monitor: Monitor) -> Any:
    """The state that the fit ends with, or a handle: the last, or the best if that is ruined."""
    job = training.job
    last = monitor.best[0] if monitor.early_stopping and monitor.best else monitor.state
    if not monitor.diverged and not _suspicious(training, monitor, last):
        return last
    others = _step_before(job, fetch(last))
    if monitor.early_stopping:  # `last` is the best of all, by held-out rows
        others = [*others, monitor.start]
    else:
        others = [*others, *monitor.best, monitor.start]
    worths = [
        worth_of_table(job.problem, state, job.table, job.bounds) for state in (last, *others)
    ]
    best = min(range(len(worths)), key=lambda k: worths[k].order)
    if monitor.early_stopping and monitor.diverged and worths[0].order[0] == worths[best].order[0]:
        best = 0
    ruined = far_above(worths[0], worths[best], training.trivial)
    if not (ruined or monitor.diverged):
        return last
    if worths[best].share_lost > 0.5:
        raise DivergenceError(
            "Numbers overflow under all weights of the fit: let the solver take smaller "
            "steps, lower alpha, and look for extreme values in X."
        )
    if not monitor.diverged:
        monitor.fall_back("the loss of its last weights is far above that of earlier ones")
    state = (last, *others)[best]
    monitor.conclude(state)
    return state


def _step_before(job: Job, state: Any) -> list[Any]:
    """The state at the start of the last sound step, if the solver keeps its weights."""
    if not isinstance(job.solver, Recovering):
        return []
    before = job.solver.last_sound(job.problem, state)
    return [] if before is None else [before]


def _weigh(job: Job, monitor: Monitor) -> None:
    """In an erratic fit, keep the state with the lowest loss on all training rows."""
    if monitor.early_stopping or not monitor.erratic:
        return
    before = monitor.best if monitor.worth is None else ()
    for state in (*before, monitor.state):
        worth = worth_of_table(job.problem, state, job.table, job.bounds)
        if monitor.worth is None or worth.order < monitor.worth.order:
            monitor.best, monitor.worth = (state,), worth


def _suspicious(training: Training, monitor: Monitor, last: Any) -> bool:
    """Whether the last weights may be ruined, by a cheap check."""
    if monitor.erratic and not monitor.early_stopping:
        return True
    states = (last, monitor.start, *([] if monitor.early_stopping else monitor.best[:1]))
    problem, sample = training.job.problem, training.sample
    worths = [call_on(worth_of_rows, problem, state, sample) for state in states]
    if training.judges:
        return any(far_above(worths[0], other, training.trivial) for other in worths[1:])
    return worths[0].share_lost > worths[1].share_lost


def _record(training: Training, result: Pass) -> PassRecord:
    """The record of a pass."""
    job, held = training.job, training.held
    validation = None
    if held is not None:
        score = score_table(job.problem, result.state, held.table, held.bounds)
        validation = quality_of(job.problem, score)
    # The first iteration reads no variables, and some arrays are read only once.
    kept = 0 if job.variables is None else job.variables.row_bytes
    rows, again = count_rows(job.bounds), result.number > 0
    return PassRecord(
        result.number + 1,
        quality_of(job.problem, result.score),
        result.report,
        result.seconds,
        validation,
        result.rows * job.table.pass_bytes(again=again) + (rows * kept if again else 0),
        rows * kept,
    )


@contextmanager
def _ended_by_divergence(monitor: Monitor) -> Iterator[None]:
    """End a fit whose numbers overflow, where there are weights to fall back on."""
    try:
        yield
    except DivergenceError as error:
        if not monitor.history:
            raise
        monitor.fall_back(str(error).split(":")[0].lower())

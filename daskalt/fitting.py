"""From a problem and a table of rows to a trained state."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from daskalt import __version__
from daskalt.checkpoint import checksum
from daskalt.data.table import Table
from daskalt.data.watch import Watch
from daskalt.errors import (
    DivergenceError,
)
from daskalt.keeping import Keeper
from daskalt.kernels.workspace import release
from daskalt.monitor import Monitor
from daskalt.preparing import Held, count_rows
from daskalt.progress import listen
from daskalt.reduction import call, fetch
from daskalt.scoring import Sample, sample_loss, score_table
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import Halt, Pass, Reading, WholeBlocks, run_passes
from daskalt.solvers.pass_graph import Position
from daskalt.statistics import Score

__all__ = [
    "Training",
    "begin",
    "identify",
    "train",
]


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
    """What is trained, on what, and how the rows are read.

    The ``sample`` is of the training rows, and tells weights that are ruined from others.
    """

    solver: Solver
    problem: Problem
    table: Table
    bounds: np.ndarray
    reading: Reading | WholeBlocks
    sample: Sample
    watch: Watch
    held: Held | None = None
    verbose: bool = False
    keeper: Keeper | None = None


def train(
    job: Training, state: Any, passes: range, monitor: Monitor, position: Position | None = None
) -> Any:
    """Return the trained state: the last, or under early stopping the best; never a ruined one.

    Parameters
    ----------
    state : Any
        Where training goes on; its start is known to the monitor.
    passes : range
        Numbers of the passes to make.
    monitor : Monitor
        Watches them, and has begun.
    position : Position, optional
        Where in the first pass to go on from.
    """
    began = time.perf_counter()
    if monitor.history:
        began -= monitor.history[-1]["total_seconds"]
    if position is not None:
        began -= position.seconds
    steps = job.reading.plan(job.table, job.bounds, passes.start).steps
    bar = tqdm(
        total=steps * len(passes),
        initial=0 if position is None else position.steps,
        desc="daskalt",
        unit="step",
        disable=not job.verbose,
    )
    monitor.state = state
    with bar, _ended_by_divergence(monitor), listen(bar.update) as topic:
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
            job.sample,
        ):
            if isinstance(result, Halt):
                if job.keeper is not None:
                    job.keeper.halt(monitor.met(result.state), result.position)
                continue
            record = _record(job, result)
            job.watch.check()
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
    job.watch.check()
    state = _best_of(job, monitor)
    if job.keeper is not None:
        job.keeper.save(monitor.met(state), finished=True)
    return state


def begin(job: Training, monitor: Monitor, start: Any) -> None:
    """Have a monitor know the state before the first pass."""
    monitor.begin(start, call(sample_loss, job.problem, start.weights, job.sample), job.sample)


def _best_of(job: Training, monitor: Monitor) -> Any:
    """The state that the fit ends with, on whose weights no later step has looked."""
    kept_best = monitor.early_stopping or monitor.diverged
    state = fetch(monitor.best_state if kept_best else monitor.state)
    if not _is_ruined(job, monitor, state.weights):
        return state
    before = getattr(getattr(state, "caution", None), "before", None)
    others = [] if before is None else [state._replace(weights=before)]
    for other in (*others, monitor.best_state, monitor.start):
        value = fetch(other)
        if not _is_ruined(job, monitor, value.weights):
            monitor.fall_back("the last steps raised the loss far above what it had been", other)
            return value
    raise DivergenceError(
        "Numbers overflow under the weights that the fit led to: let the solver take smaller "
        "steps, lower alpha, and look for extreme values in X."
    )


def _is_ruined(job: Training, monitor: Monitor, weights: Any) -> bool:
    return monitor.is_ruin(call(sample_loss, job.problem, weights, job.sample))


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
        if not monitor.history:
            raise
        monitor.fall_back(str(error).split(":")[0].lower())


def _quality(problem: Problem, score: Score, refused: bool = False) -> dict[str, float]:
    if refused and not score.weight > 0:
        return {"loss": np.nan}
    quality = {"loss": score.mean_loss}
    if problem.classifies:
        quality["accuracy"] = score.accuracy
    elif score.target is not None:
        quality["r2"] = score.r2
    return quality

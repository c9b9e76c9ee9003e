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
from daskalt.errors import (
    DivergenceError,
)
from daskalt.keeping import Keeper
from daskalt.kernels.workspace import release
from daskalt.monitor import Monitor
from daskalt.preparing import Held, count_rows
from daskalt.progress import listen
from daskalt.reduction import call, fetch
from daskalt.scoring import score_rows, score_table
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import Halt, Pass, Reading, WholeBlocks, run_passes
from daskalt.solvers.pass_graph import Position
from daskalt.statistics import Score

__all__ = [
    "Training",
    "identify",
    "train",
]

SOUND_ROWS = 256  # that the final weights are tried on


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
    monitor.before = state
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


def _quality(problem: Problem, score: Score, refused: bool = False) -> dict[str, float]:
    if refused and not score.weight > 0:
        return {"loss": np.nan}
    quality = {"loss": score.mean_loss}
    if problem.classifies:
        quality["accuracy"] = score.accuracy
    elif score.target is not None:
        quality["r2"] = score.r2
    return quality

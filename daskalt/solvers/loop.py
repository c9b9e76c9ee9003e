"""The one outer loop: passes over the data, each one Dask graph of map, combine and update."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import TaskRef

from daskalt.data.finite import check_block
from daskalt.data.passes import Group, Lane, PassPlan, plan_pass, read_lane
from daskalt.data.table import Table
from daskalt.progress import report_step
from daskalt.reduction import Graph, Handle, fold
from daskalt.solvers.base import Problem, Rows, Solver
from daskalt.statistics import Score

__all__ = ["Pass", "Reading", "run_passes"]


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read, mixed and divided into steps.

    Attributes
    ----------
    batch_size : int
        Rows of a step.
    lanes : int
        Tasks of a step.
    buffer_rows : int
        Rows mixed together in memory.
    seed : int or None
        Seed of the shuffling; None keeps the order of the rows.
    """

    batch_size: int
    lanes: int
    buffer_rows: int
    seed: int | None

    def plan(self, table: Table, bounds: np.ndarray, number: int) -> PassPlan:
        """Return the plan of pass ``number`` over some blocks of a table."""
        return plan_pass(
            table,
            bounds,
            batch_size=self.batch_size,
            lanes=self.lanes,
            buffer_rows=self.buffer_rows,
            seed=None if self.seed is None else (self.seed, number),
        )


@dataclass(frozen=True)
class Pass:
    """What one pass left: a handle of the state, the forward score and what it cost."""

    number: int
    state: Handle
    score: Score
    seconds: float
    steps: int


def run_passes(
    solver: Solver,
    problem: Problem,
    table: Table,
    bounds: np.ndarray,
    reading: Reading,
    state: Any,
    numbers: range,
    progress: str | None = None,
) -> Iterator[Pass]:
    """Yield the result of each pass; the caller decides when to stop.

    The steps of a pass are chained tasks of one graph. The state stays where the scheduler keeps
    it: only the score comes back.
    """
    handle = state
    survey = solver.surveys(state.budget)
    for number in numbers:
        began = time.perf_counter()
        plan = reading.plan(table, bounds, number)
        first = number == numbers.start
        handle = _run_pass(plan, (solver, problem), table, handle, first, survey, progress)
        graph = Graph()
        score = graph.compute(graph.add(_score, graph.constant(handle)))
        yield Pass(number, handle, score, time.perf_counter() - began, plan.steps)


def _run_pass(
    plan: PassPlan,
    method: tuple[Solver, Problem],
    table: Table,
    state: Any,
    first: bool,
    survey: bool,
    progress: str | None,
) -> Handle:
    """Run a pass as one graph: reads gated by the steps before them, steps chained by the state."""
    graph = Graph()
    shared, rows = graph.constant(method), graph.constant(table)
    node = graph.add(_begin, shared, graph.constant(state))
    surveys = first and survey
    gate, total = None, None
    for group in plan.groups:
        # A group is read while the one before it is in use, never earlier: memory is bounded.
        lanes = [graph.add(_load, shared, rows, lane, first, gate) for lane in group.lanes]
        gate = graph.add(_passed, node, total)
        if surveys:
            # These wait for nothing, and fill the time in which only an update runs.
            parts = [graph.add(_survey, shared, *share) for share in _shares(group, lanes)]
            total = graph.add(fold, Solver.combine, [total, *graph.tree(Solver.combine, parts)])
        if len(lanes) == 1:
            node = graph.add(_run_group, shared, node, lanes[0], group, progress)
        else:
            node = _add_steps(graph, group, shared, node, lanes, progress)
    if surveys:
        node = graph.add(_adopt, shared, node, total)
    return graph.persist(node)


def _shares(group: Group, lanes: list[TaskRef]) -> Iterator[tuple[TaskRef, int, int]]:
    """Each lane's rows of each step."""
    for node, lane in zip(lanes, group.lanes, strict=True):
        for start, stop in lane.shares(group.steps):
            if start < stop:
                yield node, start, stop


def _add_steps(
    graph: Graph,
    group: Group,
    shared: TaskRef,
    state: TaskRef,
    lanes: list[TaskRef],
    progress: str | None,
) -> TaskRef:
    shares = [lane.shares(group.steps) for lane in group.lanes]
    for step in range(group.steps):
        view = graph.add(_view, shared, state)
        parts = [
            graph.add(_map, shared, view, lane, *share[step])
            for lane, share in zip(lanes, shares, strict=True)
            if share[step][0] < share[step][1]
        ]
        state = graph.add(_update, shared, state, graph.tree(Solver.combine, parts), progress)
    return state


def _begin(shared: tuple, state: Any) -> Any:
    return shared[0].begin_pass(state)


def _score(state: Any) -> Score:
    return state.score


def _passed(state: Any, total: Any) -> None:
    """An edge of the graph without data."""


def _survey(shared: tuple, rows: Rows, start: int, stop: int) -> Any:
    solver, problem = shared
    return solver.survey(problem, rows.part(start, stop))


def _adopt(shared: tuple, state: Any, total: Any) -> Any:
    return shared[0].adopt(state, total)


def _view(shared: tuple, state: Any) -> Any:
    return shared[0].view(state)


def _map(shared: tuple, view: Any, rows: Rows, start: int, stop: int) -> Any:
    solver, problem = shared
    return solver.map(problem, view, rows.part(start, stop))


def _update(shared: tuple, state: Any, parts: list, progress: str | None) -> Any:
    solver, problem = shared
    state = solver.update(problem, state, fold(solver.combine, parts))
    report_step(progress)
    return state


def _run_group(shared: tuple, state: Any, rows: Rows, group: Group, progress: str | None) -> Any:
    """All steps of a group that has one lane, without a task for each."""
    solver = shared[0]
    for start, stop in group.lanes[0].shares(group.steps):
        if start < stop:
            part = _map(shared, solver.view(state), rows, start, stop)
            state = _update(shared, state, [part], progress)
    return state


def _load(shared: tuple, table: Table, lane: Lane, check: bool, gate: None) -> Rows:
    """Read a lane and encode its targets; the first pass also looks for unusable numbers."""
    problem: Problem = shared[1]
    return problem.rows(read_lane(table, lane, check_block if check else None))

"""The one outer loop: passes over the data, each a Dask graph of map, combine and update."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from dask._task_spec import TaskRef

from daskalt.data.finite import check_block
from daskalt.data.passes import Group, Lane, PassPlan, plan_blocks, plan_pass, read_lane
from daskalt.data.table import Table
from daskalt.errors import DivergenceError
from daskalt.progress import report_step
from daskalt.reduction import FAN_IN, Graph, Handle, fetch, fold, on_cluster
from daskalt.solvers.base import Problem, Rows, Solver
from daskalt.statistics import Score

__all__ = ["Pass", "Reading", "WholeBlocks", "run_passes"]

GRAPH_TASKS = 4096  # of a graph; a task costs the scheduler some 5 KB while its graph runs


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
class WholeBlocks:
    """All rows in one step, a task for each block, always in the same order.

    Attributes
    ----------
    block_rows : int
        Rows of every block but the last.
    """

    block_rows: int

    def plan(self, table: Table, bounds: np.ndarray, number: int) -> PassPlan:
        """Return the plan of a pass over some blocks of a table."""
        return plan_blocks(bounds, self.block_rows)


@dataclass(frozen=True)
class Pass:
    """What one pass left: a handle of the state, the forward score and what it cost."""

    number: int
    state: Handle
    score: Score
    report: dict[str, Any]
    seconds: float
    steps: int


def run_passes(
    solver: Solver,
    problem: Problem,
    table: Table,
    bounds: np.ndarray,
    reading: Reading | WholeBlocks,
    state: Any,
    numbers: range,
    progress: str | None = None,
) -> Iterator[Pass]:
    """Yield the result of each pass; the caller decides when to stop.

    The steps of a pass are chained tasks of one graph; a long pass is several graphs in a row,
    since what a scheduler keeps of a graph grows with its tasks. The state stays where the
    scheduler keeps it: only the score comes back.
    """
    states = [state]
    survey = solver.surveys(state.budget)
    for number in numbers:
        began = time.perf_counter()
        plan = reading.plan(table, bounds, number)
        first = number == numbers.start
        states, score = _run_pass(plan, (solver, problem), table, states, first, survey, progress)
        result, report = fetch(score)
        seconds = time.perf_counter() - began
        yield Pass(number, states[0], result, report, seconds, plan.steps)


def _run_pass(
    plan: PassPlan,
    method: tuple[Solver, Problem],
    table: Table,
    states: list[Any],
    first: bool,
    survey: bool,
    progress: str | None,
) -> tuple[list[Handle], Handle]:
    """Run a pass, graph by graph; return handles of the copies of the state, and of the score."""
    score: Any = None
    total: Any = None
    parts = list(_graphs(plan))
    for number, groups in enumerate(parts):
        graph = _PassGraph(method, table, states, first, progress)
        if number == 0:
            graph.begin()
        if first and survey:
            graph.survey_into(total)
        for group in groups:
            graph.add_group(group)
        if first and survey and number == len(parts) - 1:
            graph.adopt()
        states, score, total = graph.run()
    return states, score


def _graphs(plan: PassPlan) -> Iterator[list[Group]]:
    """The groups of a pass, as many at a time as make a graph of at most GRAPH_TASKS tasks."""
    groups: list[Group] = []
    tasks = 0
    for group in plan.groups:
        size = group.steps * (len(group.lanes) + 1)
        if groups and tasks + size > GRAPH_TASKS:
            yield groups
            groups, tasks = [], 0
        groups.append(group)
        tasks += size
    yield groups


class _PassGraph:
    """A graph of steps: reads gated by the steps before them, steps chained by the state.

    On a cluster every lane keeps a copy of the state and makes each update for itself. Then only
    the statistics travel, once a step, where a state in one place would cost two more messages
    each way and leave the other workers idle; the arithmetic, and so the bits, are the same.
    """

    def __init__(
        self,
        method: tuple[Solver, Problem],
        table: Table,
        states: list[Any],
        check: bool,
        progress: str | None,
    ) -> None:
        self.graph = Graph(method[0].blas_threads)
        self.shared, self.table = self.graph.constant(method), self.graph.constant(table)
        self.states = [self.graph.constant(state) for state in states]
        self.check, self.progress = check, progress
        self.replicates = on_cluster()
        self.surveys = False
        self.total: Any = None
        # What the reads of each lane wait for. Where the copies of the state lie already, rows are
        # read beside them.
        self.gates: list[Any] = self.states if len(self.states) > 1 else [None]

    def begin(self) -> None:
        self.states = [self.graph.add(_begin, self.shared, state) for state in self.states]

    def survey_into(self, total: Any) -> None:
        self.surveys = True
        self.total = None if total is None else self.graph.constant(total)

    def add_group(self, group: Group) -> None:
        """Add the steps of a group; its rows are read while the group before it is in use."""
        if group.whole:
            self._add_whole_step(group)
            return
        add, shared = self.graph.add, self.shared
        before = self.total
        lanes = [
            add(_load, shared, self.table, lane, self.check, gate, before)
            for lane, gate in zip(group.lanes, cycle(self.gates), strict=False)
        ]
        self.gates = self.states
        if self.surveys:
            parts = [
                self._survey(
                    rows, [share for share in lane.shares(group.steps) if share[0] < share[1]]
                )
                for rows, lane in zip(lanes, group.lanes, strict=True)
            ]
            self.total = add(fold, Solver.combine, [self.total, *parts])
        if len(self.states) < len(lanes) and self.replicates:
            self.states = self.states + [self.states[0]] * (len(lanes) - len(self.states))
        if len(lanes) == 1 and len(self.states) == 1:
            self.states = [add(_run_group, shared, self.states[0], lanes[0], group, self.progress)]
            return
        shares = [lane.shares(group.steps) for lane in group.lanes]
        for step in range(group.steps):
            self._add_step(lanes, [share[step] for share in shares])

    def _add_whole_step(self, group: Group) -> None:
        """Add a step of all rows: each task reads its own and lets go of them."""
        add, shared, state = self.graph.add, self.shared, self.states[0]
        parts = [
            add(_load_and_map, shared, state, self.table, lane, self.check) for lane in group.lanes
        ]
        parts = self.graph.tree(Solver.combine, parts)
        self.states = [add(_update, shared, state, parts, self.progress)]
        self.gates = self.states

    def _survey(self, rows: TaskRef, shares: list[tuple[int, int]]) -> TaskRef:
        """The statistic of a lane's inputs, summed from the first step's rows to the last's."""
        add, shared = self.graph.add, self.shared
        if self.replicates:  # one task, which no worker is tempted to take from where its rows are
            return add(_survey, shared, rows, shares)
        # These wait for nothing, and fill the time in which only an update runs.
        parts = [add(_survey, shared, rows, [share]) for share in shares]
        total = parts[0]
        for start in range(1, len(parts), FAN_IN):
            total = add(fold, Solver.combine, [total, *parts[start : start + FAN_IN]])
        return total

    def _add_step(self, lanes: list[TaskRef], shares: list[tuple[int, int]]) -> None:
        add, shared = self.graph.add, self.shared
        parts = [
            add(_map, shared, state, lane, start, stop)
            for state, lane, (start, stop) in zip(cycle(self.states), lanes, shares, strict=False)
            if start < stop
        ]
        parts = self.graph.tree(Solver.combine, parts)
        self.states = [
            add(_update, shared, state, parts, None if copy else self.progress)
            for copy, state in enumerate(self.states)
        ]

    def adopt(self) -> None:
        self.states = [
            self.graph.add(_adopt, self.shared, state, self.total) for state in self.states
        ]

    def run(self) -> tuple[list[Handle], Handle, Handle | None]:
        """Run the graph and return handles of the states, the score and what was surveyed."""
        score = self.graph.add(_score, self.shared, self.states[0])
        survey = [] if self.total is None else [self.total]
        handle, *rest = self.graph.persist(score, *survey, *self.states)
        return rest[len(survey) :], handle, rest[0] if survey else None


def _begin(shared: tuple, state: Any) -> Any:
    return shared[0].begin_pass(state)


def _score(shared: tuple, state: Any) -> tuple[Score, dict[str, Any]]:
    return state.score, shared[0].report(state)


def _overflow_allowed() -> np.errstate:
    """A context in which NumPy does not warn of what `_update` is going to find."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _survey(shared: tuple, rows: Rows, shares: list[tuple[int, int]]) -> Any:
    solver, problem = shared
    with _overflow_allowed():
        return fold(solver.combine, (solver.survey(problem, rows.part(*share)) for share in shares))


def _adopt(shared: tuple, state: Any, total: Any) -> Any:
    with _overflow_allowed():
        return shared[0].adopt(state, total)


def _map(shared: tuple, state: Any, rows: Rows, start: int, stop: int) -> Any:
    return _statistics(shared, state, rows.part(start, stop))


def _statistics(shared: tuple, state: Any, rows: Rows) -> Any:
    solver, problem = shared
    if solver.gave_up(state):
        return None
    with _overflow_allowed():
        return solver.map(problem, state, rows)


def _update(shared: tuple, state: Any, parts: list, progress: str | None) -> Any:
    solver, problem = shared
    with _overflow_allowed():
        state = _guarded_update(solver, problem, state, parts)
    report_step(progress)
    return state


def _is_finite(w: np.ndarray) -> bool:
    """Say whether all entries are finite; the squares tell it with no array of their own."""
    v = w.ravel()
    return bool(np.isfinite(np.dot(v, v)) or np.isfinite(v).all())


def _guarded_update(solver: Solver, problem: Problem, state: Any, parts: list) -> Any:
    """The state after a step, whose weights are finite in any case."""
    if solver.gave_up(state):
        return state
    try:
        new = solver.update(problem, state, fold(solver.combine, parts))
        if not all(map(_is_finite, new.weights)):
            raise DivergenceError(
                "The new weights are not finite: let the solver take smaller steps, and look for "
                "extreme values in X."
            )
    except DivergenceError as error:
        return solver.refuse(problem, state, error)
    return new


def _run_group(shared: tuple, state: Any, rows: Rows, group: Group, progress: str | None) -> Any:
    """All steps of a group that has one lane, without a task for each."""
    for start, stop in group.lanes[0].shares(group.steps):
        if start < stop:
            part = _map(shared, state, rows, start, stop)
            state = _update(shared, state, [part], progress)
    return state


def _load(shared: tuple, table: Table, lane: Lane, check: bool, *gate: Any) -> Rows:
    """Read a lane and encode its targets; the first pass also looks for unusable numbers."""
    problem: Problem = shared[1]
    rows = problem.rows(read_lane(table, lane, check_block if check else None))
    return rows._replace(place=lane.place)


def _load_and_map(shared: tuple, state: Any, table: Table, lane: Lane, check: bool) -> Any:
    rows = _load(shared, table, lane, check)
    return _statistics(shared, state, rows)

"""The one outer loop: passes over the data, each one or more Dask graphs of map, combine, update.

Between two graphs a fit stands at a `Position`. It is what a checkpoint holds beside the state, and
what a fit on a cluster goes back to when too many workers die; where the graphs are cut changes no
bit of the result.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from dask._task_spec import TaskRef

from daskalt.data.finite import check_block
from daskalt.data.passes import Group, Lane, PassPlan, plan_blocks, plan_pass, read_ahead, read_lane
from daskalt.data.table import Table
from daskalt.errors import ClusterError, DivergenceError
from daskalt.progress import report_step
from daskalt.reduction import (
    ATTEMPTS,
    FAN_IN,
    Graph,
    Handle,
    fetch,
    fold,
    on_cluster,
    parallelism,
)
from daskalt.solvers.base import Problem, Rows, Solver
from daskalt.statistics import Score

__all__ = ["Branch", "Halt", "Pace", "Pass", "Position", "Reading", "WholeBlocks", "run_passes"]

GRAPH_TASKS = 4096  # of a graph; a task costs the scheduler some 5 KB while its graph runs
FIRST_TASKS = 64  # of a graph of limited time, before it is known how long a task takes
ROOT_SECONDS = 5.0  # of work that a lost worker can cost, about
TASKS_PER_THREAD = 8  # to share a pass out evenly


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


class Branch(NamedTuple):
    """The combined statistics of ``FAN_IN ** level`` blocks, or fewer at the end of a pass."""

    level: int
    value: Any


class Position(NamedTuple):
    """Where a fit stands between two graphs: what is done, and the sums that it goes on from."""

    number: int  # of the pass
    steps: int = 0  # of the pass that are done
    blocks: int = 0  # of a step of all rows that are done
    branches: tuple[Branch, ...] = ()  # what these have summed up to
    survey: Any = None  # what the first pass has
    seconds: float = 0.0  # that the pass took so far
    rows: int = 0  # that it read so far

    @property
    def begun(self) -> bool:
        """Whether anything of the pass is done."""
        return self.steps > 0 or self.blocks > 0


@dataclass(frozen=True)
class Pace:
    """How often a fit comes back within a pass to where it may be put down.

    Attributes
    ----------
    steps : int or None
        After every so many steps of a pass.
    seconds : float or None
        After about so many seconds.
    """

    steps: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Halt:
    """Where a fit stands in the middle of a pass: handles of the state and of the sums."""

    state: Handle
    position: Position


@dataclass(frozen=True)
class Pass:
    """What one pass left: a handle of the state, the forward score and what it cost."""

    number: int
    state: Handle
    score: Score
    report: dict[str, Any]
    seconds: float
    steps: int
    rows: int  # read


def run_passes(
    solver: Solver,
    problem: Problem,
    table: Table,
    bounds: np.ndarray,
    reading: Reading | WholeBlocks,
    state: Any,
    numbers: range,
    progress: str | None = None,
    position: Position | None = None,
    pace: Pace | None = None,
) -> Iterator[Pass | Halt]:
    """Yield the result of each pass, and where the fit stands within one; the caller may stop.

    The steps of a pass are chained tasks of one graph; a long pass is several graphs in a row,
    since what a scheduler keeps of a graph grows with its tasks. The state stays where the
    scheduler keeps it: only the score comes back, and on a cluster every few seconds the state,
    from which a later graph can be made anew.

    Parameters
    ----------
    position : Position, optional
        Where to go on from, with values in it rather than handles.
    pace : Pace, optional
        How often to yield within a pass. By default only where a graph has to end.

    Raises
    ------
    ClusterError
        If workers die so often that nothing gets done.
    """
    job = _Job(solver, problem, table, solver.surveys(state.budget), progress)
    run = _Run(job, state, position or Position(numbers.start))
    speed = _Speed(pace or Pace())
    yielded = run.position.number - 1
    plan: PassPlan | None = None
    planned = None
    while run.position.number < numbers.stop:
        number = run.position.number
        if plan is None or planned != number:
            plan, planned = reading.plan(table, bounds, number), number
        result = run.advance(plan, speed, first=number == numbers.start)
        if result is None:  # workers died: from where the fit last stood on firm ground
            continue
        if isinstance(result, Halt):
            yield result
        elif number > yielded:
            yielded = number
            yield result


class _Speed:
    """How many tasks a graph may have, from how long the last ones took."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.tasks = GRAPH_TASKS if pace.seconds is None else min(FIRST_TASKS, GRAPH_TASKS)

    def learn(self, tasks: int, seconds: float) -> None:
        if self.pace.seconds is not None:
            wanted = int(tasks * self.pace.seconds / max(seconds, 1e-9))
            self.tasks = max(1, min(wanted, GRAPH_TASKS))


class Span(NamedTuple):
    """Steps of a group that a graph makes, or blocks of a step of all rows that it maps."""

    group: Group
    first: int
    last: int


class _Job(NamedTuple):
    """What all graphs of a fit have in common."""

    solver: Solver
    problem: Problem
    table: Table
    surveys: bool
    progress: str | None


class _Run:
    """A fit under way: where it stands, and the firm ground behind it."""

    def __init__(self, job: _Job, state: Any, position: Position) -> None:
        self.job = job
        self.states, self.position = [state], position
        self.root = (state, position) if on_cluster() else None
        self.rooted = time.perf_counter()
        self.failures = 0

    def advance(self, plan: PassPlan, speed: _Speed, first: bool) -> Pass | Halt | None:
        """Run the next graph of a pass; None if that failed and the fit stands further back."""
        began = time.perf_counter()
        spans = _spans(plan, self.position, speed.tasks, speed.pace.steps)
        try:
            end, score = _run_graph(self.job, plan, spans, self.states, self.position, first)
            result = None if score is None else fetch(score)
        except ClusterError:
            self._fall_back()
            return None
        seconds = time.perf_counter() - began
        speed.learn(sum(_tasks(span) for span in spans), seconds)
        self.failures = 0
        self.states = end.states
        position = end.position._replace(seconds=self.position.seconds + seconds)
        if result is None:
            self._stand(position)
            return Halt(self.states[0], self.position)
        done, number = position, position.number
        score, report = result
        self._stand(Position(number + 1))
        return Pass(number, self.states[0], score, report, done.seconds, plan.steps, done.rows)

    def _stand(self, position: Position) -> None:
        """Take in where the fit stands; now and then hold what it needs to begin again there.

        On a cluster a lost result is made anew from what it depends on, which without this could
        be everything since the start of the fit.
        """
        self.position = position
        if self.root is None or time.perf_counter() - self.rooted < ROOT_SECONDS:
            return
        try:
            state, position = fetch(self.states[0]), fetched(position)
        except ClusterError:
            self._fall_back()
            return
        self.root = (state, position)
        self.states, self.position = [state], position
        self.rooted = time.perf_counter()

    def _fall_back(self) -> None:
        self.failures += 1
        if self.root is None or self.failures == ATTEMPTS:
            raise
        state, self.position = self.root
        self.states = [state]


def fetched(position: Position) -> Position:
    """Return a position with values in place of handles."""
    branches = tuple(Branch(level, fetch(value)) for level, value in position.branches)
    return position._replace(branches=branches, survey=fetch(position.survey))


def _spans(plan: PassPlan, position: Position, tasks: int, every: int | None) -> list[Span]:
    """What the next graph does of a pass: about as much as it may have tasks, at least a step."""
    spans: list[Span] = []
    done = 0
    end = plan.steps if every is None else (position.steps // every + 1) * every
    for group in plan.groups:
        first, last = max(position.steps - done, 0), min(group.steps, end - done)
        done += group.steps
        if group.whole:
            blocks = len(group.lanes)
            return [Span(group, position.blocks, min(position.blocks + tasks, blocks))]
        if first >= group.steps:
            continue
        cost = len(group.lanes) + 1
        if first >= last or (spans and tasks < cost):
            break
        last = min(last, first + max(1, tasks // cost))
        spans.append(Span(group, first, last))
        tasks -= cost * (last - first)
        if last < group.steps:
            break
    return spans


def _tasks(span: Span) -> int:
    return (span.last - span.first) * (1 if span.group.whole else len(span.group.lanes) + 1)


class _Chunk(NamedTuple):
    """Blocks that are all leaves of one node of the tree."""

    start: int
    stop: int
    level: int


def _chunks(start: int, stop: int, blocks: int) -> list[_Chunk]:
    """Blocks ``start`` to ``stop`` of a step of all rows, as the largest branches they make up."""
    chunks = []
    top = _height(blocks)
    while start < stop:
        level = 0
        while level < top and start % (size := FAN_IN ** (level + 1)) == 0:
            if min(start + size, blocks) > stop:
                break
            level += 1
        end = min(start + FAN_IN**level, blocks)
        chunks.append(_Chunk(start, end, level))
        start = end
    return chunks


def _height(blocks: int) -> int:
    """The level of the tree that has at most FAN_IN nodes."""
    level = 0
    while blocks > FAN_IN ** (level + 1):
        level += 1
    return level


class End(NamedTuple):
    """Where a graph ended: copies of the state, and the position, all of them handles."""

    states: list[Handle]
    position: Position


def _run_graph(
    job: _Job,
    plan: PassPlan,
    spans: list[Span],
    states: list[Any],
    position: Position,
    check: bool,
) -> tuple[End, Handle | None]:
    """Run a graph of some of a pass; return where it ended, and the score if the pass is done."""
    graph = _PassGraph(job, states, position, check)
    for span in spans:
        graph.add_span(span)
    return graph.run(plan.steps)


class _PassGraph:
    """A graph of steps: reads gated by the steps before them, steps chained by the state.

    On a cluster every lane keeps a copy of the state and makes each update for itself. Then only
    the statistics travel, once a step, where a state in one place would cost two more messages
    each way and leave the other workers idle; the arithmetic, and so the bits, are the same.
    """

    def __init__(self, job: _Job, states: list[Any], position: Position, check: bool) -> None:
        self.graph = Graph(job.solver.blas_threads)
        self.shared = self.graph.constant((job.solver, job.problem))
        self.table = self.graph.constant(job.table)
        self.states = [self.graph.constant(state) for state in states]
        self.check, self.progress = check, job.progress
        self.surveys = job.surveys and position.number == 0
        self.replicates = on_cluster()
        self.position = position
        self.survey = self._constant(position.survey)
        self.branches = [Branch(level, self._constant(v)) for level, v in position.branches]
        # What the reads of each lane wait for. Where the copies of the state lie already, rows are
        # read beside them.
        self.gates: list[Any] = self.states if len(self.states) > 1 else [None]
        if not position.begun:
            self.states = [self.graph.add(_begin, self.shared, state) for state in self.states]

    def _constant(self, value: Any) -> Any:
        return None if value is None else self.graph.constant(value)

    def add_span(self, span: Span) -> None:
        """Add some of a group's steps; its rows are read while the group before it is in use."""
        if span.group.whole:
            self._add_blocks(span)
        else:
            self._add_steps(span)

    def run(self, steps: int) -> tuple[End, Handle | None]:
        """Run the graph and return handles of where it ended, and of the score after ``steps``."""
        finished = self.position.steps == steps
        if finished and self.survey is not None:
            self.states = [
                self.graph.add(_adopt, self.shared, state, self.survey) for state in self.states
            ]
            self.survey = None
        wanted = [*self.states, *(branch.value for branch in self.branches)]
        if self.survey is not None:
            wanted.append(self.survey)
        if finished:
            wanted.append(self.graph.add(_score, self.shared, self.states[0]))
        handles = list(self.graph.persist(*wanted))
        score = handles.pop() if finished else None
        survey = handles.pop() if self.survey is not None else None
        copies, values = handles[: len(self.states)], handles[len(self.states) :]
        branches = tuple(
            Branch(branch.level, value) for branch, value in zip(self.branches, values, strict=True)
        )
        return End(copies, self.position._replace(branches=branches, survey=survey)), score

    # Steps of some rows

    def _add_steps(self, span: Span) -> None:
        add, shared, group = self.graph.add, self.shared, span.group
        before = self.survey
        lanes = [
            add(_load, shared, self.table, lane, self.check, gate, before)
            for lane, gate in zip(group.lanes, cycle(self.gates), strict=False)
        ]
        self.gates = self.states
        # A group that is taken up in the middle is surveyed already.
        if self.surveys and span.first == 0:
            parts = [
                self._survey(
                    rows, [share for share in lane.shares(group.steps) if share[0] < share[1]]
                )
                for rows, lane in zip(lanes, group.lanes, strict=True)
            ]
            self.survey = add(fold, Solver.combine, [self.survey, *parts])
        self._advance(steps=span.last - span.first, rows=sum(lane.rows for lane in group.lanes))
        if len(self.states) < len(lanes) and self.replicates:
            self.states = self.states + [self.states[0]] * (len(lanes) - len(self.states))
        if len(lanes) == 1 and len(self.states) == 1:
            self.states = [add(_run_span, shared, self.states[0], lanes[0], span, self.progress)]
            return
        shares = [lane.shares(group.steps) for lane in group.lanes]
        for step in range(span.first, span.last):
            self._add_step(lanes, [share[step] for share in shares])

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
        self._update(self.graph.tree(Solver.combine, parts))

    def _update(self, parts: list[TaskRef]) -> None:
        self.states = [
            self.graph.add(_update, self.shared, state, parts, None if copy else self.progress)
            for copy, state in enumerate(self.states)
        ]

    def _advance(self, steps: int = 0, rows: int = 0) -> None:
        position = self.position
        self.position = position._replace(steps=position.steps + steps, rows=position.rows + rows)

    # A step of all rows, whose tasks read their own and let go of them

    def _add_blocks(self, span: Span) -> None:
        lanes = span.group.lanes
        self.states = self.states[:1]
        for chunk in _chunks(span.first, span.last, len(lanes)):
            self._add_chunk(lanes, chunk)
        self._advance(rows=sum(lane.rows for lane in lanes[span.first : span.last]))
        if span.last < len(lanes):
            self.position = self.position._replace(blocks=span.last)
            return
        self._update(self._roots(_height(len(lanes))))
        self.position = self.position._replace(blocks=0)
        self._advance(steps=1)

    def _add_chunk(self, lanes: tuple[Lane, ...], chunk: _Chunk) -> None:
        """Add a branch of the tree, and combine it with its elder siblings if it is the last."""
        level = min(_task_level(len(lanes)), chunk.level)
        size = FAN_IN**level
        leaves = [
            self._branch(lanes[i : min(i + size, chunk.stop)], level)
            for i in range(chunk.start, chunk.stop, size)
        ]
        while level < chunk.level:
            leaves = self._combined(leaves)
            level += 1
        self.branches.append(Branch(level, leaves[0]))
        while level < _height(len(lanes)) and [b.level for b in self.branches[-FAN_IN:]] == (
            [level] * FAN_IN
        ):
            self._merge(FAN_IN)
            level += 1

    def _branch(self, lanes: tuple[Lane, ...], level: int) -> TaskRef:
        return self.graph.add(
            _map_blocks, self.shared, self.states[0], self.table, lanes, level, self.check
        )

    def _combined(self, nodes: list[TaskRef]) -> list[TaskRef]:
        """The nodes one level up."""
        return [
            self.graph.add(fold, Solver.combine, nodes[i : i + FAN_IN])
            for i in range(0, len(nodes), FAN_IN)
        ]

    def _merge(self, count: int) -> None:
        """Make one branch of the last few, which are of one level."""
        level = self.branches[-1].level
        (node,) = self._combined([branch.value for branch in self.branches[-count:]])
        self.branches[-count:] = [Branch(level + 1, node)]

    def _roots(self, height: int) -> list[TaskRef]:
        """The topmost nodes of the tree, once all blocks are in it."""
        while self.branches[-1].level < height:
            level = self.branches[-1].level
            self._merge(sum(branch.level == level for branch in self.branches))
        roots = [branch.value for branch in self.branches]
        self.branches = []
        return roots


def _task_level(blocks: int) -> int:
    """How many blocks a task maps, as a level of the tree: what leaves each thread enough tasks."""
    threads, level = parallelism(), 0
    while blocks // FAN_IN ** (level + 1) >= TASKS_PER_THREAD * threads and level < 2:
        level += 1
    return level


def _begin(shared: tuple, state: Any) -> Any:
    return shared[0].begin_pass(state)


def _score(shared: tuple, state: Any) -> tuple[Score, dict[str, Any]]:
    return state.score, shared[0].report(state)


def _survey(shared: tuple, rows: Rows, shares: list[tuple[int, int]]) -> Any:
    solver, problem = shared
    return fold(solver.combine, (solver.survey(problem, rows.part(*share)) for share in shares))


def _adopt(shared: tuple, state: Any, total: Any) -> Any:
    return shared[0].adopt(state, total)


def _map(shared: tuple, state: Any, rows: Rows, start: int, stop: int) -> Any:
    return _statistics(shared, state, rows.part(start, stop))


def _statistics(shared: tuple, state: Any, rows: Rows) -> Any:
    solver, problem = shared
    if solver.gave_up(state):
        return None
    return solver.map(problem, state, rows)


def _update(shared: tuple, state: Any, parts: list, progress: str | None) -> Any:
    solver, problem = shared
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


def _run_span(shared: tuple, state: Any, rows: Rows, span: Span, progress: str | None) -> Any:
    """Some steps of a group that has one lane, without a task for each."""
    for start, stop in span.group.lanes[0].shares(span.group.steps)[span.first : span.last]:
        if start < stop:
            part = _map(shared, state, rows, start, stop)
            state = _update(shared, state, [part], progress)
    return state


def _load(shared: tuple, table: Table, lane: Lane, check: bool, *gate: Any) -> Rows:
    """Read a lane and encode its targets; the first pass also looks for unusable numbers."""
    problem: Problem = shared[1]
    rows = problem.rows(read_lane(table, lane, check_block if check else None))
    return rows._replace(place=lane.place)


def _map_blocks(
    shared: tuple, state: Any, table: Table, lanes: tuple[Lane, ...], level: int, check: bool
) -> Any:
    """The combined statistics of some blocks, each read while the one before it is mapped."""
    solver = shared[0]
    blocks = read_ahead(lambda lane: _load(shared, table, lane, check), lanes)
    return _fold_tree(solver.combine, (_statistics(shared, state, rows) for rows in blocks), level)


def _fold_tree(combine: Callable, parts: Iterator[Any], level: int) -> Any:
    """A branch of the tree over the next parts; None, the zero, where there are no more."""
    if level == 0:
        return next(parts, None)
    return fold(combine, (_fold_tree(combine, parts, level - 1) for _ in range(FAN_IN)))

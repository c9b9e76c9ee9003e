"""The Dask graphs of a pass, and the positions between two of them."""

from itertools import cycle
from typing import Any, NamedTuple

from dask._task_spec import TaskRef

from daskalt.compute.graph import (
    FAN_IN,
    Graph,
    Handle,
    height_of,
    in_this_process,
    on_cluster,
    parallelism,
)
from daskalt.compute.progress import Topic
from daskalt.data.passes import Group, Lane, PassPlan
from daskalt.training import tasks
from daskalt.training.job import Branch, Job, Position

__all__ = [
    "End",
    "PassGraph",
    "Scheduler",
    "Span",
    "run_graph",
    "spans_of",
    "task_level",
    "tasks_of",
]

TASKS_PER_THREAD = 4  # so that a pass is divided evenly
STEPS_PER_TASK = 16  # of threads of this process: an interrupted fit ends with the task

Shares = tuple[tuple[int, int], ...]  # first and last row of a step's part of each lane


class Span(NamedTuple):
    """Steps of a group that a graph makes, or blocks of a step of all rows that it maps."""

    group: Group
    first: int
    last: int


class Scheduler(NamedTuple):
    """The machine or cluster on which graphs run."""

    threads: int  # that run tasks, in all processes
    cluster: bool
    here: bool  # whether these are threads of this process


class End(NamedTuple):
    """The end of a graph: copies of the state, and the position, all of them handles."""

    states: list[Handle]
    position: Position


def spans_of(plan: PassPlan, position: Position, tasks: int, every: int | None) -> list[Span]:
    """The part of a pass in the next graph: as many tasks as it may have, at least a step."""
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
        possible = max(1, tasks // cost)
        if spans and last - first > possible:  # a group that is divided is read twice
            break
        last = min(last, first + possible)
        spans.append(Span(group, first, last))
        tasks -= cost * (last - first)
        if last < group.steps:
            break
    return spans


def tasks_of(span: Span) -> int:
    return (span.last - span.first) * (1 if span.group.whole else len(span.group.lanes) + 1)


class _Chunk(NamedTuple):
    """Blocks that are all leaves of one node of the tree."""

    start: int
    stop: int
    level: int


def chunks_of(start: int, stop: int, blocks: int) -> list[_Chunk]:
    """Blocks ``start`` to ``stop`` of a step of all rows, as the fewest whole branches."""
    chunks = []
    top = height_of(blocks)
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


def task_level(blocks: int, threads: int) -> int:
    """Return how many blocks a task maps, as a level of the tree; every thread has enough tasks.

    Several save messages, and the next is read while one is mapped.
    """
    level = 0
    while blocks // FAN_IN ** (level + 1) >= TASKS_PER_THREAD * threads and level < 2:
        level += 1
    return level


def run_graph(
    job: Job,
    plan: PassPlan,
    spans: list[Span],
    states: list[Any],
    position: Position,
    check: bool,
) -> tuple[End, Handle | None]:
    """Run the graph of a part of a pass; return its end, and the score if the pass is done."""
    scheduler = Scheduler(parallelism(), on_cluster(), in_this_process())
    graph = PassGraph(job, states, position, check, scheduler)
    for span in spans:
        graph.add_span(span)
    return graph.run(plan.steps)


class PassGraph:
    """A graph of steps, chained by the state; reads wait for earlier steps.

    In this process several steps are one task, which maps their lanes on threads of its own: that
    is handed over sooner than a task. On a cluster every lane keeps a copy of the state and makes
    each update for itself. Then only the statistics travel, once a step, whereas one copy of the
    state would take two more messages each way and leave the other workers idle; short steps stay
    on one worker altogether.
    The arithmetic is the same, and so are the bits.
    """

    def __init__(
        self, job: Job, states: list[Any], position: Position, check: bool, scheduler: Scheduler
    ) -> None:
        self.graph = Graph(job.solver.blas_threads)
        self.shared = self.graph.constant(tasks.Shared(job.solver, job.problem, job.variables))
        self.table = self.graph.constant(job.table)
        self.states = [self.graph.constant(state) for state in states]
        self.check = check
        self.topic = None if job.topic is None else Topic(job.topic, position.number)
        self.threads, self.replicates, here = scheduler
        self.alone = here and job.solver.blas_threads == 1
        self.position = position
        self.branches = [Branch(level, self._constant(v)) for level, v in position.branches]
        # What the reads of each lane wait for. Rows are read where a copy of the state already is.
        self.gates: list[Any] = self.states if len(self.states) > 1 else [None]
        if not position.begun:
            self.states = [self.graph.add(tasks.begin, self.shared, state) for state in self.states]

    def _constant(self, value: Any) -> Any:
        return None if value is None else self.graph.constant(value)

    def __len__(self) -> int:
        """Return the number of tasks, values among them."""
        return len(self.graph)

    def add_span(self, span: Span) -> None:
        """Add some of a group's steps; its rows are read while the group before it is in use."""
        if span.group.whole:
            self._add_blocks(span)
        else:
            self._add_steps(span)

    def run(self, steps: int) -> tuple[End, Handle | None]:
        """Run the graph and return handles of its end, and of the score after ``steps``."""
        finished = self.position.steps == steps
        wanted = [*self.states, *(branch.value for branch in self.branches)]
        if finished:
            wanted.append(self.graph.add(tasks.score, self.shared, self.states[0]))
        handles = list(self.graph.persist(*wanted))
        score = handles.pop() if finished else None
        copies, values = handles[: len(self.states)], handles[len(self.states) :]
        branches = tuple(
            Branch(branch.level, value) for branch, value in zip(self.branches, values, strict=True)
        )
        return End(copies, self.position._replace(branches=branches)), score

    # Steps of some rows

    def _add_steps(self, span: Span) -> None:
        add, shared, group = self.graph.add, self.shared, span.group
        lanes = [
            add(tasks.load, shared, self.table, lane, self.check, gate)
            for lane, gate in zip(group.lanes, cycle(self.gates), strict=False)
        ]
        self.gates = self.states
        self._advance(steps=span.last - span.first, rows=group.rows)
        if len(self.states) < len(lanes) and self.replicates and group.apart:
            self.states = self.states + [self.states[0]] * (len(lanes) - len(self.states))
        shares = [lane.shares(group.steps) for lane in group.lanes]
        steps = list(zip(*shares, strict=True))[span.first : span.last]
        if self.alone:
            self._run_steps(lanes, steps, STEPS_PER_TASK, self.threads)
        elif not group.apart or len(lanes) == 1 == len(self.states):
            self._run_steps(lanes, steps, len(steps), threads=1)
        else:
            for step in steps:
                self._add_step(lanes, step)

    def _run_steps(
        self, lanes: list[TaskRef], steps: list[Shares], size: int, threads: int
    ) -> None:
        """Some steps, ``size`` in a task, which may use so many threads."""
        for start in range(0, len(steps), size):
            some = tuple(steps[start : start + size])
            self.states = [
                self.graph.add(
                    tasks.run_steps, self.shared, self.states[0], lanes, some, threads, self.topic
                )
            ]

    def _add_step(self, lanes: list[TaskRef], shares: Shares) -> None:
        add, shared = self.graph.add, self.shared
        parts = [
            add(tasks.map_rows, shared, state, lane, start, stop, self.topic)
            for state, lane, (start, stop) in zip(cycle(self.states), lanes, shares, strict=False)
            if start < stop
        ]
        self._update(self.graph.tree(parts, tasks.combined, shared))

    def _update(self, parts: list[TaskRef]) -> None:
        self.states = [
            self.graph.add(tasks.update, self.shared, state, parts) for state in self.states
        ]

    def _advance(self, steps: int = 0, rows: int = 0) -> None:
        position = self.position
        self.position = position._replace(steps=position.steps + steps, rows=position.rows + rows)

    # A step of all rows, whose tasks read their own and release them

    def _add_blocks(self, span: Span) -> None:
        lanes = span.group.lanes
        self.states = self.states[:1]
        for chunk in chunks_of(span.first, span.last, len(lanes)):
            self._add_chunk(lanes, chunk)
        self._advance(rows=sum(lane.rows for lane in lanes[span.first : span.last]))
        if span.last < len(lanes):
            self.position = self.position._replace(blocks=span.last)
            return
        self._update(self._roots(height_of(len(lanes))))
        self.position = self.position._replace(blocks=0)
        self._advance(steps=1)

    def _add_chunk(self, lanes: tuple[Lane, ...], chunk: _Chunk) -> None:
        """Add a branch of the tree, and combine it with its earlier siblings if it is the last."""
        level = min(task_level(len(lanes), self.threads), chunk.level)
        size = FAN_IN**level
        leaves = [
            self._branch(lanes[i : min(i + size, chunk.stop)], level)
            for i in range(chunk.start, chunk.stop, size)
        ]
        while level < chunk.level:
            leaves = self._combined(leaves)
            level += 1
        self.branches.append(Branch(level, leaves[0]))
        while level < height_of(len(lanes)) and [b.level for b in self.branches[-FAN_IN:]] == (
            [level] * FAN_IN
        ):
            self._merge(FAN_IN)
            level += 1

    def _branch(self, lanes: tuple[Lane, ...], level: int) -> TaskRef:
        return self.graph.add(
            tasks.map_blocks,
            self.shared,
            self.states[0],
            self.table,
            lanes,
            level,
            self.position.number,
            self.check,
            self.topic,
        )

    def _combined(self, nodes: list[TaskRef]) -> list[TaskRef]:
        """The nodes one level up."""
        return [
            self.graph.add(tasks.combined, self.shared, nodes[i : i + FAN_IN])
            for i in range(0, len(nodes), FAN_IN)
        ]

    def _merge(self, count: int) -> None:
        """Combine the last few branches, all of one level, to one."""
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

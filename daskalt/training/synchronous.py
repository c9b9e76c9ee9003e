"""The synchronous driver: passes over the data, each one or more Dask graphs of a solver's steps.

Between two graphs a fit has a `Position`. A checkpoint holds it beside the state, and a fit on a
cluster goes back to one when too many workers die. How a pass is divided into graphs changes no bit
of the result.
"""

import time
from collections.abc import Iterator
from typing import Any

from daskalt.compute.graph import ATTEMPTS, connected, fetch, on_cluster
from daskalt.data.passes import PassPlan
from daskalt.errors import ClusterError
from daskalt.training.job import Branch, Halt, Job, Pace, Pass, Position
from daskalt.training.pass_graph import run_graph, spans_of, tasks_of

__all__ = ["fetched", "run_synchronously"]

GRAPH_TASKS = 4096  # most of a graph; each takes some 5 KB in the scheduler while its graph runs
FIRST_TASKS = 64  # of the first graph of limited time, while the duration of a task is unknown
ROOT_SECONDS = 5.0  # about, between the points to which a fit on a cluster can go back
HALT_SECONDS = 20.0  # about, of a graph of a fit that may lose workers


def run_synchronously(job: Job, state: Any, position: Position) -> Iterator[Pass | Halt]:
    """Yield the result of each pass, and positions within one; the caller may stop.

    The steps of a pass are chained tasks of one graph; a long pass is several graphs in a row,
    since a scheduler keeps some memory for every task of a graph. The state stays on the scheduler:
    only the score comes back, and on a cluster every few seconds the state, from which a later
    graph can be repeated.

    Parameters
    ----------
    job : Job
        The job to run.
    state : Any
        The solver's state, or a handle of it.
    position : Position
        The position to continue from, with values rather than handles.

    Raises
    ------
    ClusterError
        If workers die so often that the fit makes no progress.
    """
    run = _Run(job, state, position)
    speed = _Speed(job.pace or Pace(seconds=HALT_SECONDS if on_cluster() else None))
    yielded = run.position.number - 1
    plan: PassPlan | None = None
    planned = None
    while run.position.number < job.passes.stop:
        number = run.position.number
        if plan is None or planned != number:
            plan, planned = job.reading.plan(job.table, job.bounds, number), number
        result = run.advance(plan, speed, first=number == job.passes.start)
        if result is None:  # workers died: from the last position that is kept
            continue
        if number <= yielded:  # yielded already, before workers died
            continue
        if isinstance(result, Pass):
            yielded = number
        yield result


class _Speed:
    """How many tasks a graph may have, by the duration of earlier ones."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.tasks = GRAPH_TASKS if pace.seconds is None else min(FIRST_TASKS, GRAPH_TASKS)

    def learn(self, tasks: int, seconds: float) -> None:
        if self.pace.seconds is not None:
            wanted = int(tasks * self.pace.seconds / max(seconds, 1e-9))
            self.tasks = max(1, min(wanted, GRAPH_TASKS))


class _Run:
    """A fit in progress: its position, and the last one that is kept in this process."""

    def __init__(self, job: Job, state: Any, position: Position) -> None:
        self.job = job
        self.states, self.position = [state], position
        self.root = (state, position) if on_cluster() else None
        self.rooted = time.perf_counter()
        self.failures = 0

    def advance(self, plan: PassPlan, speed: _Speed, first: bool) -> Pass | Halt | None:
        """Run the next graph of a pass; None if it failed and the fit went back."""
        began = time.perf_counter()
        spans = spans_of(plan, self.position, speed.tasks, speed.pace.steps)
        try:
            end, score = run_graph(self.job, plan, spans, self.states, self.position, first)
            result = None if score is None else fetch(score)
        except ClusterError as error:
            self._fall_back(error)
            return None
        seconds = time.perf_counter() - began
        speed.learn(sum(tasks_of(span) for span in spans), seconds)
        self.failures = 0
        self.states = end.states
        position = end.position._replace(seconds=self.position.seconds + seconds)
        done, number = position, position.number
        if not self._stand(position if result is None else Position(number + 1)):
            return None
        if result is None:
            return Halt(self.states[0], self.position)
        score, report = result
        return Pass(number, self.states[0], score, report, done.seconds, plan.steps, done.rows)

    def _stand(self, position: Position) -> bool:
        """Set the position; every few seconds keep state and sums, to go back to it.

        Return False if workers were lost meanwhile.

        On a cluster a lost result is computed again from what it depends on, which without this
        could be everything since the start of the fit. Row variables have two generations, so
        that a fit which has them can go back to the start of a pass only.
        """
        self.position = position
        due = time.perf_counter() - self.rooted >= ROOT_SECONDS
        due = due or (self.job.solver.full_batch and not position.begun)
        if self.root is None or not due:
            return True
        try:
            state, position = fetch(self.states[0]), fetched(position)
        except ClusterError as error:
            self._fall_back(error)
            return False
        self.root = (state, position)
        self.states, self.position = [state], position
        self.rooted = time.perf_counter()
        return True

    def _fall_back(self, error: ClusterError) -> None:
        self.failures += 1
        if self.root is None or self.failures == ATTEMPTS or not connected():
            raise error
        state, self.position = self.root
        self.states = [state]


def fetched(position: Position) -> Position:
    """Return a position with values in place of handles."""
    branches = tuple(Branch(level, fetch(value)) for level, value in position.branches)
    return position._replace(branches=branches)

"""What the tasks of a pass do: read, map, update; each a function of its arguments alone.

``shared`` is the solver and its problem.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, read_ahead, read_lane, reader
from daskalt.data.table import Table
from daskalt.errors import DivergenceError
from daskalt.progress import Topic, report
from daskalt.reduction import FAN_IN, fold
from daskalt.solvers.base import Problem, Rows, Solver
from daskalt.statistics import Score

__all__ = [
    "Coming",
    "adopt",
    "begin",
    "guarded_update",
    "load",
    "map_blocks",
    "map_rows",
    "read",
    "run_steps",
    "score",
    "statistics",
    "survey",
    "update",
]


class Coming:
    """Rows that another thread reads; whoever needs them first waits for them.

    A scheduler that takes them to another process takes the rows themselves.
    """

    def __init__(self, size: int, read: Callable[..., Rows], *arguments: Any) -> None:
        self._size = size
        self._rows = reader().submit(read, *arguments)

    def __sizeof__(self) -> int:
        """Return the bytes of the rows, which schedulers ask for."""
        return self._size

    def part(self, start: int, stop: int) -> Rows:
        """Return a view of some of the rows."""
        return self._rows.result().part(start, stop)

    def __reduce__(self) -> tuple:
        return Rows, tuple(self._rows.result())


def begin(shared: tuple, state: Any) -> Any:
    return shared[0].begin_pass(state)


def score(shared: tuple, state: Any) -> tuple[Score, dict[str, Any]]:
    return state.score, shared[0].report(state)


def survey(shared: tuple, rows: Rows | Coming, shares: list[tuple[int, int]]) -> Any:
    solver, problem = shared
    return fold(solver.combine, (solver.survey(problem, rows.part(*share)) for share in shares))


def adopt(shared: tuple, state: Any, total: Any) -> Any:
    return shared[0].adopt(state, total)


def map_rows(
    shared: tuple,
    state: Any,
    rows: Rows | Coming,
    start: int,
    stop: int,
    topic: Topic | None = None,
) -> Any:
    return statistics(shared, state, rows.part(start, stop), topic)


def statistics(shared: tuple, state: Any, rows: Rows, topic: Topic | None = None) -> Any:
    solver, problem = shared
    if solver.gave_up(state):
        return None
    result = solver.map(problem, state, rows)
    report(topic, len(rows.X), result)
    return result


def update(shared: tuple, state: Any, parts: list) -> Any:
    solver, problem = shared
    return guarded_update(solver, problem, state, parts)


def _is_finite(w: np.ndarray) -> bool:
    """Say whether all entries are finite; the squares tell it with no array of their own."""
    v = w.ravel()
    return bool(np.isfinite(np.dot(v, v)) or np.isfinite(v).all())


def guarded_update(solver: Solver, problem: Problem, state: Any, parts: list) -> Any:
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


def run_steps(
    shared: tuple,
    state: Any,
    rows: Rows | Coming,
    shares: list[tuple[int, int]],
    topic: Topic | None,
) -> Any:
    """Some steps of a group that has one lane, without a task for each."""
    for start, stop in shares:
        if start < stop:
            part = map_rows(shared, state, rows, start, stop, topic)
            state = update(shared, state, [part])
    return state


def load(shared: tuple, table: Table, lane: Lane, check: bool, *gate: Any) -> Rows | Coming:
    """The rows of a lane: from storage they are on their way, while this thread computes."""
    if table.kept:
        return read(shared, table, lane, check)
    return Coming(lane.rows * table.row_bytes, read, shared, table, lane, check)


def read(shared: tuple, table: Table, lane: Lane, check: bool) -> Rows:
    """Read a lane and encode its targets.

    Unusable numbers are looked for whenever rows come from storage, and in the first pass in any
    case: stored rows can be overwritten while they are trained on.
    """
    problem: Problem = shared[1]
    rows = problem.rows(read_lane(table, lane, None if table.kept and not check else check_block))
    return rows._replace(place=lane.place)


def map_blocks(
    shared: tuple,
    state: Any,
    table: Table,
    lanes: tuple[Lane, ...],
    level: int,
    check: bool,
    topic: Topic | None,
) -> Any:
    """The combined statistics of some blocks, each read while the one before it is mapped."""
    solver = shared[0]
    blocks = read_ahead(lambda lane: read(shared, table, lane, check), lanes)
    parts = (statistics(shared, state, rows, topic) for rows in blocks)
    return _fold_tree(solver.combine, parts, level)


def _fold_tree(combine: Callable, parts: Iterator[Any], level: int) -> Any:
    """A branch of the tree over the next parts; None, the zero, where there are no more."""
    if level == 0:
        return next(parts, None)
    return fold(combine, (_fold_tree(combine, parts, level - 1) for _ in range(FAN_IN)))

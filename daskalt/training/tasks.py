"""What the tasks of a pass do: read, map, update; each a function of its arguments alone."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.graph import FAN_IN, fold, height_of
from daskalt.compute.hands import hands, spread
from daskalt.compute.progress import Topic, report
from daskalt.compute.statistics import Score, combine
from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, read_ahead, read_lane, reader
from daskalt.data.table import Table
from daskalt.errors import DivergenceError
from daskalt.kernels.workspace import lent_workspace
from daskalt.network.problem import Problem, Rows
from daskalt.solvers.base import Recovering, Report, Reporting, Solver
from daskalt.storage.variables import ZStore

__all__ = [
    "Coming",
    "Shared",
    "begin",
    "combined",
    "gave_up",
    "load",
    "map_block",
    "map_blocks",
    "map_rows",
    "read",
    "run_steps",
    "score",
    "update",
]


class Coming:
    """Rows that another thread reads; those that use them wait until they are there.

    They pickle as the rows themselves.
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


class Shared(NamedTuple):
    """What all tasks of a fit share."""

    solver: Solver
    problem: Problem
    variables: ZStore | None  # row variables


def begin(shared: Shared, state: Any) -> Any:
    """The state at the beginning of a pass, with an empty score."""
    state, solver = state._replace(score=Score()), shared.solver
    return state if (own := recovering(solver)) is None else own.renew(state)


def score(shared: Shared, state: Any) -> tuple[Score, Report]:
    """What the client receives of a pass."""
    solver = shared.solver
    return state.score, solver.report(state) if isinstance(solver, Reporting) else Report()


def combined(shared: Shared, parts: list) -> Any:
    """The sum of statistics."""
    return fold(shared.solver.combine, parts)


def map_rows(
    shared: Shared,
    state: Any,
    rows: Rows | Coming,
    start: int,
    stop: int,
    topic: Topic | None = None,
) -> Any:
    """The statistics of some rows without variables of their own."""
    if gave_up(shared.solver, state):
        return None
    part = rows.part(start, stop)
    result, _ = shared.solver.map(shared.problem, state, part)
    report(topic, len(part.X), result)
    return result


def map_block(shared: Shared, state: Any, rows: Rows, number: int, topic: Topic | None) -> Any:
    """The statistics of a block, whose variables pass ``number`` reads and writes."""
    solver, problem, store = shared
    if gave_up(solver, state):
        return None
    place, own = rows.place, None
    if store is not None and number > 0:
        own = store.read(number, place, place + len(rows.X))
    result, moved = solver.map(problem, state, rows, own)
    if store is not None:
        assert moved is not None
        store.write(number + 1, place, moved)
    report(topic, len(rows.X), result)
    return result


def gave_up(solver: Solver, state: Any) -> bool:
    """Say whether a solver takes no further steps in this pass."""
    own = recovering(solver)
    return own is not None and own.gave_up(state)


def recovering(solver: Solver) -> Recovering | None:
    """Return the solver if it recovers from refused steps.

    Asked for at every step: `issubclass` is remembered for each class, where `isinstance` would
    look up every member of the protocol each time.
    """
    kind: Any = type(solver)
    return solver if issubclass(kind, Recovering) else None


def update(shared: Shared, state: Any, parts: list) -> Any:
    """The state after a step; its weights are always finite."""
    solver, problem, _ = shared
    if gave_up(solver, state):
        return state
    statistics = combined(shared, parts)
    try:
        new = solver.update(problem, state, statistics)
        if not all(map(_is_finite, new.weights)):
            raise DivergenceError(
                "The new weights are not finite: let the solver take smaller steps, and look for "
                "extreme values in X."
            )
    except DivergenceError as error:
        if (own := recovering(solver)) is None:
            raise
        return own.refuse(problem, state, error)
    return new._replace(score=combine(state.score, statistics.score))


def _is_finite(w: np.ndarray) -> bool:
    """Say whether all entries are finite, by their squares, without a temporary array."""
    v = w.ravel()
    return bool(np.isfinite(np.dot(v, v)) or np.isfinite(v).all())


def run_steps(
    shared: Shared,
    state: Any,
    lanes: list[Rows | Coming],
    steps: tuple[tuple[tuple[int, int], ...], ...],
    threads: int,
    topic: Topic | None,
) -> Any:
    """Some steps of a group, without a task for each; ``steps`` has the share of every lane."""
    with hands(threads), lent_workspace():
        for shares in steps:
            parts = [
                (shared, state, rows, *share, topic)
                for rows, share in zip(lanes, shares, strict=True)
                if share[0] < share[1]
            ]
            if parts:
                results = iter(spread(map_rows, parts))
                state = update(shared, state, _roots(shared.solver.combine, results, len(parts)))
    return state


def load(shared: Shared, table: Table, lane: Lane, check: bool, *gate: Any) -> Rows | Coming:
    """The rows of a lane; from storage they are read while this thread computes."""
    if table.kept:
        return read(shared, table, lane, check)
    return Coming(lane.rows * table.row_bytes, read, shared, table, lane, check)


def read(shared: Shared, table: Table, lane: Lane, check: bool) -> Rows:
    """Read a lane and encode its targets.

    Rows from storage are checked for unusable numbers in every pass, since they can be overwritten
    during a fit; rows in memory in the first pass.
    """
    check_rows = None if table.kept and not check else check_block
    rows = shared.problem.rows(read_lane(table, lane, check_rows))
    return rows._replace(place=lane.place)


def map_blocks(
    shared: Shared,
    state: Any,
    table: Table,
    lanes: tuple[Lane, ...],
    level: int,
    number: int,
    check: bool,
    topic: Topic | None,
) -> Any:
    """The combined statistics of some blocks, each read while the one before it is mapped."""
    blocks = read_ahead(lambda lane: read(shared, table, lane, check), lanes)
    parts = (map_block(shared, state, rows, number, topic) for rows in blocks)
    return _fold_tree(shared.solver.combine, parts, level)


def _roots(combine: Callable, parts: Iterator[Any], count: int) -> list[Any]:
    """The topmost nodes of the tree over so many parts, as in a graph of tasks."""
    level = height_of(count)
    return [_fold_tree(combine, parts, level) for _ in range(0, count, FAN_IN**level)]


def _fold_tree(combine: Callable, parts: Iterator[Any], level: int) -> Any:
    """A branch of the tree over the next parts; None, the zero, where there are no more."""
    if level == 0:
        return next(parts, None)
    return fold(combine, (_fold_tree(combine, parts, level - 1) for _ in range(FAN_IN)))

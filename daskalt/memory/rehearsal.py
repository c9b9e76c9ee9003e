"""The memory of a solver's steps, measured on a few made-up rows before any block is read.

NumPy reports its allocations to `tracemalloc`. The memory of a map is a constant and a part that
grows with its rows: two numbers of rows give both. Statistics and states are of their true size,
since neither depends on the rows.
"""

from __future__ import annotations

import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.hands import hands
from daskalt.compute.threads import blas_threads
from daskalt.data.targets import ClassTargets, MultilabelTargets, RealTargets, Targets
from daskalt.errors import DivergenceError
from daskalt.kernels.workspace import release, thread_workspace
from daskalt.network.problem import Problem, Rows
from daskalt.network.scoring import score_rows
from daskalt.solvers.base import Budget, RowVariables, Solver
from daskalt.training.preparing import identity_of

__all__ = ["Line", "Rehearsal", "held_bytes", "made_up_rows", "made_up_weights", "rehearse"]

FEW, MANY = 64, 512  # rows of the two rehearsals
MOST_FLOPS = 2e9  # of the larger
LEAST_MANY = 96
_known: dict[tuple, Rehearsal] = {}
_lock = threading.Lock()
_KNOWN = 64  # rehearsals that are remembered


class Line(NamedTuple):
    """Bytes as a function of the rows."""

    fixed: float
    a_row: float

    def at(self, rows: int) -> int:
        """Return the bytes at some rows."""
        return int(self.fixed + self.a_row * rows)


@dataclass(frozen=True)
class Rehearsal:
    """Bytes that the parts of a step take.

    Attributes
    ----------
    map : Line
        Of a map beside its rows and its result: the thread's workspace and temporaries.
    score : Line
        Of scoring held-out rows.
    statistics : int
        Of the result of a map.
    update : int
        Of an update, in addition to the statistics and the old state.
    state, fresh, initial : int
        Of a state, of the part of it that an update replaces, and of the state before the first
        step.
    """

    map: Line
    score: Line
    statistics: int
    update: int
    state: int
    fresh: int
    initial: int


def rehearse(
    solver: Solver, problem: Problem, dtype: np.dtype, weighted: bool, budget: Budget
) -> Rehearsal:
    """Return the memory that the steps of a fit take, from a few steps on made-up rows.

    The code compiled here serves the fit, too. Results are cached.

    Parameters
    ----------
    solver, problem : Solver, Problem
        The method and what it is to minimise; the scaling may be made up.
    dtype : dtype
        Of the features as stored.
    weighted : bool
        Whether rows have weights.
    budget : Budget
        Of the fit.
    """
    network = problem.network
    kinds = (
        identity_of(solver),
        network,
        type(problem.targets).__name__,
        np.dtype(problem.dtype).name,
        np.dtype(dtype).name,
        weighted,
        budget.first_pass is None,
    )
    with _lock:  # what is traced is the whole process
        if kinds in _known:
            return _known[kinds]
        while len(_known) >= _KNOWN:
            _known.pop(next(iter(_known)))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with blas_threads(solver.blas_threads):
                _known[kinds] = _Stage(solver, problem, dtype, weighted, budget).rehearse()
        return _known[kinds]


class _Stage:
    """A solver that makes a few steps on made-up rows."""

    def __init__(
        self, solver: Solver, problem: Problem, dtype: np.dtype, weighted: bool, budget: Budget
    ) -> None:
        flops = max(1, 3 * problem.network.flops)
        self.many = int(np.clip(MOST_FLOPS / flops, LEAST_MANY, MANY))
        self.few = min(FEW, self.many // 3)
        rng = np.random.default_rng(0)
        self.solver, self.problem, self.budget = solver, problem, budget
        self.rows = made_up_rows(problem, dtype, weighted, self.many, rng)
        self.weights = made_up_weights(problem.network.shapes, problem.dtype, rng)

    def rehearse(self) -> Rehearsal:
        solver, problem, rows = self.solver, self.problem, self.rows
        few = rows.part(0, self.few)
        start = solver.start(problem, self.weights, self.budget)
        # Everything once, to have it compiled: what compilers allocate is not part of a step.
        first, begun = self._step(start, few)
        score_rows(problem, self.weights, few)

        def line(call: Callable[[Rows], Any]) -> tuple[Line, int]:
            small, _ = _peak(call, few)
            large, result = _peak(call, rows)
            slope = max(0.0, (large - small) / (self.many - self.few))
            kept = held_bytes(result)
            return Line(max(0.0, small - slope * self.few - kept), slope), kept

        maps, statistics, updates, fresh = [], [], [], [held_bytes(begun, but=start)]
        sizes = [held_bytes(start), held_bytes(begun)]
        initial = sizes[0]
        for state in (start, begun):
            how, kept = line(partial(self._map, state))
            maps.append(how)
            statistics.append(kept)
        del start, state
        for given in (first, self._map(begun, few)):
            with suppress(DivergenceError):
                # Where threads share it, they renew as many matrices at once as there are.
                with hands(2 * len(problem.network.shapes)):
                    taken, latest = _peak(solver.update, problem, begun, given)
                sizes.append(held_bytes(latest))
                updates.append(taken)
                fresh.append(held_bytes(latest, but=begun))
                del latest  # of wide networks there must not be more at once than in a fit
        score, _ = line(lambda part: score_rows(problem, self.weights, part))
        result = Rehearsal(
            map=Line(max(m.fixed for m in maps), max(m.a_row for m in maps)),
            score=score,
            statistics=max(*statistics, held_bytes(first)),
            update=max(updates, default=held_bytes(begun)),
            state=max(sizes),
            fresh=max(fresh),
            initial=initial,
        )
        del first, begun
        thread_workspace().clear()
        release()
        return result

    def _step(self, state: Any, rows: Rows) -> tuple[Any, Any]:
        statistics = self._map(state, rows)
        new = state
        with suppress(DivergenceError):
            new = self.solver.update(self.problem, state, statistics)
            again = self._map(new, rows)
            self.solver.update(self.problem, new, self.solver.combine(again, again))
        return statistics, new

    def _map(self, state: Any, rows: Rows) -> Any:
        """The statistics of a map, which also reads the variables of its rows."""
        own = None
        if isinstance(self.solver, RowVariables):
            widths = self.solver.variables(self.problem).values()
            own = [np.zeros((len(rows.X), width), self.problem.dtype) for width in widths]
        statistics, _ = self.solver.map(self.problem, state, rows, own)
        return statistics


def _peak(call: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """The most bytes that a call takes in a fresh workspace, and its result."""
    thread_workspace().clear()
    release()
    with _traced():
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = call(*arguments)
        _, peak = tracemalloc.get_traced_memory()
    return max(0, peak - before), result


@contextmanager
def _traced() -> Iterator[None]:
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def held_bytes(value: Any, but: Any = None) -> int:
    """Return the bytes of all arrays in nested tuples, each memory once, without those of another.

    A view counts as the whole of the memory that it keeps.
    """
    known = {id(owner) for owner in _owners(but)}
    owners = {id(owner): owner.nbytes for owner in _owners(value)}
    return sum(size for key, size in owners.items() if key not in known)


def _owners(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _owners(part)
    elif isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        yield value


def made_up_weights(
    shapes: Iterable[tuple[int, int]], dtype: np.dtype, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Return Gaussian weights of the shapes that a network has."""
    weights = []
    for units, columns in shapes:
        w = rng.standard_normal((units, columns), dtype=dtype)
        w *= w.dtype.type((columns - 1) ** -0.5)
        weights.append(w)
    return tuple(weights)


def made_up_rows(
    problem: Problem, dtype: np.dtype, weighted: bool, count: int, rng: np.random.Generator
) -> Rows:
    """Return rows of the types that those of a table have."""
    shape = (count, problem.network.n_features)
    if dtype.kind in "fc":
        X = rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    else:
        X = rng.integers(0, 2, shape, dtype=np.uint8).astype(dtype)
    y = problem.targets.encode(_made_up_targets(problem.targets, count, rng), problem.dtype)
    return Rows(X, y, np.ones(count, problem.dtype) if weighted else None)


def _made_up_targets(targets: Targets, count: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(targets, ClassTargets):
        return targets.classes[rng.integers(0, len(targets.classes), count)]
    if isinstance(targets, MultilabelTargets):
        return rng.integers(0, 2, (count, targets.width))
    assert isinstance(targets, RealTargets)
    return targets.mean + targets.scale * rng.uniform(0, 1, (count, targets.width))

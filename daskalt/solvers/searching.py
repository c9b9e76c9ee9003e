"""Full-batch methods that search along a line: every trial is one map-reduced pass."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError, InputError
from daskalt.kernels.step import mean_gradient
from daskalt.network.network import Network, Weights, pack, unpack
from daskalt.network.problem import Problem, Rows
from daskalt.rules import LINE_SEARCHES, LineSearch, choose
from daskalt.rules.line_search import Point, Search
from daskalt.solvers.base import Budget, Report, Solver, Variables
from daskalt.solvers.z_step import Step, gradient_step

__all__ = ["LineSearchSolver", "SearchState", "SteepestDescent", "need_smooth", "norm"]

Array = np.ndarray


class SearchState(NamedTuple):
    """A line, and the point on it that the next pass evaluates.

    Vectors hold all weights, as `pack` returns them.
    """

    weights: Weights  # the best so far
    value: float  # penalised loss there
    trial: Weights  # where the next pass evaluates loss and gradient
    origin: Weights  # where the line starts
    gradient: Array | None  # there
    direction: Array | None
    search: Search | None
    memory: tuple[Array, ...]  # what the method computes its directions from
    step: int  # number of lines
    steepest: bool  # whether the direction is the steepest
    converged: bool
    budget: Budget
    score: Score = Score()


class LineSearchSolver(Solver):
    """A method of line searches; subclasses add `direction`."""

    full_batch = True
    state_types: tuple[type, ...] = (SearchState, Search, Point, Step, Score, Budget)
    line_search: str | LineSearch

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        self._line.check()

    @property
    def _line(self) -> Any:
        return choose("line_search", self.line_search, LINE_SEARCHES, LineSearch)

    @abstractmethod
    def direction(
        self, problem: Problem, state: SearchState, g: Array, statistics: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the direction from a new point with gradient ``g``, and the method's memory.

        ``state`` is still that of the line before; its gradient is None at the start.
        """

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the default number of passes, each of which is a trial."""
        return 200

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the classes of the method and of its line search."""
        return (*super().parts, type(self._line).__name__)

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> SearchState:
        """Return the state before the first pass."""
        return SearchState(
            weights=weights,
            value=np.inf,
            trial=weights,
            origin=weights,
            gradient=None,
            direction=None,
            search=None,
            memory=(),
            step=0,
            steepest=True,
            converged=False,
            budget=budget,
        )

    def map(
        self, problem: Problem, state: SearchState, rows: Rows, variables: Variables | None = None
    ) -> tuple[Any, None]:
        """Return the sums of loss and gradient of some rows at the trial point."""
        return gradient_step(problem, state.trial, rows), None

    def update(self, problem: Problem, state: SearchState, statistics: Any) -> SearchState:
        """Return the state with the next trial, on this line or on a new one."""
        if state.converged:
            return state
        value, g = _objective(problem, state.trial, statistics)
        line, d, here = state.search, state.direction, state.gradient
        if line is None or d is None or here is None:
            if not np.isfinite(value) or not np.isfinite(norm(g)):
                raise DivergenceError(
                    "The loss or its gradient is not finite at the initial weights: look for "
                    "extreme values in X."
                )
            return self._turn(problem, state, value, g, statistics)
        if not np.isfinite(norm(g)):  # treated like an infinite value
            value = np.inf
        noise = 10 * float(np.finfo(g.dtype).eps) * abs(line.origin.value)
        if value < state.value:
            state = state._replace(weights=state.trial, value=value)
        search = self._line.advance(line, value, float(np.dot(g, d)), noise)
        if search.state == "found":
            return self._turn(problem, state._replace(search=search), value, g, statistics)
        if search.state in ("searching", "settling"):
            return self._try(state, search)
        if state.steepest:  # even the steepest descent gains nothing more
            return state._replace(converged=True, trial=state.weights)
        state = state._replace(memory=(), steepest=True)
        return self._set_out(state, -here, here, line.origin.value)

    def report(self, state: SearchState) -> Report:
        """Return the best penalised loss, and the size of the gradient where the line starts."""
        search = state.search
        figures = {
            "penalised_loss": state.value,
            "gradient_norm": 0.0 if state.gradient is None else norm(state.gradient),
            "lines": state.step,
            "trials": 0 if search is None else search.trials,
        }
        return Report(figures, converged=state.converged)

    def first_length(self, state: SearchState, slope: float) -> float:
        """Return the first trial of a new line, of slope ``slope``, after that of ``state``."""
        return 1.0

    def _turn(
        self, problem: Problem, state: SearchState, value: float, g: Array, statistics: Any
    ) -> SearchState:
        """Accept the trial as the new point, and start a new line there."""
        d, memory = self.direction(problem, state, g, statistics)
        steepest = not float(np.dot(g, d)) < 0
        if steepest:
            d, memory = -g, ()
        if not state.value <= value:
            state = state._replace(weights=state.trial, value=value)
        state = state._replace(
            origin=state.trial, memory=memory, steepest=steepest, step=state.step + 1
        )
        return self._set_out(state, d, g, value)

    def _set_out(self, state: SearchState, d: Array, g: Array, value: float) -> SearchState:
        slope = float(np.dot(g, d))
        first = self.first_length(state, slope) if slope < 0 else 0.0
        if state.gradient is None:  # the scale is unknown yet: a step of length 1 at most
            first = min(1.0, 1.0 / (norm(d) or 1.0))
        state = state._replace(gradient=g, direction=d)
        # Any further gain would be lost in rounding.
        if first * -slope <= float(np.finfo(g.dtype).eps) * abs(value):
            return state._replace(converged=True, trial=state.weights)
        return self._try(state, self._line.start(value, slope, first))

    def _try(self, state: SearchState, search: Search) -> SearchState:
        assert state.direction is not None
        move = unpack(state.direction * state.direction.dtype.type(search.trial), state.origin)
        trial = tuple(w + p for w, p in zip(state.origin, move, strict=True))
        return state._replace(search=search, trial=trial)


class SteepestDescent(LineSearchSolver):
    """Gradient descent, full batch, with a line search in place of a learning rate.

    Parameters
    ----------
    line_search : {"backtracking", "exact", "wolfe"} or LineSearch, default="backtracking"
        Length of a step: the first with a sufficient decrease, or the minimum along the line.
    """

    def __init__(self, line_search: str | LineSearch = "backtracking") -> None:
        self.line_search = line_search

    def direction(
        self, problem: Problem, state: SearchState, g: Array, statistics: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the negative gradient."""
        return -g, ()

    def first_length(self, state: SearchState, slope: float) -> float:
        """Return twice the last length, since backtracking can only shorten it."""
        return 1.0 if state.search is None else 2.0 * state.search.trial


def need_smooth(solver: Solver, problem: Problem) -> None:
    """Raise InputError if the loss has kinks."""
    loss = problem.network.loss
    if not loss.smooth:
        raise InputError(
            f"{type(solver).__name__} needs a loss with a gradient everywhere; {loss.name!r} has "
            "kinks. Use GradientDescent(), or another loss."
        )


def _objective(problem: Problem, weights: Weights, statistics: Any) -> tuple[float, Array]:
    """The penalised loss and its gradient, as one vector."""
    score = statistics.score
    squares = sum(float(np.vdot(w[:, :-1], w[:, :-1])) for w in weights)
    gradients = tuple(
        mean_gradient(total, w, -score.weight, -problem.penalty, out=np.empty_like(w))
        for total, w in zip(statistics.moments, weights, strict=True)
    )
    return float(score.loss) / score.weight + problem.penalty / 2 * squares, pack(gradients)


def norm(v: Array) -> float:
    """Return the Euclidean norm of a vector."""
    return float(np.sqrt(np.dot(v, v)))

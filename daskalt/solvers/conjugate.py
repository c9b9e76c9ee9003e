"""Nonlinear conjugate gradients on map-reduced gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskalt.network.problem import Problem
from daskalt.parameters import check_parameters, integer
from daskalt.rules import LineSearch
from daskalt.solvers.searching import LineSearchSolver, SearchState, need_smooth

__all__ = ["ConjugateGradient"]

Array = np.ndarray


class ConjugateGradient(LineSearchSolver):
    """Nonlinear conjugate gradients: d' = -g' + max(0, g'ᵀ(g' - g) / gᵀg) d (Polak-Ribière+).

    Parameters
    ----------
    line_search : str or LineSearch, default="wolfe"
        "wolfe" stands for the strong Wolfe conditions, here with a curvature of 0.1.
    restart_every : int or None, default=None
        Lines after which the direction is the steepest descent again. None restarts only where
        successive gradients are far from orthogonal, |gᵀg'| ≥ 0.2 g'ᵀg' (Powell, 1977), and
        where max(0, ...) is zero.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, section 5.2.
    """

    def __init__(
        self, line_search: str | LineSearch = "wolfe", *, restart_every: int | None = None
    ) -> None:
        self.line_search = line_search
        self.restart_every = restart_every

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, restart_every=integer(at_least=1, or_none=True))
        super().check()

    def validate(self, problem: Problem) -> None:
        """Raise InputError if the loss has no gradient."""
        need_smooth(self, problem)

    @property
    def _line(self) -> Any:
        line = super()._line
        return line.set_params(curvature=0.1) if self.line_search == "wolfe" else line

    def direction(
        self, problem: Problem, state: SearchState, g: Array, statistics: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the conjugate direction."""
        old, d = state.gradient, state.direction
        every = self.restart_every
        if old is None or d is None or (every is not None and state.step % every == 0):
            return -g, ()
        square = float(np.dot(g, g))
        overlap = float(np.dot(g, old))
        if every is None and abs(overlap) >= 0.2 * square:
            return -g, ()
        beta = max(0.0, (square - overlap) / float(np.dot(old, old)))
        return g.dtype.type(beta) * d - g, ()

    def first_length(self, state: SearchState, slope: float) -> float:
        """Return the length with the same first-order change as that of the last line."""
        if state.search is None:
            return 1.0
        return state.search.trial * min(10.0, state.search.origin.slope / slope)

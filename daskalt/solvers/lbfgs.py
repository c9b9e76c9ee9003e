"""Limited-memory BFGS on map-reduced gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskalt.network.problem import Problem
from daskalt.parameters import check_parameters, integer
from daskalt.rules import LineSearch
from daskalt.solvers.searching import LineSearchSolver, SearchState, need_smooth, norm

__all__ = ["LBFGS"]

Array = np.ndarray


class LBFGS(LineSearchSolver):
    """Limited-memory BFGS on map-reduced gradients.

    Parameters
    ----------
    memory : int, default=10
        Pairs of steps and gradient changes that approximate the inverse Hessian.
    line_search : str or LineSearch, default="wolfe"
        The strong Wolfe conditions make every pair usable.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5.
    """

    def __init__(self, memory: int = 10, *, line_search: str | LineSearch = "wolfe") -> None:
        self.memory = memory
        self.line_search = line_search

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, memory=integer(at_least=1))
        super().check()

    def validate(self, problem: Problem) -> None:
        """Raise InputError if the loss has no gradient."""
        need_smooth(self, problem)

    def memory_bytes(self, problem: Problem, passes: int) -> int:
        """Return the bytes of the pairs; a pass adds at most one."""
        pairs = min(self.memory, passes)
        return 2 * pairs * sum(problem.network.sizes) * problem.dtype.itemsize

    def direction(
        self, problem: Problem, state: SearchState, g: Array, statistics: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the quasi-Newton direction by the two-loop recursion, and the pairs."""
        memory = state.memory  # s, y, s, y, ... from the oldest to the newest
        if state.gradient is not None and state.direction is not None and state.search is not None:
            s = state.direction * g.dtype.type(state.search.trial)
            y = g - state.gradient
            if float(np.dot(s, y)) > 1e-10 * norm(s) * norm(y):
                memory = (*memory, s, y)[-2 * self.memory :]
        q = -g
        pairs = list(zip(memory[::2], memory[1::2], strict=True))
        shares = []
        for s, y in reversed(pairs):
            share = float(np.dot(s, q)) / float(np.dot(s, y))
            q -= g.dtype.type(share) * y
            shares.append(share)
        if pairs:
            s, y = pairs[-1]
            q *= g.dtype.type(float(np.dot(s, y)) / float(np.dot(y, y)))
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            back = float(np.dot(y, q)) / float(np.dot(s, y))
            q += g.dtype.type(share - back) * s
        return q, memory

"""Newton's method for convex problems, with the Hessian summed over rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import InputError
from daskalt.kernels.hessian import hessian
from daskalt.network.network import Network
from daskalt.network.problem import Problem, Rows
from daskalt.rules import LineSearch
from daskalt.solvers.base import Variables
from daskalt.solvers.least_squares import ridge_solve
from daskalt.solvers.searching import LineSearchSolver, SearchState, need_smooth
from daskalt.solvers.z_step import gradient_step

__all__ = ["Newton"]

Array = np.ndarray

LARGEST_HESSIAN = 10_000  # rows; 0.8 GB in double precision


class HessianStep(NamedTuple):
    """Sums of the rows' negative gradients and of their Hessians."""

    score: Score
    moments: Any
    grams: Any
    hessian: Array


class Newton(LineSearchSolver):
    """Newton's method for convex problems: no hidden layer, and a smooth convex loss.

    The Hessian, with as many rows and columns as there are weights, is summed over the rows:
    (outputs × (features + 1))² numbers, which must fit in memory several times.

    Parameters
    ----------
    line_search : str or LineSearch, default="backtracking"
        It tries the full step first.
    """

    state_types = (*LineSearchSolver.state_types, HessianStep)

    def __init__(self, line_search: str | LineSearch = "backtracking") -> None:
        self.line_search = line_search

    def validate(self, problem: Problem) -> None:
        """Raise InputError unless the problem is convex and its Hessian fits in memory."""
        network = problem.network
        need_smooth(self, problem)
        if not network.is_chain or network.n_layers > 1 or not network.loss.convex:
            raise InputError(
                "Newton needs a convex problem, hidden_layer_sizes=() and a loss that is convex, "
                f"such as the cross-entropy; got hidden layers {network.units[:-1]} and "
                f"{network.loss.name} on {network.loss.link.name}. Use LBFGS() for others."
            )
        (size,) = network.sizes
        if size > LARGEST_HESSIAN:
            raise InputError(
                f"Newton's Hessian would have {size} rows and columns, "
                f"{size**2 * problem.dtype.itemsize / 1e9:.1f} GB in every task. Use LBFGS() for "
                f"more than {LARGEST_HESSIAN} weights."
            )

    def map(
        self, problem: Problem, state: SearchState, rows: Rows, variables: Variables | None = None
    ) -> tuple[HessianStep, None]:
        """Return the sums of loss, gradient and Hessian of some rows at the trial point."""
        step = gradient_step(problem, state.trial, rows)
        x = problem.inputs(rows.X)
        z = x @ state.trial[0].T
        d, u = problem.network.loss.hessian(z, rows.y)
        curvature = hessian(x, d, u, rows.weight)
        return HessianStep(step.score, step.moments, None, curvature), None

    def direction(
        self, problem: Problem, state: SearchState, g: Array, statistics: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return -H⁻¹ g."""
        (w,) = state.trial
        h = statistics.hessian / statistics.hessian.dtype.type(statistics.score.weight)
        # The biases, the last of every output's weights, are not penalised.
        penalised = np.full(w.shape, problem.penalty, w.dtype)
        penalised[:, -1] = 0
        h.flat[:: len(h) + 1] += penalised.ravel()
        _ground_biases(h, np.arange(w.size).reshape(w.shape)[:, -1])
        return ridge_solve(-g[None], h, 0.0)[0], ()

    def flops(self, network: Network) -> float:
        """Return the floating-point operations of a pass for each row: all matrix products."""
        ((outputs, columns),) = network.shapes
        return 2 * network.flops + outputs * (outputs + 1) * columns**2


def _ground_biases(h: Array, biases: Array) -> None:
    """Add curvature along a common change of all biases, where the loss has none.

    Of a softmax such a change alters nothing, so its gradient is rounding; without curvature the
    solve would make a step of it. The other directions keep theirs.
    """
    scale = h.diagonal().mean()
    if abs(h[:, biases].sum(axis=1)).max() <= np.sqrt(np.finfo(h.dtype).eps) * scale:
        h[np.ix_(biases, biases)] += scale

"""Running means of Gram matrices, damped and ready for solves, and the weight decay they call for.

The curvature of the loss in the weights of a layer is about C ⊗ A, with A the mean Gram matrix of
its inputs and C that of its residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.kernels.step import running_mean
from daskalt.network.network import Network, Weights
from daskalt.solvers.base import Budget
from daskalt.solvers.least_squares import damp

__all__ = ["Factors", "evidence", "steps_between"]

ROUNDS = 20  # of the fixed-point iteration, each of which at least halves the error


# A renewal takes as long as so many operations for each entry of the matrices. It may take this
# share of the steps between two, unless there would be less than some hundreds of them.
RENEWAL_COST, RENEWAL_SHARE, RENEWALS = 800, 0.05, 200


def steps_between(network: Network, budget: Budget) -> int:
    """Return how many steps there are between two renewals of Gram matrices, 1 to 10."""
    rows = max((budget.weight or 0.0) / (budget.pass_steps or 1), 1.0)
    renewal = RENEWAL_COST * (network.gram_flops + network.residual_gram_flops)
    cheap = round(renewal / (RENEWAL_SHARE * rows * 3 * network.flops))
    return int(np.clip(cheap, 1, np.clip((budget.steps or 0) // RENEWALS, 3, 10)))


class Factors(NamedTuple):
    """One Gram matrix of each weight matrix: its running mean, and that damped; None before any."""

    means: tuple[Any, ...]
    damped: tuple[Any, ...]

    @classmethod
    def none(cls, matrices: int) -> Factors:
        """Return the factors before the first step."""
        return cls((None,) * matrices, (None,) * matrices)

    def renewed(self, totals: Sequence[Any], keep: float, weight: float) -> Factors:
        """Return them with the sums of a step averaged into the means, where it has any."""
        means = tuple(
            old if total is None else running_mean(old, total, keep, weight)
            for old, total in zip(self.means, totals, strict=True)
        )
        return self._replace(means=means)

    def damped_anew(
        self, which: Sequence[bool], damping: float, rank: int | None, *, bias: bool
    ) -> Factors:
        """Return them with some of the means damped again."""
        damped = tuple(
            damp(mean, damping, rank, None if old is None else old.basis, bias=bias)
            if anew and mean is not None
            else old
            for mean, old, anew in zip(self.means, self.damped, which, strict=True)
        )
        return self._replace(damped=damped)


def evidence(
    weights: Weights,
    inputs: Factors,
    residuals: Factors,
    rows: float,
    noise: float,
) -> tuple[float, ...]:
    """Return the penalty of each weight matrix for which its weights are most probable.

    With λ the eigenvalues of the curvature summed over the rows, a penalty α leaves γ = Σ λ/(λ + α)
    of the weights to the data, and the evidence is highest at α = γ / ‖W‖² (MacKay, 1992).
    Biases have no penalty, and are left out.

    Parameters
    ----------
    weights : Weights
        Every weight matrix [W b].
    inputs, residuals : Factors
        A and C of every weight matrix.
    rows : float
        Number of rows of which the means are.
    noise : float
        The loss per unit of log-likelihood: 1 if it is one, the variance of what is left of the
        targets for half a squared error.
    """
    found = []
    parts = zip(
        weights, inputs.means, inputs.damped, residuals.means, residuals.damped, strict=True
    )
    for w, a, damped_a, c, damped_c in parts:
        values_a, times_a = damped_a.spectrum(a, bias=True)
        values_c, times_c = damped_c.spectrum(c, bias=False)
        size = float(np.vdot(w[:, :-1], w[:, :-1]))
        curvature = (rows / noise / noise) * np.outer(values_c, values_a)
        times = np.outer(times_c, times_a)
        alpha = 0.0
        if size > 0 and np.isfinite(curvature).all():
            alpha = float(times.sum()) / size
            for _ in range(ROUNDS):
                determined = float((times * curvature / (curvature + alpha)).sum())
                # γ falls as α rises: the geometric mean does not swing about the solution.
                alpha = float(np.sqrt(alpha * determined / size))
                if not 0 < alpha < np.inf:
                    alpha = 0.0
                    break
        found.append(alpha * noise / rows)
    return tuple(found)

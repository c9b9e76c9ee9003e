"""The weight decay that the data call for, after MacKay's evidence framework."""

from collections.abc import Sequence

import numpy as np

from daskalt.network.network import Network, Weights
from daskalt.solvers.grams import Gram

__all__ = ["evidence", "weight_decay"]

ROUNDS = 20  # of the fixed-point iteration, each of which at least halves the error


def weight_decay(
    network: Network,
    weights: Weights,
    inputs: Sequence[Gram],
    residuals: Sequence[Gram],
    rows: float,
) -> tuple[float, ...]:
    """Return the penalty of each weight matrix of a network by `evidence`.

    The loss is of a unit of log-likelihood for classes; for numbers half a squared error, whose
    variance is taken as that of the residuals. A gross error has no more than its pull in them.
    """
    outputs = residuals[network.layers[-1].weights]
    noise = 1.0 if network.loss.classifies else max(outputs.mean_diagonal, 1e-150)
    uses = [len(layers) for layers in network.by_matrix(network.layers)]
    return evidence(weights, inputs, residuals, uses, rows, noise)


def evidence(
    weights: Weights,
    inputs: Sequence[Gram],
    residuals: Sequence[Gram],
    uses: Sequence[int],
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
    inputs, residuals : sequence of Gram
        A and C of every weight matrix.
    uses : sequence of int
        Layers that have each matrix, over which A and C are sums.
    rows : float
        Number of rows of which the means are.
    noise : float
        The loss per unit of log-likelihood: 1 if it is one, the variance of what is left of the
        targets for half a squared error.
    """
    found = []
    for w, a, c, layers in zip(weights, inputs, residuals, uses, strict=True):
        values_a, times_a = a.spectrum()
        values_c, times_c = c.spectrum()
        size = float(np.vdot(w[:, :-1], w[:, :-1]))
        curvature = (rows / layers / noise / noise) * np.outer(values_c, values_a)
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

"""The z-step of stochastic alternating minimisation: some rows in, their statistics out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.kernels.gram import cross_moments, gram_matrix
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows
from daskalt.network.sweep import sweep

__all__ = [
    "Step",
    "gradient_step",
    "newton_step",
    "score_residual",
]


class Step(NamedTuple):
    """Statistics of a step's rows.

    ``moments`` has Σ r ãᵀ of every weight matrix, with r the move of a layer's z away from W ã;
    ``grams`` has Σ ã ãᵀ, or None where this step does not renew it.
    """

    score: Score
    moments: Any
    grams: tuple[Any, ...]


def gradient_step(
    problem: Problem, weights: Weights, rows: Rows, wanted: Sequence[bool] = ()
) -> Step:
    """Return the statistics of one gradient step of the rows' z from the forward pass.

    The move r / 2μ of each z is the residual that W is fitted to; the factor drops out. ``wanted``
    says for which weight matrices to gather the Gram matrix too, by default for none.
    """
    network, workspace = problem.network, thread_workspace()
    inputs, (z,) = network.trace(weights, problem.inputs(rows.X, workspace), workspace)
    grams: tuple[Any, ...] = (None,) * len(weights)
    if any(wanted):
        pairs = zip(network.by_matrix(inputs), wanted, strict=True)
        grams = tuple(gram_matrix(own, rows.weight) if want else None for own, want in pairs)
    score, r = score_residual(problem, z, rows)
    residuals = network.pull_back(weights, inputs, r, workspace)
    return Step(score, tuple(map(cross_moments, network.pairs(inputs, residuals))), grams)


def newton_step(
    problem: Problem, weights: Weights, rows: Rows, mu: tuple[float, ...], sweeps: int
) -> Step:
    """Return the statistics of z minimised by damped Newton, layer by layer from the output back.

    Each sweep updates z_L, then every hidden z_l between its prediction W_l ã_{l-1} and the layer
    above. The residual z_l - W_l ã_{l-1} is taken with the updated activations below.
    """
    network = problem.network
    x = problem.inputs(rows.X)
    inputs, z = network.trace(weights, x, apart=True)
    score, _ = score_residual(problem, z[-1].copy(), rows)
    for _ in range(sweeps):
        z, inputs, residuals = sweep(network, weights, x, rows.y, z, network.of_layers(mu))
    if rows.weight is not None:
        residuals = [r * rows.weight[:, None].astype(r.dtype) for r in residuals]
    grams = tuple(gram_matrix(own, rows.weight) for own in network.by_matrix(inputs))
    return Step(score, tuple(map(cross_moments, network.pairs(inputs, residuals))), grams)


def score_residual(problem: Problem, z: np.ndarray, rows: Rows) -> tuple[Score, np.ndarray]:
    """Return the forward loss of the rows, and r = -∂ℓ/∂z, which overwrites z."""
    loss = problem.network.loss
    correct = problem.correct(z, rows)
    r, loss_sum = loss.residual(z, rows.y, rows.weight, out=z)
    return Score(rows.total_weight, loss_sum, correct), r

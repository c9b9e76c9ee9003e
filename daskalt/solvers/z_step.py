"""The z-step of stochastic alternating minimisation: some rows in, their statistics out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.kernels.gram import cross_moments, gram_matrix, sketch
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows
from daskalt.network.sweep import sweep

__all__ = ["Step", "gradient_step", "newton_step", "score_residual"]


class Step(NamedTuple):
    """Statistics of a step's rows.

    ``moments`` has Σ r ãᵀ of every weight matrix, with r the move of a layer's z away from W ã.
    ``grams`` has Σ ã ãᵀ and ``curvatures`` Σ r rᵀ over rows of the weight ``gathered``, whole or a
    `Sketch`, or None where this step does not renew them.
    """

    score: Score
    moments: Any
    grams: tuple[Any, ...]
    curvatures: tuple[Any, ...]
    gathered: float


def gradient_step(
    problem: Problem,
    weights: Weights,
    rows: Rows,
    grams: Sequence[Any] = (),
    curvatures: Sequence[Any] = (),
    count: int | None = None,
) -> Step:
    """Return the statistics of one gradient step of the rows' z from the forward pass.

    The move r / 2μ of each z is the residual that W is fitted to; the factor drops out.

    Parameters
    ----------
    problem, weights, rows : Problem, Weights, Rows
        Where the step starts.
    grams, curvatures : sequence, optional
        For every weight matrix, how to gather the Gram matrix of its inputs, and of its residuals:
        directions along which to see it, True for the whole matrix, None for not at all.
    count : int, optional
        The first rows over which they are gathered; by default all.
    """
    network, workspace = problem.network, thread_workspace()
    inputs, (z,) = network.trace(weights, problem.inputs(rows.X, workspace), workspace)
    nothing: tuple[Any, ...] = (None,) * len(weights)
    some = rows.part(0, len(rows.X) if count is None else count)
    gathered = some.total_weight if any(how is not None for how in (*grams, *curvatures)) else 0.0
    # Those of the inputs first: to pull residuals back may overwrite them.
    sums = tuple(
        _gathered(own, how, some.weight, count)
        for own, how in zip(network.by_matrix(inputs), grams or nothing, strict=True)
    )
    score, r = score_residual(problem, z, rows)
    residuals = network.pull_back(weights, inputs, r, workspace)
    moments = tuple(map(cross_moments, network.pairs(inputs, residuals)))
    # Residuals have the weight of their row in them already.
    weight = some.weight if some.weight is None or not curvatures else _inverse(some.weight)
    curved = tuple(
        _gathered(own, how, weight, count)
        for own, how in zip(network.by_matrix(residuals), curvatures or nothing, strict=True)
    )
    return Step(score, moments, sums, curved, gathered)


def _inverse(weight: np.ndarray) -> np.ndarray:
    """Return 1 / weight; 0 where there is none, or so little that it would overflow."""
    some = weight >= np.finfo(weight.dtype).tiny
    return np.divide(1, weight, out=np.zeros_like(weight), where=some)


def _gathered(
    parts: Sequence[np.ndarray], how: Any, weight: np.ndarray | None, count: int | None
) -> Any:
    if how is None:
        return None
    some = [a[:count] for a in parts]
    return gram_matrix(some, weight) if how is True else sketch(some, how, weight)


def newton_step(
    problem: Problem,
    weights: Weights,
    rows: Rows,
    mu: tuple[float, ...],
    sweeps: int,
    grams: Sequence[Any],
) -> Step:
    """Return the statistics of z minimised by damped Newton, layer by layer from the output back.

    Each sweep updates z_L, then every hidden z_l between its prediction W_l ã_{l-1} and the layer
    above. The residual z_l - W_l ã_{l-1} is taken with the updated activations below, and so are
    the Gram matrices, gathered as in `gradient_step`.
    """
    network = problem.network
    x = problem.inputs(rows.X)
    inputs, z = network.trace(weights, x, apart=True)
    score, _ = score_residual(problem, z[-1].copy(), rows)
    for _ in range(sweeps):
        z, inputs, residuals = sweep(network, weights, x, rows.y, z, network.of_layers(mu))
    if rows.weight is not None:
        residuals = [r * rows.weight[:, None].astype(r.dtype) for r in residuals]
    sums = tuple(
        _gathered(own, how, rows.weight, None)
        for own, how in zip(network.by_matrix(inputs), grams, strict=True)
    )
    moments = tuple(map(cross_moments, network.pairs(inputs, residuals)))
    return Step(score, moments, sums, (None,) * len(weights), score.weight)


def score_residual(problem: Problem, z: np.ndarray, rows: Rows) -> tuple[Score, np.ndarray]:
    """Return the forward loss of the rows, and r = -∂ℓ/∂z, which overwrites z."""
    loss = problem.network.loss
    correct = problem.correct(z, rows)
    r, loss_sum = loss.residual(z, rows.y, rows.weight, out=z)
    return Score(rows.total_weight, loss_sum, correct), r

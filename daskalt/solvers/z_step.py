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
    "InputGram",
    "Step",
    "gradient_step",
    "input_gram",
    "newton_step",
    "score_residual",
]


class InputGram(NamedTuple):
    """Σ ã ãᵀ over rows, and their weight, for matrices whose inputs depend on the data alone."""

    weight: float
    grams: tuple[Any, ...]  # None for the others


def input_gram(problem: Problem, rows: Rows) -> InputGram:
    """Return the Gram matrices of some rows that depend on the data alone."""
    network, workspace = problem.network, thread_workspace()
    inputs = network.data(problem.inputs(rows.X, workspace), workspace)
    grams = tuple(
        gram_matrix(own, rows.weight) if fixed else None
        for own, fixed in zip(network.by_matrix(inputs), network.fixed, strict=True)
    )
    return InputGram(rows.total_weight, grams)


class Step(NamedTuple):
    """Statistics of a step's rows.

    ``moments`` has Σ r ãᵀ of every weight matrix, with r the move of a layer's z away from W ã.
    ``grams`` has Σ ã ãᵀ and ``curvatures`` Σ r rᵀ over rows of the weight ``gathered``, or None
    where this step does not renew them.
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
    wanted: Sequence[bool] = (),
    *,
    curved: bool = False,
    count: int | None = None,
) -> Step:
    """Return the statistics of one gradient step of the rows' z from the forward pass.

    The move r / 2μ of each z is the residual that W is fitted to; the factor drops out.

    Parameters
    ----------
    problem, weights, rows : Problem, Weights, Rows
        Where the step starts.
    wanted : sequence of bool, optional
        For which weight matrices to gather the Gram matrix of the inputs too; by default for none.
    curved : bool
        Whether to gather those of the residuals.
    count : int, optional
        The first rows over which they are gathered; by default all.
    """
    network, workspace = problem.network, thread_workspace()
    inputs, (z,) = network.trace(weights, problem.inputs(rows.X, workspace), workspace)
    nothing: tuple[Any, ...] = (None,) * len(weights)
    grams, curvatures, gathered = nothing, nothing, 0.0
    some = rows.part(0, len(rows.X) if count is None else count)
    if any(wanted):
        pairs = zip(network.by_matrix(inputs), wanted, strict=True)
        grams = tuple(_gram_of(own, some.weight, count) if want else None for own, want in pairs)
        gathered = some.total_weight
    score, r = score_residual(problem, z, rows)
    residuals = network.pull_back(weights, inputs, r, workspace)
    moments = tuple(map(cross_moments, network.pairs(inputs, residuals)))
    if curved:
        # Residuals have the weight of their row in them already.
        weight = some.weight
        inverse = None if weight is None else _inverse(weight)
        curvatures = tuple(_gram_of(own, inverse, count) for own in network.by_matrix(residuals))
        gathered = some.total_weight
    return Step(score, moments, grams, curvatures, gathered)


def _inverse(weight: np.ndarray) -> np.ndarray:
    """Return 1 / weight; 0 where there is none, or so little that it would overflow."""
    some = weight >= np.finfo(weight.dtype).tiny
    return np.divide(1, weight, out=np.zeros_like(weight), where=some)


def _gram_of(
    parts: Sequence[np.ndarray], weight: np.ndarray | None, count: int | None
) -> np.ndarray:
    return gram_matrix([a[:count] for a in parts], weight)


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
    moments = tuple(map(cross_moments, network.pairs(inputs, residuals)))
    return Step(score, moments, grams, (None,) * len(weights), score.weight)


def score_residual(problem: Problem, z: np.ndarray, rows: Rows) -> tuple[Score, np.ndarray]:
    """Return the forward loss of the rows, and r = -∂ℓ/∂z, which overwrites z."""
    loss = problem.network.loss
    correct = problem.correct(z, rows)
    r, loss_sum = loss.residual(z, rows.y, rows.weight, out=z)
    return Score(rows.total_weight, loss_sum, correct), r

"""The z-step of stochastic alternating minimisation: some rows in, their statistics out."""

from typing import Any, NamedTuple

import numpy as np

from daskalt.kernels.backward import backward
from daskalt.kernels.forward import forward
from daskalt.kernels.gram import cross, gram
from daskalt.kernels.sweep import activated, sweep
from daskalt.kernels.workspace import Workspace, empty, thread_workspace
from daskalt.network import Weights
from daskalt.solvers.base import Problem, Rows
from daskalt.statistics import Score

__all__ = [
    "LocalSteps",
    "Step",
    "forward_pass",
    "gradient_step",
    "newton_step",
    "score_rows",
    "weighted_gram",
]


class Step(NamedTuple):
    """Statistics of a step's rows.

    ``residuals[l]`` is Σ r ãᵀ with r the move of layer l's z away from W ã; ``grams[l]`` is
    Σ ã ãᵀ, or None where this step does not renew it.
    """

    score: Score
    residuals: Any
    grams: tuple[Any, ...]


class LocalSteps(NamedTuple):
    """Statistics of tasks that have moved their own weights: Σ (W_c - W) A_c and Σ A_c."""

    score: Score
    moments: tuple[np.ndarray, ...]
    grams: tuple[np.ndarray, ...]
    trust: float  # weighted by the rows


def gradient_step(problem: Problem, weights: Weights, wanted: tuple[bool, ...], rows: Rows) -> Step:
    """Return the statistics of one gradient step of the rows' z from the forward pass.

    The move r / 2μ of each z is the residual that W is fitted to; the factor drops out.
    """
    network, workspace = problem.network, thread_workspace()
    a = forward(weights, problem.inputs(rows.X, workspace), network.phi, workspace)
    grams = tuple(
        weighted_gram(a[layer], rows.weight) if want else None for layer, want in enumerate(wanted)
    )
    score, r = score_rows(problem, a[-1], rows)
    residuals = backward(weights, a, r, network.phi, workspace)
    crossed = tuple(cross(r, a[layer]) for layer, r in enumerate(residuals))
    return Step(score, crossed, grams)


def newton_step(
    problem: Problem, weights: Weights, rows: Rows, mu: tuple[float, ...], sweeps: int
) -> Step:
    """Return the statistics of z minimised by damped Newton, layer by layer from the output back.

    Each sweep updates z_L, then every hidden z_l between its prediction W_l ã_{l-1} and the layer
    above. The residual z_l - W_l ã_{l-1} is taken with the updated activations below.
    """
    network = problem.network
    x = problem.inputs(rows.X)
    z, _ = forward_pass(problem, weights, x)
    score, _ = score_rows(problem, z[-1].copy(), rows)
    for _ in range(sweeps):
        z, inputs, residuals = sweep(weights, x, rows.y, z, mu, network.phi, network.loss)
    if rows.weight is not None:
        residuals = [r * rows.weight[:, None].astype(r.dtype) for r in residuals]
    crossed = tuple(cross(r, a) for r, a in zip(residuals, inputs, strict=True))
    return Step(score, crossed, tuple(weighted_gram(a, rows.weight) for a in inputs))


def forward_pass(
    problem: Problem, weights: Weights, x: np.ndarray, workspace: Workspace | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the pre-activations z_l and inputs ã_{l-1} of every layer.

    A workspace holds them, if there is one: the inputs under the names that `activated` uses.
    """
    z: list[np.ndarray] = []
    inputs = [x]
    for layer, w in enumerate(weights):
        if layer:
            inputs.append(activated(z[-1], problem.network.phi, workspace, layer))
        out = empty(workspace, f"forward{layer}", (len(x), len(w)), x.dtype)
        z.append(np.matmul(inputs[-1], w.T, out=out))
    return z, inputs


def score_rows(problem: Problem, z: np.ndarray, rows: Rows) -> tuple[Score, np.ndarray]:
    """Return the forward loss of the rows, and r = -∂ℓ/∂z, which overwrites z."""
    loss = problem.network.loss
    correct = problem.correct(z, rows)
    r, loss_sum = loss.residual(z, rows.y, rows.weight, out=z)
    return Score(rows.total_weight, loss_sum, correct), r


def weighted_gram(a: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return Σ w ã ãᵀ."""
    if weight is None:
        return gram(a)
    return gram(a * np.sqrt(weight, dtype=a.dtype)[:, None])

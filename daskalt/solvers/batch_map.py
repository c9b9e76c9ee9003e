"""The z-step of full-batch alternating minimisation: a block of rows and their z in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.kernels.gram import cross
from daskalt.kernels.newton import square_norms
from daskalt.kernels.sweep import activated, sweep
from daskalt.kernels.workspace import Workspace, thread_workspace
from daskalt.network import Weights
from daskalt.solvers.altmin_map import score_rows, weighted_gram
from daskalt.solvers.base import Problem, Rows
from daskalt.statistics import Score

__all__ = ["BatchStep", "batch_step", "forward_pass"]


class BatchStep(NamedTuple):
    """Statistics of a block after its z-step.

    ``residuals[l]`` is Σ r ãᵀ with r = z_l - W_l ã_{l-1}, ``grams[l]`` is Σ ã ãᵀ or None;
    ``objective`` is Σ ℓ(z_L, y) + Σ_l μ_l ‖r_l‖², ``couplings`` are the Σ ‖r_l‖², and
    ``restarted`` is the weight of the rows whose z started from the forward pass.
    """

    score: Score
    residuals: Any
    grams: tuple[Any, ...]
    objective: float
    couplings: np.ndarray
    restarted: float


def batch_step(
    problem: Problem,
    weights: Weights,
    rows: Rows,
    z: list[np.ndarray] | None,
    mu: Sequence[float],
    *,
    wanted: tuple[bool, ...],
    sweeps: int,
    iterations: int,
    restart: bool,
) -> tuple[list[np.ndarray], BatchStep]:
    """Return the moved z of some rows and the statistics of them.

    With ``restart`` every row starts from its own z or from the forward pass of the weights,
    whichever has the lower objective; ``z`` of None stands for the forward pass. The arrays of z
    are overwritten.
    """
    network, workspace = problem.network, thread_workspace()
    x = problem.inputs(rows.X, workspace)
    ahead = forward_pass(problem, weights, x, workspace)
    score, _ = score_rows(problem, ahead[-1].copy(), rows)
    importance = np.ones(len(x)) if rows.weight is None else rows.weight.astype(np.float64)
    restarted = float(importance.sum())
    if z is None:
        z = ahead
    elif restart:
        better = network.loss.value(ahead[-1], rows.y) < _objective(
            problem, weights, z, ahead[0], rows.y, mu, workspace
        )
        for own, forward in zip(z, ahead, strict=True):
            own[better] = forward[better]
        restarted = float(importance[better].sum())
    else:
        restarted = 0.0
    for _ in range(sweeps):
        z, inputs, residuals = sweep(
            weights,
            x,
            rows.y,
            z,
            mu,
            network.phi,
            network.loss,
            first=ahead[0],
            iterations=iterations,
            workspace=workspace,
        )
    couplings = np.array([importance @ square_norms(r) for r in residuals])
    objective = float(importance @ network.loss.value(z[-1], rows.y) + np.dot(mu, couplings))
    if rows.weight is not None:
        for r in residuals:
            r *= rows.weight[:, None]
    crossed = tuple(cross(r, a) for r, a in zip(residuals, inputs, strict=True))
    grams = tuple(
        weighted_gram(a, rows.weight) if want else None
        for a, want in zip(inputs, wanted, strict=True)
    )
    return z, BatchStep(score, crossed, grams, objective, couplings, restarted)


def forward_pass(
    problem: Problem, weights: Weights, x: np.ndarray, workspace: Workspace
) -> list[np.ndarray]:
    """Return the pre-activations of every layer."""
    z: list[np.ndarray] = []
    for layer, w in enumerate(weights):
        a = x if layer == 0 else activated(z[-1], problem.network.phi, workspace, layer)
        out = workspace.take(f"forward{layer}", (len(x), len(w)), x.dtype)
        z.append(np.matmul(a, w.T, out=out))
    return z


def _objective(
    problem: Problem,
    weights: Weights,
    z: list[np.ndarray],
    first: np.ndarray,
    y: np.ndarray,
    mu: Sequence[float],
    workspace: Workspace,
) -> np.ndarray:
    """ℓ(z_L, y) + Σ μ ‖z_l - W_l ã_{l-1}‖² of each row; ``first`` is W_1 x̃."""
    value = problem.network.loss.value(z[-1], y)
    for layer, w in enumerate(weights):
        m = first
        if layer:
            m = activated(z[layer - 1], problem.network.phi, workspace, layer) @ w.T
        value += mu[layer] * square_norms(z[layer], m)
    return value

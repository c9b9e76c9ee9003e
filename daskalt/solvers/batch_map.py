"""The z-step of full-batch alternating minimisation: a block of rows and their z in and out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.jit import compiled
from daskalt.kernels.gram import cross
from daskalt.kernels.newton import square_norms
from daskalt.kernels.sweep import activated, sweep
from daskalt.kernels.workspace import Workspace, thread_workspace
from daskalt.network import Weights
from daskalt.solvers.altmin_map import forward_pass, score_rows, weighted_gram
from daskalt.solvers.base import Problem, Rows
from daskalt.statistics import Score

__all__ = ["BatchStep", "Split", "batch_step"]


class BatchStep(NamedTuple):
    """Statistics of a block after its z-step.

    With v_l = z_l - W_l ã_{l-1}, ``residuals[l]`` is Σ v ãᵀ (of v - r + u under a `Split`) and
    ``grams[l]`` is Σ ã ãᵀ or None; ``objective`` is Σ ℓ(z_L, y) + Σ_l μ_l ‖v_l‖², or with ‖v_l‖₁;
    ``couplings`` are the Σ ‖v_l‖², and
    ``restarted`` is the weight of the rows whose z started from the forward pass.
    """

    score: Score
    residuals: Any
    grams: tuple[Any, ...]
    objective: float
    couplings: np.ndarray
    restarted: float


class Split(NamedTuple):
    """The L1 relaxation: each residual z_l - W_l ã_{l-1} = v_l as a variable of its own.

    Splits Σ μ_l ‖v_l‖₁ into μ_l ‖r_l‖₁ and the constraint v_l = r_l, with scaled dual u_l, whose
    quadratic penalty takes the place of the L2 coupling. ``r`` and ``u`` of None are zero.
    """

    mu: Sequence[float]
    r: list[np.ndarray] | None = None
    u: list[np.ndarray] | None = None


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
    split: Split | None = None,
) -> tuple[list[np.ndarray], BatchStep]:
    """Return the moved z of some rows, then r and u of a split, and the statistics of them.

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
    r = u = shifts = None
    if split is not None:
        r = [np.zeros_like(f) for f in ahead] if split.r is None else split.r
        u = [np.zeros_like(f) for f in ahead] if split.u is None else split.u
    if z is None:
        z = ahead
    elif restart:
        value = network.loss.value(z[-1], rows.y)
        for layer, v in enumerate(_residuals(problem, weights, z, ahead[0], workspace)):
            value += _norm(v, layer, mu, split)
        better = network.loss.value(ahead[-1], rows.y) < value
        for own, forward in zip(z, ahead, strict=True):
            own[better] = forward[better]
        for own in [*(r or ()), *(u or ())]:
            own[better] = 0
        restarted = float(importance[better].sum())
    else:
        restarted = 0.0
    if r is not None and u is not None:
        shifts = [a - b for a, b in zip(r, u, strict=True)]
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
            shifts=shifts,
            iterations=iterations,
            workspace=workspace,
        )
    value = network.loss.value(z[-1], rows.y)
    couplings = np.zeros(len(z))
    for layer, v in enumerate(residuals):
        if split is not None and shifts is not None and r is not None and u is not None:
            v += shifts[layer]
            value += _norm(v, layer, mu, split)
            couplings[layer] = importance @ square_norms(v)
            _shrink(v, r[layer], u[layer], split.mu[layer] / (2 * mu[layer]))
        else:
            norms = square_norms(v)
            value += mu[layer] * norms
            couplings[layer] = importance @ norms
        if rows.weight is not None:
            v *= rows.weight[:, None]
    objective = float(importance @ value)
    crossed = tuple(cross(r, a) for r, a in zip(residuals, inputs, strict=True))
    grams = tuple(
        weighted_gram(a, rows.weight) if want else None
        for a, want in zip(inputs, wanted, strict=True)
    )
    return [*z, *(r or ()), *(u or ())], BatchStep(
        score, crossed, grams, objective, couplings, restarted
    )


def _residuals(
    problem: Problem,
    weights: Weights,
    z: list[np.ndarray],
    first: np.ndarray,
    workspace: Workspace,
) -> Iterator[np.ndarray]:
    """z_l - W_l ã_{l-1} of each layer; ``first`` is W_1 x̃."""
    for layer, w in enumerate(weights):
        m = first
        if layer:
            m = activated(z[layer - 1], problem.network.phi, workspace, layer) @ w.T
        yield np.subtract(z[layer], m, out=workspace.take(f"gap{layer}", m.shape, m.dtype))


def _norm(v: np.ndarray, layer: int, mu: Sequence[float], split: Split | None) -> np.ndarray:
    """The coupling's term of each row's objective."""
    if split is None:
        return mu[layer] * square_norms(v)
    return split.mu[layer] * np.abs(v).sum(axis=1, dtype=np.float64)


@compiled
def _shrink(v, r, u, threshold):
    """Update r and u for the residual v, and v to what W is to fit: v - r + u."""
    limit = v.dtype.type(threshold)
    zero = v.dtype.type(0)
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            t = v[i, j] + u[i, j]
            kept = max(t - limit, zero) + min(t + limit, zero)
            r[i, j] = kept
            u[i, j] = t - kept
            v[i, j] += u[i, j] - kept

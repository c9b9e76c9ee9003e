"""The z-step of full-batch alternating minimisation: a block of rows and their z in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.jit import compiled
from daskalt.kernels.gram import cross_moments, gram_matrix
from daskalt.kernels.rowwise import copy_rows, square_norms
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.joint import joint_step
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows
from daskalt.network.sweep import sweep
from daskalt.solvers.z_step import score_residual

__all__ = ["BatchStep", "Split", "ZStep", "batch_step"]


class BatchStep(NamedTuple):
    """Statistics of a block after its z-step.

    With v_l = z_l - W_l ã_l, ``moments`` has Σ v ãᵀ (of v - r + u under a `Split`) of every weight
    matrix and ``grams`` Σ ã ãᵀ or None; ``objective`` is Σ ℓ(z_L, y) + Σ_l μ_l ‖v_l‖², or with
    ‖v_l‖₁; ``couplings`` are the Σ ‖v_l‖² of every layer, and ``restarted`` is the weight of the
    rows whose z started from the forward pass.
    """

    score: Score
    moments: Any
    grams: tuple[Any, ...]
    objective: float
    couplings: np.ndarray
    restarted: float


class Split(NamedTuple):
    """The L1 relaxation: each residual z_l - W_l ã_l = v_l as a variable of its own.

    Splits Σ μ_l ‖v_l‖₁ into μ_l ‖r_l‖₁ and the constraint v_l = r_l, with scaled dual u_l, whose
    quadratic penalty takes the place of the L2 coupling. Without them r and u are zero.
    """

    mu: Sequence[float]
    r: Sequence[np.ndarray] = ()
    u: Sequence[np.ndarray] = ()


class ZStep(NamedTuple):
    """How z is moved.

    Attributes
    ----------
    mu : sequence of float
        Weights of the quadratic couplings, one for each weight matrix; so are those of a split.
    sweeps : int
        Newton steps of each layer.
    iterations : int
        Most iterations of conjugate gradients in one.
    restart : bool
        Whether each row starts from its own z or anew from the forward pass of the weights,
        whichever has the lower objective.
    """

    mu: Sequence[float]
    sweeps: int = 1
    iterations: int = 30
    restart: bool = True


def batch_step(
    problem: Problem,
    weights: Weights,
    rows: Rows,
    z: list[np.ndarray] | None,
    how: ZStep,
    *,
    wanted: tuple[bool, ...],
    split: Split | None = None,
) -> tuple[list[np.ndarray], BatchStep]:
    """Return the moved z of some rows, then r and u of a split, and the statistics of them.

    Without any ``z`` all rows start anew. ``wanted`` says of which weight matrices to gather the
    Gram matrices.
    """
    network, workspace = problem.network, thread_workspace()
    how = how._replace(mu=network.of_layers(how.mu))
    if split is not None:
        split = split._replace(mu=network.of_layers(split.mu))
    x = problem.inputs(rows.X, workspace)
    start = _start(problem, weights, rows, x, z, how, split)
    z = start.z
    predictions: list[np.ndarray] | None = start.predictions
    shifts = None
    if split is not None:
        split = _begun(split, start)
        shifts = [a - b for a, b in zip(split.r, split.u, strict=True)]
    for _ in range(how.sweeps):
        z, inputs, residuals = sweep(
            network,
            weights,
            x,
            rows.y,
            z,
            how.mu,
            predictions=predictions,
            shifts=shifts,
            iterations=how.iterations,
            workspace=workspace,
        )
        predictions = None
    importance = np.ones(len(x)) if rows.weight is None else rows.weight.astype(np.float64)
    value = network.loss.value(z[-1], rows.y)
    couplings = _couple(residuals, value, importance, how, split, shifts)
    if rows.weight is not None:
        for v in residuals:
            v *= rows.weight[:, None]
    variables = z if split is None else [*z, *split.r, *split.u]
    return variables, BatchStep(
        start.score,
        tuple(map(cross_moments, network.pairs(inputs, residuals))),
        tuple(
            gram_matrix(own, rows.weight) if want else None
            for own, want in zip(network.by_matrix(inputs), wanted, strict=True)
        ),
        float(importance @ value),
        couplings,
        float(importance[start.anew].sum()),
    )


class _Start(NamedTuple):
    """Where the z of some rows start, the predictions W_l ã_l there, and who starts anew."""

    score: Score
    z: list[np.ndarray]
    predictions: list[np.ndarray]
    anew: np.ndarray


def _start(
    problem: Problem,
    weights: Weights,
    rows: Rows,
    x: np.ndarray,
    z: list[np.ndarray] | None,
    how: ZStep,
    split: Split | None,
) -> _Start:
    """Score the forward pass and choose a start for each row.

    A new start is the forward pass with a joint step of all layers, or without one where that
    would raise the row's objective.
    """
    network, loss, workspace = problem.network, problem.network.loss, thread_workspace()
    trace = network.trace(weights, x, workspace, apart=True)
    ahead = trace.z
    score, descent = score_residual(problem, ahead[-1].copy(), rows)
    if z is not None and not how.restart:
        predictions = network.predict(weights, x, z, workspace, ahead)
        return _Start(score, z, predictions, np.zeros(len(x), bool))
    if rows.weight is not None:
        descent = -loss.gradient(ahead[-1], rows.y)
    new, predicted, value = joint_step(network, weights, trace, descent, how.mu, workspace)
    value += loss.value(new[-1], rows.y)
    still = loss.value(ahead[-1], rows.y)
    refused = ~(value < still)
    for layer, forward in enumerate(ahead):
        copy_rows(refused, forward, new[layer])
        copy_rows(refused, forward, predicted[layer])
    anew = np.ones(len(x), bool)
    if z is not None:
        # The couplings of a split are other ones than the joint step's, and none at its start.
        value = still if split is not None else np.where(refused, still, value)
        own = network.predict(weights, x, z, workspace, ahead)
        before = loss.value(z[-1], rows.y)
        for layer, (a, b) in enumerate(zip(z, own, strict=True)):
            before += _norms(a - b, layer, how, split)
        anew = value < before
        for layer in range(len(z)):
            copy_rows(~anew, z[layer], new[layer])
            copy_rows(~anew, own[layer], predicted[layer])
    return _Start(score, new, predicted, anew)


def _couple(
    residuals: Sequence[np.ndarray],
    value: np.ndarray,
    importance: np.ndarray,
    how: ZStep,
    split: Split | None,
    shifts: Sequence[np.ndarray] | None,
) -> np.ndarray:
    """Add the couplings to each row's objective, and return the sums of their squares.

    Under a split residuals become what W is to be fitted to, and r and u move.
    """
    couplings = np.zeros(len(residuals))
    for layer, v in enumerate(residuals):
        if shifts is not None:
            v += shifts[layer]
        norms = square_norms(v)
        couplings[layer] = importance @ norms
        if split is None:
            value += how.mu[layer] * norms
        else:
            value += _norms(v, layer, how, split)
            threshold = split.mu[layer] / (2 * how.mu[layer])
            _shrink(v, split.r[layer], split.u[layer], threshold)
    return couplings


def _begun(split: Split, start: _Start) -> Split:
    """A split with r and u of its own, which are zero where rows start anew."""
    r = [v.copy() for v in split.r] or [np.zeros_like(own) for own in start.z]
    u = [v.copy() for v in split.u] or [np.zeros_like(own) for own in start.z]
    for own in [*r, *u]:
        own[start.anew] = 0
    return split._replace(r=r, u=u)


def _norms(v: np.ndarray, layer: int, how: ZStep, split: Split | None) -> np.ndarray:
    """The coupling's term of each row's objective."""
    if split is None:
        return how.mu[layer] * square_norms(v)
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

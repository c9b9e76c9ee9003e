"""Damped Newton steps of the auxiliary pre-activations of one block, for the L2 relaxation

    ℓ(z_L, y) + Σ_l μ_l ‖z_l - W_l a_{l-1} - b_l‖².

Rows are independent. A row moves only where its own objective does not rise: its step is halved
until then, and a row that no step improves stays where it is. Objectives are in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from daskalt.activations import Activation
from daskalt.losses import Loss

__all__ = ["hidden_newton", "output_newton"]

Array = np.ndarray

_HALVINGS = 20
# Conjugate gradients end where a row's residual is this part of its gradient. A direction that is
# not yet exact is a descent direction all the same.
_TOLERANCE = 1e-4
_ITERATIONS = 30


def output_newton(z: Array, m: Array, y: Array, mu: float, loss: Loss, sweeps: int = 1) -> Array:
    """Return z after damped Newton steps on ℓ(z, y) + μ ‖z - m‖² in each row.

    The model of the Hessian is diag(d + 2μ) - u uᵀ, which Sherman and Morrison's formula inverts.

    Parameters
    ----------
    z : ndarray, (rows, K)
        Where to start; left as it is.
    m : ndarray, (rows, K)
        The prediction W a + b of the layer below.
    y : ndarray
        Targets, as `loss` takes them.
    mu : float
        Multiplier of the coupling, > 0.
    loss : Loss
        The loss with its link.
    sweeps : int
        Number of Newton steps.
    """

    def objective(z: Array, rows: Array) -> Array:
        return loss.value(z, y[rows]) + mu * _square_norms(z - m[rows])

    def direction(z: Array) -> Array:
        # In float64, or a small μ would drown in the rounding of d - u².
        z = z.astype(np.float64)
        gradient = loss.gradient(z, y) + 2 * mu * (z - m)
        d, u = loss.hessian(z, y)
        return _solve_diagonal_less_rank_one(d + 2 * mu, u, -gradient)

    return _descend(z, objective, direction, sweeps)


def hidden_newton(
    z: Array,
    m: Array,
    z_next: Array,
    W_next: Array,
    mu: float,
    mu_next: float,
    activation: Activation,
    sweeps: int = 1,
) -> Array:
    """Return z after damped Gauss-Newton steps on a hidden layer's objective in each row,

        μ ‖z - m‖² + μ' ‖z' - W' φ(z) - b'‖².

    With D = diag φ'(z) the step solves (μ I + μ' D W'ᵀ W' D) p = -gradient / 2.

    Parameters
    ----------
    z : ndarray, (rows, width)
        Where to start; left as it is.
    m : ndarray, (rows, width)
        The prediction W a + b of the layer below.
    z_next : ndarray, (rows, next width)
        Pre-activations z' of the layer above.
    W_next : ndarray, (next width, width + 1)
        [W' b'] of the layer above.
    mu, mu_next : float
        Multipliers μ, μ' of the two couplings, > 0.
    activation : Activation
        φ of this layer.
    sweeps : int
        Number of Gauss-Newton steps.
    """
    W, b = W_next[:, :-1], W_next[:, -1]

    def errors(z: Array, rows: Array | slice) -> Array:
        return z_next[rows] - b - activation.value(z) @ W.T

    def objective(z: Array, rows: Array) -> Array:
        return mu * _square_norms(z - m[rows]) + mu_next * _square_norms(errors(z, rows))

    def direction(z: Array) -> Array:
        ours, theirs = z.dtype.type(mu), z.dtype.type(mu_next)
        slope = activation.derivative(z)
        downhill = theirs * slope * (errors(z, slice(None)) @ W) - ours * (z - m)

        def apply(p: Array) -> Array:
            return ours * p + theirs * slope * (((slope * p) @ W.T) @ W)

        return _conjugate_gradients(apply, downhill)

    return _descend(z, objective, direction, sweeps)


def _descend(
    z: Array,
    objective: Callable[[Array, Array], Array],
    direction: Callable[[Array], Array],
    sweeps: int,
) -> Array:
    """Return z after steps along `direction`, each halved in every row until it does no harm.

    ``objective(z, rows)`` takes the float64 pre-activations of some rows, given by number.
    """
    z = z.copy()
    for _ in range(sweeps):
        p = direction(z)
        rows = np.arange(len(z))
        best = objective(z.astype(np.float64), rows)
        for halving in range(_HALVINGS):
            trial = (z[rows] + 0.5**halving * p[rows]).astype(z.dtype, copy=False)
            # Written so that a row whose objective becomes NaN is not accepted.
            better = objective(trial.astype(np.float64), rows) <= best[rows]
            z[rows[better]] = trial[better]
            rows = rows[~better]
            if not len(rows):
                break
    return z


def _solve_diagonal_less_rank_one(d: Array, u: Array | None, g: Array) -> Array:
    """Return the solution p of (diag(d) - u uᵀ) p = g in each row."""
    if u is None:
        return g / d
    scaled = u / d
    capacity = 1 - np.sum(scaled * u, axis=1, keepdims=True)
    return g / d + scaled * (np.sum(scaled * g, axis=1, keepdims=True) / capacity)


def _conjugate_gradients(apply: Callable[[Array], Array], g: Array) -> Array:
    """Return p with apply(p) ≈ g for every row at once, `apply` being positive definite in each.

    The products are of whole blocks, the step sizes of single rows; a row that has converged
    takes steps of size zero.
    """
    p = np.zeros_like(g)
    r = g.copy()
    q = r.copy()
    rr = _square_norms(r)
    goal = _TOLERANCE**2 * rr
    for _ in range(min(_ITERATIONS, g.shape[1] + 1)):
        active = rr > goal
        if not active.any():
            break
        Aq = apply(q)
        alpha = _ratio(rr, _dots(q, Aq), active).astype(g.dtype)[:, None]
        p += alpha * q
        r -= alpha * Aq
        rr_new = _square_norms(r)
        beta = _ratio(rr_new, rr, active).astype(g.dtype)[:, None]
        q *= beta
        q += r
        rr = np.where(active, rr_new, rr)
    return p


def _ratio(a: Array, b: Array, where: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=where)


def _dots(a: Array, b: Array) -> Array:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def _square_norms(a: Array) -> Array:
    return _dots(a, a)

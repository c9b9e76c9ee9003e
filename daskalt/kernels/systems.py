"""Small linear systems, one for each row of a block."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from daskalt.jit import compiled
from daskalt.kernels.rowwise import dots, ratio, square_norms

__all__ = [
    "conjugate_gradients",
    "solve_diagonal_less_rank_one",
    "solve_directly",
    "solve_packed",
]

Array = np.ndarray

# Conjugate gradients end where a row's residual is this part of its gradient. An inexact direction
# is a descent direction, too.
_TOLERANCE = 1e-4


def solve_diagonal_less_rank_one(d: Array, u: Array | None, g: Array) -> Array:
    """Return the solution p of (diag(d) - u uᵀ) p = g in each row."""
    if u is None:
        return g / d
    scaled = u / d
    capacity = 1 - np.sum(scaled * u, axis=1, keepdims=True)
    return g / d + scaled * (np.sum(scaled * g, axis=1, keepdims=True) / capacity)


def conjugate_gradients(
    apply: Callable[[Array], Array], g: Array, iterations: int, p: Array
) -> None:
    """Fill p with apply(p) ≈ g for every row at once, `apply` being positive definite in each.

    The products are of whole blocks, the step sizes of single rows; a row that has converged
    takes steps of size zero. g is overwritten.
    """
    p.fill(0)
    r = g
    q = r.copy()
    rr = square_norms(r)
    goal = _TOLERANCE**2 * rr
    for _ in range(min(iterations, g.shape[1] + 1)):
        active = rr > goal
        if not active.any():
            break
        Aq = apply(q)
        alpha = ratio(rr, dots(q, Aq), active).astype(g.dtype)
        _add_scaled(p, alpha, q)
        _add_scaled(r, -alpha, Aq)
        rr_new = square_norms(r)
        _scale_and_add(q, ratio(rr_new, rr, active).astype(g.dtype), r)
        rr = np.where(active, rr_new, rr)


@compiled
def solve_packed(systems, ridge, y):
    """Overwrite each row of y by the solution of its system, lower triangle packed, plus ridge."""
    n = y.shape[1]
    c = np.empty((n, n))
    x = np.empty(n)
    for row in range(y.shape[0]):
        k = 0
        for i in range(n):
            for j in range(i + 1):
                c[i, j] = systems[row, k]
                k += 1
            c[i, i] += ridge
            x[i] = y[row, i]
        _cholesky_solve(c, x)
        for i in range(n):
            y[row, i] = x[i]


@compiled
def solve_directly(gram, slope, h, g, mu_next, p):
    """p = (diag(h) + μ' D gram D)⁻¹ g in each row."""
    n = g.shape[1]
    c = np.empty((n, n))
    x = np.empty(n)
    for row in range(g.shape[0]):
        for i in range(n):
            for j in range(i + 1):
                c[i, j] = mu_next * slope[row, i] * gram[i, j] * slope[row, j]
            c[i, i] += h[row, i]
            x[i] = g[row, i]
        _cholesky_solve(c, x)
        for i in range(n):
            p[row, i] = x[i]


@compiled
def _cholesky_solve(c, y):
    """Overwrite c by its lower Cholesky factor and y by the solution of c x = y."""
    n = len(y)
    for j in range(n):
        for i in range(j, n):
            total = c[i, j]
            for k in range(j):
                total -= c[i, k] * c[j, k]
            c[i, j] = math.sqrt(total) if i == j else total / c[j, j]
    for i in range(n):
        total = y[i]
        for k in range(i):
            total -= c[i, k] * y[k]
        y[i] = total / c[i, i]
    for i in range(n - 1, -1, -1):
        total = y[i]
        for k in range(i + 1, n):
            total -= c[k, i] * y[k]
        y[i] = total / c[i, i]


@compiled
def _add_scaled(p, alpha, q):
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] += alpha[i] * q[i, j]


@compiled
def _scale_and_add(q, beta, r):
    for i in range(q.shape[0]):
        for j in range(q.shape[1]):
            q[i, j] = beta[i] * q[i, j] + r[i, j]

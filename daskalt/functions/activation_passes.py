"""The formulas of the activations: out of place for numbers, in place for blocks.

``*_apply(z)`` overwrites z by φ(z), and ``*_backpropagate(r, a)`` overwrites r by r ∘ φ'(z), given
a = φ(z). exp, log and tanh are NumPy's, which are SIMD; everything else is one compiled pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import expit

from daskalt.jit import compiled

__all__ = [
    "fit_identity",
    "fit_relu",
    "identity",
    "logistic_apply",
    "logistic_backpropagate",
    "logistic_derivative",
    "logistic_inverse",
    "logistic_second",
    "nothing",
    "relu",
    "relu_apply",
    "relu_backpropagate",
    "softplus",
    "softplus_apply",
    "softplus_backpropagate",
    "softplus_inverse",
    "step",
    "tanh_apply",
    "tanh_backpropagate",
    "tanh_derivative",
    "tanh_inverse",
    "tanh_second",
]

Array = np.ndarray

# Several NumPy passes over a piece of this many entries stay in the processor's cache.
_PIECE = 32_768
_FAR = 8.0  # where the squashing activations are flat to single precision


def _pieces(*blocks: Array) -> Iterator[tuple[Array, ...]]:
    """Yield matching groups of rows, small enough for several passes to run in cache."""
    rows = max(1, _PIECE // max(1, blocks[0].shape[1]))
    for start in range(0, len(blocks[0]), rows):
        yield tuple(block[start : start + rows] for block in blocks)


def nothing(*blocks: Array) -> None:
    pass


# The identity


def identity(z: Array) -> Array:
    return np.array(z)


def fit_identity(a: Array, m: Array, gamma: float, beta: float) -> Array:
    return (gamma * a + beta * m) / a.dtype.type(gamma + beta)


# The rectifier. Comparisons are written so that a NaN passes through.


@compiled
def relu_apply(z):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            z[i, j] = zero if v < zero else v


@compiled
def relu_backpropagate(r, a):
    zero = r.dtype.type(0)
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x if v > zero else zero


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def step(z: Array) -> Array:
    z = np.asarray(z)
    return (z > 0).astype(z.dtype)


def fit_relu(a: Array, m: Array, gamma: float, beta: float) -> Array:
    z = np.empty_like(m)
    _fit_rectified(a, m, gamma, beta, z)
    return z


@compiled
def _fit_rectified(a, m, gamma, beta, z):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            above = z.dtype.type((gamma * a[i, j] + beta * m[i, j]) / (gamma + beta))
            above = max(above, zero)
            below = min(m[i, j], zero)
            of_above = gamma * (a[i, j] - above) ** 2 + beta * (above - m[i, j]) ** 2
            of_below = gamma * a[i, j] ** 2 + beta * (below - m[i, j]) ** 2
            z[i, j] = above if of_above <= of_below else below


# The hyperbolic tangent


def tanh_apply(z: Array) -> None:
    np.tanh(z, out=z)


@compiled
def tanh_backpropagate(r, a):
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x - x * v * v


def tanh_derivative(z: Array) -> Array:
    a = np.tanh(z)
    return (1 - a) * (1 + a)


def tanh_second(z: Array) -> Array:
    return -2 * np.tanh(z) * tanh_derivative(z)


def tanh_inverse(a: Array) -> Array:
    low, high = np.tanh(np.array([-_FAR, _FAR], a.dtype))
    return np.arctanh(np.clip(a, low, high))


# The logistic function


def logistic_apply(z: Array) -> None:
    # (1 + tanh(z/2)) / 2: fewer passes than by exp, and nothing overflows.
    np.multiply(z, 0.5, out=z)
    np.tanh(z, out=z)
    _logistic_from_tanh(z)


@compiled
def _logistic_from_tanh(z):
    half = z.dtype.type(0.5)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            z[i, j] = half * v + half


@compiled
def logistic_backpropagate(r, a):
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x * (v - v * v)


def logistic_derivative(z: Array) -> Array:
    return expit(z) * expit(np.negative(z))


def logistic_second(z: Array) -> Array:
    return -logistic_derivative(z) * np.tanh(np.divide(z, 2))


def logistic_inverse(a: Array) -> Array:
    inside = np.clip(a, *expit(np.array([-_FAR, _FAR], a.dtype)))
    return np.log(inside) - np.log1p(-inside)


# The softplus function log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)), whose slope 1 - exp(-a)
# is the logistic function


def softplus_apply(z: Array) -> None:
    for (piece,) in _pieces(z):
        tail = np.abs(piece)
        np.negative(tail, out=tail)
        np.exp(tail, out=tail)
        np.log1p(tail, out=tail)
        np.maximum(piece, 0, out=piece)
        np.add(piece, tail, out=piece)


def softplus_backpropagate(r: Array, a: Array) -> None:
    for r_piece, a_piece in _pieces(r, a[:, : r.shape[1]]):
        slope = np.negative(a_piece)
        np.expm1(slope, out=slope)
        np.negative(slope, out=slope)
        np.multiply(r_piece, slope, out=r_piece)


def softplus(z: Array) -> Array:
    return np.logaddexp(0, z)


def softplus_inverse(a: Array) -> Array:
    inside = np.maximum(a, softplus(a.dtype.type(-_FAR)))  # there is no upper end
    return inside + np.log(-np.expm1(-inside))

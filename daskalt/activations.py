"""Activation functions φ with their derivatives, in place for blocks and out of place for formulas.

Every φ' here is a function of the activation value a = φ(z) alone. The forward pass can therefore
overwrite z by a, and the backward pass needs nothing else.

exp, log and tanh are NumPy's, which are SIMD; everything else is one compiled pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from daskalt.jit import compiled

__all__ = ["ACTIVATIONS", "Activation"]

Array = np.ndarray

# Several NumPy passes over a piece of this many entries stay in the processor's cache.
_PIECE = 32_768


@dataclass(frozen=True, eq=False, repr=False)
class Activation:
    """An activation function φ and what the methods need of it.

    Attributes
    ----------
    name : str
        The key in `ACTIVATIONS`.
    gain : float
        Initial weights are drawn from N(0, gain² / fan_in). It is E[φ'(ζ)²]^(-1/2) for a standard
        normal ζ, so that residuals keep their size on the way back through a layer: √2 for relu,
        as in He et al. (2015).
    apply : callable
        ``apply(z)`` overwrites the 2-d block z, which may be a strided view, by φ(z).
    backpropagate : callable
        ``backpropagate(r, a)`` overwrites the block r by r ∘ φ'(z), given a = φ(z). Columns of a
        beyond those of r, such as the trailing ones, are ignored.
    value, derivative, second_derivative : callable
        φ(z), φ'(z) and φ''(z) for an array of any shape, out of place and stable for large |z|.
    """

    name: str
    gain: float
    apply: Callable[[Array], None]
    backpropagate: Callable[[Array, Array], None]
    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    second_derivative: Callable[[Array], Array]

    @property
    def bends(self) -> bool:
        """Whether φ'' is not zero almost everywhere."""
        return self.name not in ("identity", "relu")

    def __repr__(self) -> str:
        return f"ACTIVATIONS[{self.name!r}]"

    def __reduce__(self) -> tuple:
        return _by_name, (self.name,)


def _by_name(name: str) -> Activation:
    return ACTIVATIONS[name]


def _pieces(*blocks: Array) -> Iterator[tuple[Array, ...]]:
    """Yield matching groups of rows, small enough for several passes to run in cache."""
    rows = max(1, _PIECE // max(1, blocks[0].shape[1]))
    for start in range(0, len(blocks[0]), rows):
        yield tuple(block[start : start + rows] for block in blocks)


def _nothing(*blocks: Array) -> None:
    pass


# The identity


def _identity(z: Array) -> Array:
    return np.array(z)


# The rectifier. Comparisons are written so that a NaN passes through.


@compiled
def _relu_apply(z):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            z[i, j] = zero if v < zero else v


@compiled
def _relu_backpropagate(r, a):
    zero = r.dtype.type(0)
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x if v > zero else zero


def _relu(z: Array) -> Array:
    return np.maximum(z, 0)


def _step(z: Array) -> Array:
    z = np.asarray(z)
    return (z > 0).astype(z.dtype)


# The hyperbolic tangent


def _tanh_apply(z: Array) -> None:
    np.tanh(z, out=z)


@compiled
def _tanh_backpropagate(r, a):
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x - x * v * v


def _tanh_derivative(z: Array) -> Array:
    a = np.tanh(z)
    return (1 - a) * (1 + a)


def _tanh_second(z: Array) -> Array:
    return -2 * np.tanh(z) * _tanh_derivative(z)


# The logistic function


def _logistic_apply(z: Array) -> None:
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
def _logistic_backpropagate(r, a):
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x = r[i, j]
            v = a[i, j]
            r[i, j] = x * (v - v * v)


def _logistic_derivative(z: Array) -> Array:
    return expit(z) * expit(np.negative(z))


def _logistic_second(z: Array) -> Array:
    return -_logistic_derivative(z) * np.tanh(np.divide(z, 2))


# The softplus function log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)), whose slope 1 - exp(-a)
# is the logistic function


def _softplus_apply(z: Array) -> None:
    for (piece,) in _pieces(z):
        tail = np.abs(piece)
        np.negative(tail, out=tail)
        np.exp(tail, out=tail)
        np.log1p(tail, out=tail)
        np.maximum(piece, 0, out=piece)
        np.add(piece, tail, out=piece)


def _softplus_backpropagate(r: Array, a: Array) -> None:
    for r_piece, a_piece in _pieces(r, a[:, : r.shape[1]]):
        slope = np.negative(a_piece)
        np.expm1(slope, out=slope)
        np.negative(slope, out=slope)
        np.multiply(r_piece, slope, out=r_piece)


def _softplus(z: Array) -> Array:
    return np.logaddexp(0, z)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("identity", 1.0, _nothing, _nothing, _identity, np.ones_like, np.zeros_like),
        Activation(
            "relu",
            float(np.sqrt(2)),
            _relu_apply,
            _relu_backpropagate,
            _relu,
            _step,
            np.zeros_like,
        ),
        Activation(
            "tanh",
            1.4674,
            _tanh_apply,
            _tanh_backpropagate,
            np.tanh,
            _tanh_derivative,
            _tanh_second,
        ),
        Activation(
            "logistic",
            4.7226,
            _logistic_apply,
            _logistic_backpropagate,
            expit,
            _logistic_derivative,
            _logistic_second,
        ),
        Activation(
            "softplus",
            1.8462,
            _softplus_apply,
            _softplus_backpropagate,
            _softplus,
            expit,
            _logistic_derivative,
        ),
    )
}

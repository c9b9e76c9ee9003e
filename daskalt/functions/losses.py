"""The losses by name.

A compiled pass gives the residual r = -w ∂ℓ/∂z of a block and the sum of its losses together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax, softmax

from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS, Activation
from daskalt.functions.links import MARGIN, SOFTMAX
from daskalt.functions.loss import Loss
from daskalt.functions.loss_passes import (
    absolute,
    count_codes,
    count_units,
    difference,
    hinge,
    huber,
    logistic_cross_entropy,
    softmax_cross_entropy,
    softmax_squared,
)

__all__ = ["LOSSES", "get_loss"]

Array = np.ndarray

# In units of the scaled targets, whose spread is one: some 1.35 standard deviations of what a
# network leaves that explains seven eighths of them, and below the noise where most is noise.
HUBER_THRESHOLD = 0.5


def get_loss(name: str, link: str) -> Loss:
    """Return the loss `name` of outputs that pass through `link`.

    Parameters
    ----------
    name : {"cross_entropy", "squared", "hinge", "absolute", "huber"}
        The loss as a function of the outputs.
    link : {"softmax", "logistic", "identity", "relu", "tanh", "softplus", "margin"}
        The function from the last pre-activation to the outputs.

    Raises
    ------
    InputError
        When there is no such pair.
    """
    try:
        return LOSSES[name, link]
    except KeyError:
        pairs = ", ".join(f"{loss} on {output}" for loss, output in LOSSES)
        raise InputError(
            f"There is no loss {name!r} on the output activation {link!r}; choose from {pairs}."
        ) from None


class _Compiled(Loss):
    """A loss with one compiled pass for residual and sum."""

    _residual: ClassVar[Callable[..., float]]

    def residual(
        self, z: Array, y: Array, weight: Array | None = None, *, out: Array | None = None
    ) -> tuple[Array, float]:
        out = np.empty_like(z) if out is None else out
        return out, float(self._residual(z, y, weight, out))

    def gradient(self, z: Array, y: Array) -> Array:
        residual, _ = self.residual(z, y)
        return np.negative(residual, out=residual)


class _OnSoftmax(_Compiled):
    coded = True
    classifies = True

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        p = self.link(z)
        return p, p

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        return float(count_codes(z, y, weight))


class _SoftmaxCrossEntropy(_OnSoftmax):
    """-log p_y with p = softmax(z)."""

    convex = True
    _residual = staticmethod(softmax_cross_entropy)

    def value(self, z: Array, y: Array) -> Array:
        return -log_softmax(z.astype(np.float64), axis=1)[np.arange(len(y)), y]


class _SoftmaxSquared(_OnSoftmax):
    """½ ‖p - onehot(y)‖² with p = softmax(z)."""

    _residual = staticmethod(softmax_squared)

    def value(self, z: Array, y: Array) -> Array:
        error = softmax(z.astype(np.float64), axis=1)
        error[np.arange(len(y)), y] -= 1
        return 0.5 * np.sum(error**2, axis=1)


class _LogisticCrossEntropy(_Compiled):
    """-Σ_k y_k log p_k + (1 - y_k) log(1 - p_k) with p = logistic(z)."""

    link: Activation
    convex = True
    classifies = True
    shares = True
    _residual = staticmethod(logistic_cross_entropy)

    def value(self, z: Array, y: Array) -> Array:
        z = z.astype(np.float64)
        return np.sum(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return self.link.derivative(z), None

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        return float(count_units(z, y, weight))


class _Squared(_Compiled):
    """½ ‖link(z) - y‖² for a link that acts on each unit."""

    link: Activation

    def residual(
        self, z: Array, y: Array, weight: Array | None = None, *, out: Array | None = None
    ) -> tuple[Array, float]:
        a = z.copy()
        self.link.apply(a)
        out = np.empty_like(z) if out is None else out
        loss = float(difference(a, y, weight, out))
        self.link.backpropagate(out, a)
        return out, loss

    def value(self, z: Array, y: Array) -> Array:
        return 0.5 * np.sum((self.link(z.astype(np.float64)) - y) ** 2, axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return self.link.derivative(z) ** 2, None


class _SquaredIdentity(_Squared):
    convex = True
    _residual = staticmethod(difference)
    residual = _Compiled.residual  # one pass: there is no link to apply


class _SquaredLogistic(_Squared):
    classifies = True

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        return float(count_units(z, y, weight))


class _Hinge(_Compiled):
    """Σ_k max(0, 1 - (2 y_k - 1) z_k): a margin of one on the right side, for each unit.

    Its outputs are (1 + z) / 2: one half on the boundary, but they are not probabilities.
    """

    probabilistic = False
    smooth = False
    convex = True
    _residual = staticmethod(hinge)

    def value(self, z: Array, y: Array) -> Array:
        short = 1 - (2 * y.astype(np.float64) - 1) * z.astype(np.float64)
        return np.sum(np.maximum(short, 0), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return np.zeros_like(z), None


class _Absolute(_Compiled):
    """Σ_k |z_k - y_k|, whose minimum is a median."""

    smooth = False
    convex = True
    robust = True
    _residual = staticmethod(absolute)

    def value(self, z: Array, y: Array) -> Array:
        return np.sum(np.abs(z.astype(np.float64) - y), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return np.zeros_like(z), None


class _Huber(_Compiled):
    """Σ_k h(z_k - y_k), with h(d) = d²/2 up to |d| = δ and straight beyond, δ (|d| - δ/2)."""

    convex = True
    robust = True

    @staticmethod
    def _residual(z: Array, y: Array, weight: Array | None, out: Array) -> float:
        return huber(z, y, weight, out, HUBER_THRESHOLD)

    def value(self, z: Array, y: Array) -> Array:
        distance = np.abs(z.astype(np.float64) - y)
        inner = np.minimum(distance, HUBER_THRESHOLD)
        return np.sum(inner * (distance - inner / 2), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return (np.abs(z - y) <= HUBER_THRESHOLD).astype(z.dtype), None


LOSSES: dict[tuple[str, str], Loss] = {
    (loss.name, loss.link.name): loss
    for loss in (
        _SoftmaxCrossEntropy("cross_entropy", SOFTMAX),
        _LogisticCrossEntropy("cross_entropy", ACTIVATIONS["logistic"]),
        _SquaredIdentity("squared", ACTIVATIONS["identity"]),
        _SquaredLogistic("squared", ACTIVATIONS["logistic"]),
        *(_Squared("squared", ACTIVATIONS[name]) for name in ("tanh", "relu", "softplus")),
        _SoftmaxSquared("squared", SOFTMAX),
        _Hinge("hinge", MARGIN),
        _Absolute("absolute", ACTIVATIONS["identity"]),
        _Huber("huber", ACTIVATIONS["identity"]),
    )
}

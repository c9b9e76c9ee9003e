"""Losses ℓ(link(z), y), each composed with its output link, whether the two match or not.

A compiled pass gives the residual r = -w ∂ℓ/∂z of a block and the sum of its losses together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, log_softmax, softmax

from daskalt.activations import ACTIVATIONS, Activation
from daskalt.errors import InputError
from daskalt.loss_passes import (
    absolute,
    count_codes,
    count_units,
    difference,
    hinge,
    logistic_cross_entropy,
    softmax_cross_entropy,
    softmax_squared,
)

__all__ = ["LOSSES", "Loss", "get_loss"]

Array = np.ndarray


def get_loss(name: str, link: str) -> Loss:
    """Return the loss `name` of outputs that pass through `link`.

    Parameters
    ----------
    name : {"cross_entropy", "squared", "hinge", "absolute"}
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


@dataclass(frozen=True)
class Loss:
    """A loss ℓ(link(z), y) of the last pre-activation z (rows, K).

    Attributes
    ----------
    name, link_name : str
        The arguments of `get_loss` that give this loss.
    coded : bool
        Whether targets are integer codes (rows,) rather than numbers (rows, K).
    classifies : bool
        Whether the outputs name classes, so that `correct` counts rows.
    smooth : bool
        Whether there is a gradient everywhere.
    convex : bool
        Whether it is convex in z.
    """

    name: str
    link_name: str
    coded: ClassVar[bool] = False
    classifies: ClassVar[bool] = False
    smooth: ClassVar[bool] = True
    convex: ClassVar[bool] = False
    _residual: ClassVar[Callable[..., float]]

    def __reduce__(self) -> tuple:
        return get_loss, (self.name, self.link_name)

    def residual(
        self, z: Array, y: Array, weight: Array | None = None, *, out: Array | None = None
    ) -> tuple[Array, float]:
        """Return r = -w ∂ℓ/∂z, of the type of z, and Σ w ℓ over the rows, summed in float64.

        Parameters
        ----------
        z : ndarray, (rows, K)
            Last pre-activations.
        y : ndarray
            Targets: codes (rows,) or numbers (rows, K).
        weight : ndarray, (rows,), optional
            Row weights w; ones by default.
        out : ndarray, (rows, K), optional
            Receives r. It may be z itself; otherwise z is left as it was.
        """
        out = np.empty_like(z) if out is None else out
        return out, float(self._residual(z, y, weight, out))

    def value(self, z: Array, y: Array) -> Array:
        """Return ℓ of each row, (rows,) in float64."""
        raise NotImplementedError

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ/∂z, (rows, K)."""
        residual, _ = self.residual(z, y)
        return np.negative(residual, out=residual)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        """Return (d, u), where diag(d) - u uᵀ is a positive semidefinite model of ∂²ℓ/∂z².

        It is the Hessian for the cross-entropies and the Gauss-Newton matrix J Jᵀ of the link for
        the squared loss. On a softmax J Jᵀ is not of this form; its bound diag(p) - p pᵀ is given.
        u is None where the model is diagonal. Both are (rows, K).
        """
        raise NotImplementedError

    def link(self, z: Array) -> Array:
        """Return the outputs link(z): probabilities or means."""
        raise NotImplementedError

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        """Return the weighted number of rows predicted right, 0.0 if the loss knows no classes.

        Codes: the first largest output is the target's. Logistic units: every unit of the row is
        on the target's side of a half.
        """
        return 0.0


class _OnSoftmax(Loss):
    coded = True
    classifies = True

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        p = self.link(z)
        return p, p

    def link(self, z: Array) -> Array:
        return softmax(z, axis=1)

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


class _LogisticCrossEntropy(Loss):
    """-Σ_k y_k log p_k + (1 - y_k) log(1 - p_k) with p = logistic(z)."""

    convex = True
    classifies = True
    _residual = staticmethod(logistic_cross_entropy)

    def value(self, z: Array, y: Array) -> Array:
        z = z.astype(np.float64)
        return np.sum(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return ACTIVATIONS["logistic"].derivative(z), None

    def link(self, z: Array) -> Array:
        return expit(z)

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        return float(count_units(z, y, weight))


class _Squared(Loss):
    """½ ‖link(z) - y‖² for a link that acts on each unit."""

    @property
    def _activation(self) -> Activation:
        return ACTIVATIONS[self.link_name]

    def residual(
        self, z: Array, y: Array, weight: Array | None = None, *, out: Array | None = None
    ) -> tuple[Array, float]:
        a = z.copy()
        self._activation.apply(a)
        out = np.empty_like(z) if out is None else out
        loss = float(difference(a, y, weight, out))
        self._activation.backpropagate(out, a)
        return out, loss

    def value(self, z: Array, y: Array) -> Array:
        return 0.5 * np.sum((self.link(z.astype(np.float64)) - y) ** 2, axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return self._activation.derivative(z) ** 2, None

    def link(self, z: Array) -> Array:
        return self._activation.value(z)


class _SquaredIdentity(_Squared):
    convex = True
    _residual = staticmethod(difference)
    residual = Loss.residual  # one pass: there is no link to apply


class _SquaredLogistic(_Squared):
    classifies = True

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        return float(count_units(z, y, weight))


class _Hinge(Loss):
    """Σ_k max(0, 1 - (2 y_k - 1) z_k): a margin of one on the right side, for each unit.

    Its outputs are (1 + z) / 2, which is one half on the boundary like a probability, but none.
    """

    smooth = False
    convex = True
    _residual = staticmethod(hinge)

    def value(self, z: Array, y: Array) -> Array:
        short = 1 - (2 * y.astype(np.float64) - 1) * z.astype(np.float64)
        return np.sum(np.maximum(short, 0), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return np.zeros_like(z), None

    def link(self, z: Array) -> Array:
        return (1 + z) / 2


class _Absolute(Loss):
    """Σ_k |z_k - y_k|, whose minimum is a median."""

    smooth = False
    convex = True
    _residual = staticmethod(absolute)

    def value(self, z: Array, y: Array) -> Array:
        return np.sum(np.abs(z.astype(np.float64) - y), axis=1)

    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        return np.zeros_like(z), None

    def link(self, z: Array) -> Array:
        return np.array(z)


LOSSES: dict[tuple[str, str], Loss] = {
    (loss.name, loss.link_name): loss
    for loss in (
        _SoftmaxCrossEntropy("cross_entropy", "softmax"),
        _LogisticCrossEntropy("cross_entropy", "logistic"),
        _SquaredIdentity("squared", "identity"),
        _SquaredLogistic("squared", "logistic"),
        _Squared("squared", "tanh"),
        _Squared("squared", "relu"),
        _Squared("squared", "softplus"),
        _SoftmaxSquared("squared", "softmax"),
        _Hinge("hinge", "margin"),
        _Absolute("absolute", "identity"),
    )
}

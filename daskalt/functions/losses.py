"""Losses ℓ(link(z), y), each composed with its output link, whether the two match or not.

A compiled pass gives the residual r = -w ∂ℓ/∂z of a block and the sum of its losses together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax, softmax

from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS, Activation
from daskalt.functions.links import MARGIN, SOFTMAX, Link, digest_of
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
from daskalt.parameters import check_parameters, instance

__all__ = ["LOSSES", "Loss", "get_loss"]

Array = np.ndarray


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


HUBER_THRESHOLD = 1.35  # in units of the scaled targets
RAREST = 1e-3  # least share that a class has in the biases that a fit starts from
# Points at which losses are compared.
_POINTS = np.array([[0.31, -0.57, 1.13], [-2.3, 0.77, 0.19], [1.7, 2.9, -0.43], [-0.11, -1.9, 3.1]])


@dataclass(frozen=True)
class Loss(ABC):
    """A loss ℓ(link(z), y) of the last pre-activation z (rows, K).

    A new one must define value, gradient and hessian only.

    Attributes
    ----------
    name : str
        The name in messages.
    link : Link
        The function from z to the outputs. One half decides between two classes.
    coded : bool
        Whether targets are integer codes (rows,) rather than numbers (rows, K).
    classifies : bool
        Whether the outputs name classes, so that `correct` counts rows.
    probabilistic : bool
        Whether the outputs, clipped to [0, 1], can be taken as probabilities.
    shares : bool
        Whether targets have to be from 0 to 1.
    smooth : bool
        Whether there is a gradient everywhere.
    convex : bool
        Whether it is convex in z.
    robust : bool
        Whether gross errors in the targets cost little, so that targets are standardised by median
        and quartiles, which these do not move, instead of mean and standard deviation.
    """

    name: str
    link: Link
    coded: ClassVar[bool] = False
    classifies: ClassVar[bool] = False
    probabilistic: ClassVar[bool] = True
    shares: ClassVar[bool] = False
    smooth: ClassVar[bool] = True
    convex: ClassVar[bool] = False
    robust: ClassVar[bool] = False

    def __deepcopy__(self, memo: object) -> Loss:
        return self

    @abstractmethod
    def value(self, z: Array, y: Array) -> Array:
        """Return ℓ of each row, (rows,) in float64."""

    @abstractmethod
    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ/∂z, (rows, K), of the type of z."""

    @abstractmethod
    def hessian(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        """Return (d, u), where diag(d) - u uᵀ is a positive semidefinite model of ∂²ℓ/∂z².

        It is the Hessian for the cross-entropies and the Gauss-Newton matrix J Jᵀ of the link for
        the squared loss. On a softmax J Jᵀ is not of this form; its bound diag(p) - p pᵀ is given.
        u is None where the model is diagonal. Both are (rows, K).
        """

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
            Receives r. It may be z itself; otherwise z is unchanged.
        """
        values, gradient = self.value(z, y), self.gradient(z, y)
        out = np.negative(gradient, out=np.empty_like(z) if out is None else out)
        if weight is None:
            return out, float(np.sum(values, dtype=np.float64))
        out *= weight[:, None]
        return out, float(np.sum(weight * values, dtype=np.float64))

    def start(self, mean: Array) -> Array:
        """Return the z (K,) whose outputs are the mean target, from which a fit starts.

        It is zero where the link has no `inverse` or no z has that output. Shares of a class are
        taken as RAREST at least, so that no unit starts where its link is flat.

        Parameters
        ----------
        mean : ndarray, (K,)
            The weighted mean of the targets as numbers; of classes, their shares.
        """
        link, mean = self.link, np.asarray(mean, np.float64)[None]
        if link.inverse is None:
            return np.zeros(mean.shape[1])
        if link.probabilities:
            mean = np.clip(mean, RAREST, 1 - RAREST)
        z = link.inverse(mean)
        if link.normalised:
            mean = mean / mean.sum()
        return np.where(np.isclose(link(z), mean), z, 0.0)[0]

    def correct(self, z: Array, y: Array, weight: Array | None = None) -> float:
        """Return the weighted number of rows predicted correctly; 0.0 for a loss without classes.

        Codes: the first largest output is the target's. Logistic units: every unit of the row is
        on the target's side of a half.
        """
        return 0.0

    @property
    def digest(self) -> str:
        """A digest that identifies it: of names, losses, gradients and outputs at some points."""
        z, y = _POINTS, self._targets()
        numbers = self.value(z, y), self.gradient(z, y), self.link(z)
        return digest_of(self.name, self.link.name, *numbers)

    def check(self) -> None:
        """Raise InputError where its functions fail or contradict each other."""
        check_parameters(
            self,
            name=instance("text", str),
            link=instance("a Link, such as ACTIVATIONS['identity']", Link),
        )
        z, y = _POINTS, self._targets()
        self._computed("link", self.link, z.shape, z)
        self._computed("value", self.value, z.shape[:1], z, y)
        found = self._computed("gradient", self.gradient, z.shape, z, y)
        steps = 1e-5 * np.eye(z.shape[1])
        slopes = [(self.value(z + e, y) - self.value(z - e, y)) / 2e-5 for e in steps]
        if not np.allclose(found, np.transpose(slopes), rtol=1e-4, atol=1e-5):
            raise self._unusable(
                f"its gradient is not the slope of its value, which is {np.transpose(slopes)[0]} "
                f"at z = {z[0]}, where the gradient is {found[0]}. Correct one of them"
            )
        self._check_hessian(z, y)

    def _check_hessian(self, z: Array, y: Array) -> None:
        pair = self._called("hessian", self.hessian, z, y)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise self._unusable(
                f"its hessian returns {type(pair).__name__}, not a pair (d, u). Return (d, None) "
                "where it is diagonal"
            )
        for name, part in zip("du", pair, strict=True):
            if name == "d" or part is not None:
                self._computed(f"{name} of hessian", lambda part=part: part, z.shape)

    def _computed(
        self, name: str, function: Callable[..., Array], shape: tuple[int, ...], *given: Array
    ) -> Array:
        """Return what a function gives, or raise InputError unless it is finite and of a shape."""
        found = np.asarray(self._called(name, function, *given))
        if found.shape != shape or found.dtype.kind not in "biuf":
            raise self._unusable(
                f"its {name} has the shape {found.shape} and type {found.dtype} where z has "
                f"{_POINTS.shape}. Return numbers of the shape {shape}"
            )
        if not np.isfinite(found).all():
            raise self._unusable(f"its {name} is not finite at z = {_POINTS}. Correct it")
        return found

    def _called(self, name: str, function: Callable[..., Any], *given: Array) -> Any:
        try:
            return function(*given)
        except Exception as error:
            y = "codes (rows,)" if self.coded else "numbers (rows, K), codes only if coded = True"
            raise self._unusable(
                f"its {name} raises {type(error).__name__}: {error}. Correct it: z is (rows, K) "
                f"and y has {y}"
            ) from error

    def _unusable(self, reason: str) -> InputError:
        return InputError(f"The loss {self.name!r} cannot be used: {reason}.")

    def _targets(self) -> Array:
        return np.array([0, 1, 2, 0]) if self.coded else (_POINTS > 0.25).astype(float)


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
        """Return min(1, δ / |d|), the curvature of the parabola that touches h and lies above."""
        inside = z.dtype.type(HUBER_THRESHOLD)
        return inside / np.maximum(np.abs(z - y), inside).astype(z.dtype), None


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

"""The interface of losses ℓ(link(z), y), each composed with its output link, matching or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from daskalt.errors import InputError
from daskalt.functions.links import Link, digest_of
from daskalt.parameters import check_parameters, instance

__all__ = ["Loss"]

Array = np.ndarray

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

        It is the Hessian for the cross-entropies and huber, and the Gauss-Newton matrix J Jᵀ of the
        link for the squared loss. On a softmax J Jᵀ is not of this form; its bound diag(p) - p pᵀ
        is given. u is None where the model is diagonal. Both are (rows, K).
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

        It is zero where no z is known to have that output. Shares of a class are taken as RAREST
        at least, so that no unit starts where its link is flat.

        Parameters
        ----------
        mean : ndarray, (K,)
            The weighted mean of the targets as numbers; of classes, their shares.
        """
        link, mean = self.link, np.asarray(mean, np.float64)[None]
        if link.probabilities:
            mean = np.clip(mean, RAREST, 1 - RAREST)
        if link.normalised:  # as a softmax is
            mean = mean / mean.sum()
            z = np.log(mean) - np.log(mean).mean()
        else:
            # relu has none, but keeps what is positive.
            inverse = getattr(link, "inverse", None)
            z = mean if inverse is None else inverse(mean)
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

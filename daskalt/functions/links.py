"""Output links: functions from the last pre-activation to the outputs of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

__all__ = ["MARGIN", "SOFTMAX", "Link", "digest_of"]

Array = np.ndarray


def digest_of(*parts: str | Array) -> str:
    """Return 16 hex digits of some words and numbers, of these to 6 significant digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if not isinstance(part, str):
            numbers = np.asarray(part, np.float64).ravel() + 0.0  # without negative zeros
            part = " ".join(f"{number:.5e}" for number in numbers)
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, repr=False)
class Link:
    """A function from pre-activations (rows, K) to outputs, out of place.

    Attributes
    ----------
    name : str
        The name in messages.
    value : callable
        Outputs of the type of z.
    probabilities : bool
        Whether outputs are probabilities of classes, from 0 to 1.
    normalised : bool
        Whether the outputs of a row sum to one.
    linear : bool
        Whether it is the identity: the units of the targets can be folded into the weights.
    """

    name: str
    value: Callable[[Array], Array]
    probabilities: bool = False
    normalised: bool = False
    linear: bool = False

    def __call__(self, z: Array) -> Array:
        """Return the outputs."""
        return self.value(z)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def halves_at_zero(self) -> bool:
        """Whether outputs are one half where z is zero, so that its sign decides on a label."""
        return bool((self(np.zeros((1, 2))) == 0.5).all())


def _softmax(z: Array) -> Array:
    return softmax(z, axis=1)


def _margin(z: Array) -> Array:
    return (1 + z) / 2


SOFTMAX = Link(name="softmax", value=_softmax, probabilities=True, normalised=True)
# One half on the boundary, as a probability is; but these are not probabilities.
MARGIN = Link(name="margin", value=_margin)

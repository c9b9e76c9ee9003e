"""Rules that divide each entry's gradient by a running measure of its size."""

from __future__ import annotations

import math

import numpy as np

from daskalt.jit import compiled
from daskalt.parameters import check_parameters, real
from daskalt.rules.base import Rule

__all__ = ["Adadelta", "Adagrad", "Adam", "RMSProp"]

Array = np.ndarray
Arrays = tuple[np.ndarray, ...]


class Adagrad(Rule):
    """s' = s + g², w' = w - rate g / (√s' + epsilon).

    Parameters
    ----------
    learning_rate : float, default=0.01
        Rate before the schedule.
    epsilon : float, default=1e-10
        Keeps the division finite.

    References
    ----------
    Duchi, Hazan, Singer: Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization. JMLR 2011.
    """

    slots = 1

    def __init__(self, learning_rate: float = 0.01, *, epsilon: float = 1e-10) -> None:
        self.learning_rate = learning_rate
        self.epsilon = epsilon

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, learning_rate=real(above=0), epsilon=real(above=0))

    def update(
        self, w: Array, g: Array, slots: Arrays, rate: float, step: int, out: Arrays
    ) -> None:
        """Fill ``out`` with the new weights and sums."""
        kind = w.dtype.type
        _scaled(w, g, *slots, kind(1), kind(1), kind(rate), kind(self.epsilon), *out)


class _RunningMean(Rule):
    """A rule with running means, of which the share ``decay`` is kept."""

    decay: float
    epsilon: float

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            learning_rate=real(above=0),
            decay=real(at_least=0, below=1),
            epsilon=real(above=0),
        )


class RMSProp(_RunningMean):
    """s' = ρ s + (1 - ρ) g², w' = w - rate g / (√s' + epsilon).

    Parameters
    ----------
    learning_rate : float, default=0.001
        Rate before the schedule.
    decay : float, default=0.99
        ρ, how much of the running mean is kept.
    epsilon : float, default=1e-8
        Keeps the division finite.

    References
    ----------
    Tieleman, Hinton: Lecture 6.5, Neural Networks for Machine Learning. 2012.
    """

    slots = 1

    def __init__(
        self, learning_rate: float = 0.001, *, decay: float = 0.99, epsilon: float = 1e-8
    ) -> None:
        self.learning_rate = learning_rate
        self.decay = decay
        self.epsilon = epsilon

    def update(
        self, w: Array, g: Array, slots: Arrays, rate: float, step: int, out: Arrays
    ) -> None:
        """Fill ``out`` with the new weights and mean squares."""
        kind = w.dtype.type
        keep, take = kind(self.decay), kind(1 - self.decay)
        _scaled(w, g, *slots, keep, take, kind(rate), kind(self.epsilon), *out)


class Adadelta(_RunningMean):
    """s' = ρ s + (1 - ρ) g², d = g √(q + ε) / √(s' + ε), q' = ρ q + (1 - ρ) d², w' = w - rate d.

    Parameters
    ----------
    learning_rate : float, default=1.0
        Rate before the schedule; the method finds its own step.
    decay : float, default=0.9
        ρ, how much of the running means is kept.
    epsilon : float, default=1e-6
        ε, which also sets the size of the first steps.

    References
    ----------
    Zeiler: ADADELTA: An Adaptive Learning Rate Method. 2012.
    """

    slots = 2

    def __init__(
        self, learning_rate: float = 1.0, *, decay: float = 0.9, epsilon: float = 1e-6
    ) -> None:
        self.learning_rate = learning_rate
        self.decay = decay
        self.epsilon = epsilon

    def update(
        self, w: Array, g: Array, slots: Arrays, rate: float, step: int, out: Arrays
    ) -> None:
        """Fill ``out`` with the new weights and mean squares of gradients and steps."""
        kind = w.dtype.type
        keep, take = kind(self.decay), kind(1 - self.decay)
        _adadelta(w, g, *slots, keep, take, kind(rate), kind(self.epsilon), *out)


class Adam(Rule):
    """m' = β₁ m + (1 - β₁) g, s' = β₂ s + (1 - β₂) g², w' = w - rate m̂ / (√ŝ + epsilon).

    m̂ = m' / (1 - β₁ᵗ) and ŝ = s' / (1 - β₂ᵗ) correct the bias towards zero of step t.

    Parameters
    ----------
    learning_rate : float, default=0.001
        Rate before the schedule.
    beta_1, beta_2 : float, default=0.9, 0.999
        How much of the running means is kept.
    epsilon : float, default=1e-8
        Keeps the division finite.

    References
    ----------
    Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR 2015.
    """

    slots = 2

    def __init__(
        self,
        learning_rate: float = 0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            learning_rate=real(above=0),
            beta_1=real(at_least=0, below=1),
            beta_2=real(at_least=0, below=1),
            epsilon=real(above=0),
        )

    def update(
        self, w: Array, g: Array, slots: Arrays, rate: float, step: int, out: Arrays
    ) -> None:
        """Fill ``out`` with the new weights and running means."""
        kind = w.dtype.type
        size = rate / (1 - self.beta_1**step)
        root = math.sqrt(1 - self.beta_2**step)
        betas = kind(self.beta_1), kind(1 - self.beta_1), kind(self.beta_2), kind(1 - self.beta_2)
        # √s / root + ε = (√s + root ε) / root
        _adam(w, g, *slots, *betas, kind(size * root), kind(root * self.epsilon), *out)


@compiled
def _scaled(w, g, s, keep, take, rate, epsilon, new_w, new_s):
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            d = g[i, j]
            square = keep * s[i, j] + take * d * d
            new_s[i, j] = square
            new_w[i, j] = w[i, j] - rate * d / (np.sqrt(square) + epsilon)


@compiled
def _adadelta(w, g, s, q, keep, take, rate, epsilon, new_w, new_s, new_q):
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            d = g[i, j]
            square = keep * s[i, j] + take * d * d
            move = d * np.sqrt((q[i, j] + epsilon) / (square + epsilon))
            new_s[i, j] = square
            new_q[i, j] = keep * q[i, j] + take * move * move
            new_w[i, j] = w[i, j] - rate * move


@compiled
def _adam(w, g, m, s, keep_1, take_1, keep_2, take_2, size, epsilon, new_w, new_m, new_s):
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            d = g[i, j]
            mean = keep_1 * m[i, j] + take_1 * d
            square = keep_2 * s[i, j] + take_2 * d * d
            new_m[i, j] = mean
            new_s[i, j] = square
            new_w[i, j] = w[i, j] - size * mean / (np.sqrt(square) + epsilon)

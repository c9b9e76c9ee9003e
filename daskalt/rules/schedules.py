"""Schedules: the factor on the learning rate as a function of the passes made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from daskalt.parameters import check_parameters, real

__all__ = [
    "Constant",
    "CosineRestarts",
    "ExponentialDecay",
    "InverseScaling",
    "InverseTimeDecay",
    "Schedule",
    "StepDecay",
]


class Schedule(BaseEstimator, ABC):
    """A function of t, the passes over the data made so far, in fractions of a pass."""

    @abstractmethod
    def __call__(self, t: float) -> float:
        """Return the factor on the learning rate after ``t`` passes."""

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""


class Constant(Schedule):
    """1, always."""

    def __call__(self, t: float) -> float:
        """Return 1."""
        return 1.0


class StepDecay(Schedule):
    """factor^⌊t / every⌋.

    Parameters
    ----------
    every : float, default=10.0
        Passes between the drops.
    factor : float, default=0.5
        Factor on the rate at each drop.
    """

    def __init__(self, every: float = 10.0, *, factor: float = 0.5) -> None:
        self.every = every
        self.factor = factor

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, every=real(above=0), factor=real(above=0))

    def __call__(self, t: float) -> float:
        """Return the factor after ``t`` passes."""
        return self.factor ** math.floor(t / self.every)


class ExponentialDecay(Schedule):
    """exp(-decay t).

    Parameters
    ----------
    decay : float, default=0.1
        Decay per pass.
    """

    def __init__(self, decay: float = 0.1) -> None:
        self.decay = decay

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, decay=real(at_least=0))

    def __call__(self, t: float) -> float:
        """Return the factor after ``t`` passes."""
        return math.exp(-self.decay * t)


class InverseTimeDecay(Schedule):
    """1 / (1 + decay t): its squares have a finite sum, it has not (Robbins and Monro, 1951).

    Parameters
    ----------
    decay : float, default=1.0
        Decay per pass.
    """

    def __init__(self, decay: float = 1.0) -> None:
        self.decay = decay

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, decay=real(at_least=0))

    def __call__(self, t: float) -> float:
        """Return the factor after ``t`` passes."""
        return 1 / (1 + self.decay * t)


class InverseScaling(Schedule):
    """1 / (1 + t)^power.

    scikit-learn's "invscaling" counts rows instead of passes, so that its rate is almost zero after
    the first pass.

    Parameters
    ----------
    power : float, default=0.5
        Exponent of the passes made.
    """

    def __init__(self, power: float = 0.5) -> None:
        self.power = power

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(self, power=real(at_least=0))

    def __call__(self, t: float) -> float:
        """Return the factor after ``t`` passes."""
        return (1 + t) ** -self.power


class CosineRestarts(Schedule):
    """Half a cosine from 1 to ``floor``, repeated, each period ``growth`` times the last.

    Parameters
    ----------
    period : float, default=10.0
        Passes of the first period.
    growth : float, default=2.0
        Factor from one period to the next, at least 1.
    floor : float, default=0.0
        Factor on the rate at the end of a period.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts. ICLR 2017.
    """

    def __init__(self, period: float = 10.0, *, growth: float = 2.0, floor: float = 0.0) -> None:
        self.period = period
        self.growth = growth
        self.floor = floor

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self, period=real(above=0), growth=real(at_least=1), floor=real(at_least=0, below=1)
        )

    def __call__(self, t: float) -> float:
        """Return the factor after ``t`` passes."""
        if self.growth == 1:
            share = t / self.period % 1
        else:
            # Periods before t: the largest n with period (growthⁿ - 1) / (growth - 1) ≤ t.
            n = math.floor(math.log1p(t / self.period * (self.growth - 1)) / math.log(self.growth))
            start = self.period * (self.growth**n - 1) / (self.growth - 1)
            share = (t - start) / (self.period * self.growth**n)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))

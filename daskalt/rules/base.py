"""What a rule is: from a gradient to a step, entry by entry."""

from abc import ABC, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator

__all__ = ["Rule"]


class Rule(BaseEstimator, ABC):
    """A rule w' = w - rate × step(gradients so far), applied to each entry of the weights alone.

    Its memory of earlier gradients is ``slots`` arrays of the shape of the weights, all zero at
    first.
    """

    slots = 0
    learning_rate: float

    @abstractmethod
    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""

    def init(self, w: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the slots before the first step."""
        return tuple(np.zeros_like(w) for _ in range(self.slots))

    @abstractmethod
    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        slots: tuple[np.ndarray, ...],
        rate: float,
        step: int,
        out: tuple[np.ndarray, ...],
    ) -> None:
        """Fill ``out`` with the new weights and slots.

        Parameters
        ----------
        w, g : ndarray, two-dimensional
            Weights and the gradient of the objective there; unchanged.
        slots : tuple of ndarray
            As `init` or the last update returned them.
        rate : float
            Learning rate of this step, by the schedule.
        step : int
            Number of this step, from 1.
        out : tuple of ndarray
            Arrays for the new weights, then for each slot.
        """

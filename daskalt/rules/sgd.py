"""Stochastic gradient descent, with momentum in its two forms."""

from __future__ import annotations

import numpy as np

from daskalt.jit import compiled
from daskalt.parameters import check_parameters, choice, real
from daskalt.rules.base import Rule

__all__ = ["SGD"]


class SGD(Rule):
    """Gradient descent: v' = momentum v + g, then w' = w - rate v'.

    Parameters
    ----------
    learning_rate : float, default=0.1
        Rate before the schedule.
    momentum : float, default=0.9
        Share of the last step that is kept; 0 for plain gradient descent.
    nesterov : bool, default=True
        Step along momentum v' + g instead, which looks ahead (Sutskever et al., 2013).
    """

    def __init__(
        self, learning_rate: float = 0.1, *, momentum: float = 0.9, nesterov: bool = True
    ) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def slots(self) -> int:  # type: ignore[override]
        """One array, the velocity, if there is momentum."""
        return int(self.momentum > 0)

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            learning_rate=real(above=0),
            momentum=real(at_least=0, below=1),
            nesterov=choice(True, False),
        )

    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        slots: tuple[np.ndarray, ...],
        rate: float,
        step: int,
        out: tuple[np.ndarray, ...],
    ) -> None:
        """Fill ``out`` with the new weights and velocity."""
        kind = w.dtype.type
        if not slots:
            np.multiply(g, kind(-rate), out=out[0])
            np.add(w, out[0], out=out[0])
        else:
            _momentum(w, g, *slots, kind(rate), kind(self.momentum), self.nesterov, *out)


@compiled
def _momentum(w, g, v, rate, keep, nesterov, new_w, new_v):
    zero = w.dtype.type(0)
    ahead, own = (keep, w.dtype.type(1)) if nesterov else (w.dtype.type(1), zero)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            velocity = keep * v[i, j] + g[i, j]
            new_v[i, j] = velocity
            new_w[i, j] = w[i, j] - rate * (ahead * velocity + own * g[i, j])

"""A step of all weights along damped least-squares directions, bounded, with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.errors import DivergenceError
from daskalt.kernels.step import advance, mean_gradient
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Weights
from daskalt.solvers.least_squares import DampedGram

__all__ = ["FALLS", "Limits", "Motion", "at_rest", "descend", "fall"]

# Steps overshoot where the cosine between the new gradient and the last move is below this; noise
# of the batches alone leaves it within a few hundredths of zero.
OVERSHOOT = -0.15

# How the limits of a method fall from the first step of a fit, t = 0, to the last, t = 1.
FALLS = {
    "cosine": lambda t: 0.5 * (1.0 + np.cos(np.pi * t)),
    "linear": lambda t: 1.0 - t,
    "constant": lambda t: 1.0,
}


class Motion(NamedTuple):
    """How the weights have been moving."""

    velocity: Weights  # running mean of the steps
    length: float  # bound on its length in the metric of the damped Gram matrices
    trust: float  # factor on the step limits, below 1 where steps have overshot


class Limits(NamedTuple):
    """What bounds a step."""

    step: float  # largest multiple of the direction
    change: float  # of z, as a root mean square over rows of its norm
    momentum: float

    @classmethod
    def of(
        cls, method: Any, weights: Weights, left: float, change_left: float | None = None
    ) -> Limits:
        """Return the limits by a method's parameters, times the parts that are left of them.

        That of the change is the root of the other's by default.
        """
        widest = max(len(w) for w in weights)
        part = np.sqrt(left) if change_left is None else change_left
        return cls(
            method.step_limit * method.damping * left,
            method.change_limit * np.sqrt(widest) * part,
            method.momentum,
        )


def fall(name: str, step: int, steps: int | None) -> float:
    """Return the part left of the limits at a step of ``steps``; 1 in a fit without an end."""
    return 1.0 if steps is None else FALLS[name](min(step / steps, 1.0))


def at_rest(weights: Weights) -> Motion:
    """Return the motion of weights at rest."""
    return Motion(tuple(np.zeros_like(w) for w in weights), 0.0, 1.0)


def descend(
    weights: Weights,
    motion: Motion,
    damped: Sequence[DampedGram],
    totals: Sequence[np.ndarray],
    divisors: Sequence[float],
    penalties: Sequence[float],
    limits: Limits,
    curved: Sequence[DampedGram | None] | None = None,
) -> tuple[Weights, Motion]:
    """Return weights and motion after one bounded step along D_l = G_l (A_l + d I)⁻¹.

    Parameters
    ----------
    weights, motion : Weights, Motion
        Where the step starts; left as they are.
    damped : sequence of DampedGram
        A_l + d I of each layer.
    totals, divisors : sequence of ndarray, sequence of float
        G_l is totals[l] / divisors[l] less the gradient of the penalty.
    penalties : sequence of float
        The objective includes half of each times the squared weights of its matrix, without the
        biases.
    limits : Limits
        Bounds of the step.
    curved : sequence of DampedGram or None, optional
        C_l + d I of the residuals of each layer: then D_l is c (C_l + d I)⁻¹ times as much, with
        c = the mean diagonal of C_l + d I, so that a C_l without a direction changes nothing.

    Raises
    ------
    DivergenceError
        If the gradient is not finite.
    """
    workspace = thread_workspace()
    means, directions = [], []
    parts = zip(totals, divisors, weights, damped, strict=True)
    for layer, (total, divisor, w, a) in enumerate(parts):
        g = workspace.take(f"mean{layer}", w.shape, w.dtype)
        d = workspace.take(f"direction{layer}", w.shape, w.dtype)
        means.append(mean_gradient(total, w, divisor, penalties[layer], out=g))
        d = a.solve(g, out=d)
        if curved is not None and (c := curved[layer]) is not None:
            d = c.solve_left(d)
            d *= d.dtype.type(c.size + c.damping)
        directions.append(d)
    slope = _dot(directions, means)
    if not np.isfinite(slope):
        raise DivergenceError(
            "The gradient is not finite: raise damping of the solver, and look for extreme "
            "values in X."
        )
    length = np.sqrt(max(slope, 0.0))
    trust = motion.trust
    if motion.length * length > 0:
        cosine = _dot(motion.velocity, means) / (motion.length * length)
        trust = float(np.clip(trust * np.exp(cosine - OVERSHOOT), 1e-4, 1.0))
    size = limits.step
    if slope > 0:
        size = min(size, limits.change / length)
    size *= trust
    moved = [
        advance(w, v, d, limits.momentum, size)
        for w, v, d in zip(weights, motion.velocity, directions, strict=True)
    ]
    travelled = limits.momentum * motion.length + (1 - limits.momentum) * size * length
    velocity = tuple(v for _, v in moved)
    return tuple(w for w, _ in moved), Motion(velocity, travelled, trust)


def _dot(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """Inner product of two lists of matrices."""
    return sum(float(np.dot(x.ravel(), y.ravel())) for x, y in zip(a, b, strict=True))

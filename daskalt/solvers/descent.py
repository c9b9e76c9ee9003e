"""A step of all weights along damped least-squares directions, bounded, with momentum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from daskalt.compute.hands import spread
from daskalt.errors import DivergenceError
from daskalt.kernels.step import advance, averaged, mean_gradient
from daskalt.kernels.workspace import recycled, thread_workspace
from daskalt.network.network import Weights
from daskalt.solvers.grams import Gram, LowRankGram

__all__ = ["FALLS", "Limits", "Motion", "at_rest", "descend", "fall", "mean_of"]

# Threads share a weight matrix in strips of about so many entries, which fit in a core's cache, and
# of so many rows or columns at least, which keep matrix products fast. To hand over less than a few
# strips takes longer than to work on them.
STRIP_ENTRIES, STRIP_WIDTH, FEW_STRIPS = 1 << 16, 16, 4

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


class Solvable(Protocol):
    """A damped Gram matrix A + d I."""

    def solve(self, b: np.ndarray, out: np.ndarray) -> Any:
        """Write B (A + d I)⁻¹."""


def descend(
    weights: Weights,
    motion: Motion,
    damped: Sequence[Solvable],
    totals: Sequence[np.ndarray],
    divisors: Sequence[float],
    penalties: Sequence[float],
    limits: Limits,
    curved: Sequence[Gram] | None = None,
) -> tuple[Weights, Motion]:
    """Return weights and motion after one bounded step along D_l = G_l (A_l + d I)⁻¹.

    Parameters
    ----------
    weights, motion : Weights, Motion
        Where the step starts; left as they are.
    damped : sequence of Solvable
        A_l + d I of each layer.
    totals, divisors : sequence of ndarray, sequence of float
        G_l is totals[l] / divisors[l] less the gradient of the penalty.
    penalties : sequence of float
        The objective includes half of each times the squared weights of its matrix, without the
        biases.
    limits : Limits
        Bounds of the step.
    curved : sequence of Gram, optional
        C_l + d I of the residuals of each layer: then D_l is c (C_l + d I)⁻¹ times as much, with
        c = the mean diagonal of C_l + d I, so that a C_l without a direction changes nothing.

    Raises
    ------
    DivergenceError
        If the gradient is not finite.
    """
    lefts: Sequence[Gram | None] = curved or (None,) * len(weights)
    parts = zip(weights, motion.velocity, totals, divisors, penalties, damped, lefts, strict=True)
    layers = [_Layer(index, *own) for index, own in enumerate(parts)]
    strips = [(layer, place) for layer in layers for place in layer.places]
    images: dict[int, Any] = {}
    for (layer, _), part in zip(strips, _share(_Layer.begin, strips), strict=True):
        before = images.get(layer.index)
        images[layer.index] = part if before is None else before + part
    ends = [(layer, place, images[layer.index]) for layer, place in strips]
    slope, past = map(sum, zip(*_share(_Layer.end, ends), strict=True))
    if not np.isfinite(slope):
        raise DivergenceError(
            "The gradient is not finite: raise damping of the solver, and look for extreme "
            "values in X."
        )
    length = math.sqrt(max(slope, 0.0))
    trust = motion.trust
    if motion.length * length > 0:
        cosine = min(max(past / (motion.length * length), -1.0), 1.0)
        trust = min(max(trust * math.exp(cosine - OVERSHOOT), 1e-4), 1.0)
    size = limits.step
    if slope > 0:
        size = min(size, limits.change / length)
    size *= trust
    new, velocity = _fresh(weights), _fresh(weights)

    def move(layer: _Layer, place: Place) -> None:
        n = layer.index
        w, v, d = layer.w[place], layer.v[place], layer.direction[place]
        advance(w, v, d, limits.momentum, size, new[n][place], velocity[n][place])

    _share(move, strips)
    travelled = limits.momentum * motion.length + (1 - limits.momentum) * size * length
    return new, Motion(velocity, travelled, trust)


def mean_of(old: Weights, new: Weights, share: float) -> Weights:
    """Return (1 - share) × old + share × new; the new ones themselves where that is all of it."""
    if share == 1:
        return new
    mean = _fresh(new)

    def average(n: int, place: Place) -> None:
        averaged(old[n][place], new[n][place], share, mean[n][place])

    _share(average, [(n, place) for n, w in enumerate(new) for place in _by_rows(w)])
    return mean


Place = tuple[slice, slice]
ALL = slice(None)


class _Layer:
    """A weight matrix during a step, whose strips threads share.

    Strips divide its longer side. The solve on the other side is a strip's own. That on the divided
    side needs a sum over all strips, which Gram matrices of low rank have; others are not divided.
    """

    def __init__(
        self,
        index: int,
        w: np.ndarray,
        v: np.ndarray,
        total: np.ndarray,
        divisor: float,
        penalty: float,
        a: Any,
        c: Gram | None,
    ) -> None:
        take = thread_workspace().take
        self.index, self.w, self.v, self.total = index, w, v, total
        self.divisor, self.penalty, self.a, self.c = divisor, penalty, a, c
        self.mean = take(f"mean{index}", w.shape, w.dtype)
        self.direction = self.solved = take(f"direction{index}", w.shape, w.dtype)
        if c is not None:
            self.direction = take(f"curved{index}", w.shape, w.dtype)
        self.upright = w.shape[0] >= w.shape[1] or not isinstance(a, LowRankGram)
        if not self.upright:
            self.places = _by_columns(w)
        elif c is None or isinstance(c, LowRankGram):
            self.places = _by_rows(w)
        else:
            self.places = [(ALL, ALL)]

    def begin(self, place: Place) -> Any:
        """Find the gradient in a strip; return the strip's part of the sum over all."""
        g, bias = self.mean[place], place[1].stop in (None, self.w.shape[1])
        mean_gradient(self.total[place], self.w[place], self.divisor, self.penalty, bias, out=g)
        if not self.upright:
            return self.a.seen_right(g, place[1])
        self.a.solve(g, self.solved[place])
        return None if self.c is None else self.c.seen_left(self.solved[place], place[0])

    def end(self, place: Place, seen: Any) -> tuple[float, float]:
        """Find a strip's direction; return its product and the velocity's with the gradient."""
        rows, columns = place
        g, solved = self.mean[place], self.solved[place]
        if not self.upright:
            self.a.solve_right(g, seen, columns, solved)
        if self.c is not None:
            seen = seen if self.upright else self.c.seen_left(solved, rows)
            self.c.solve_left(solved, seen, rows, self.direction[place])
        return _inner(self.direction[place], g), _inner(self.v[place], g)


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return float(np.dot(a.ravel(), b.ravel()))
    return float(np.einsum("ij,ij->", a, b))


def _by_rows(w: np.ndarray) -> list[Place]:
    return [(part, ALL) for part in _divided(*w.shape, STRIP_ENTRIES, STRIP_WIDTH)]


def _by_columns(w: np.ndarray) -> list[Place]:
    return [(ALL, part) for part in _divided(*w.shape[::-1], STRIP_ENTRIES, STRIP_WIDTH)]


@cache
def _divided(count: int, across: int, entries: int, width: int) -> list[slice]:
    """Parts of a side, each with about so many entries and of a width of at least so much."""
    size = max(width, entries // across)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _share(call: Callable[..., Any], strips: Sequence[tuple[Any, ...]]) -> list[Any]:
    if len(strips) < FEW_STRIPS:
        return [call(*strip) for strip in strips]
    return spread(call, strips)


def _fresh(like: Weights) -> Weights:
    return tuple(recycled(w.shape, w.dtype) for w in like)

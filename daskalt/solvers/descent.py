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
from daskalt.solvers.grams import Gram

__all__ = ["FALLS", "Limits", "Motion", "at_rest", "descend", "fall", "mean_of"]

# Threads share the rows of a weight matrix in strips of about so many entries, which fit in a
# core's cache, and of so many rows at least, which keep matrix products fast. To hand over less
# than a few strips takes longer than to work on them.
STRIP_ENTRIES, STRIP_ROWS, FEW_STRIPS = 1 << 16, 16, 4

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
    strips = _strips(tuple(w.shape for w in weights))
    means, directions = _scratch("mean", weights), _scratch("direction", weights)

    def solve(strip: Strip) -> None:
        layer, rows = strip
        g, w = means[layer][rows], weights[layer][rows]
        mean_gradient(totals[layer][rows], w, divisors[layer], penalties[layer], out=g)
        damped[layer].solve(g, directions[layer][rows])

    _share(solve, strips)
    if curved is not None:
        directions = _from_the_left(curved, directions, strips)

    def dots(strip: Strip) -> tuple[float, float]:
        layer, rows = strip
        g = means[layer][rows].ravel()
        along = np.dot(directions[layer][rows].ravel(), g)
        return float(along), float(np.dot(motion.velocity[layer][rows].ravel(), g))

    slope, past = map(sum, zip(*_share(dots, strips), strict=True))
    if not np.isfinite(slope):
        raise DivergenceError(
            "The gradient is not finite: raise damping of the solver, and look for extreme "
            "values in X."
        )
    length = math.sqrt(max(slope, 0.0))
    trust = motion.trust
    if motion.length * length > 0:
        cosine = past / (motion.length * length)
        trust = min(max(trust * math.exp(cosine - OVERSHOOT), 1e-4), 1.0)
    size = limits.step
    if slope > 0:
        size = min(size, limits.change / length)
    size *= trust
    new, velocity = _fresh(weights), _fresh(weights)

    def move(strip: Strip) -> None:
        layer, rows = strip
        w, v, d = weights[layer][rows], motion.velocity[layer][rows], directions[layer][rows]
        advance(w, v, d, limits.momentum, size, new[layer][rows], velocity[layer][rows])

    _share(move, strips)
    travelled = limits.momentum * motion.length + (1 - limits.momentum) * size * length
    return new, Motion(velocity, travelled, trust)


def mean_of(old: Weights, new: Weights, share: float) -> Weights:
    """Return (1 - share) × old + share × new; the new ones themselves where that is all of it."""
    if share == 1:
        return new
    mean = _fresh(new)

    def average(strip: Strip) -> None:
        layer, rows = strip
        averaged(old[layer][rows], new[layer][rows], share, mean[layer][rows])

    _share(average, _strips(tuple(w.shape for w in new)))
    return mean


def _from_the_left(curved: Sequence[Gram], directions: Weights, strips: Sequence[Strip]) -> Weights:
    """The directions times c (C + d I)⁻¹."""
    columns = _columns(tuple(d.shape for d in directions))
    parts = _share(lambda each: curved[each[0]].project(directions[each[0]][:, each[1]]), columns)
    projections: list[list[np.ndarray]] = [[] for _ in directions]
    for (layer, _), part in zip(columns, parts, strict=True):
        projections[layer].append(part)
    whole = [own[0] if len(own) == 1 else np.concatenate(own, axis=1) for own in projections]
    found = _scratch("curved", directions)

    def solve(strip: Strip) -> None:
        layer, rows = strip
        d, out = directions[layer][rows], found[layer][rows]
        curved[layer].solve_left(d, whole[layer], rows, out)

    _share(solve, strips)
    return found


Strip = tuple[int, slice]  # layer, and rows or columns
Shapes = tuple[tuple[int, ...], ...]


@cache
def _strips(shapes: Shapes) -> list[Strip]:
    """The rows of all weight matrices in parts that depend on their shapes alone."""
    return [
        (layer, part)
        for layer, (rows, columns) in enumerate(shapes)
        for part in _divided(rows, columns, STRIP_ENTRIES)
    ]


@cache
def _columns(shapes: Shapes) -> list[Strip]:
    """Their columns: fewer parts, since products with few columns are slow."""
    return [
        (layer, part)
        for layer, (rows, columns) in enumerate(shapes)
        for part in _divided(columns, rows, 8 * STRIP_ENTRIES)
    ]


def _share(call: Callable[[Strip], Any], strips: Sequence[Strip]) -> list[Any]:
    return spread(call, strips) if len(strips) >= FEW_STRIPS else [call(strip) for strip in strips]


def _divided(count: int, entries: int, together: int) -> list[slice]:
    size = max(STRIP_ROWS, together // entries)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _scratch(name: str, like: Weights) -> Weights:
    take = thread_workspace().take
    return tuple(take(f"{name}{n}", w.shape, w.dtype) for n, w in enumerate(like))


def _fresh(like: Weights) -> Weights:
    return tuple(recycled(w.shape, w.dtype) for w in like)

"""Local steps: tasks move weights of their own before the results are combined.

The merged weights are W = (Σ A_c)⁻¹ Σ A_c W_c, the least-squares fit to what all tasks' weights
predict: one exchange stands for several small steps.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score, combine
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows
from daskalt.solvers.descent import Motion
from daskalt.solvers.least_squares import ridge_solve
from daskalt.solvers.z_step import Step, gradient_step

__all__ = ["LocalSteps", "failed_steps", "merge_steps", "take_steps"]


class LocalSteps(NamedTuple):
    """Statistics of tasks that have moved their own weights: Σ (W_c - W) A_c and Σ A_c."""

    score: Score
    moments: tuple[Any, ...]
    grams: tuple[Any, ...]
    trust: float  # weighted by the rows


def take_steps(
    problem: Problem,
    weights: Weights,
    motion: Motion,
    rows: Rows,
    count: int,
    advance: Callable[[Weights, Motion, Step], tuple[Weights, Motion]],
) -> LocalSteps:
    """Return what some steps on one task's own rows lead to.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    weights, motion : Weights, Motion
        Where all tasks start.
    rows : Rows
        Of the task.
    count : int
        Steps, each on a part of the rows.
    advance : callable
        Returns weights and motion after a step.
    """
    start = weights
    total: Any = None
    edges = np.linspace(0, len(rows.X), count + 1).astype(int).tolist()
    for first, last in pairwise(edges):
        if first == last:
            continue
        part = gradient_step(problem, weights, rows.part(first, last), (True,) * len(weights))
        total = combine(total, part._replace(moments=None))
        if part.score.weight > 0:  # rows of weight zero teach nothing
            weights, motion = advance(weights, motion, part)
    moments = tuple((w - old) @ a for w, old, a in zip(weights, start, total.grams, strict=True))
    return LocalSteps(total.score, moments, total.grams, motion.trust * total.score.weight)


def failed_steps(weights: Weights, rows: Rows) -> LocalSteps:
    """Return the statistics of a task whose numbers were not finite, for `update` to find."""
    nothing = (None,) * len(weights)
    return LocalSteps(Score(rows.total_weight, np.nan, 0.0), nothing, nothing, 0.0)


def merge_steps(weights: Weights, motion: Motion, merged: LocalSteps) -> tuple[Weights, Motion]:
    """Return (Σ A_c)⁻¹ Σ A_c W_c, as a change of the weights that the tasks started from."""
    moves = [ridge_solve(c, a, 0.0) for c, a in zip(merged.moments, merged.grams, strict=True)]
    moved = tuple(w + move for w, move in zip(weights, moves, strict=True))
    # Every task starts from rest, but what it has learnt of overshooting is kept.
    return moved, motion._replace(trust=merged.trust / merged.score.weight)

"""Local steps: tasks update their own copies of the weights before these are merged.

The merged weights are W = (Σ W_c A_c)(Σ A_c)⁻¹, the least-squares fit to what all tasks' weights
predict: several small steps need only one exchange. Of wide layers, A_c is of low rank.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score, combine
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows
from daskalt.solvers.descent import Motion
from daskalt.solvers.grams import Gram
from daskalt.solvers.z_step import Step, gradient_step

__all__ = ["LocalSteps", "failed_steps", "merge_steps", "take_steps"]


class LocalSteps(NamedTuple):
    """Statistics of tasks that have updated their own weights: Σ (W_c - W) A_c and Σ A_c."""

    score: Score
    moments: tuple[Any, ...]
    grams: tuple[Any, ...]
    trust: float  # weighted by the rows


def take_steps(
    problem: Problem,
    weights: Weights,
    motion: Motion,
    inputs: Sequence[Gram],
    rows: Rows,
    count: int,
    advance: Callable[[Weights, Motion, Step], tuple[Weights, Motion]],
) -> LocalSteps:
    """Return the result of some steps on one task's own rows.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    weights, motion : Weights, Motion
        The start of all tasks.
    inputs : sequence of Gram
        How the Gram matrix of each weight matrix is gathered and taken.
    rows : Rows
        The task's rows.
    count : int
        Number of steps, each on a part of the rows.
    advance : callable
        Returns weights and motion after a step.
    """
    start = weights
    total: Any = None
    sought = tuple(gram.sought for gram in inputs)
    edges = np.linspace(0, len(rows.X), count + 1).astype(int).tolist()
    for first, last in pairwise(edges):
        if first == last:
            continue
        part = gradient_step(problem, weights, rows.part(first, last), sought)
        total = combine(total, part._replace(moments=None))
        if part.score.weight > 0:  # rows of weight zero change nothing
            weights, motion = advance(weights, motion, part)
    moments = tuple(
        gram.product(w - old, a)
        for gram, w, old, a in zip(inputs, weights, start, total.grams, strict=True)
    )
    return LocalSteps(total.score, moments, total.grams, motion.trust * total.score.weight)


def failed_steps(weights: Weights, rows: Rows) -> LocalSteps:
    """Return the statistics of a task whose numbers were not finite; `update` refuses them."""
    nothing = (None,) * len(weights)
    return LocalSteps(Score(rows.total_weight, np.nan, 0.0), nothing, nothing, 0.0)


def merge_steps(
    weights: Weights, motion: Motion, inputs: Sequence[Gram], merged: LocalSteps
) -> tuple[Weights, Motion]:
    """Return (Σ W_c A_c)(Σ A_c)⁻¹, as a change of the weights from which the tasks started.

    ``inputs`` are those of `take_steps`.
    """
    parts = zip(weights, inputs, merged.moments, merged.grams, strict=True)
    moved = tuple(w + gram.quotient(c, a) for w, gram, c, a in parts)
    # The velocity starts from zero in every task; the factor against overshooting is kept.
    return moved, motion._replace(trust=merged.trust / merged.score.weight)

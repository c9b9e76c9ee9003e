"""Ruined weights: those far worse than earlier ones of the same fit.

A few rows, and the losses of the passes, show whether weights may be ruined. Only then all training
rows are scored, under every candidate state.
"""

from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.graph import Graph
from daskalt.data.passes import Lane, in_order, read_lane
from daskalt.data.table import Table
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows

__all__ = [
    "FAR",
    "FAR_OF_TRIVIAL",
    "Worth",
    "effective_rows",
    "far_above",
    "trivial_loss",
    "worth_of_rows",
    "worth_of_table",
]

# One loss is far above another if it is more than so many times that, and higher by so much of the
# loss of zero outputs.
FAR, FAR_OF_TRIVIAL = 2.0, 0.05
FAR_LOST = 0.01


class Worth(NamedTuple):
    """Sums over rows by which weights are compared.

    Attributes
    ----------
    weight : float
        Of all rows.
    lost : float
        Of the rows whose loss is not finite.
    loss : float
        Of the others, with the penalty of each.
    """

    weight: float
    lost: float
    loss: float

    def __add__(self, other: "Worth") -> "Worth":  # type: ignore[override]
        return Worth(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def share_lost(self) -> float:
        """Share of the rows whose loss is not finite."""
        return self.lost / self.weight

    @property
    def mean(self) -> float:
        """Mean penalised loss of the other rows."""
        left = self.weight - self.lost
        return self.loss / left if left > 0 else np.inf

    @property
    def order(self) -> tuple[float, float]:
        """The key of comparison: the least is the best."""
        return round(self.share_lost / FAR_LOST), self.mean


def far_above(worth: Worth, other: Worth, trivial: float) -> bool:
    """Say whether these weights are far worse than others."""
    if worth.share_lost > other.share_lost + FAR_LOST:
        return True
    return not worth.mean <= FAR * other.mean + FAR_OF_TRIVIAL * trivial


def worth_of_rows(problem: Problem, state: Any, rows: Rows) -> Worth:
    """Return the worth of a state's weights on some rows."""
    network, workspace = problem.network, thread_workspace()
    weights: Weights = state.weights
    z = network.trace(weights, problem.inputs(rows.X, workspace), workspace).z[-1]
    losses = network.loss.value(z, rows.y).astype(np.float64)
    weight = np.ones(len(losses)) if rows.weight is None else rows.weight.astype(np.float64)
    sound = np.isfinite(losses)
    squares = sum(float(np.vdot(w[:, :-1], w[:, :-1])) for w in weights)
    loss = losses[sound] @ weight[sound]
    loss += problem.penalty / 2 * squares * weight[sound].sum()
    return Worth(float(weight.sum()), float(weight[~sound].sum()), float(loss))


def worth_of_table(problem: Problem, state: Any, table: Table, bounds: np.ndarray) -> Worth:
    """Return the worth of the weights of a state, or of its handle, on some blocks."""
    graph = Graph()
    shared, rows, at = graph.constant(problem), graph.constant(table), graph.constant(state)
    parts = [graph.add(_worth_of_lane, shared, rows, at, lane) for lane in in_order(bounds)]
    return graph.compute(graph.reduce(_sum, parts))


def _worth_of_lane(problem: Problem, table: Table, state: Any, lane: Lane) -> Worth:
    return worth_of_rows(problem, state, problem.rows(read_lane(table, lane)))


def _sum(a: Worth, b: Worth) -> Worth:
    return a + b


def trivial_loss(problem: Problem, rows: Rows) -> float:
    """Return the mean loss of most rows when all outputs are zero."""
    nothing = np.zeros((len(rows.X), problem.network.n_outputs), problem.dtype)
    losses = problem.network.loss.value(nothing, rows.y)
    return float(np.minimum(losses, np.quantile(losses, 0.9)).mean()) if len(losses) else 0.0


def effective_rows(rows: Rows) -> float:
    """Return the effective number of rows: how many of equal weight say as much."""
    if rows.weight is None:
        return float(len(rows.X))
    weight = rows.weight.astype(np.float64)
    return float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300))

"""Forward loss and quality of a network on rows of any number, as one map and reduce."""

from typing import Any

import numpy as np

from daskalt.compute.graph import Graph
from daskalt.compute.statistics import Score, combine
from daskalt.data.finite import check_block
from daskalt.data.passes import Lane, in_order, read_lane
from daskalt.data.table import Table
from daskalt.errors import InputError
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Weights
from daskalt.network.problem import Problem, Rows

__all__ = ["score_rows", "score_table"]


def score_rows(problem: Problem, weights: Weights, rows: Rows) -> Score:
    """Return the sums over some rows from which loss, accuracy and R² follow."""
    workspace = thread_workspace()
    network = problem.network
    z = network.trace(weights, problem.inputs(rows.X, workspace), workspace).z[-1]
    weight = np.ones(len(z)) if rows.weight is None else rows.weight.astype(np.float64)
    losses = network.loss.value(z, rows.y)
    score = Score(
        float(weight.sum()),
        float(losses @ weight),
        problem.correct(z, rows),
    )
    if problem.classifies:
        return score
    y = rows.y.astype(np.float64)
    error = (network.loss.link(z) - y) ** 2
    return score._replace(
        squared_error=weight @ error, target=weight @ y, target_squared=weight @ y**2
    )


def score_table(problem: Problem, state: Any, table: Table, bounds: np.ndarray) -> Score:
    """Return the Score of some blocks of a table under the weights of a solver's state.

    ``state`` may be a handle on a cluster: the weights go to the tasks, never to the client.
    """
    graph = Graph()
    shared, rows = graph.constant(problem), graph.constant(table)
    weights = graph.add(_weights, graph.constant(state))
    parts = [graph.add(_score_lane, shared, rows, weights, lane) for lane in in_order(bounds)]
    score = graph.compute(graph.reduce(combine, parts))
    if not score.weight > 0:
        raise InputError(
            "sample_weight is zero in every row to be scored: leave it out, or give some weight."
        )
    return score


def _weights(state: Any) -> Weights:
    return state.weights


def _score_lane(problem: Problem, table: Table, weights: Weights, lane: Lane) -> Score:
    return score_rows(problem, weights, problem.rows(read_lane(table, lane, check_block)))

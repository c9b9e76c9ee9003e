"""Confusions and residuals of a fitted estimator on any number of rows, block by block."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from daskalt.assessment.histograms import Histogram, histogram_of, merge
from daskalt.compute.graph import Graph
from daskalt.compute.statistics import combine
from daskalt.data.choosing import takes_names
from daskalt.data.finite import check_block
from daskalt.data.opening import open_table
from daskalt.data.passes import Lane, all_blocks, in_order, read_lane
from daskalt.data.table import Block, Table
from daskalt.data.targets import ClassTargets, RealTargets
from daskalt.errors import InputError
from daskalt.estimators.fitted import FittedMLP
from daskalt.estimators.predicting import Predictor
from daskalt.parameters import check_arguments, integer

__all__ = ["confusion_matrix", "residual_histogram"]


@takes_names
def confusion_matrix(model: Any, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
    """Return how many rows of each class are predicted as each.

    As `sklearn.metrics.confusion_matrix` of y and ``model.predict(X)``, without either as a
    whole: rows are read once, block by block, as tasks of the active scheduler.

    Parameters
    ----------
    model : MLPClassifier
        Fitted, for one label a row.
    X, y, sample_weight
        As in `fit`: arrays, or where they are stored, with names for those of a container.

    Returns
    -------
    ndarray of shape (classes, classes)
        Rows by true and columns by predicted label, in the order of ``model.classes_``; sums of
        the weights, if there are any.

    Raises
    ------
    InputError
        If the model or the rows do not suit.
    """
    predictor = _predictor_of(model)
    if not isinstance(predictor.targets, ClassTargets):
        raise InputError(
            "confusion_matrix is for classifiers of one label a row. For several labels take "
            "sklearn.metrics.multilabel_confusion_matrix(y, model.predict(X)), for numbers "
            "residual_histogram(model, X, y)."
        )
    table = open_table(model, X, y, sample_weight, reset=False)
    return _gather(_confusion, combine, predictor, table)


@takes_names
def residual_histogram(
    model: Any,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    bins: int = 64,
    output: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the joint histogram of predictions and residuals, y less the prediction.

    Rows are read once, block by block, as tasks of the active scheduler. The width of a bin is the
    least power of two that gives at most `bins` of them from the least to the greatest value.

    Parameters
    ----------
    model : MLPRegressor
        Fitted.
    X, y, sample_weight
        As in `fit`: arrays, or where they are stored, with names for those of a container.
    bins : int, default=64
        Most bins along an axis, at least 2; there are more than half as many unless all values are
        almost the same.
    output : int, default=0
        Which column of y, where it has several.

    Returns
    -------
    counts : ndarray of shape (bins of predictions, bins of residuals)
        Rows in each bin; sums of the weights, if there are any. As of `numpy.histogram2d`.
    predicted_edges, residual_edges : ndarray
        Edges of the bins, one more than there are bins.

    Raises
    ------
    InputError
        If the model, the rows or an argument do not suit.
    """
    predictor = _predictor_of(model)
    if not isinstance(predictor.targets, RealTargets):
        raise InputError(
            "residual_histogram is for regressors. For labels take confusion_matrix(model, X, y)."
        )
    check_arguments(bins=(bins, integer(at_least=2)), output=(output, integer(at_least=0)))
    if output >= predictor.targets.width:
        raise InputError(
            f"output={output}: the model has {predictor.targets.width} outputs, counted from 0."
        )
    table = open_table(model, X, y, sample_weight, reset=False)
    residuals = partial(_residuals, bins=int(bins), output=int(output))
    histogram = _gather(residuals, partial(merge, most=int(bins)), predictor, table)
    return histogram.counts, histogram.x.edges, histogram.y.edges


def _predictor_of(model: Any) -> Predictor:
    if not isinstance(model, FittedMLP):
        raise InputError(
            f"model must be a fitted MLPClassifier or MLPRegressor of daskalt; got a "
            f"{type(model).__name__}. Of a pipeline give the last step, and rows as it sees them."
        )
    return replace(model._predictor, shares=False)


def _gather(statistic: Callable, add: Callable, predictor: Predictor, table: Table) -> Any:
    """The sum of a statistic of predictions over all blocks."""
    graph = Graph()
    shared, rows = graph.constant((statistic, predictor)), graph.constant(table)
    parts = [graph.add(_of_lane, shared, rows, lane) for lane in in_order(all_blocks(table))]
    total = graph.compute(graph.reduce(add, parts))
    counts = total.counts if isinstance(total, Histogram) else total
    if not counts.any():
        raise InputError("sample_weight is zero in every row: leave it out, or give some weight.")
    return total


def _of_lane(shared: tuple[Callable, Predictor], table: Table, lane: Lane) -> Any:
    statistic, predictor = shared
    return statistic(predictor, read_lane(table, lane, check_block))


def _confusion(predictor: Predictor, rows: Block) -> np.ndarray:
    targets = predictor.targets
    assert isinstance(targets, ClassTargets)
    assert rows.y is not None
    n = len(targets.classes)
    codes = targets.codes(rows.y) * n + targets.codes(predictor.predict(rows.X))
    return np.bincount(codes, _weight_of(rows), minlength=n * n).reshape(n, n)


def _residuals(predictor: Predictor, rows: Block, bins: int, output: int) -> Histogram | None:
    targets = predictor.targets
    assert isinstance(targets, RealTargets)
    assert rows.y is not None
    predicted = predictor.outputs(rows.X)[:, output].astype(np.float64)
    if not np.isfinite(predicted).all():
        raise InputError("X is so large in some rows that their predictions overflow.")
    residual = targets.numbers(rows.y)[:, output] - predicted
    return histogram_of(predicted, residual, _weight_of(rows), bins)


def _weight_of(rows: Block) -> np.ndarray | None:
    return None if rows.weight is None else rows.weight.ravel().astype(np.float64)

"""One pass over the targets: labels, counts, means, a sample, and whether they are sorted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskalt.compute.graph import Graph, call
from daskalt.compute.statistics import combine
from daskalt.data.finite import check_finite
from daskalt.data.passes import in_order, read_lane
from daskalt.data.readers import Source
from daskalt.data.spread import Sample, sample_of
from daskalt.data.table import Table
from daskalt.errors import InputError

WEIGHT_RANGE = (1e-20, 1e20)  # of the sum of row weights; residuals times weights fit float32

__all__ = ["Labels", "Numbers", "check_weights", "survey_labels", "survey_numbers", "total_weight"]


@dataclass(frozen=True)
class Labels:
    """Labels seen so far; adds like any statistic.

    ``between`` is Σ n_bc² / n_b over the blocks b for each label c, from which :meth:`clustering`
    follows.
    """

    classes: np.ndarray
    counts: np.ndarray
    between: np.ndarray
    weights: np.ndarray  # of the rows of each label
    blocks: int = 1

    def __add__(self, other: "Labels") -> "Labels":
        classes = np.union1d(self.classes, other.classes)
        counts, between, weights = np.zeros((3, len(classes)))
        for part in (self, other):
            where = np.searchsorted(classes, part.classes)
            counts[where] += part.counts
            between[where] += part.between
            weights[where] += part.weights
        return Labels(classes, counts, between, weights, self.blocks + other.blocks)

    def shares(self, factors: np.ndarray | None = None) -> np.ndarray | None:
        """Return each label's share of the weight, which factors may change; None if all is 0."""
        weights = self.weights if factors is None else self.weights * factors
        total = weights.sum()
        return weights / total if 0 < total < np.inf else None

    def clustering(self) -> float:
        """χ² of labels against blocks over its degrees of freedom: about 1 when shuffled."""
        total = self.counts.sum()
        freedom = (self.blocks - 1) * (len(self.classes) - 1)
        if freedom == 0:
            return 1.0
        return float((np.sum(self.between * total / self.counts) - total) / freedom)


@dataclass(frozen=True)
class Numbers:
    """Moments of regression targets seen so far; adds like any statistic."""

    count: float
    total: np.ndarray
    squares: np.ndarray  # about ``centre``, which all blocks share
    between: np.ndarray
    centre: np.ndarray
    low: np.ndarray  # least and greatest value of each target
    high: np.ndarray
    sample: Sample | None = None  # for quartiles, where they are asked for
    blocks: int = 1

    def __add__(self, other: "Numbers") -> "Numbers":
        return Numbers(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.between + other.between,
            self.centre,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            combine(self.sample, other.sample),
            self.blocks + other.blocks,
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean of each target."""
        return self.centre + self.total / self.count

    @property
    def variance(self) -> np.ndarray:
        """Variance of each target."""
        return np.maximum(self.squares / self.count - (self.total / self.count) ** 2, 0.0)

    def clustering(self) -> float:
        """Variance of the blocks' means over its value for shuffled rows: about 1 if shuffled."""
        if self.blocks < 2:
            return 1.0
        spread = self.between - self.total**2 / self.count
        variance = np.where(self.variance > 0, self.variance, np.inf)
        return float(np.max(spread / (self.blocks - 1) / variance))


def survey_labels(table: Table) -> Labels:
    """Return the labels in ``table.y``, read once.

    Raises
    ------
    InputError
        If the targets are numbers that cannot be labels.
    """
    assert table.y is not None
    return _survey(table, table.y, table.weight, _labels_of, None)


def survey_numbers(table: Table, *, sampled: bool = False) -> Numbers:
    """Return the weighted moments of ``table.y``, and if asked for a sample, read once.

    Raises
    ------
    InputError
        If the weights are all zero or out of range.
    """
    assert table.y is not None
    first = table.y.read(0, 1).astype(np.float64).ravel()
    centre = np.where(np.isfinite(first), first, 0.0)
    numbers = _survey(table, table.y, table.weight, _numbers_of, (centre, sampled))
    if table.weight is not None:
        _check_total(numbers.count)
    return numbers


def total_weight(table: Table) -> float:
    """Return the sum of the row weights, or the number of rows without weights.

    Raises
    ------
    InputError
        If they are all zero or out of range.
    """
    if table.weight is None:
        return float(table.n_rows)
    total = _survey(table, table.weight, None, _weight_of, None)
    _check_total(total)
    return total


def check_weights(table: Table, bounds: np.ndarray, which: str) -> None:
    """Raise InputError if all rows of some blocks have weight zero; ``which`` names them."""
    if table.weight is None:
        return
    weights = Table(table.weight, single=table.single)
    for lane in in_order(bounds):
        if call(read_lane, weights, lane, None).X.any():
            return
    raise InputError(
        f"sample_weight is zero in every row {which}: give more rows some weight, draw others by "
        "random_state, or hold rows out by eval_set."
    )


def _check_total(total: float) -> None:
    """Raise InputError unless row weights of this sum can be trained with."""
    low, high = WEIGHT_RANGE
    if not total > 0:
        raise InputError(
            "sample_weight is zero in every row: leave it out, or give some rows weight."
        )
    if not low <= total <= high:
        raise InputError(
            f"sample_weight sums to {total:.3g}, and sums from {low:g} to {high:g} can be trained "
            "with. Divide the weights by their mean."
        )


def _survey(
    table: Table, values: Source, weight: Source | None, function: Callable, extra: Any
) -> Any:
    """Map ``function`` over blocks of one array and its weights, and combine the results."""
    graph = Graph()
    shared = graph.constant((values, weight))
    bounds = Table(values, single=table.single).block_bounds()
    parts = [graph.add(_survey_block, shared, function, extra, *b) for b in bounds]
    return graph.compute(graph.reduce(combine, parts))


def _survey_block(
    sources: tuple[Source, Source | None], function: Callable, extra: Any, start: int, stop: int
) -> Any:
    columns: list[Any] = []
    for source in sources:
        if source is None:
            columns.append(None)
            continue
        columns.append(source.read(start, stop))
        check_finite(columns[-1], source.name, start, stop)
    return function(*columns, extra, start)


def _weight_of(values: np.ndarray, weight: None, extra: None, start: int) -> float:
    with np.errstate(over="ignore"):  # an infinite sum is refused
        return float(values.sum(dtype=np.float64))


def _labels_of(y: np.ndarray, weight: np.ndarray | None, extra: None, start: int) -> Labels:
    y = y.ravel()
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        raise InputError(
            "Unknown label type: continuous. y holds fractions, so it cannot be labels of a "
            "classifier: use MLPRegressor, or give y as integers or strings."
        )
    classes, counts = np.unique(y, return_counts=True)
    weights = counts.astype(float)
    if weight is not None:
        with np.errstate(over="ignore"):  # an infinite sum is refused elsewhere
            code = np.searchsorted(classes, y)
            weights = np.bincount(code, weight.ravel().astype(np.float64), len(classes))
    return Labels(classes, counts.astype(float), counts**2 / len(y), weights)


def _numbers_of(
    y: np.ndarray, weight: np.ndarray | None, extra: tuple[np.ndarray, bool], start: int
) -> Numbers:
    centre, sampled = extra
    with np.errstate(over="ignore", invalid="ignore"):  # infinite moments are refused
        y = y.reshape(len(y), -1).astype(np.float64)
        w = np.ones(len(y)) if weight is None else weight.ravel().astype(np.float64)
        sample = sample_of(y, w, start) if sampled else None
        low, high = y.min(axis=0), y.max(axis=0)
        y -= centre
        total, count = w @ y, float(w.sum())
        between = total**2 / count if count > 0 else np.zeros_like(total)
        return Numbers(count, total, w @ y**2, between, centre, low, high, sample)

"""Histograms of two numbers of unknown range, as statistics that add.

Bins are as wide as a power of two and begin at multiples of it. So a finer histogram coarsens
exactly, two of them add whatever their ranges, and the sum is that of all rows at once.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Axis", "Histogram", "histogram_of", "merge"]

FINEST = 40  # bins are no finer than the largest number's power of two, less this many


class Axis(NamedTuple):
    """Equal bins along one number: the first is from ``first`` to ``first + 1`` times the width."""

    exponent: int  # of two: the width of a bin
    first: int
    bins: int

    @property
    def edges(self) -> np.ndarray:
        """Where bins begin and end."""
        places = np.arange(self.first, self.first + self.bins + 1)
        return np.ldexp(places.astype(float), self.exponent)

    @property
    def last(self) -> int:
        """Number of the last bin."""
        return self.first + self.bins - 1

    def coarser(self, most: int) -> "Axis":
        """Return the narrowest bins of which at most so many cover the range."""
        exponent, first, last = self.exponent, self.first, self.last
        while last - first >= most:
            exponent, first, last = exponent + 1, first // 2, last // 2
        return Axis(exponent, first, last - first + 1)

    def at(self, exponent: int) -> "Axis":
        """Return the bins of another, no smaller width that cover the same range."""
        by = exponent - self.exponent
        first, last = self.first >> by, self.last >> by
        return Axis(exponent, first, last - first + 1)

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return which bin each value is in, counted from the first."""
        return np.floor(np.ldexp(values, -self.exponent)).astype(np.int64) - self.first

    def join(self, other: "Axis", most: int) -> "Axis":
        """Return the bins that cover both ranges."""
        exponent = max(self.exponent, other.exponent)
        a, b = self.at(exponent), other.at(exponent)
        first = min(a.first, b.first)
        return Axis(exponent, first, max(a.last, b.last) - first + 1).coarser(most)


class Histogram(NamedTuple):
    """Counts of pairs of numbers in bins along either."""

    counts: np.ndarray
    x: Axis
    y: Axis


def histogram_of(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, most: int
) -> Histogram | None:
    """Return the histogram of some finite pairs, with at most so many bins a side."""
    if not len(x):
        return None
    axes = tuple(_axis_of(values, most) for values in (x, y))
    shape = tuple(axis.bins for axis in axes)
    places = np.ravel_multi_index((axes[0].places(x), axes[1].places(y)), shape)
    counts = np.bincount(places, weight, minlength=int(np.prod(shape))).reshape(shape)
    return Histogram(counts, *axes)


def merge(a: Histogram | None, b: Histogram | None, most: int) -> Histogram | None:
    """Return the histogram of the pairs of both."""
    if a is None or b is None:
        return b if a is None else a
    x, y = a.x.join(b.x, most), a.y.join(b.y, most)
    counts = np.zeros((x.bins, y.bins), np.result_type(a.counts, b.counts))
    for part in (a, b):
        rows, columns = _moved(part.x, x), _moved(part.y, y)
        np.add.at(counts, np.ix_(rows, columns), part.counts)
    return Histogram(counts, x, y)


def _axis_of(values: np.ndarray, most: int) -> Axis:
    low, high = float(values.min()), float(values.max())
    exponent = int(np.frexp(max(abs(low), abs(high), np.finfo(float).tiny))[1]) - FINEST
    first, last = (int(np.floor(np.ldexp(value, -exponent))) for value in (low, high))
    return Axis(exponent, first, last - first + 1).coarser(most)


def _moved(old: Axis, new: Axis) -> np.ndarray:
    """Which bin of a coarser axis each bin of an axis is in."""
    return (np.arange(old.first, old.last + 1) >> (new.exponent - old.exponent)) - new.first

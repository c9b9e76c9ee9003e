"""Line searches, one trial at a time: the next trial follows from the results of earlier ones.

A trial costs a pass over the data, which returns the objective and its slope at once. So a search
is a small value that the pass between two trials carries along, rather than a loop.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

from sklearn.base import BaseEstimator

from daskalt.parameters import check_parameters, integer, real

__all__ = ["Armijo", "LineSearch", "Point", "Search", "StrongWolfe"]

_CLOSE = 1e-9  # a bracket so narrow has nothing left to find
EXPANSION = 2.0  # from one trial to the next while nothing is bracketed


class Point(NamedTuple):
    """A step length, with the objective and its slope along the line there."""

    length: float
    value: float
    slope: float


class Search(NamedTuple):
    """A search along a line.

    Attributes
    ----------
    origin : Point
        Where the line starts, its slope negative.
    low, high : Point or None
        Ends of the bracket: `low` has the lowest value so far of those with sufficient decrease.
    trial : float
        Step length to try next.
    trials : int
        Trials made.
    state : {"searching", "settling", "found", "failed"}
        Whether `trial` is still to be tried ("settling": as the best so far), has been accepted,
        or none was found.
    """

    origin: Point
    low: Point
    high: Point | None
    trial: float
    trials: int = 0
    state: str = "searching"


class LineSearch(BaseEstimator):
    """A rule for the length of a step along a descent direction."""

    max_trials: int

    def start(self, value: float, slope: float, first: float) -> Search:
        """Return the search that tries the length ``first``, from a point with this slope < 0."""
        origin = Point(0.0, value, slope)
        return Search(origin, origin, None, first)

    def advance(self, search: Search, value: float, slope: float, noise: float) -> Search:
        """Return the search after its trial gave a value and a slope.

        Parameters
        ----------
        search : Search
            As `start` or the last call returned it.
        value, slope : float
            Of the objective, at the trial; the value may be infinite or NaN.
        noise : float
            Differences of values that count as rounding.
        """
        point = Point(search.trial, value, slope)
        search = search._replace(trials=search.trials + 1)
        if search.state == "settling" or self.accepts(search, point, noise):
            return search._replace(state="found" if value <= search.origin.value else "failed")
        search = self.narrow(search, point)
        low, high = search.low, search.high
        spent = search.trials >= self.max_trials or not 0 < search.trial < math.inf
        if high is not None:
            spent |= abs(high.length - low.length) <= _CLOSE * max(high.length, low.length)
        if not spent:
            return search
        if low.length > 0:  # not all conditions hold, but it is lower than the origin
            return search._replace(state="settling", trial=low.length)
        return search._replace(state="failed")

    def falls(self, search: Search, point: Point, decrease: float, noise: float) -> bool:
        """Armijo's condition, up to rounding."""
        line = search.origin.value + decrease * point.length * search.origin.slope
        return point.value <= line + noise  # false for NaN

    @abstractmethod
    def accepts(self, search: Search, point: Point, noise: float) -> bool:
        """Say whether a trial ends the search."""

    @abstractmethod
    def narrow(self, search: Search, point: Point) -> Search:
        """Return the search with the next trial."""


class Armijo(LineSearch):
    """Backtracking: the first length of first × shrinkⁿ with sufficient decrease.

    Parameters
    ----------
    decrease : float, default=1e-4
        Part of the fall along the tangent that a step must reach.
    shrink : float, default=0.5
        Factor from one trial to the next.
    max_trials : int, default=30
        Trials before the search fails.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, algorithm 3.1.
    """

    def __init__(
        self, decrease: float = 1e-4, *, shrink: float = 0.5, max_trials: int = 30
    ) -> None:
        self.decrease = decrease
        self.shrink = shrink
        self.max_trials = max_trials

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            decrease=real(above=0, below=1),
            shrink=real(above=0, below=1),
            max_trials=integer(at_least=1),
        )

    def accepts(self, search: Search, point: Point, noise: float) -> bool:
        """Say whether the trial has sufficient decrease."""
        return self.falls(search, point, self.decrease, noise)

    def narrow(self, search: Search, point: Point) -> Search:
        """Try a shorter step."""
        return search._replace(trial=self.shrink * point.length)


class StrongWolfe(LineSearch):
    """A step with sufficient decrease and a flat enough slope: bracket, then zoom.

    Parameters
    ----------
    decrease : float, default=1e-4
        Part of the fall along the tangent that a step must reach.
    curvature : float, default=0.9
        Largest absolute slope that is accepted, as a part of that at the start. A small one, such
        as 1e-3, makes the search exact for practical purposes.
    max_trials : int, default=30
        Trials before the search fails.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, algorithms 3.5 and 3.6; trials by the
    cubic through both ends of the bracket and their slopes, equation 3.59.
    """

    def __init__(
        self, decrease: float = 1e-4, *, curvature: float = 0.9, max_trials: int = 30
    ) -> None:
        self.decrease = decrease
        self.curvature = curvature
        self.max_trials = max_trials

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            decrease=real(above=0, below=1),
            curvature=real(above=0, below=1),
            max_trials=integer(at_least=1),
        )

    def accepts(self, search: Search, point: Point, noise: float) -> bool:
        """Say whether the trial meets both conditions."""
        flat = abs(point.slope) <= self.curvature * abs(search.origin.slope)
        return flat and self.falls(search, point, self.decrease, noise)

    def narrow(self, search: Search, point: Point) -> Search:
        """Try beyond the trial while value and slope fall, else within the bracket."""
        low, high = search.low, search.high
        if not self.falls(search, point, self.decrease, 0.0) or not point.value < low.value:
            high = point
            if not math.isfinite(point.value):  # no finite point to interpolate with
                middle = 0.5 * (low.length + point.length)
                return search._replace(high=high, trial=middle)
        else:
            away = 1.0 if high is None else high.length - low.length
            if point.slope * away >= 0:
                high = low
            low = point
        if high is None:
            return search._replace(low=low, trial=EXPANSION * point.length)
        return search._replace(low=low, high=high, trial=interpolate(low, high))


def interpolate(a: Point, b: Point) -> float:
    """Return the minimum of the cubic through two points and their slopes, kept between them."""
    left, right = sorted((a.length, b.length))
    middle = 0.5 * (left + right)
    if not math.isfinite(b.value):
        return middle
    d = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    square = d * d - a.slope * b.slope
    if not square >= 0:
        return middle
    root = math.copysign(math.sqrt(square), b.length - a.length)
    denominator = b.slope - a.slope + 2 * root
    if denominator == 0:
        return middle
    length = b.length - (b.length - a.length) * (b.slope + root - d) / denominator
    margin = 0.05 * (right - left)
    return length if left + margin <= length <= right - margin else middle

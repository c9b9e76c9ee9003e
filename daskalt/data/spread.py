"""Centre and spread that outliers do not move: of the median and the quartiles of a few rows."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Sample", "sample_of"]

# Quartiles of so many rows are within a hundredth or two of a standard deviation of those of all.
SAMPLE_ROWS, LEAST_ROWS, SAMPLE_BYTES = 1 << 14, 1 << 8, 4 << 20
TO_QUARTILE = 0.6744897501960817  # standard deviations of a normal distribution


@dataclass(frozen=True)
class Sample:
    """Some rows of a table, the same however it is cut into blocks; adds like any statistic.

    Every row has a random key, which depends on its place alone, and those with the smallest stay:
    all rows of a small table, and a uniform sample of a large one. Rows of weight zero are absent.
    """

    keys: np.ndarray  # (rows,), increasing
    values: np.ndarray  # (rows, columns)
    weights: np.ndarray  # (rows,)

    def __add__(self, other: "Sample") -> "Sample":
        both = (self.keys, other.keys), (self.values, other.values), (self.weights, other.weights)
        return _smallest(*(np.concatenate(pair) for pair in both))

    def centre_and_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted median of each column, and its spread.

        The spread is half the distance of the quartiles over 0.674, which is the standard deviation
        of normal numbers. Where the quartiles are equal it is 1.48 times the median distance of
        the numbers that differ from the median; where none does it is zero.
        """
        pairs = [_centre_and_spread(column, self.weights) for column in self.values.T]
        centres, spreads = np.array(pairs).T
        return centres, spreads


def sample_of(values: np.ndarray, weights: np.ndarray, start: int) -> Sample:
    """Return the sample of a block (rows, columns) of float64 that begins at row ``start``."""
    # A stream of one number a row, entered at the block's first.
    keys = np.random.Generator(np.random.PCG64(0).advance(start)).random(len(values))
    present = weights > 0
    return _smallest(keys[present], values[present], weights[present])


def _smallest(keys: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Sample:
    """The sample of rows that may be too many."""
    most = max(LEAST_ROWS, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * max(1, values.shape[1]))))
    order = np.argsort(keys, kind="stable")[:most]
    return Sample(keys[order], values[order], weights[order])


def _centre_and_spread(column: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    low, centre, high = _quantiles(column, weights, np.array([0.25, 0.5, 0.75]))
    if high > low:
        return centre, (high / 2 - low / 2) / TO_QUARTILE
    differs = column != centre
    if not differs.any():
        return centre, 0.0
    (distance,) = _quantiles(np.abs(column - centre)[differs], weights[differs], np.array([0.5]))
    return centre, distance / TO_QUARTILE


def _quantiles(column: np.ndarray, weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The least numbers with these shares of the weight up to them."""
    order = np.argsort(column, kind="stable")
    below = np.cumsum(weights[order])
    return column[order[np.searchsorted(below, shares * below[-1])]]

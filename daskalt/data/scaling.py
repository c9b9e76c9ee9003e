"""Shift and factor of each input column, found on a sample and folded into the first layer."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Scaling", "choose_scaling"]

# A column may put its sampled extremes this many standard deviations out, no further: columns
# that are almost always constant (rare pixels, flags) would otherwise dominate when they are not.
REACH = 10.0


class Scaling(NamedTuple):
    """Scaled inputs are (x - shift) × factor."""

    shift: np.ndarray
    factor: np.ndarray

    def fold(self, w: np.ndarray) -> np.ndarray:
        """Return first-layer weights that act on the raw columns as ``w`` acts on scaled ones."""
        folded = w.astype(np.float64)
        folded[:, :-1] *= self.factor
        folded[:, -1] -= folded[:, :-1] @ self.shift
        return folded

    def unfold(self, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the weights on scaled inputs of which ``w`` is the fold."""
        scaled = w.astype(np.float64)
        scaled[:, -1] += scaled[:, :-1] @ self.shift
        scaled[:, :-1] /= self.factor
        return np.ascontiguousarray(scaled.astype(dtype))


def choose_scaling(X: np.ndarray, weight: np.ndarray | None, how: Any) -> Scaling:
    """Return the scaling that a sample of the rows calls for.

    Parameters
    ----------
    X : ndarray of shape (rows, features)
        The sample, of its type on disk.
    weight : ndarray of shape (rows,) or None
        Row weights; rows of weight zero count as absent.
    how : {"auto", "standard", "none"}
        "standard" centres each column and divides it by its standard deviation, or by a tenth of
        its reach from the mean where that is more. "auto" divides unsigned bytes, whose columns
        share one scale, by 255 and treats everything else as "standard".
    """
    columns = X.shape[1]
    if how == "none":
        return Scaling(np.zeros(columns), np.ones(columns))
    if how == "auto" and X.dtype == np.uint8:
        return Scaling(np.zeros(columns), np.full(columns, 1 / 255))
    if weight is not None:
        keep = weight > 0
        X, weight = X[keep], weight[keep]
    X = X.astype(np.float64)
    unit = np.maximum(np.abs(X).max(axis=0), np.finfo(np.float64).tiny)
    X /= unit  # squares of huge values would overflow
    mean = np.average(X, axis=0, weights=weight)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    reach = np.abs(X - mean).max(axis=0)
    scale = np.maximum(spread, reach / REACH) * unit
    mean *= unit
    # Below rounding of the mean a column is constant, and has no scale of its own.
    constant = scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return Scaling(mean, 1.0 / np.where(constant, 1.0, scale))

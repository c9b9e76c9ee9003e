"""Shift and factor of each input column, found on a sample and folded into the first layer."""

from typing import Any, NamedTuple

import numpy as np

from daskalt.errors import InputError

__all__ = ["Scaling", "choose_scaling"]

# A column may put its sampled extremes this many standard deviations out, no further: columns
# that are almost always constant (rare pixels, flags) would otherwise dominate when they are not.
REACH = 10.0
# Columns of smaller mean and spread than this, times 1e-7, count as constant: their weights, in
# units of X, might overflow. Larger entries than these, unscaled, have squares that do.
SMALLEST = {"float32": 1e-30, "float64": 1e-200}
LARGEST_UNSCALED = {"float32": 1e15, "float64": 1e100}


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
        """Return the weights on scaled inputs whose folded form is ``w``."""
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

    Raises
    ------
    InputError
        If some values are so large that arithmetic with them would overflow.
    """
    columns = X.shape[1]
    if how == "auto" and X.dtype == np.uint8:
        return Scaling(np.zeros(columns), np.full(columns, 1 / 255))
    if weight is not None:
        keep = weight > 0
        X, weight = X[keep], weight[keep] / weight.max()
    kind = "float64" if X.dtype == np.float64 else "float32"  # of training
    X = X.astype(np.float64)
    largest = np.abs(X).max(axis=0)
    _check_size(largest, kind, how)
    if how == "none":
        return Scaling(np.zeros(columns), np.ones(columns))
    unit = np.maximum(largest, np.finfo(np.float64).tiny)
    X /= unit  # squares of huge values would overflow
    mean = np.average(X, axis=0, weights=weight)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    reach = np.abs(X - mean).max(axis=0)
    scale = np.maximum(spread, reach / REACH) * unit
    mean *= unit
    # Below rounding of the mean a column is constant, and has no scale of its own. That of the mean
    # keeps what its weight adds, and the bias takes away again, from drowning all else in rounding.
    constant = scale <= 1e-7 * np.maximum(np.abs(mean), SMALLEST[kind])
    return Scaling(mean, 1.0 / np.where(constant, np.maximum(np.abs(mean), 1.0), scale))


def _check_size(largest: np.ndarray, kind: str, how: str) -> None:
    """Raise InputError if the largest magnitudes of the columns would overflow."""
    limit = LARGEST_UNSCALED[kind] if how == "none" else float(np.finfo(kind).max) / 8
    column = int(np.argmax(largest))
    if largest[column] > limit:
        cure = "use scale='auto', or scale X" if how == "none" else "divide the column"
        raise InputError(
            f"X reaches {largest[column]:.3g} in column {column}, and {kind} with "
            f"scale={how!r} takes up to {limit:.3g}: {cure}."
        )

"""Shift and factor of each input column, found on a sample and folded into the first layer."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from daskalt.errors import InputError
from daskalt.kernels.scale import scale_rows

__all__ = ["SCALING_BYTES", "Scaling", "choose_scaling"]

# Scaled entries go this far from zero. Under "standard" the scale of a column is widened until its
# sample does; under "auto", whose scale a few wild values do not move, entries are clipped there.
REACH = 10.0
# A twentieth of a column's values on either side are its tails. What lies further from the median
# than six times the rest counts as that far: ten standard deviations of a Gaussian.
TAIL, TAIL_REACH = 0.05, 6.0
# Columns of smaller mean and spread than this, times 1e-7, count as constant: their weights, in
# units of X, might overflow. Larger entries than these, unscaled, have squares that do.
SMALLEST = {"float32": 1e-30, "float64": 1e-200}
LARGEST_UNSCALED = {"float32": 1e15, "float64": 1e100}
BLOCK_ENTRIES = 1 << 17  # of the sample, in columns that are looked at together
SCALING_BYTES = 10 * 8 * BLOCK_ENTRIES  # of what that takes


class Scaling(NamedTuple):
    """Scaled inputs are (x - shift) × factor, clipped to ± reach."""

    shift: np.ndarray
    factor: np.ndarray
    reach: float = np.inf

    @property
    def limits(self) -> np.ndarray:
        """Least and greatest value of each raw column that is not clipped, (2, columns)."""
        return self.shift + np.array([[-self.reach], [self.reach]]) / self.factor

    def apply(self, X: np.ndarray, dtype: DTypeLike, out: np.ndarray | None = None) -> np.ndarray:
        """Return the scaled inputs with a last column of ones."""
        return scale_rows(X, self.shift, self.factor, dtype, out, self.reach)

    def fold(self, w: np.ndarray) -> np.ndarray:
        """Return first-layer weights that act on the raw columns as ``w`` acts on scaled ones.

        They do so within the limits.
        """
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


def choose_scaling(
    X: np.ndarray, weight: np.ndarray | None, how: Any, *, clip: bool = True
) -> Scaling:
    """Return the scaling that a sample of the rows calls for.

    Parameters
    ----------
    X : ndarray of shape (rows, features)
        The sample, of its type on disk.
    weight : ndarray of shape (rows,) or None
        Row weights; rows of weight zero count as absent.
    how : {"auto", "standard", "none"}
        "standard" centres each column and divides it by its standard deviation, or by a tenth of
        its reach from the mean where that is more. "auto" does not depend on the type or the
        unit of a column. One that holds a single value over half of the time, such as a flag, a
        count or a pixel at the margin, keeps that at zero and is divided by the root mean square
        of the deviations of its other entries, so that rare entries are no larger than common
        ones; any other is centred and divided by its standard deviation. Wild values count in
        this as no more than some times the tails that they go beyond, and scaled entries are
        clipped at `REACH`, since no sample holds what is rare, and to look for it in all rows is
        another pass over the data. A column that is constant in the sample has no scale, and its
        other entries keep their unit, or that of the constant where this is larger than one.
    clip : bool
        Whether "auto" clips; not where later rows may lie elsewhere than the sample.

    Raises
    ------
    InputError
        If some values are so large that arithmetic with them would overflow.
    """
    rows, columns = X.shape
    if weight is not None:
        keep = weight > 0
        X, weight = X[keep], weight[keep] / weight.max()
    kind = "float64" if X.dtype == np.float64 else "float32"  # of training
    shift, scale = np.zeros(columns), np.ones(columns)
    width = max(1, BLOCK_ENTRIES // rows)
    for start in range(0, columns, width):
        block = slice(start, start + width)
        x, own_weight = _sorted(X[:, block].T, weight)
        largest = np.maximum(np.abs(x[:, 0]), np.abs(x[:, -1]))
        _check_size(largest, start, kind, how)
        if how != "none":
            unit = np.maximum(largest, np.finfo(np.float64).tiny)
            x /= unit[:, None]  # squares of huge values would overflow
            found = (_standard if how == "standard" else _robust)(x, own_weight)
            shift[block], scale[block] = (part * unit for part in found)
    if how == "none":
        return Scaling(shift, scale)
    # Below rounding of the shift a column is constant, and has no scale of its own. That of the
    # shift keeps what its weight adds, and the bias takes away again, from drowning all else in
    # rounding.
    constant = scale <= 1e-7 * np.maximum(np.abs(shift), SMALLEST[kind])
    factor = 1.0 / np.where(constant, np.maximum(np.abs(shift), 1.0), scale)
    return Scaling(shift, factor, REACH if how == "auto" and clip else np.inf)


def _sorted(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """A sorted copy of each row of x in double precision, and weights in the same order."""
    x = np.ascontiguousarray(x)
    if weight is None:
        counts = x.dtype.itemsize < 4  # the stable sort of small integers, which is faster
        return np.sort(x, axis=1, stable=counts).astype(np.float64, copy=False), None
    order = np.argsort(x, axis=1)
    return np.take_along_axis(x, order, axis=1).astype(np.float64, copy=False), weight[order]


def _standard(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each row of x, and standard deviation or a share of the reach."""
    mean = np.average(x, axis=1, weights=weight)
    x = x - mean[:, None]
    spread = np.sqrt(np.average(x**2, axis=1, weights=weight))
    return mean, np.maximum(spread, np.abs(x).max(axis=1) / REACH)


def _robust(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale of each sorted row of x as "auto" has them."""
    total = float(x.shape[1]) if weight is None else weight.sum(axis=1)
    centre = _value_at(x, weight, np.full(len(x), total / 2))
    others = total * np.average(x != centre[:, None], axis=1, weights=weight)
    low, high = (_value_at(x, weight, part) for part in (TAIL * others, total - TAIL * others))
    limit = TAIL_REACH * np.maximum(high - centre, centre - low)[:, None]
    x = np.clip(x - centre[:, None], -limit, limit)
    one_value = others < total / 2
    mean = np.where(one_value, 0, np.average(x, axis=1, weights=weight))
    power = np.average((x - mean[:, None]) ** 2, axis=1, weights=weight)
    share = np.where(one_value & (others > 0), others / total, 1.0)
    return centre + mean, np.sqrt(power / share)


def _value_at(x: np.ndarray, weight: np.ndarray | None, level: np.ndarray) -> np.ndarray:
    """The least value of each sorted row up to which the entries' weights sum to its ``level``."""
    if weight is None:
        place = np.maximum(np.ceil(level).astype(int) - 1, 0)
    else:
        place = np.argmax(np.cumsum(weight, axis=1) >= level[:, None] * (1 - 1e-12), axis=1)
    return np.take_along_axis(x, place[:, None], axis=1)[:, 0]


def _check_size(largest: np.ndarray, start: int, kind: str, how: str) -> None:
    """Raise InputError if the largest magnitudes of the columns would overflow."""
    limit = LARGEST_UNSCALED[kind] if how == "none" else float(np.finfo(kind).max) / 8
    column = int(np.argmax(largest))
    if largest[column] > limit:
        cure = "use scale='auto', or scale X" if how == "none" else "divide the column"
        raise InputError(
            f"X reaches {largest[column]:.3g} in column {start + column}, and {kind} with "
            f"scale={how!r} takes up to {limit:.3g}: {cure}."
        )

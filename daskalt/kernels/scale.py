"""From rows as they are stored to the first activation of the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from daskalt.jit import compiled

__all__ = ["first_bad_entry", "scale_rows"]


def scale_rows(
    x: np.ndarray,
    shift: np.ndarray,
    factor: np.ndarray,
    dtype: DTypeLike,
    out: np.ndarray | None = None,
    reach: float = np.inf,
) -> np.ndarray:
    """Return ã = [(x - shift) ∘ factor, 1] in one pass, (rows, columns + 1), clipped to ± reach.

    The arithmetic is in the type that holds both x and `dtype`: float32 for bytes, float64 for
    int32 and float64, so that a large shift loses no digits before it is subtracted.

    Parameters
    ----------
    x : ndarray, (rows, columns)
        Booleans, integers or floats in any layout.
    shift, factor : ndarray, (columns,)
        Floats.
    dtype : dtype
        float32 or float64, the type of the result.
    out : ndarray, (rows, columns + 1), optional
        Receives the result.
    reach : float
        Largest magnitude of the result, at least one.
    """
    x = _native(x)
    precision = np.result_type(x.dtype, dtype)
    if out is None:
        out = np.empty((x.shape[0], x.shape[1] + 1), dtype)
    shift, factor = (part.astype(precision, copy=False) for part in (shift, factor))
    _scale(x, shift, factor, precision.type(reach), out)
    return out


def first_bad_entry(x: np.ndarray) -> tuple[int, int] | None:
    """Return (row, column) of the first NaN or infinity in row order, or None.

    A 1-d array counts as one column. Only floats can hold either; other types give None.
    """
    if x.dtype.kind != "f":
        return None
    x = _native(x)
    x = x[:, None] if x.ndim == 1 else x
    bits = np.dtype(f"u{x.dtype.itemsize}")
    # A float is NaN or infinite when all its exponent bits are set, as they are in infinity.
    exponent = np.array(np.inf, x.dtype).view(bits)[()]
    row, column = _first_with(x.view(bits), exponent)
    return None if row < 0 else (row, column)


def _native(x: np.ndarray) -> np.ndarray:
    """Return x in a type that compiled code reads: native byte order, no half precision."""
    if x.dtype == np.float16:
        return x.astype(np.float32)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


@compiled
def _scale(x, shift, factor, reach, out):
    columns = x.shape[1]
    for i in range(x.shape[0]):
        for j in range(columns):
            scaled = (shift.dtype.type(x[i, j]) - shift[j]) * factor[j]
            out[i, j] = min(max(scaled, -reach), reach)
        out[i, columns] = 1


@compiled
def _first_with(bits, mask):
    for i in range(bits.shape[0]):
        found = False
        for j in range(bits.shape[1]):
            found |= (bits[i, j] & mask) == mask
        if found:
            for j in range(bits.shape[1]):
                if (bits[i, j] & mask) == mask:
                    return i, j
    return -1, -1

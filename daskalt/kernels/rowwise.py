"""Element-wise work on the rows of a block, in float64 where it is summed."""

from __future__ import annotations

import numpy as np

from daskalt.jit import compiled

__all__ = ["copy_rows", "dots", "ratio", "square_norms"]

Array = np.ndarray


def square_norms(a: Array, b: Array | None = None) -> Array:
    """Return ‖a‖² of each row, or ‖a - b‖², in float64."""
    out = np.empty(len(a))
    _squares(a, b, out)
    return out


def dots(a: Array, b: Array) -> Array:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def ratio(a: Array, b: Array, where: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=where)


@compiled
def copy_rows(chosen, source, target):
    for i in range(target.shape[0]):
        if chosen[i]:
            for j in range(target.shape[1]):
                target[i, j] = source[i, j]


@compiled
def _squares(a, b, out):
    # Four independent sums, which the processor computes in parallel.
    for i in range(a.shape[0]):
        s0 = s1 = s2 = s3 = 0.0
        whole = a.shape[1] // 4 * 4
        for j in range(0, whole, 4):
            d0, d1, d2, d3 = a[i, j], a[i, j + 1], a[i, j + 2], a[i, j + 3]
            if b is not None:
                d0 -= b[i, j]
                d1 -= b[i, j + 1]
                d2 -= b[i, j + 2]
                d3 -= b[i, j + 3]
            s0 += np.float64(d0) * d0
            s1 += np.float64(d1) * d1
            s2 += np.float64(d2) * d2
            s3 += np.float64(d3) * d3
        for j in range(whole, a.shape[1]):
            d0 = a[i, j]
            if b is not None:
                d0 -= b[i, j]
            s0 += np.float64(d0) * d0
        out[i] = (s0 + s1) + (s2 + s3)

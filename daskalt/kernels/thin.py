"""Products with a single column, which NumPy computes entry by entry instead of by BLAS."""

from __future__ import annotations

import numpy as np

from daskalt.jit import compiled

__all__ = ["pull_through"]


def pull_through(r: np.ndarray, w: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return r w in ``out``: residuals of a layer, times the weights that lead to it.

    Parameters
    ----------
    r : ndarray, (rows, units)
        The residuals.
    w : ndarray, (units, columns)
        The weights; rows of a wider matrix or its own.
    out : ndarray, (rows, columns)
        Receives the product.
    """
    if r.shape[1] > 1:
        return np.matmul(r, w, out=out)
    _outer(r, w[0], out)
    return out


@compiled
def _outer(r, w, out):
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = r[i, 0] * w[j]

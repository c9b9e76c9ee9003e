"""Second moments of one block: the statistics of every least-squares update."""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import get_blas_funcs

from daskalt.jit import compiled

__all__ = ["cross", "gram"]

_TILE = 64  # a tile and its mirror image stay in the nearest cache


def gram(a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return aᵀ a, exactly symmetric, for a (rows, columns).

    Half the arithmetic of a general product. NumPy knows that too, but copies the other half
    column by column, which takes as long as the arithmetic where the matrix outgrows the cache.
    """
    if out is None:
        out = np.empty((a.shape[1], a.shape[1]), a.dtype)
    (syrk,) = get_blas_funcs(("syrk",), (a,))
    # Fortran's upper triangle of the transposed view is C's lower one.
    syrk(1.0, a.T, c=out.T, overwrite_c=True)
    _mirror(out)
    return out


def cross(r: np.ndarray, a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return rᵀ a, (columns of r, columns of a): the moments of residuals and inputs."""
    return np.matmul(r.T, a, out=out)


@compiled
def _mirror(c):
    """Copy the lower triangle to the upper, tile by tile."""
    n = c.shape[0]
    for top in range(0, n, _TILE):
        for left in range(0, top + 1, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(left, min(left + _TILE, i)):
                    c[j, i] = c[i, j]

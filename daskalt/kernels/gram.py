"""Second moments of one block: the statistics of every least-squares update."""

from __future__ import annotations

import numpy as np

__all__ = ["cross", "gram"]


def gram(a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return aᵀ a, exactly symmetric, for a (rows, columns)."""
    # NumPy sees the transpose and calls BLAS's syrk: half the arithmetic of a general product.
    return np.matmul(a.T, a, out=out)


def cross(r: np.ndarray, a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return rᵀ a, (columns of r, columns of a): the moments of residuals and inputs."""
    return np.matmul(r.T, a, out=out)

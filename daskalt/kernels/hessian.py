"""The Hessian of a convex loss on linear outputs, of one block."""

from __future__ import annotations

import numpy as np

from daskalt.kernels.gram import gram

__all__ = ["hessian"]


def hessian(
    x: np.ndarray, d: np.ndarray, u: np.ndarray | None, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return Σ w (diag(d) - u uᵀ) ⊗ x̃ x̃ᵀ over the rows, of (K p)² entries.

    Parameters
    ----------
    x : ndarray, (rows, p)
        Inputs with their column of ones.
    d, u : ndarray, (rows, K)
        diag(d) - u uᵀ is the Hessian of a row's loss in its K outputs; without u it is diagonal.
    weight : ndarray, (rows,), optional
        Row weights w.
    """
    p, outputs = x.shape[1], d.shape[1]
    full = np.zeros((outputs, p, outputs, p), x.dtype)
    for k in range(outputs):
        for other in range(k + 1 if u is not None else 0):
            factor = -u[:, k] * u[:, other]  # type: ignore[index]
            if k == other:
                factor = d[:, k] + factor
            full[k, :, other] = _weighted(x, factor, weight)
            full[other, :, k] = full[k, :, other].T
        if u is None:
            full[k, :, k] = _weighted(x, d[:, k], weight)
    return full.reshape(outputs * p, outputs * p)


def _weighted(x: np.ndarray, factor: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Σ factor w x̃ x̃ᵀ."""
    if weight is not None:
        factor = factor * weight
    if (factor == factor[0]).all() and factor[0] == 1:
        return gram(x)
    return (x * factor[:, None].astype(x.dtype)).T @ x

"""The backward pass of one block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daskalt.activations import Activation
from daskalt.kernels.workspace import Workspace, empty

__all__ = ["backward"]


def backward(
    weights: Sequence[np.ndarray],
    activations: Sequence[np.ndarray],
    r: np.ndarray,
    activation: Activation,
    workspace: Workspace | None = None,
) -> list[np.ndarray]:
    """Return [r_1, ..., r_L] with r_L = r and r_l = φ'(z_l) ∘ (W_{l+1}ᵀ r_{l+1}).

    With r = -∂ℓ/∂z_L, r_l is -∂ℓ/∂z_l, and r_lᵀ ã_{l-1} the descent direction of W_l.

    Parameters
    ----------
    weights, activations : sequence of ndarray
        As given to and returned by `forward`.
    r : ndarray, (rows, K)
        The residual of the last pre-activation.
    activation : Activation
        φ of the hidden layers.
    workspace : Workspace, optional
        Holds the results ("r1", "r2", ...) until its next use; by default they are fresh.
    """
    residuals = [r]
    for layer in range(len(weights) - 1, 0, -1):
        W = weights[layer][:, :-1]
        r_below = empty(workspace, f"r{layer}", (len(r), W.shape[1]), r.dtype)
        np.matmul(residuals[-1], W, out=r_below)
        activation.backpropagate(r_below, activations[layer])
        residuals.append(r_below)
    return residuals[::-1]

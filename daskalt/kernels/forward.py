"""The forward pass of one block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daskalt.activations import Activation
from daskalt.kernels.workspace import Workspace, empty

__all__ = ["forward"]


def forward(
    weights: Sequence[np.ndarray],
    x: np.ndarray,
    activation: Activation,
    workspace: Workspace | None = None,
) -> list[np.ndarray]:
    """Return [ã_0 = x, ã_1, ..., ã_{L-1}, z_L] with a_l = φ(W_l ã_{l-1}).

    Parameters
    ----------
    weights : sequence of ndarray, (out, in + 1)
        [W_l b_l] of each layer.
    x : ndarray, (rows, in + 1)
        The scaled rows, with their trailing column of ones.
    activation : Activation
        φ of the hidden layers.
    workspace : Workspace, optional
        Holds the results ("a1", "a2", ...) until its next use; by default they are fresh.

    Returns
    -------
    list of ndarray
        The hidden activations (rows, width + 1) with a trailing column of ones, and the last
        pre-activation (rows, K), to which no link has been applied.
    """
    activations = [x]
    for layer, W in enumerate(weights[:-1], start=1):
        a = empty(workspace, f"a{layer}", (len(x), len(W) + 1), x.dtype)
        # BLAS takes the row stride as it is: no copy is made of this view.
        z = a[:, :-1]
        np.matmul(activations[-1], W.T, out=z)
        activation.apply(z)
        a[:, -1] = 1
        activations.append(a)
    W = weights[-1]
    z = empty(workspace, f"a{len(weights)}", (len(x), len(W)), x.dtype)
    activations.append(np.matmul(activations[-1], W.T, out=z))
    return activations

"""A joint step of the z of all layers, from the forward pass.

Minimised over all layers at once, ℓ(z_L, y) + Σ_l μ_l ‖v_l‖² with z_l = W_l ã_{l-1} + v_l has, to
first order, v_l = -∂ℓ/∂z_l / 2μ_l: the back-propagated gradient. It reaches the first layers as it
is, where a sweep from layer to layer lets only a part 1 / (1 + σ²) of it through each of them, σ
being singular values of the weights; in a deep network nothing would be left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daskalt.activations import Activation
from daskalt.jit import compiled
from daskalt.kernels.backward import backward
from daskalt.kernels.sweep import activated
from daskalt.kernels.workspace import Workspace, empty

__all__ = ["joint_step"]

Array = np.ndarray


def joint_step(
    weights: Sequence[Array],
    z: Sequence[Array],
    inputs: Sequence[Array],
    r: Array,
    mu: Sequence[float],
    phi: Activation,
    workspace: Workspace | None = None,
) -> tuple[list[Array], list[Array], Array]:
    """Return (z, predictions, coupling) after the step v_l = r_l / 2μ_l in every layer.

    Parameters
    ----------
    weights : sequence of ndarray, (out, in + 1)
        [W_l b_l] of each layer.
    z : sequence of ndarray, (rows, out)
        Pre-activations of the forward pass.
    inputs : sequence of ndarray, (rows, in + 1)
        The inputs ã of every layer in it.
    r : ndarray, (rows, K)
        -∂ℓ/∂z_L; overwritten.
    mu : sequence of float
        Multiplier of each layer's coupling.
    phi : Activation
        φ of the hidden layers.
    workspace : Workspace, optional
        Holds the results until its next use; by default they are fresh.

    Returns
    -------
    z : list of ndarray, (rows, out)
        W_l ã_{l-1} + v_l, each layer with the moved ones below it.
    predictions : list of ndarray, (rows, out)
        The W_l ã_{l-1} in them; the first is ``z[0]``.
    coupling : ndarray, (rows,)
        Σ_l μ_l ‖v_l‖².
    """
    moved = backward(weights, inputs, r, phi, workspace)
    predictions = [z[0]]
    coupling = np.zeros(len(r))
    for layer, (v, w, m) in enumerate(zip(moved, weights, mu, strict=True)):
        if layer:
            below = activated(moved[layer - 1], phi, workspace, layer)
            out = empty(workspace, f"joint{layer}", v.shape, v.dtype)
            predictions.append(np.matmul(below, w.T, out=out))
        _scale_and_add(v, v.dtype.type(0.5 / m), predictions[layer], m, coupling)
    return moved, predictions, coupling


@compiled
def _scale_and_add(v, scale, prediction, mu, coupling):
    """v = scale v + prediction, with mu ‖scale v‖² added to each row's coupling."""
    for i in range(v.shape[0]):
        total = 0.0
        for j in range(v.shape[1]):
            move = scale * v[i, j]
            total += np.float64(move) * move
            v[i, j] = prediction[i, j] + move
        coupling[i] += mu * total

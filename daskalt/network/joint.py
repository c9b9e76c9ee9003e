"""A joint step of the z of all layers, from the forward pass.

Minimised over all layers at once, ℓ(z_L, y) + Σ_l μ_l ‖v_l‖² with z_l = W_l ã_l + v_l has, to
first order, v_l = -∂ℓ/∂z_l / 2μ_l: the back-propagated gradient. It reaches the first layers
undiminished, whereas a sweep from layer to layer passes only a part 1 / (1 + σ²) of it through
each, with σ the singular values of the weights; in a deep network almost nothing would be left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daskalt.jit import compiled
from daskalt.kernels.workspace import Workspace, empty
from daskalt.network.network import Network, Trace

__all__ = ["joint_step"]

Array = np.ndarray


def joint_step(
    network: Network,
    weights: Sequence[Array],
    trace: Trace,
    r: Array,
    mu: Sequence[float],
    workspace: Workspace | None = None,
) -> tuple[list[Array], list[Array], Array]:
    """Return (z, predictions, coupling) after the step v_l = r_l / 2μ_l in every layer.

    Parameters
    ----------
    network : Network
        The layers.
    weights : sequence of ndarray, (units, in + 1)
        Every weight matrix [W b].
    trace : Trace
        Of the forward pass, with the z of all layers; its inputs are overwritten.
    r : ndarray, (rows, K)
        -∂ℓ/∂z_L; overwritten.
    mu : sequence of float
        Multiplier of each layer's coupling.
    workspace : Workspace, optional
        Holds the results until its next use; by default they are fresh.

    Returns
    -------
    z : list of ndarray, (rows, units)
        W_l ã_l + v_l, each layer with the moved ones below it.
    predictions : list of ndarray, (rows, units)
        W_l ã_l of the moved layers; where ã_l depends on the data alone, that of the trace.
    coupling : ndarray, (rows,)
        Σ_l μ_l ‖v_l‖².
    """
    moved = network.pull_back(weights, trace.inputs, r, workspace)
    predictions: list[Array] = []
    coupling = np.zeros(len(r))
    for index, (layer, v, m) in enumerate(zip(network.layers, moved, mu, strict=True)):
        if network.grounded[index]:
            predictions.append(trace.z[index])
        else:
            out = empty(workspace, f"joint{index}", v.shape, v.dtype)
            w = weights[layer.weights]
            predictions.append(np.matmul(trace.inputs[index], w.T, out=out))
        _scale_and_add(v, v.dtype.type(0.5 / m), predictions[index], m, coupling)
        if layer.phi is not None:
            network.activate(index, v, trace.inputs)
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

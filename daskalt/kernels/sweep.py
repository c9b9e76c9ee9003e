"""One sweep of damped Newton steps over the auxiliary variables of a block, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daskalt.activations import Activation
from daskalt.kernels.newton import Coupling, hidden_newton, output_newton
from daskalt.kernels.workspace import Workspace, empty
from daskalt.losses import Loss

__all__ = ["activated", "predict_layers", "sweep"]

Array = np.ndarray


def sweep(
    weights: Sequence[Array],
    x: Array,
    y: Array,
    z: Sequence[Array],
    mu: Sequence[float],
    phi: Activation,
    loss: Loss,
    *,
    predictions: Sequence[Array] | None = None,
    shifts: Sequence[Array] | None = None,
    iterations: int = 30,
    workspace: Workspace | None = None,
) -> tuple[list[Array], list[Array], list[Array]]:
    """Return (z, inputs, residuals) after a Newton step of every layer, from the output back.

    Parameters
    ----------
    weights : sequence of ndarray, (out, in + 1)
        [W_l b_l] of each layer.
    x : ndarray, (rows, features + 1)
        Scaled inputs with their column of ones.
    y : ndarray
        Targets, as ``loss`` takes them.
    z : sequence of ndarray, (rows, out)
        Where to start; left as they are.
    mu : sequence of float
        Multiplier of each layer's coupling.
    phi, loss : Activation, Loss
        Of the network.
    predictions : sequence of ndarray, (rows, out), optional
        W_l ã_{l-1} at the given z, if they are known.
    shifts : sequence of ndarray, (rows, out), optional
        Added to each prediction: the couplings are ‖z_l - W_l ã_{l-1} - shift_l‖².
    iterations : int
        Most iterations of conjugate gradients.
    workspace : Workspace, optional
        Holds all results until its next use; by default they are fresh.

    Returns
    -------
    z : list of ndarray
        The moved pre-activations.
    inputs : list of ndarray, (rows, in + 1)
        x, and φ(z_l) with a column of ones.
    residuals : list of ndarray, (rows, out)
        z_l - W_l ã_{l-1}, less the shift, with the moved z on both sides.
    """
    last = len(weights) - 1
    if predictions is None:
        predictions = predict_layers(weights, x, z, phi, workspace)
    z = list(z)
    inputs, residuals = [x] * len(weights), [x] * len(weights)
    for layer in range(last, -1, -1):
        m, above = predictions[layer], z[layer]
        if layer < last:
            above = z[layer + 1]
        if shifts is not None:
            m = m + shifts[layer]
            above = above - shifts[min(layer + 1, last)]
        if layer == last:
            z[layer] = output_newton(z[layer], m, y, mu[layer], loss)
        else:
            a = inputs[layer + 1] = _input(z[layer], workspace, layer + 1)
            z[layer], residuals[layer + 1] = hidden_newton(
                z[layer],
                m,
                above,
                Coupling(weights[layer + 1], mu[layer], mu[layer + 1], phi),
                iterations=iterations,
                m_next=predictions[layer + 1],
                out=_take(workspace, f"moved{layer}", z[layer]),
                residual=_take(workspace, f"residual{layer + 1}", z[layer + 1]),
                activation=a[:, :-1],
                workspace=workspace,
            )
        if layer == 0:
            residuals[0] = np.subtract(z[0], m, out=_take(workspace, "residual0", m))
    return z, inputs, residuals


def predict_layers(
    weights: Sequence[Array],
    x: Array,
    z: Sequence[Array],
    phi: Activation,
    workspace: Workspace | None = None,
    first: Array | None = None,
) -> list[Array]:
    """Return W_l ã_{l-1} of each layer, from the z below it; ``first`` is W_1 x̃ if it is known."""
    predictions = []
    for layer, w in enumerate(weights):
        if layer == 0 and first is not None:
            predictions.append(first)
            continue
        below = x if layer == 0 else activated(z[layer - 1], phi, workspace, layer)
        out = _take(workspace, f"prediction{layer}", z[layer])
        predictions.append(np.matmul(below, w.T, out=out))
    return predictions


def activated(z: Array, phi: Activation, workspace: Workspace | None, layer: int) -> Array:
    """Return [φ(z), 1], the input of a layer."""
    a = _input(z, workspace, layer)
    a[:, :-1] = z
    phi.apply(a[:, :-1])
    return a


def _input(z: Array, workspace: Workspace | None, layer: int) -> Array:
    """Room for [φ(z), 1], its last column filled."""
    a = empty(workspace, f"input{layer}", (z.shape[0], z.shape[1] + 1), z.dtype)
    a[:, -1] = 1
    return a


def _take(workspace: Workspace | None, name: str, like: Array) -> Array:
    return empty(workspace, f"sweep {name}", like.shape, like.dtype)

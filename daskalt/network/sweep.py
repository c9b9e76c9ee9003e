"""One sweep of damped Newton steps over the auxiliary variables of a block, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from daskalt.kernels.damped_newton import Coupling, hidden_newton, output_newton
from daskalt.kernels.workspace import Workspace, empty
from daskalt.network.network import Network

__all__ = ["sweep"]

Array = np.ndarray


def sweep(
    network: Network,
    weights: Sequence[Array],
    x: Array,
    y: Array,
    z: Sequence[Array],
    mu: Sequence[float],
    *,
    predictions: Sequence[Array] | None = None,
    shifts: Sequence[Array] | None = None,
    iterations: int = 30,
    workspace: Workspace | None = None,
) -> tuple[list[Array], list[Array], list[Array]]:
    """Return (z, inputs, residuals) after a Newton step of every layer, from the output back.

    Parameters
    ----------
    network : Network
        The layers and the loss.
    weights : sequence of ndarray, (units, in + 1)
        Every weight matrix [W b].
    x : ndarray, (rows, features + 1)
        Scaled rows with their column of ones.
    y : ndarray
        Targets, as the loss takes them.
    z : sequence of ndarray, (rows, units)
        Where to start; unchanged.
    mu : sequence of float
        Multiplier of each layer's coupling.
    predictions : sequence of ndarray, (rows, units), optional
        W_l ã_l at the given z, if they are known.
    shifts : sequence of ndarray, (rows, units), optional
        Added to each prediction: the couplings are ‖z_l - W_l ã_l - shift_l‖².
    iterations : int
        Most iterations of conjugate gradients.
    workspace : Workspace, optional
        Holds all results until its next use; by default they are fresh.

    Returns
    -------
    z : list of ndarray
        The moved pre-activations.
    inputs : list of ndarray, (rows, in + 1)
        ã of every layer at the moved z.
    residuals : list of ndarray, (rows, units)
        z_l - W_l ã_l, less the shift, with the moved z on both sides.
    """
    if predictions is None:
        predictions = network.predict(weights, x, z, workspace)
    block = _Block(network, weights, list(z), network.open(x, workspace), mu, shifts, workspace)
    residuals: list[Array | None] = [None] * len(z)
    if not all(network.alone[:-1]):
        for index, own in enumerate(z[:-1]):
            network.activate(index, own, block.inputs)
    for index in range(len(z) - 1, -1, -1):
        m = predictions[index] if shifts is None else predictions[index] + shifts[index]
        if index == len(z) - 1:
            block.z[index] = output_newton(z[index], m, y, mu[index], network.loss)
        elif network.alone[index]:
            user = network.users[index][0].layer
            residuals[user] = block.move_alone(index, m, predictions[user], iterations)
        else:
            block.move(index, m, iterations)
        if network.grounded[index]:
            out = block.take(f"residual{index}", m)
            residuals[index] = np.subtract(block.z[index], m, out=out)
    found = [block.residual(i) if r is None else r for i, r in enumerate(residuals)]
    return block.z, block.inputs, found


class _Block(NamedTuple):
    """Some rows while their z moves; the inputs of layers with several sources follow z."""

    network: Network
    weights: Sequence[Array]
    z: list[Array]
    inputs: list[Array]
    mu: Sequence[float]
    shifts: Sequence[Array] | None
    workspace: Workspace | None

    def move_alone(self, index: int, m: Array, m_next: Array, iterations: int) -> Array:
        """Move the z of a layer that is its only user's only source; return the user's residual."""
        network, user = self.network, self.network.users[index][0].layer
        phi = network.layers[index].phi
        assert phi is not None
        w = self.weights[network.layers[user].weights]
        self.z[index], residual = hidden_newton(
            self.z[index],
            m,
            self._aim(user),
            Coupling(w, self.mu[index], self.mu[user], phi),
            iterations=iterations,
            m_next=m_next,
            out=self.take(f"moved{index}", self.z[index]),
            residual=self.take(f"residual{user}", self.z[user]),
            activation=self.inputs[user][:, :-1],
            workspace=self.workspace,
        )
        return residual

    def move(self, index: int, m: Array, iterations: int) -> None:
        """Move the z of any other layer, with the other sources of its users held fixed."""
        network, first = self.network, self.network.users[index][0].layer
        phi = network.layers[index].phi
        assert phi is not None
        w, aims, known = [], [], []
        for use in network.users[index]:
            factor = m.dtype.type(np.sqrt(self.mu[use.layer] / self.mu[first]))
            own = network.columns(self.weights, index, use)
            a = self.inputs[use.layer][:, use.start : use.start + len(own[0])]
            known.append(factor * (a @ own.T))
            aims.append(factor * self.residual(use.layer) + known[-1])
            w.append(factor * np.concatenate([own, np.zeros_like(own[:, :1])], axis=1))
        self.z[index], _ = hidden_newton(
            self.z[index],
            m,
            np.concatenate(aims, axis=1),
            Coupling(np.concatenate(w), self.mu[index], self.mu[first], phi),
            iterations=iterations,
            m_next=np.concatenate(known, axis=1),
            workspace=self.workspace,
        )
        network.activate(index, self.z[index], self.inputs)

    def residual(self, index: int) -> Array:
        """z - W ã, less the shift, of a layer at its present z."""
        w = self.weights[self.network.layers[index].weights]
        return self._aim(index) - self.inputs[index] @ w.T

    def take(self, name: str, like: Array) -> Array:
        """Return an array for a result."""
        return empty(self.workspace, f"sweep {name}", like.shape, like.dtype)

    def _aim(self, index: int) -> Array:
        return self.z[index] if self.shifts is None else self.z[index] - self.shifts[index]

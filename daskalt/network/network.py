"""The network: layers and a loss, its forward pass, and the backward pass of residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS, Activation
from daskalt.functions.loss import Loss
from daskalt.kernels.gram import Pair
from daskalt.kernels.thin import pull_through
from daskalt.kernels.workspace import Workspace, empty
from daskalt.network.layers import Input, Layer, Wiring

__all__ = ["Network", "Trace", "Weights", "check_network", "dense", "pack", "unpack"]

Array = np.ndarray
Weights = tuple[np.ndarray, ...]


class Trace(NamedTuple):
    """The result of a forward pass of some rows.

    Attributes
    ----------
    inputs : list of ndarray, (rows, in + 1)
        ã of every layer, with its column of ones.
    z : list of ndarray, (rows, units)
        Pre-activations of every layer, or of the last alone.
    """

    inputs: list[Array]
    z: list[Array]


@dataclass(frozen=True)
class Network(Wiring):
    """Layers with named sources, and the loss of the last.

    Parameters
    ----------
    inputs, layers : tuple of Input, tuple of Layer
        As in `Wiring`.
    loss : Loss
        Loss composed with the link of the last layer.
    """

    loss: Loss

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The distinct activations of the hidden layers."""
        return tuple(dict.fromkeys(each.phi for each in self.layers if each.phi is not None))

    @property
    def phi(self) -> Activation:
        """Activation of the hidden layers, the identity where there are none.

        Raises
        ------
        InputError
            If they have different activations.
        """
        phi, *others = self.activations or (ACTIVATIONS["identity"],)
        if others:
            raise InputError("The hidden layers have several activations: give them all the same.")
        return phi

    # Operations, of one row

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass."""
        return 2 * sum(self.of_layers(self.sizes))

    @property
    def pull_back_flops(self) -> int:
        """Floating-point operations of one backward pass."""
        inner = 0
        for layer, parts in zip(self.layers, self.parts, strict=True):
            hidden = sum(width for name, _, width in parts if name not in self._data)
            inner += layer.width * (hidden + 1) if hidden else 0
        return 2 * inner

    @property
    def gram_flops(self) -> int:
        """Floating-point operations of the Gram matrices that do not depend on data alone."""
        return sum(
            self.shapes[layer.weights][1] ** 2
            for layer in self.layers
            if not self.fixed[layer.weights]
        )

    @property
    def residual_gram_flops(self) -> int:
        """Floating-point operations of the Gram matrices of the layers' residuals."""
        return sum(layer.width**2 for layer in self.layers)

    @cached_property
    def _kept(self) -> tuple[set[str], ...]:
        """Of every layer: the sources of those after it."""
        after = [set(layer.sources) for layer in self.layers[1:]]
        return tuple(set().union(*after[index:]) for index in range(len(self.layers)))

    @property
    def _data(self) -> set[str]:
        return {each.name for each in self.inputs}

    # Passes

    def trace(
        self,
        weights: Sequence[Array],
        x: Array,
        workspace: Workspace | None = None,
        *,
        apart: bool = False,
    ) -> Trace:
        """Return ã of every layer and z of the last, with a_l = φ(W_l ã_l).

        Parameters
        ----------
        weights : sequence of ndarray, (units, in + 1)
            Every weight matrix [W b].
        x : ndarray, (rows, features + 1)
            The scaled rows, with their column of ones.
        workspace : Workspace, optional
            Holds the results until its next use; by default they are fresh.
        apart : bool
            Whether to keep z of the hidden layers too.
        """
        inputs, z = self.open(x, workspace), []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            if index == last or apart:
                out = empty(workspace, f"z{index}", (len(x), layer.width), x.dtype)
                z.append(np.matmul(inputs[index], weights[layer.weights].T, out=out))
                if index < last:
                    self.activate(index, out, inputs)
            else:
                # BLAS accepts the row stride, so no copy is made of this view.
                here = self.places(index, inputs)
                np.matmul(inputs[index], weights[layer.weights].T, out=here[0])
                self._apply(index, here, inputs)
        return Trace(inputs, z)

    def pull_back(
        self,
        weights: Sequence[Array],
        inputs: Sequence[Array],
        r: Array,
        workspace: Workspace | None = None,
    ) -> list[Array]:
        """Return the residuals of every layer, r_l = φ'(z_l) ∘ Σ Wᵀ r over its users.

        With r = -∂ℓ/∂z of the last layer, r_l is -∂ℓ/∂z_l, and r_lᵀ ã_l the descent direction of
        W_l.

        Parameters
        ----------
        weights, inputs : sequence of ndarray
            As given to `trace`, and ã as returned.
        r : ndarray, (rows, outputs)
            The residual of the last layer.
        workspace : Workspace, optional
            Holds the results until its next use; by default they are fresh.
        """
        residuals = [r] * len(self.layers)
        for index in range(len(self.layers) - 2, -1, -1):
            first, *others = self.users[index]
            phi, width = self.layers[index].phi, self.layers[index].width
            own = empty(workspace, f"r{index}", (len(r), width), r.dtype)
            pull_through(residuals[first.layer], self.columns(weights, index, first), own)
            for use in others:
                own += residuals[use.layer] @ self.columns(weights, index, use)
            assert phi is not None
            phi.backpropagate(own, inputs[first.layer][:, first.start :])
            residuals[index] = own
        return residuals

    def predict(
        self,
        weights: Sequence[Array],
        x: Array,
        z: Sequence[Array],
        workspace: Workspace | None = None,
        ahead: Sequence[Array] | None = None,
    ) -> list[Array]:
        """Return W_l ã_l of every layer, from the z of its sources.

        ``ahead`` has those of a forward pass, if there was one; they are reused for layers whose
        ã depends on the data alone.
        """
        inputs, predictions = self.open(x, workspace), []
        for index, (layer, own) in enumerate(zip(self.layers, z, strict=True)):
            if ahead is not None and self.grounded[index]:
                predictions.append(ahead[index])
            else:
                out = empty(workspace, f"prediction{index}", own.shape, own.dtype)
                predictions.append(np.matmul(inputs[index], weights[layer.weights].T, out=out))
            if layer.phi is not None:
                self.activate(index, own, inputs)
        return predictions

    def pairs(self, inputs: Sequence[Array], residuals: Sequence[Array]) -> list[list[Pair]]:
        """Return for every weight matrix the pairs (ã, r) of the layers that have it."""
        return self.by_matrix(zip(inputs, residuals, strict=True))

    def outputs(self, coefs: Sequence[Array], intercepts: Sequence[Array], x: Array) -> Array:
        """Return z of the last layer, for rows without a column of ones.

        Parameters
        ----------
        coefs, intercepts : sequence of ndarray, (in, units) and (units,)
            Every Wᵀ and b.
        x : ndarray, (rows, features)
            The rows.
        """
        values = {each.name: each.columns(x) for each in self.inputs}
        for index, layer in enumerate(self.layers):
            a = [values[name] for name in layer.sources]
            z = (a[0] if len(a) == 1 else np.concatenate(a, axis=1)) @ coefs[layer.weights]
            z += intercepts[layer.weights]
            values = {name: own for name, own in values.items() if name in self._kept[index]}
            if layer.phi is not None:
                layer.phi.apply(z)
            values[layer.name] = z
        return z

    # The inputs of layers

    def data(self, x: Array, workspace: Workspace | None = None) -> list[Array | None]:
        """Return ã of the layers where that depends on the data alone; None of the others."""
        return [
            self._room(index, x, workspace) if grounded else None
            for index, grounded in enumerate(self.grounded)
        ]

    def open(self, x: Array, workspace: Workspace | None = None) -> list[Array]:
        """Return arrays for ã of every layer, with the columns of data and the ones filled in."""
        inputs: list[Array] = []
        for index, room in enumerate(self.rooms):
            own = inputs[room] if room < index else self._room(index, x, workspace)
            inputs.append(own)
        return inputs

    def activate(self, index: int, z: Array, inputs: Sequence[Array]) -> None:
        """Write φ(z) of a hidden layer wherever it is part of an ã."""
        here = self.places(index, inputs)
        here[0][...] = z
        self._apply(index, here, inputs)

    def places(self, index: int, inputs: Sequence[Array]) -> list[Array]:
        """Return views of where the activations of a hidden layer are written."""
        width = self.layers[index].width
        return [inputs[room][:, start : start + width] for room, start in self.homes[index]]

    def columns(self, weights: Sequence[Array], index: int, use: tuple[int, int]) -> Array:
        """Return the columns of a user's weight matrix that multiply a layer's activations."""
        user, start = use
        return weights[self.layers[user].weights][:, start : start + self.layers[index].width]

    def _apply(self, index: int, places: list[Array], inputs: Sequence[Array]) -> None:
        """Overwrite the z in the first place by φ(z), and copy it to the others."""
        phi, (here, *others) = self.layers[index].phi, places
        assert phi is not None
        if self.alone[index]:
            # Passes over whole rows are SIMD, unlike those over a view; so the ones are put back.
            own = inputs[self.homes[index][0].layer]
            phi.apply(own)
            own[:, -1] = 1
            return
        phi.apply(here)
        for other in others:
            other[...] = here

    def _room(self, index: int, x: Array, workspace: Workspace | None) -> Array:
        if self.whole[index]:
            return x
        width = self.shapes[self.layers[index].weights][1]
        a = empty(workspace, f"input{index}", (len(x), width), x.dtype)
        for each, start in self.taken[index]:
            a[:, start : start + each.width] = each.columns(x)
        a[:, -1] = 1
        return a


def check_network(network: Network, n_features: int, n_outputs: int) -> None:
    """Raise InputError unless a network takes and gives what the rows have."""
    if not isinstance(network, Network):
        raise InputError(f"_network must return a Network; it returned {network!r}.")
    if network.n_features != n_features:
        raise InputError(
            f"The network's inputs take {network.n_features} columns, and X has {n_features}: "
            "declare an Input for every column, also for one that no layer needs."
        )
    if network.n_outputs != n_outputs:
        raise InputError(
            f"The network's last layer has {network.n_outputs} units, and the targets take "
            f"{n_outputs}: give it as many."
        )


def dense(widths: Sequence[int], phi: Activation, loss: Loss) -> Network:
    """Return a fully connected network.

    Parameters
    ----------
    widths : sequence of int
        Columns of the rows, units of every hidden layer, outputs.
    phi : Activation
        Of every hidden layer.
    loss : Loss
        Loss composed with the link of the last layer.
    """
    names = ["x", *(f"hidden {n}" for n in range(1, len(widths) - 1)), "outputs"]
    layers = [
        Layer(name, width, (before,), number, phi if name != "outputs" else None)
        for number, ((before, name), width) in enumerate(
            zip(pairwise(names), widths[1:], strict=True)
        )
    ]
    return Network((Input("x", widths[0]),), tuple(layers), loss)


def pack(weights: Weights) -> np.ndarray:
    """Return all weights as one vector."""
    return np.concatenate([w.ravel() for w in weights])


def unpack(vector: np.ndarray, like: Weights) -> Weights:
    """Return the weights in a vector made by `pack`, as views with the shapes of ``like``."""
    edges = np.cumsum([0, *(w.size for w in like)])
    return tuple(
        vector[a:b].reshape(w.shape) for a, b, w in zip(edges, edges[1:], like, strict=False)
    )

"""The network: layer widths, activation and loss, and the weights it starts from."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from daskalt.activations import Activation
from daskalt.losses import Loss

__all__ = ["Network", "Weights", "pack", "unpack"]

Weights = tuple[np.ndarray, ...]

OUTPUT_SPREAD = 0.3  # standard deviation that the initial outputs have over the data


@dataclass(frozen=True)
class Network:
    """A fully connected network.

    Parameters
    ----------
    widths : tuple of int
        Units of each layer, features first, outputs last.
    phi : Activation
        Activation of the hidden layers.
    loss : Loss
        Loss composed with the link of the output layer.
    """

    widths: tuple[int, ...]
    phi: Activation
    loss: Loss

    @property
    def n_layers(self) -> int:
        """Number of weight matrices."""
        return len(self.widths) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each layer, biases included."""
        return tuple((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.widths))

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass of one row."""
        return 2 * sum(self.sizes)

    def initial_weights(
        self, a: np.ndarray, rng: np.random.Generator, row_weight: np.ndarray | None = None
    ) -> Weights:
        """Return weights under which the rows ``a`` use every layer's activation well.

        Gaussian weights, then layer by layer one factor that gives the pre-activations of the
        sample the spread that suits the activation, and for some activations biases that centre
        them (after the layer-sequential unit variance of Mishkin and Matas, 2016). Depth and the
        scale of the inputs then need no tuning. Rows whose squares overflow do not count, since no
        step can take them in.

        Parameters
        ----------
        a : ndarray of shape (rows, features + 1)
            Scaled sample of the inputs, last column one.
        rng : numpy.random.Generator
            Source of the Gaussian weights.
        row_weight : ndarray of shape (rows,), optional
            Weights of the rows in means and spreads; rows of weight zero count as absent, unless
            all have it.
        """
        if row_weight is not None and row_weight.any():
            a, row_weight = a[row_weight > 0], row_weight[row_weight > 0]
        else:
            row_weight = None
        with np.errstate(over="ignore"):
            sound = np.isfinite(np.einsum("ij,ij->i", a, a))
        if sound.any() and not sound.all():
            a, row_weight = a[sound], None if row_weight is None else row_weight[sound]
        with np.errstate(over="ignore", invalid="ignore"):
            return self._spread_weights(a, rng, row_weight)

    def _spread_weights(
        self, a: np.ndarray, rng: np.random.Generator, row_weight: np.ndarray | None
    ) -> Weights:
        weights: list[np.ndarray] = []
        for layer in range(self.n_layers):
            fan_in, fan_out = self.widths[layer : layer + 2]
            last = layer == self.n_layers - 1
            w = np.zeros((fan_out, fan_in + 1), a.dtype)
            w[:, :-1] = rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in)
            z = a @ w.T
            share = np.full(len(a), 1 / len(a)) if row_weight is None else row_weight
            share = (share / share.sum()).astype(a.dtype)
            mean = share @ z
            z -= mean
            spread = float(np.mean(np.sqrt(share @ np.square(z, out=z))))
            # One row, or constant inputs, have no spread to set; nor have those that overflow.
            if 1e-6 < spread < np.inf:
                factor = (OUTPUT_SPREAD if last else self.phi.spread) / spread
                w *= w.dtype.type(factor)
                mean *= factor
            if self.phi.centred and not last and np.isfinite(mean).all():
                w[:, -1] -= mean.astype(w.dtype)
            weights.append(w)
            if not last:
                a = self._hidden(w, a)
        return tuple(weights)

    def _hidden(self, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Activations of a layer, with a last column of ones."""
        out = np.ones((len(a), len(w) + 1), a.dtype)
        np.matmul(a, w.T, out=out[:, :-1])
        self.phi.apply(out[:, :-1])
        return out


def pack(weights: Weights) -> np.ndarray:
    """Return all weights as one vector."""
    return np.concatenate([w.ravel() for w in weights])


def unpack(vector: np.ndarray, like: Weights) -> Weights:
    """Return the weights that `pack` made a vector of, as views, in the shapes of others."""
    edges = np.cumsum([0, *(w.size for w in like)])
    return tuple(
        vector[a:b].reshape(w.shape) for a, b, w in zip(edges, edges[1:], like, strict=False)
    )

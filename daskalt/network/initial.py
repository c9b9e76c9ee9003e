"""The weights that a network starts from."""

import numpy as np

from daskalt.network.layers import Layer
from daskalt.network.network import Network, Weights

__all__ = ["OUTPUT_SPREAD", "initial_weights"]

OUTPUT_SPREAD = 0.3  # of the outputs, as `Activation.spread` is of hidden layers


def initial_weights(
    network: Network,
    x: np.ndarray,
    rng: np.random.Generator,
    row_weight: np.ndarray | None = None,
    mean_target: np.ndarray | None = None,
) -> Weights:
    """Return weights under which some rows use every layer's activation well.

    Gaussian weights, then layer by layer one factor that gives the pre-activations of the
    sample the spread that suits the activation, and for some activations biases that centre
    them (after the layer-sequential unit variance of Mishkin and Matas, 2016). Depth and the
    scale of the inputs then need no tuning. A matrix that layers share is set for the
    first of them. Rows whose squares overflow are left out, since no step can use them.

    Parameters
    ----------
    network : Network
        What the weights are for.
    x : ndarray of shape (rows, features + 1)
        Scaled sample of the rows, last column one.
    rng : numpy.random.Generator
        Source of the Gaussian weights.
    row_weight : ndarray of shape (rows,), optional
        Weights of the rows in means and spreads; rows of weight zero count as absent, unless
        all have it.
    mean_target : ndarray of shape (outputs,), optional
        Mean of the targets, which the biases of the last layer give as outputs, so that no steps
        go into how rare a class is.
    """
    if row_weight is not None and row_weight.any():
        x, row_weight = x[row_weight > 0], row_weight[row_weight > 0]
    else:
        row_weight = None
    with np.errstate(over="ignore", invalid="ignore"):
        sound = np.isfinite(np.einsum("ij,ij->i", x, x))
        if sound.any() and not sound.all():
            x, row_weight = x[sound], None if row_weight is None else row_weight[sound]
        share = np.full(len(x), 1 / len(x)) if row_weight is None else row_weight
        share = (share / share.sum()).astype(x.dtype)
        weights: dict[int, np.ndarray] = {}
        inputs = network.open(x)
        for index, (layer, a) in enumerate(zip(network.layers, inputs, strict=True)):
            if layer.weights not in weights:
                weights[layer.weights] = _spread(layer, a, rng, share)
            if layer.phi is not None:
                network.activate(index, a @ weights[layer.weights].T, inputs)
        if mean_target is not None:  # the last layer shares its matrix with none
            weights[network.layers[-1].weights][:, -1] = network.loss.start(mean_target)
        return tuple(weights[number] for number in sorted(weights))


def _spread(layer: Layer, a: np.ndarray, rng: np.random.Generator, share: np.ndarray) -> np.ndarray:
    """Gaussian weights of one layer, with the spread that suits it."""
    fan_in = a.shape[1] - 1
    w = np.zeros((layer.width, fan_in + 1), a.dtype)
    w[:, :-1] = rng.standard_normal((layer.width, fan_in)) / np.sqrt(fan_in)
    z = a @ w.T
    mean = share @ z
    z -= mean
    spread = float(np.mean(np.sqrt(share @ np.square(z, out=z))))
    # One row, or constant inputs, have no spread to set; nor have those that overflow.
    if 1e-6 < spread < np.inf:
        factor = (OUTPUT_SPREAD if layer.phi is None else layer.phi.spread) / spread
        w *= w.dtype.type(factor)
        mean *= factor
    if layer.phi is not None and layer.phi.centred and np.isfinite(mean).all():
        w[:, -1] -= mean.astype(w.dtype)
    return w

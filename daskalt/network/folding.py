"""Weights converted to the units of the user's own columns, and back to those of scaled ones."""

from collections.abc import Sequence

import numpy as np

from daskalt.data.scaling import Scaling
from daskalt.data.targets import Targets
from daskalt.network.layers import Wiring

__all__ = ["fold", "takes_scaling", "unfold"]


def takes_scaling(network: Wiring) -> bool:
    """Say whether the scaling of the columns can be folded into the weights.

    It cannot where layers share a matrix but have different columns as inputs.
    """
    seen = {(layer.weights, _columns(network, index)) for index, layer in enumerate(network.layers)}
    return len(seen) == len(network.shapes)


def fold(
    network: Wiring, weights: Sequence[np.ndarray], scaling: Scaling, targets: Targets
) -> list[np.ndarray]:
    """Return weights for raw columns, where that is possible, and outputs in the targets' units."""
    folded = list(weights)
    for number, own in _scalings(network, scaling).items():
        folded[number] = own.fold(folded[number])
    last = network.layers[-1].weights
    folded[last] = targets.fold(folded[last])
    return folded


def unfold(
    network: Wiring,
    weights: Sequence[np.ndarray],
    scaling: Scaling,
    targets: Targets,
    dtype: np.dtype,
) -> list[np.ndarray]:
    """Return the weights whose `fold` is given."""
    unfolded = list(weights)
    for number, own in _scalings(network, scaling).items():
        unfolded[number] = own.unfold(unfolded[number], dtype)
    last = network.layers[-1].weights
    unfolded[last] = targets.unfold(unfolded[last], dtype)
    return unfolded


def _scalings(network: Wiring, scaling: Scaling) -> dict[int, Scaling]:
    """The scaling to fold into each matrix, by its number; only those with columns as inputs."""
    if not takes_scaling(network):
        return {}
    found: dict[int, Scaling] = {}
    for index, layer in enumerate(network.layers):
        columns = network.shapes[layer.weights][1] - 1
        for start, width, feature in _columns(network, index):
            if feature is not None:
                blank = Scaling(np.zeros(columns), np.ones(columns))
                own = found.setdefault(layer.weights, blank)
                own.shift[start : start + width] = scaling.shift[feature : feature + width]
                own.factor[start : start + width] = scaling.factor[feature : feature + width]
    return found


def _columns(network: Wiring, index: int) -> tuple[tuple[int, int, int | None], ...]:
    """Of each source of a layer: first column, width, and which feature the first column is."""
    features = {each.name: each.start for each in network.inputs}
    return tuple((start, width, features.get(name)) for name, start, width in network.parts[index])

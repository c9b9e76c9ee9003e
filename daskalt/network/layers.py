"""Layers with named sources: the connections of a network, and where each activation is used."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from daskalt.errors import InputError
from daskalt.functions.activations import Activation
from daskalt.parameters import check_parameters, instance, integer

__all__ = ["Input", "Layer", "Use", "Wiring"]


@dataclass(frozen=True)
class Input:
    """Some neighbouring columns of the scaled features, or zeros.

    Parameters
    ----------
    name : str
        The name by which layers refer to it.
    width : int
        Number of columns.
    start : int or None, default=0
        The first of them among the features; None for zeros, as at the start of a recurrence.
    """

    name: str
    width: int
    start: int | None = 0

    def __post_init__(self) -> None:
        check_parameters(
            self,
            name=instance("text", str),
            width=integer(at_least=1),
            start=integer(at_least=0, or_none=True),
        )

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return its columns of some rows."""
        if self.start is None:
            return np.zeros((len(x), self.width), x.dtype)
        return x[:, self.start : self.start + self.width]


@dataclass(frozen=True)
class Layer:
    """A layer of units, z = W ã with ã = [a of source 1, a of source 2, ..., 1].

    Parameters
    ----------
    name : str
        The name by which later layers refer to it.
    width : int
        Number of units.
    sources : tuple of str
        Names of inputs and earlier layers.
    weights : int
        Number of its weight matrix W. Layers of the same number share it.
    phi : Activation or None
        φ of its units. None for the last layer, whose link belongs to the loss.
    """

    name: str
    width: int
    sources: tuple[str, ...]
    weights: int
    phi: Activation | None = None

    def __post_init__(self) -> None:
        check_parameters(
            self,
            name=instance("text", str),
            width=integer(at_least=1),
            sources=("a tuple of names, such as ('x',)", lambda given: _holds(given, str)),
            weights=integer(at_least=0),
            phi=instance(
                "an Activation, such as ACTIVATIONS['tanh'], or None", Activation, NoneType
            ),
        )


class Use(NamedTuple):
    """A layer that has another as a source, and the column of its ã where that begins."""

    layer: int
    start: int


@dataclass(frozen=True)
class Wiring:
    """Inputs and layers, of which the last gives the outputs.

    Parameters
    ----------
    inputs : tuple of Input
        The columns that are taken from each row.
    layers : tuple of Layer
        Hidden layers and the last, each after all of its sources.

    Raises
    ------
    InputError
        If a name is given twice, a source is unknown, an input or layer is nobody's source, an
        activation is missing or not allowed, or shared weights do not fit.
    """

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        check_parameters(
            self,
            inputs=("a tuple of at least one Input", lambda given: _holds(given, Input)),
            layers=("a tuple of at least one Layer", lambda given: _holds(given, Layer)),
        )
        self._check_names()
        self._check_users()
        numbers = [layer.weights for layer in self.layers]
        if numbers.count(numbers[-1]) > 1:
            raise InputError("The last layer shares its weights: give it a matrix of its own.")
        if any(self.shapes[n] != self._shape(index) for index, n in enumerate(numbers)):
            raise InputError("Layers that share weights must have the same numbers of units.")

    def _check_names(self) -> None:
        known: set[str] = set()
        for own in self.inputs:
            self._check_name(own.name, known)
            known.add(own.name)
        for layer in self.layers:
            self._check_name(layer.name, known)
            for source in layer.sources:
                if source not in known:
                    raise InputError(
                        f"Layer {layer.name!r} has the source {source!r}, which is no input and no "
                        "earlier layer: its sources must come before it."
                    )
                if layer.sources.count(source) > 1:
                    raise InputError(
                        f"Layer {layer.name!r} has the source {source!r} twice: name each once."
                    )
            known.add(layer.name)

    def _check_name(self, name: str, known: set[str]) -> None:
        if name in known:
            raise InputError(
                f"The name {name!r} is given twice: every input and layer needs one of its own."
            )

    def _check_users(self) -> None:
        used = {source for layer in self.layers for source in layer.sources}
        for own in self.inputs:
            if own.name not in used:
                raise InputError(
                    f"Input {own.name!r} is the source of no layer: leave it out, or name it among "
                    "the sources of one."
                )
        *hidden, last = self.layers
        for layer in hidden:
            if layer.name not in used or layer.phi is None:
                raise InputError(
                    f"Layer {layer.name!r} needs an activation and a layer that has "
                    "it as a source; only the last has neither."
                )
        if last.phi is not None:
            raise InputError(
                f"Layer {last.name!r} is the last and has the activation {last.phi.name!r}: leave "
                "out phi, since its link belongs to the loss."
            )

    def __reduce__(self) -> tuple[Any, ...]:  # without cached properties
        return type(self), tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @cached_property
    def n_features(self) -> int:
        """Number of columns of the rows."""
        return max(0 if i.start is None else i.start + i.width for i in self.inputs)

    @property
    def n_outputs(self) -> int:
        """Number of units of the last layer."""
        return self.layers[-1].width

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def units(self) -> tuple[int, ...]:
        """Units of every layer."""
        return tuple(layer.width for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of the rows, then units of every layer."""
        return (self.n_features, *self.units)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every weight matrix, (units, columns of ã)."""
        found = {layer.weights: self._shape(i) for i, layer in enumerate(self.layers)}
        if sorted(found) != list(range(len(found))):
            raise InputError(f"weights must be numbered from 0 without gaps; got {sorted(found)}.")
        return tuple(found[number] for number in range(len(found)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of every weight matrix, biases included."""
        return tuple(units * columns for units, columns in self.shapes)

    @cached_property
    def parts(self) -> tuple[tuple[tuple[str, int, int], ...], ...]:
        """Of every layer: name, first column and width of each source in its ã."""
        widths = {each.name: each.width for each in self.inputs}
        widths |= {each.name: each.width for each in self.layers}
        found = []
        for layer in self.layers:
            start, own = 0, []
            for name in layer.sources:
                own.append((name, start, widths[name]))
                start += widths[name]
            found.append(tuple(own))
        return tuple(found)

    @cached_property
    def taken(self) -> tuple[tuple[tuple[Input, int], ...], ...]:
        """Of every layer: the inputs among its sources, and where each begins in its ã."""
        inputs = {each.name: each for each in self.inputs}
        return tuple(
            tuple((inputs[name], start) for name, start, _ in parts if name in inputs)
            for parts in self.parts
        )

    @cached_property
    def users(self) -> tuple[tuple[Use, ...], ...]:
        """Of every layer: those that have it as a source."""
        return tuple(
            tuple(
                Use(index, start)
                for index, parts in enumerate(self.parts)
                for name, start, _ in parts
                if name == layer.name
            )
            for layer in self.layers
        )

    @cached_property
    def homes(self) -> tuple[tuple[Use, ...], ...]:
        """Of every layer: where its activations are written, once for layers with the same ã."""
        return tuple(
            tuple(dict.fromkeys(Use(self.rooms[layer], start) for layer, start in uses))
            for uses in self.users
        )

    @cached_property
    def rooms(self) -> tuple[int, ...]:
        """Of every layer: the first that has the same ã."""
        sources = [layer.sources for layer in self.layers]
        return tuple(sources.index(own) for own in sources)

    @cached_property
    def whole(self) -> tuple[bool, ...]:
        """Of every layer: whether its ã is the scaled row itself."""
        every = {i.name for i in self.inputs if i.start == 0 and i.width == self.n_features}
        return tuple(len(p) == 1 and p[0][0] in every for p in self.parts)

    @cached_property
    def alone(self) -> tuple[bool, ...]:
        """Of every layer: whether it is the only source of its only user."""
        return tuple(
            len(uses) == 1 and len(self.layers[uses[0].layer].sources) == 1 for uses in self.users
        )

    @cached_property
    def grounded(self) -> tuple[bool, ...]:
        """Of every layer: whether its ã depends on the data alone."""
        data = {each.name for each in self.inputs}
        return tuple(data.issuperset(layer.sources) for layer in self.layers)

    @cached_property
    def fixed(self) -> tuple[bool, ...]:
        """Of every weight matrix: whether its Gram matrix depends on the data alone."""
        moving = {
            layer.weights
            for layer, grounded in zip(self.layers, self.grounded, strict=True)
            if not grounded
        }
        return tuple(number not in moving for number in range(len(self.shapes)))

    @cached_property
    def is_chain(self) -> bool:
        """Whether every layer has a matrix of its own, and the layer before as its only source."""
        before = (None, *(layer.name for layer in self.layers))
        return self.whole[0] and all(
            layer.weights == index and (index == 0 or layer.sources == (before[index],))
            for index, layer in enumerate(self.layers)
        )

    def of_layers(self, values: Any) -> tuple[Any, ...]:
        """Return the values of the weight matrices, one for each layer that has them."""
        return tuple(values[layer.weights] for layer in self.layers)

    def by_matrix(self, values: Iterable[Any]) -> list[list[Any]]:
        """Return the values of the layers, grouped by their weight matrix."""
        found: list[list[Any]] = [[] for _ in self.shapes]
        for layer, value in zip(self.layers, values, strict=True):
            found[layer.weights].append(value)
        return found

    def _shape(self, index: int) -> tuple[int, int]:
        return self.layers[index].width, sum(width for *_, width in self.parts[index]) + 1


def _holds(given: Any, kind: type) -> bool:
    """Return whether something is a tuple of at least one thing of that kind."""
    return isinstance(given, tuple) and bool(given) and all(isinstance(g, kind) for g in given)

"""Activation functions φ, with all that methods need of them.

Every φ' has to be a function of the activation value a = φ(z) alone. The forward pass can therefore
overwrite z by a, and the backward pass needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
from scipy.special import expit

from daskalt.errors import InputError
from daskalt.functions.activation_passes import (
    fit_identity,
    fit_relu,
    identity,
    logistic_apply,
    logistic_backpropagate,
    logistic_derivative,
    logistic_inverse,
    logistic_second,
    nothing,
    relu,
    relu_apply,
    relu_backpropagate,
    softplus,
    softplus_apply,
    softplus_backpropagate,
    softplus_inverse,
    step,
    tanh_apply,
    tanh_backpropagate,
    tanh_derivative,
    tanh_inverse,
    tanh_second,
)
from daskalt.functions.links import Link, digest_of
from daskalt.parameters import check_parameters, real

__all__ = ["ACTIVATIONS", "Activation", "get_activation"]

Array = np.ndarray

# Points at which activations are compared, with none at a round number, where kinks are likely.
_POINTS = np.array([-4.13, -2.71, -1.43, -0.87, -0.31, 0.23, 0.69, 1.19, 2.37, 3.91])

Comparison = Callable[[], tuple[Array, Array]]


@dataclass(frozen=True, kw_only=True, repr=False)
class Activation(Link):
    """An activation function φ and what the methods need of it.

    It can be sent to other processes if its functions are defined at the top of a module.

    Attributes
    ----------
    name : str
        The key in `ACTIVATIONS`, or the name in messages of the user's own.
    apply : callable
        ``apply(z)`` overwrites the 2-d block z, which may be a strided view, by φ(z).
    backpropagate : callable
        ``backpropagate(r, a)`` overwrites the block r by r ∘ φ'(z), given a = φ(z). Columns of a
        beyond those of r, such as the trailing ones, are ignored.
    value, derivative, second_derivative : callable
        φ(z), φ'(z) and φ''(z) for an array of any shape, out of place and stable for large |z|.
    inverse : callable or None
        ``inverse(a)``, the z with φ(z) = a, or a large |z| if there is none.
    fit : callable or None
        ``fit(a, m, gamma, beta)``, the z that minimises γ (a - φ(z))² + β (z - m)², where there is
        a closed form.
    spread : float
        Standard deviation that the initial pre-activations have over the data: wide enough for
        units to differ, narrow enough that they do not saturate and can still learn.
    centred : bool
        Whether initial biases centre z. Where φ(0) is far from zero it would add up over layers.
    kinks : tuple of float
        Where φ' jumps.
    """

    apply: Callable[[Array], None]
    backpropagate: Callable[[Array, Array], None]
    derivative: Callable[[Array], Array]
    second_derivative: Callable[[Array], Array]
    inverse: Callable[[Array], Array] | None = None
    fit: Callable[[Array, Array, float, float], Array] | None = None
    spread: float = 1.0
    centred: bool = False
    kinks: tuple[float, ...] = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Compiled functions would be pickled as code.
        ours = ACTIVATIONS.get(self.name) is self
        return (get_activation, (self.name,)) if ours else super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Activation:
        return self

    @cached_property
    def bends(self) -> bool:
        """Whether φ'' is not zero almost everywhere."""
        return bool(self.second_derivative(_POINTS).any())

    @property
    def digest(self) -> str:
        """A digest that identifies it: of its name, and of φ, φ' and φ'' at some points."""
        formulas = (self.value, self.derivative, self.second_derivative)
        return digest_of(self.name, *(formula(_POINTS) for formula in formulas))

    def check(self) -> None:
        """Raise InputError where its functions fail or contradict each other."""
        required = ("value", "apply", "backpropagate", "derivative", "second_derivative")
        optional = ("a function or None", lambda given: given is None or callable(given))
        check_parameters(
            self,
            **dict.fromkeys(required, ("a function", callable)),
            inverse=optional,
            fit=optional,
            spread=real(above=0),
            kinks=("a tuple of numbers, such as (0.0,)", _are_kinks),
        )
        z = np.array([p for p in _POINTS if all(abs(p - kink) > 0.01 for kink in self.kinks)])
        for rule, comparison in self._comparisons(z):
            try:
                found, expected = map(np.asarray, comparison())
                self._compare(rule, z, found, expected)
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"The activation {self.name!r} cannot be used: {rule}. It raises "
                    f"{type(error).__name__}: {error}. Correct its functions."
                ) from error

    def _comparisons(self, z: Array) -> Iterator[tuple[str, Comparison]]:
        """Yield each rule, and what gives the two arrays that have to be equal by it."""
        layouts = list(product((np.float64, np.float32), (False, True)))
        for dtype, strided in layouts:
            yield (
                f"apply(z) must overwrite z by value(z){_of(dtype, strided)}",
                partial(self._applied, z, dtype, strided),
            )
        yield (
            "derivative must be the slope of value",
            lambda: (self.derivative(z), _slope(self.value, z)),
        )
        yield (
            "second_derivative must be the slope of derivative",
            lambda: (self.second_derivative(z), _slope(self.derivative, z)),
        )
        for dtype, strided in layouts:
            yield (
                "backpropagate(r, a) must multiply r by derivative(z), as a function of "
                f"a = value(z), whose columns beyond those of r it ignores{_of(dtype, strided)}",
                partial(self._backpropagated, z, dtype, strided),
            )
        if self.inverse is not None:
            inverse = self.inverse
            yield (
                "value(inverse(a)) must be a",
                lambda: (self.value(inverse(self.value(z))), self.value(z)),
            )

    def _applied(self, z: Array, dtype: type, strided: bool) -> tuple[Array, Array]:
        view = _block(z, dtype)[:, :-1]
        a = view if strided else view.copy()
        self.apply(a)
        return a[1], self.value(z)

    def _backpropagated(self, z: Array, dtype: type, strided: bool) -> tuple[Array, Array]:
        a, r = _block(self.value(z), dtype), _block(np.ones_like(z), dtype)
        r = r[:, :-1] if strided else r[:, :-1].copy()
        self.backpropagate(r, a if strided else a[:, :-1].copy())
        return r[1], self.derivative(z)

    def _compare(self, rule: str, z: Array, found: Array, expected: Array) -> None:
        start = f"The activation {self.name!r} cannot be used: {rule}. "
        if not found.shape == expected.shape == z.shape:
            raise InputError(
                f"{start}For z of the shape {z.shape} one has the shape {found.shape} and the "
                f"other {expected.shape}. Let each return one number for each of z."
            )
        tolerance = 1e-3 if found.dtype == np.float32 else 1e-4
        if not np.allclose(found, expected, rtol=tolerance, atol=tolerance / 10):
            worst = int(np.argmax(np.abs(found - expected)))
            raise InputError(
                f"{start}At z = {z[worst]:g} one gives {found[worst]:g} and the other "
                f"{expected[worst]:g}. Correct its functions, or name its kinks."
            )


def get_activation(given: str | Activation) -> Activation:
    """Return the activation with a name; an activation is returned as it is."""
    return ACTIVATIONS[given] if isinstance(given, str) else given


def _slope(function: Callable[[Array], Array], z: Array) -> Array:
    return (function(z + 1e-5) - function(z - 1e-5)) / 2e-5


def _block(row: Array, dtype: type) -> Array:
    """Return two equal rows with a column of ones behind, as sources have."""
    return np.tile(np.append(row, 1), (2, 1)).astype(dtype)


def _of(dtype: type, strided: bool) -> str:
    kind = np.dtype(dtype).name
    return f", in a strided view of {kind}" if strided else f", in {kind}"


def _are_kinks(given: Any) -> bool:
    _, allows = real()
    return isinstance(given, tuple) and all(map(allows, given))


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation(
            name="identity",
            apply=nothing,
            backpropagate=nothing,
            value=identity,
            derivative=np.ones_like,
            second_derivative=np.zeros_like,
            inverse=identity,
            fit=fit_identity,
            linear=True,
        ),
        Activation(
            name="relu",
            apply=relu_apply,
            backpropagate=relu_backpropagate,
            value=relu,
            derivative=step,
            second_derivative=np.zeros_like,
            fit=fit_relu,
            spread=0.5,
            kinks=(0.0,),
        ),
        Activation(
            name="tanh",
            apply=tanh_apply,
            backpropagate=tanh_backpropagate,
            value=np.tanh,
            derivative=tanh_derivative,
            second_derivative=tanh_second,
            inverse=tanh_inverse,
            spread=0.7,
        ),
        Activation(
            name="logistic",
            apply=logistic_apply,
            backpropagate=logistic_backpropagate,
            value=expit,
            derivative=logistic_derivative,
            second_derivative=logistic_second,
            inverse=logistic_inverse,
            centred=True,
            probabilities=True,
        ),
        Activation(
            name="softplus",
            apply=softplus_apply,
            backpropagate=softplus_backpropagate,
            value=softplus,
            derivative=expit,
            second_derivative=logistic_derivative,
            inverse=softplus_inverse,
            centred=True,
        ),
    )
}

"""Constraints on constructor parameters, declared once and checked before any work."""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from daskalt.errors import InputError

__all__ = [
    "Constraint",
    "check_arguments",
    "check_layers",
    "check_of_layers",
    "check_parameters",
    "choice",
    "either",
    "instance",
    "integer",
    "names",
    "real",
    "seed",
]

Constraint = tuple[str, Callable[[Any], bool]]


def check_parameters(owner: Any, **constraints: Constraint) -> None:
    """Raise InputError, naming parameter, value and allowed values, unless all hold."""
    for name, (words, allows) in constraints.items():
        value = getattr(owner, name)
        if not allows(value):
            raise InputError(
                f"The parameter {name} of {type(owner).__name__} must be {words}; got {value!r}."
            )


MOST_UNITS = 2**31 - 1  # of a layer; the plan says what fewer take


def check_layers(sizes: Any) -> None:
    """Raise InputError unless ``sizes`` are the widths of hidden layers."""
    try:
        layers = np.atleast_1d(np.asarray(sizes, dtype=object))
    except ValueError:  # nested, of unequal lengths
        layers = np.array([None])
    if layers.ndim != 1 or not all(map(_units, layers)):
        raise InputError(
            "The parameter hidden_layer_sizes must be a sequence of integers of at least 1 and at "
            f"most {MOST_UNITS}; got {sizes!r}."
        )


def check_of_layers(layers: int, **given: Any) -> None:
    """Raise InputError, naming the parameter, unless all are one number or one for each layer."""
    for name, value in given.items():
        if np.ndim(value) and np.size(value) != layers:
            raise InputError(
                f"{name} has {np.size(value)} values, but the network has {layers} layers: give "
                "one number or one for each layer."
            )


def _units(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and 1 <= int(value) <= MOST_UNITS


def check_arguments(**given: tuple[Any, Constraint]) -> None:
    """Raise InputError, naming argument, value and allowed values, unless all hold."""
    for name, (value, (words, allows)) in given.items():
        if not allows(value):
            raise InputError(f"{name} must be {words}; got {value!r}.")


def real(
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    or_sequence: bool = False,
    or_none: bool = False,
) -> Constraint:
    """A finite number in a range, or if so allowed a sequence of them or None."""

    def in_range(value: Any) -> bool:
        return (
            isinstance(value, numbers.Real)
            and not isinstance(value, bool | np.bool_)
            and _computable(value)
            and (above is None or float(value) > above)
            and (at_least is None or float(value) >= at_least)
            and (below is None or float(value) < below)
        )

    def allows(value: Any) -> bool:
        if value is None:
            return or_none
        if or_sequence and _is_sequence(value):
            return len(value) > 0 and all(map(in_range, value))
        return in_range(value)

    limits = [
        f"{words} {limit}"
        for words, limit in (("above", above), ("at least", at_least), ("below", below))
        if limit is not None
    ]
    words = " ".join(["a number", " and ".join(limits)]).strip()
    words += ", or a sequence of them" if or_sequence else ""
    return (words + (", or None" if or_none else ""), allows)


def integer(*, at_least: int, or_word: str | None = None, or_none: bool = False) -> Constraint:
    """An integer from a lower limit, or a word or None that leaves the choice to the library.

    It has 64 bits at most, as the counters that use it do.
    """

    def allows(value: Any) -> bool:
        if value is None:
            return or_none
        if isinstance(value, str):
            return value == or_word
        return (
            isinstance(value, numbers.Integral)
            and not isinstance(value, bool | np.bool_)
            and at_least <= int(value) < 2**63
        )

    words = f"an integer of at least {at_least} and below 2**63"
    words += f", or {or_word!r}" if or_word else ""
    return (words + (", or None" if or_none else ""), allows)


def choice(*options: Any) -> Constraint:
    """One of some values."""
    words = "one of " + ", ".join(repr(option) for option in options)
    return (words, lambda value: any(value is o or _same(value, o) for o in options))


def either(one: Constraint, other: Constraint) -> Constraint:
    """A value that either of two constraints allows."""
    (words, allows), (more_words, allows_more) = one, other
    return (f"{words}, or {more_words}", lambda value: allows(value) or allows_more(value))


def names(*kinds: type) -> Constraint:
    """A name, several names or None; of the types ``kinds``."""

    def allows(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return len(value) > 0 and all(isinstance(each, kinds) for each in value)
        return value is None or isinstance(value, kinds)

    return ("a name, a list of names or None", allows)


def seed() -> Constraint:
    """What scikit-learn takes as random_state."""
    most = 2**32 - 1

    def allows(value: Any) -> bool:
        if value is None or value is np.random or isinstance(value, np.random.RandomState):
            return True
        return (
            isinstance(value, numbers.Integral)
            and not isinstance(value, bool | np.bool_)
            and 0 <= int(value) <= most
        )

    return (f"an integer from 0 to {most}, a numpy.random.RandomState or None", allows)


def instance(words: str, *kinds: type) -> Constraint:
    """A value of some types, which ``words`` names."""
    return (words, lambda value: isinstance(value, kinds))


def _computable(value: Any) -> bool:
    """Whether compiled code accepts a number: finite, and no integer of over 64 bits."""
    if isinstance(value, numbers.Integral):
        return abs(int(value)) < 2**63
    return bool(np.isfinite(float(value)))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _same(value: Any, option: Any) -> bool:
    return isinstance(value, type(option)) and isinstance(value, str | bool) and value == option

"""When two values, and two fits, are the same."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def leaves(value: Any) -> Iterator[Any]:
    """All arrays, numbers and texts in nested tuples and lists."""
    if isinstance(value, tuple | list):
        for member in value:
            yield from leaves(member)
    elif isinstance(value, np.ndarray | np.generic | int | float | str):
        yield value


def arrays(value):
    """All arrays of floating-point numbers among them."""
    return [a for a in leaves(value) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def assert_same(a, b):
    """Two nested values have the same bits."""
    a, b = list(leaves(a)), list(leaves(b))
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def assert_close(a, b, tolerance):
    """Two lists of weights are equal but for rounding."""
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * (1 + np.abs(y).max()))


def weights_of(model):
    """The weights and biases of a fitted estimator."""
    return [*model.coefs_, *model.intercepts_]


def history_of(model):
    """What the passes led to, apart from what they cost."""
    return [
        [(k, v) for k, v in sorted(record.items()) if "seconds" not in k and "bytes" not in k]
        for record in model.history_
    ]


def assert_same_fit(model, other):
    """Two fits went the same way and ended in the same weights and in the same state."""
    assert_same(weights_of(model), weights_of(other))
    assert_same(history_of(model), history_of(other))
    assert_same(model.solver_state_, other.solver_state_)

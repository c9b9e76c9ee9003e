"""An activation of the user's own, asinh: the solvers keep their promises with it unchanged."""

import numpy as np
import pytest

from daskalt import Activation
from tests.conformance import Case, Conformance


def apply(z):
    np.arcsinh(z, out=z)


def backpropagate(r, a):
    r /= np.cosh(a[:, : r.shape[1]])


def derivative(z):
    return 1 / np.sqrt(1 + z * z)


def second_derivative(z):
    return -z * derivative(z) ** 3


ASINH = Activation(
    name="asinh",
    apply=apply,
    backpropagate=backpropagate,
    value=np.arcsinh,
    derivative=derivative,
    second_derivative=second_derivative,
)


class TestAsinh(Conformance):
    @pytest.fixture(scope="class", params=["altmin", "batch-altmin", "adam"])
    @classmethod
    def subject(cls, request):
        return Case(request.param, activation=ASINH)

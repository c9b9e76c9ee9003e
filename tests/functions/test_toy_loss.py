"""A loss of the user's own, pseudo-Huber: the solvers keep their promises with it unchanged."""

from dataclasses import dataclass

import numpy as np
import pytest

from daskalt import Loss, MLPRegressor
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.links import Link
from tests.conformance import Case, Conformance


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """Σ √(1 + (z - y)²) - 1."""

    name: str = "pseudo-huber"
    link: Link = ACTIVATIONS["identity"]

    def value(self, z, y):
        return np.sum(np.sqrt(1 + (z.astype(float) - y) ** 2) - 1, axis=1)

    def gradient(self, z, y):
        return (z - y) / np.sqrt(1 + (z - y) ** 2)

    def hessian(self, z, y):
        return (1 + (z - y) ** 2) ** -1.5, None


class TestPseudoHuber(Conformance):
    @pytest.fixture(scope="class", params=["altmin", "batch-altmin", "adam"])
    @classmethod
    def subject(cls, request):
        return Case(request.param, loss=PseudoHuber(), estimator=MLPRegressor)

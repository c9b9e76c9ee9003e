"""Two steps of a recurrence: a layer of two sources, and weights that layers share."""

import numpy as np
import pytest

from daskalt import GradientDescent, MLPRegressor
from daskalt.activations import ACTIVATIONS
from daskalt.kernels.gram import cross_moments
from daskalt.layers import Input, Layer
from daskalt.network import Network
from tests.conformance import Case, Conformance


class TwoSteps(MLPRegressor):
    def _network(self, n_features, n_outputs, loss):
        half, tanh = n_features // 2, ACTIVATIONS["tanh"]
        inputs = Input("x1", half), Input("x2", half, half), Input("nothing", 5, None)
        first, then = Layer("h1", 5, ("x1", "nothing"), 0, tanh), ("x2", "h1")
        last = Layer("outputs", n_outputs, ("h2",), 1)
        return Network(inputs, (first, Layer("h2", 5, then, 0, tanh), last), loss)


class TestTwoSteps(Conformance):
    @pytest.fixture(scope="class", params=["altmin", "batch-altmin", GradientDescent("adam")])
    def subject(cls, request):
        return Case(request.param, estimator=TwoSteps)

    def test_it_learns_along_its_gradient(self, subject):
        X = subject.rows(dtype="float64")[0]
        y = np.tanh(X[:, :2] - 2 * np.tanh(X[:, 4:]))
        model = subject.model(max_iter=40).fit(X, y)
        assert model.score(X, y) > 0.75
        problem, weights = model._fitted.problem, model.solver_state_.weights
        network, x, t = problem.network, problem.inputs(X), problem.targets.encode(y, X.dtype)
        inputs, (z,) = network.trace(weights, x)
        pairs = network.pairs(inputs, network.pull_back(weights, inputs, t - z))
        for number, place in [(n, e) for n, w in enumerate(weights) for e in np.ndindex(w.shape)]:
            (up := [w.copy() for w in weights])[number][place] += 1e-5
            change = np.sum((t - network.trace(up, x).z[0]) ** 2 - (t - z) ** 2) / 2e-5
            np.testing.assert_allclose(cross_moments(pairs[number])[place], -change, 1e-3, 0.05)

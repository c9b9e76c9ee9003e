"""Two steps of a recurrence: a layer of two sources, and weights that layers share."""

import numpy as np

from daskalt import MLPRegressor
from daskalt.functions.activations import ACTIVATIONS
from daskalt.kernels.gram import cross_moments
from daskalt.network.layers import Input, Layer
from daskalt.network.network import Network
from tests.conformance import Case, Conformance


class TwoSteps(MLPRegressor):
    def _network(self, n_features, n_outputs, loss):
        half, tanh = n_features // 2, ACTIVATIONS["tanh"]
        inputs = Input("x1", half), Input("x2", half, half), Input("nothing", 5, None)
        first, then = Layer("h1", 5, ("x1", "nothing"), 0, tanh), ("x2", "h1")
        last = Layer("outputs", n_outputs, ("h2",), 1)
        return Network(inputs, (first, Layer("h2", 5, then, 0, tanh), last), loss)


class TestAltMin(Conformance):
    case = Case("altmin", estimator=TwoSteps)

    def test_residuals_pulled_back_are_the_gradient(self, at):
        network, weights, rows = at.problem.network, at.state.weights, at.rows
        inputs, (z,) = network.trace(weights, x := at.problem.inputs(rows.X))
        pairs = network.pairs(inputs, network.pull_back(weights, inputs, rows.y - z))
        for number, place in [(n, e) for n, w in enumerate(weights) for e in np.ndindex(w.shape)]:
            (moved := [w.copy() for w in weights])[number][place] += 1e-6
            rise = np.sum((rows.y - network.trace(moved, x).z[0]) ** 2 - (rows.y - z) ** 2) / 2e-6
            np.testing.assert_allclose(cross_moments(pairs[number])[place], -rise, 1e-4, 1e-3)


class TestBatchAltMin(TestAltMin):
    case = Case("batch-altmin", estimator=TwoSteps)


class TestAdam(TestAltMin):
    case = Case("adam", estimator=TwoSteps)

"""Two steps of a recurrence: a layer of two sources, and weights that layers share."""

import numpy as np
import pytest

from daskalt import MLPRegressor
from daskalt.activations import ACTIVATIONS
from daskalt.kernels.gram import cross_moments
from daskalt.layers import Input, Layer
from daskalt.network import Network

X = np.random.default_rng(0).standard_normal((600, 6)) * np.arange(1, 7) + 3
Y = 10 * np.tanh(X[:, :2] / 2 - 2 * np.tanh(X[:, 4:] / 5 - 1)) + 5


class TwoSteps(MLPRegressor):
    def _network(self, n_features, targets, loss):
        half, tanh = n_features // 2, ACTIVATIONS["tanh"]
        inputs = Input("x1", half), Input("x2", half, half), Input("nothing", 5, None)
        first, then = Layer("h1", 5, ("x1", "nothing"), 0, tanh), ("x2", "h1")
        last = Layer("outputs", targets.width, ("h2",), 1)
        return Network(inputs, (first, Layer("h2", 5, then, 0, tanh), last), loss)


@pytest.mark.parametrize("solver", ["altmin", "batch-altmin", "adam"])
def test_it_trains_along_its_gradient(solver):
    more = {"learning_rate_init": 0.02} if solver == "adam" else {}
    model = TwoSteps(solver=solver, max_iter=20, tol=0, random_state=0, **more).fit(X, Y)
    assert model.loss_ < 0.25 * model.loss_curve_[0]
    problem, weights = model._fitted.problem, model._fitted.state.weights
    network, x, y = problem.network, problem.inputs(X), problem.targets.encode(Y, problem.dtype)
    inputs, (z,) = network.trace(weights, x)
    np.testing.assert_allclose(model.predict(X), z * problem.targets.scale + problem.targets.mean)
    pairs = network.pairs(inputs, network.pull_back(weights, inputs, y - z))
    for number, entry in [(n, e) for n, w in enumerate(weights) for e in np.ndindex(w.shape)]:
        moved = [tuple(w.copy() for w in weights) for _ in range(2)]
        for own, h in zip(moved, (1e-5, -1e-5), strict=True):
            own[number][entry] += h
        up, down = (np.sum((y - network.trace(own, x).z[0]) ** 2) / 2 for own in moved)
        np.testing.assert_allclose(cross_moments(pairs[number])[entry], (down - up) / 2e-5, 1e-4)

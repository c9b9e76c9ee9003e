"""Networks that are no chains: layers of several sources and several users, shared weights."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from daskalt import MLPRegressor
from daskalt.data.scaling import Scaling
from daskalt.data.targets import ClassTargets, RealTargets
from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.kernels.gram import cross_moments
from daskalt.kernels.workspace import Workspace
from daskalt.network.folding import fold, takes_scaling, unfold
from daskalt.network.joint import joint_step
from daskalt.network.layers import Input, Layer
from daskalt.network.network import Network
from daskalt.network.sweep import sweep

SQUARED = get_loss("squared", "identity")
TANH = ACTIVATIONS["tanh"]
ROWS, MU = 4, (0.6, 0.9, 1.4, 0.8, 1.1)


def fork():
    """A first layer with three users, one of which skips a layer, and two layers of one matrix."""
    layers = (
        Layer("a", 3, ("left", "right"), 0, TANH),
        Layer("b", 3, ("a", "right"), 1, ACTIVATIONS["softplus"]),
        Layer("c", 3, ("b", "left"), 1, TANH),
        Layer("d", 2, ("a", "c"), 2, TANH),
        Layer("y", 2, ("d", "a"), 3),
    )
    return Network((Input("left", 2), Input("right", 2, 2)), layers, SQUARED)


def naive_predictions(network, weights, x, z):
    """W ã of every layer of one row, from z by name, and the activations."""
    values = {i.name: x[i.start : i.start + i.width] for i in network.inputs}
    predictions = []
    for index, layer in enumerate(network.layers):
        ã = np.concatenate([*(values[name] for name in layer.sources), [1]])
        predictions.append(weights[layer.weights] @ ã)
        own = predictions[-1] if z is None else z[index]
        values[layer.name] = own if layer.phi is None else layer.phi.value(own)
    return predictions


@pytest.fixture
def case():
    network, rng = fork(), np.random.default_rng(0)
    weights = tuple(0.7 * rng.standard_normal(shape) for shape in network.shapes)
    x = np.column_stack([rng.standard_normal((ROWS, 4)), np.ones(ROWS)])
    return network, weights, x, rng.standard_normal((ROWS, 2))


def objective(network, weights, x, y, z, mu=MU):
    """ℓ + Σ μ ‖z - W ã‖² of one row."""
    predictions = naive_predictions(network, weights, x, z)
    couplings = sum(m * np.sum((a - p) ** 2) for m, a, p in zip(mu, z, predictions, strict=True))
    return np.sum((z[-1] - y) ** 2) / 2 + couplings


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("scratch", [True, False])
def test_the_passes_equal_naive_ones(case, apart, scratch):
    network, weights, x, y = case
    inputs, z = network.trace(weights, x, Workspace() if scratch else None, apart=apart)
    expected = [naive_predictions(network, weights, row, None) for row in x]
    for own, theirs in zip(z[::-1], list(zip(*expected, strict=True))[::-1], strict=False):
        np.testing.assert_allclose(own, theirs, rtol=1e-12)
    coefs, intercepts = [w[:, :-1].T for w in weights], [w[:, -1] for w in weights]
    np.testing.assert_allclose(network.outputs(coefs, intercepts, x[:, :-1]), z[-1], rtol=1e-12)

    def loss(flat, number):
        moved = list(weights)
        moved[number] = flat.reshape(network.shapes[number])
        outputs = [naive_predictions(network, moved, row, None)[-1] for row in x]
        return np.sum((np.array(outputs) - y) ** 2) / 2

    pairs = network.pairs(inputs, network.pull_back(weights, inputs, y - z[-1]))
    for number, own in enumerate(pairs):
        slope = approx_fprime(weights[number].ravel(), loss, 1e-7, number)
        np.testing.assert_allclose(cross_moments(own).ravel(), -slope, rtol=1e-4, atol=1e-5)


def test_the_joint_step_moves_every_layer_by_its_own_gradient(case):
    network, weights, x, y = case
    trace = network.trace(weights, x, apart=True)
    residuals = network.pull_back(weights, trace.inputs, y - trace.z[-1])
    moved, predictions, coupling = joint_step(network, weights, trace, y - trace.z[-1], MU)
    for i in range(ROWS):
        expected = naive_predictions(network, weights, x[i], [z[i] for z in moved])
        total = 0.0
        for own, p, z, r, mu in zip(predictions, expected, moved, residuals, MU, strict=True):
            np.testing.assert_allclose(own[i], p, rtol=1e-11)
            np.testing.assert_allclose(z[i] - p, r[i] / (2 * mu), rtol=1e-9, atol=1e-12)
            total += mu * np.sum((z[i] - p) ** 2)
        np.testing.assert_allclose(coupling[i], total, rtol=1e-9)


def test_sweeps_end_at_a_minimum_of_each_row(case):
    """No sweep raises the objective; after many, SciPy finds nothing lower in all z together."""
    network, weights, x, y = case
    z = network.trace(weights, x, apart=True).z
    before = [objective(network, weights, x[i], y[i], [o[i] for o in z]) for i in range(ROWS)]
    for _ in range(300):
        z, _, residuals = sweep(network, weights, x, y, z, MU)
        after = [objective(network, weights, x[i], y[i], [o[i] for o in z]) for i in range(ROWS)]
        assert np.all(np.array(after) <= np.array(before) * (1 + 1e-12))
        before = after
    edges = np.cumsum([0, *network.units])
    for i in range(ROWS):
        predictions = naive_predictions(network, weights, x[i], [o[i] for o in z])
        for own, p, r in zip(z, predictions, residuals, strict=True):
            np.testing.assert_allclose(r[i], own[i] - p, rtol=1e-9, atol=1e-12)

        def of_row(flat, i=i):
            own = [flat[a:b] for a, b in pairwise(edges)]
            return objective(network, weights, x[i], y[i], own)

        best = minimize(of_row, np.concatenate([o[i] for o in z]), options={"gtol": 1e-7})
        assert before[i] <= best.fun * (1 + 1e-6)


def test_shifts_move_the_couplings(case):
    network, weights, x, y = case
    rng = np.random.default_rng(1)
    shifts = [rng.standard_normal((ROWS, units)) for units in network.units]
    z = network.trace(weights, x, apart=True).z
    predictions = network.predict(weights, x, z)
    z, _, residuals = sweep(
        network, weights, x, y, z, MU, predictions=predictions, shifts=shifts, workspace=Workspace()
    )
    for i in range(ROWS):
        expected = naive_predictions(network, weights, x[i], [own[i] for own in z])
        for own, p, shift, r in zip(z, expected, shifts, residuals, strict=True):
            np.testing.assert_allclose(r[i], own[i] - p - shift[i], rtol=1e-9, atol=1e-12)


def test_what_depends_on_the_data_alone_is_fixed():
    network = fork()
    assert network.fixed == (True, False, False, False)
    assert network.grounded == (True, False, False, False, False)
    assert not network.is_chain
    assert pickle.loads(pickle.dumps(network)) == network
    assert hash(pickle.loads(pickle.dumps(network))) == hash(network)


def test_the_scaling_folds_into_whatever_takes_in_columns(case):
    _, _, x, _ = case
    layers = (
        Layer("a", 3, ("left", "right"), 0, TANH),
        Layer("b", 3, ("right", "a"), 1, TANH),
        Layer("y", 2, ("b", "left"), 2),
    )
    network = Network((Input("left", 2), Input("right", 2, 2)), layers, SQUARED)
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(shape) for shape in network.shapes]
    scaling = Scaling(rng.standard_normal(4), rng.uniform(0.5, 2, 4))
    targets = RealTargets(np.array([3.0, -1]), np.array([2.0, 5]), one_dimensional=False)
    folded = fold(network, weights, scaling, targets)
    raw = x.copy()
    raw[:, :-1] = x[:, :-1] / scaling.factor + scaling.shift
    expected = network.trace(weights, x).z[0] * targets.scale + targets.mean
    np.testing.assert_allclose(network.trace(folded, raw).z[0], expected, rtol=1e-10)
    for own, back in zip(
        weights, unfold(network, folded, scaling, targets, np.dtype(float)), strict=True
    ):
        np.testing.assert_allclose(back, own, rtol=1e-10, atol=1e-12)


def test_weights_that_take_in_different_columns_are_not_folded(case):
    network, weights, _, _ = case
    assert not takes_scaling(network)
    scaling = Scaling(np.ones(4), np.full(4, 2.0))
    for a, b in zip(
        fold(network, weights, scaling, ClassTargets(np.arange(2))), weights, strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Layer("y", 2, ("z",), 0)], "'y' has the source 'z', which is no input and no earlier"),
        ([Layer("a", 2, ("y",), 0, TANH), Layer("y", 2, ("a",), 1)], "'a' has the source 'y'"),
        ([Layer("a", 2, ("x", "x"), 0, TANH), Layer("y", 2, ("a",), 1)], "'x' twice: name each"),
        ([Layer("x", 2, ("x",), 0)], "name 'x' is given twice"),
        ([Layer("y", 2, ("x",), 0, TANH)], "the activation 'tanh': leave out phi"),
        ([], "layers of Network must be a tuple of at least one Layer"),
        ([Layer("a", 2, ("x",), 0, TANH), Layer("y", 2, ("x",), 1)], "has it as a source"),
        ([Layer("a", 2, ("x",), 0), Layer("y", 2, ("a",), 1)], "needs an activation"),
        ([Layer("a", 4, ("x",), 0, TANH), Layer("y", 4, ("a",), 0)], "last layer shares"),
        ([Layer("y", 4, ("x",), 1)], "numbered"),
        (
            [
                Layer("a", 3, ("x",), 0, TANH),
                Layer("b", 3, ("a",), 0, TANH),
                Layer("y", 2, ("b",), 1),
            ],
            "same numbers of units",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(layers, message):
    with pytest.raises(InputError, match=message):
        Network((Input("x", 4),), tuple(layers), SQUARED)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((Input("x", 2), Input("x", 2, 2)), "name 'x' is given twice"),
        ((Input("x", 2), Input("other", 2, 2)), "'other' is the source of no layer: leave it out"),
        ([Input("x", 4)], "inputs of Network must be a tuple of at least one Input"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        Network(inputs, (Layer("y", 2, ("x",), 0),), SQUARED)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Input, {"width": 0}, "width of Input must be .*at least 1 .*; got 0"),
        (Input, {"start": -1}, "start of Input must be .*at least 0 .*; got -1"),
        (Layer, {"width": 0}, "width of Layer must be .*at least 1 .*; got 0"),
        (Layer, {"width": 2.5}, "width of Layer must be .*; got 2.5"),
        (Layer, {"sources": "x"}, r"must be a tuple of names, such as \('x',\); got 'x'"),
        (Layer, {"sources": ["x"]}, r"must be a tuple of names, such as \('x',\); got \['x'\]"),
        (Layer, {"sources": ()}, r"must be a tuple of names, such as \('x',\); got \(\)"),
        (Layer, {"weights": "0"}, "weights of Layer must be"),
        (Layer, {"phi": "tanh"}, r"phi of Layer .* such as ACTIVATIONS\['tanh'\], .*; got 'tanh'"),
        (Layer, {"phi": np.tanh}, "phi of Layer must be an Activation"),
    ],
)
def test_an_input_or_layer_of_a_wrong_kind_is_refused(kind, change, message):
    given = {"name": "a", "width": 3}
    if kind is Layer:
        given |= {"sources": ("x",), "weights": 0}
    kind(**given)
    with pytest.raises(InputError, match=message):
        kind(**given | change)


class Forked(MLPRegressor):
    def _network(self, n_features, targets, loss):
        return fork()


def test_admm_refuses_what_is_no_chain():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="chain"):
        Forked(solver="admm").fit(rng.standard_normal((50, 4)), rng.standard_normal((50, 2)))

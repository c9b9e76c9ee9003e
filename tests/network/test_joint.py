"""The joint step of all layers, and the sweep that continues from it."""

import numpy as np
import pytest

from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.kernels.workspace import Workspace
from daskalt.network.joint import joint_step
from daskalt.network.network import Trace
from daskalt.network.sweep import sweep
from tests import naive
from tests.kernels.test_passes import chain, network

CROSS_ENTROPY = get_loss("cross_entropy", "softmax")

MU = (0.5, 2.0, 7.0)


def problem(activation, dtype=np.float64):
    weights, x = network((4, 5, 6, 3), dtype, rows=8)
    activations = naive.forward(weights, x, activation)
    z = [a @ W.T for a, W in zip(activations, weights, strict=False)]
    return weights, x, activations, z


def close(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scratch", [True, False])
def test_every_layer_moves_by_its_own_gradient(activation, dtype, scratch):
    """z_l - W_l ã_{l-1} = -∂ℓ/∂z_l / 2μ_l, the left side with moved layers below."""
    weights, x, activations, forward = problem(activation, dtype)
    y = np.arange(8) % 3
    r, _ = CROSS_ENTROPY.residual(forward[-1].astype(dtype), y)
    expected = naive.backward(weights, activations, r.copy(), activation)
    inputs = [a.astype(dtype) for a in activations[:-1]]
    workspace = Workspace() if scratch else None
    trace = Trace(inputs, [f.astype(dtype) for f in forward])
    moved, predictions, coupling = joint_step(
        chain(weights, activation, CROSS_ENTROPY), weights, trace, r, MU, workspace
    )
    below, total = x.astype(float), np.zeros(8)
    for layer, (W, mu) in enumerate(zip(weights, MU, strict=True)):
        prediction = naive.matmul(below, W.T)
        np.testing.assert_allclose(predictions[layer], prediction, **close(dtype))
        v = moved[layer] - prediction
        np.testing.assert_allclose(v, expected[layer] / (2 * mu), **close(dtype))
        total += mu * np.sum((expected[layer] / (2 * mu)) ** 2, axis=1)
        phi = naive.ACTIVATIONS[activation][0]
        below = np.column_stack([naive.each(phi, moved[layer]), np.ones(8)])
    np.testing.assert_allclose(coupling, total, rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_the_gradient_reaches_the_first_layer_of_a_deep_network_undiminished():
    """A sweep from the forward pass loses most of it on the way, which is why there is a step."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((20, 21)) * np.sqrt(1.0 / 20) for _ in range(9)]
    weights.append(rng.standard_normal((3, 21)) * np.sqrt(1.0 / 20))
    x = np.column_stack([rng.standard_normal((6, 20)), np.ones(6)])
    net = chain(weights, "identity", CROSS_ENTROPY)
    y, mu = np.arange(6) % 3, (10.0,) * 10
    activations = naive.forward(weights, x, "identity")
    z = [a @ W.T for a, W in zip(activations, weights, strict=False)]
    r, _ = CROSS_ENTROPY.residual(z[-1].copy(), y)
    full = naive.backward(weights, activations, r, "identity")[0] / 20
    moved, _, _ = joint_step(net, weights, Trace(activations[:-1], z), r, mu)
    swept, _, _ = sweep(net, weights, x, y, z, mu)
    own, left = np.linalg.norm(moved[0] - z[0]), np.linalg.norm(swept[0] - z[0])
    assert own == pytest.approx(np.linalg.norm(full), rel=1e-9)
    assert left < 0.05 * own


def test_a_sweep_needs_no_predictions_that_it_is_given():
    weights, x, _, z = problem("tanh")
    rng = np.random.default_rng(1)
    z = [own + 0.3 * rng.standard_normal(own.shape) for own in z]
    net, y = chain(weights, "tanh", CROSS_ENTROPY), np.arange(8) % 3
    alone = sweep(net, weights, x, y, z, MU)
    known = net.predict(weights, x, z, ahead=[x @ weights[0].T, None, None])
    given = sweep(net, weights, x, y, z, MU, predictions=known)
    for ours, theirs in zip(alone, given, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_sweep_returns_the_activations_and_residuals_of_its_own_z(activation):
    weights, x, _, z = problem(activation)
    z = [own + 0.5 for own in z]
    net, phi = chain(weights, activation, CROSS_ENTROPY), ACTIVATIONS[activation]
    moved, inputs, residuals = sweep(net, weights, x, np.arange(8) % 3, z, MU)
    below = x
    for layer, W in enumerate(weights):
        np.testing.assert_allclose(inputs[layer], below, rtol=1e-12)
        np.testing.assert_allclose(
            residuals[layer], moved[layer] - below @ W.T, rtol=1e-9, atol=1e-12
        )
        below = np.column_stack([phi.value(moved[layer]), np.ones(8)])

"""The forward pass, the backward pass and the second moments of a block."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import LOSSES, get_loss
from daskalt.kernels.gram import cross, cross_moments, gram
from daskalt.kernels.thin import pull_through
from daskalt.kernels.workspace import Workspace
from daskalt.network.network import dense
from tests import naive

SQUARED = get_loss("squared", "identity")
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def network(widths, dtype, rows=6, seed=0):
    """Random weights of the given widths, and rows that end in a one."""
    rng = np.random.default_rng(seed)
    weights = tuple(
        rng.standard_normal((out, fan_in + 1)).astype(dtype) for fan_in, out in pairwise(widths)
    )
    x = np.column_stack([rng.standard_normal((rows, widths[0])), np.ones(rows)])
    return weights, x.astype(dtype)


def chain(weights, activation, loss=SQUARED):
    """The network of some weights."""
    widths = [weights[0].shape[1] - 1, *map(len, weights)]
    return dense(widths, ACTIVATIONS[activation], loss)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 5, 6, 1)])
@pytest.mark.parametrize("scratch", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_passes_equal_naive(activation, widths, dtype, scratch, apart):
    weights, x = network(widths, dtype)
    net, workspace = chain(weights, activation), Workspace() if scratch else None
    inputs, z = net.trace(weights, x, workspace, apart=apart)
    expected = naive.forward(weights, x, activation)
    own = [naive.matmul(a, W.T) for a, W in zip(expected, weights, strict=False)]
    expected_z = own if apart else own[-1:]
    for a, b in zip([*inputs, *z], [*expected[:-1], *expected_z], strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    r = np.random.default_rng(1).standard_normal(z[-1].shape).astype(dtype)
    residuals = net.pull_back(weights, inputs, r, workspace)
    assert residuals[-1] is r
    for a, b in zip(residuals, naive.backward(weights, expected, r, activation), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize(("units", "columns"), [(1, 5), (2, 5), (5, 1), (1, 40)])
@pytest.mark.parametrize("part", [True, False])
def test_residuals_times_weights(units, columns, part, dtype):
    rng = np.random.default_rng(4)
    r, w = rng.standard_normal((9, units)), rng.standard_normal((units, columns + 2))
    r, w = r.astype(dtype), w.astype(dtype)
    w = w[:, 1:-1] if part else np.ascontiguousarray(w[:, 1:-1])
    out = np.full((9, columns), np.nan, dtype)
    assert pull_through(r, w, out) is out
    np.testing.assert_allclose(out, naive.matmul(r, w), rtol=TOLERANCE[dtype], atol=1e-6)


@pytest.mark.parametrize(("units", "columns"), [(70, 3), (70, 64), (70, 65), (3, 3), (1, 70)])
@pytest.mark.parametrize("given", [True, False])
def test_cross_products(units, columns, given, dtype):
    """Whichever way round BLAS computes them."""
    rng = np.random.default_rng(5)
    r, a = rng.standard_normal((20, units)), rng.standard_normal((20, columns))
    r, a = r.astype(dtype), a.astype(dtype)
    out = np.full((units, columns), np.nan, dtype) if given else None
    found = cross(r, a, out)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert found is out or not given
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(found, naive.matmul(r.T, a), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("pair", LOSSES, ids="-".join)
@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "softplus", "relu"])
def test_residuals_give_the_gradient_of_the_loss(activation, pair):
    """d(Σ loss)/dW_l = -r_lᵀ ã_{l-1}, by central differences of the whole network."""
    loss = get_loss(*pair)
    weights, x = network((3, 4, 5, 2), np.float64, seed=2)
    net = chain(weights, activation, loss)
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, len(x)) if loss.coded else rng.random((len(x), 2))

    def total(weights):
        return loss.value(net.trace(weights, x).z[-1], y).sum()

    inputs, z = net.trace(weights, x)
    r, _ = loss.residual(z[-1], y)
    residuals = net.pull_back(weights, inputs, r)
    direction = [rng.standard_normal(W.shape) for W in weights]
    step = 1e-6
    up, down = (
        total([W + sign * D for W, D in zip(weights, direction, strict=True)])
        for sign in (step, -step)
    )
    slope = -sum(
        np.vdot(cross_moments(own), D)
        for own, D in zip(net.pairs(inputs, residuals), direction, strict=True)
    )
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)


def test_inputs_are_left_alone(dtype):
    weights, x = network((4, 5, 3), dtype)
    copies = [W.copy() for W in weights], x.copy()
    net = chain(weights, "relu")
    inputs, z = net.trace(weights, x)
    a = inputs[1].copy()
    net.pull_back(weights, inputs, z[-1])
    np.testing.assert_array_equal(inputs[0], copies[1])
    np.testing.assert_array_equal(inputs[1], a)
    for W, before in zip(weights, copies[0], strict=True):
        np.testing.assert_array_equal(W, before)


def test_a_workspace_changes_no_bit_and_is_reused(dtype):
    workspace = Workspace()
    for rows in (50, 7, 50):  # the last block of a pass is ragged
        weights, x = network((4, 33, 3), dtype, rows=rows)
        net = chain(weights, "tanh")
        fresh, reused = net.trace(weights, x), net.trace(weights, x, workspace)
        for a, b in zip([*fresh.inputs, *fresh.z], [*reused.inputs, *reused.z], strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(
            net.pull_back(weights, fresh.inputs, fresh.z[-1]),
            net.pull_back(weights, reused.inputs, reused.z[-1], workspace),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    again = net.trace(weights, x, workspace)
    assert np.shares_memory(again.inputs[1], reused.inputs[1])
    assert np.shares_memory(again.z[0], reused.z[0])


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "logistic"])
def test_a_warm_workspace_copies_no_block(activation):
    """NumPy hands BLAS the views as they are."""
    weights, x = network((64, 256, 8), np.float32, rows=512)
    net, workspace = chain(weights, activation), Workspace()

    def run():
        inputs, z = net.trace(weights, x, workspace)
        net.pull_back(weights, inputs, z[-1], workspace)

    run()
    tracemalloc.start()
    try:
        run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    activation_bytes = 512 * 256 * 4
    # NumPy's own iterators hold up to 64 KiB.
    assert peak < activation_bytes / 4


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 12),
    columns=st.integers(1, 9),
    outputs=st.integers(1, 5),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_moments_equal_naive(rows, columns, outputs, dtype):
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((rows, columns)).astype(dtype)
    r = rng.standard_normal((rows, outputs)).astype(dtype)
    A, G = gram(a), cross(r, a)
    assert A.dtype == G.dtype == dtype
    np.testing.assert_array_equal(A, A.T)
    np.testing.assert_allclose(A, naive.matmul(a.T, a), atol=TOLERANCE[dtype])
    np.testing.assert_allclose(G, naive.matmul(r.T, a), atol=TOLERANCE[dtype])
    out = np.empty_like(G)
    assert cross(r, a, out) is out
    np.testing.assert_array_equal(out, G)
    out = np.empty_like(A)
    assert gram(a, out) is out
    np.testing.assert_array_equal(out, A)


def test_gram_is_exactly_symmetric_at_scale(dtype):
    a = np.random.default_rng(0).standard_normal((300, 129)).astype(dtype)
    np.testing.assert_array_equal(gram(a), gram(a).T)

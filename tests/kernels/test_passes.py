"""The forward pass, the backward pass and the second moments of a block."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.activations import ACTIVATIONS
from daskalt.kernels.backward import backward
from daskalt.kernels.forward import forward
from daskalt.kernels.gram import cross, gram
from daskalt.kernels.workspace import Workspace
from daskalt.losses import LOSSES, get_loss
from tests import naive

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


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 5, 6, 1)])
@pytest.mark.parametrize("scratch", [True, False])
def test_passes_equal_naive(activation, widths, dtype, scratch):
    weights, x = network(widths, dtype)
    phi = ACTIVATIONS[activation]
    workspace = Workspace() if scratch else None
    activations = forward(weights, x, phi, workspace)
    expected = naive.forward(weights, x, activation)
    for a, b in zip(activations, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    r = np.random.default_rng(1).standard_normal(activations[-1].shape).astype(dtype)
    residuals = backward(weights, activations, r, phi, workspace)
    assert residuals[-1] is r
    for a, b in zip(residuals, naive.backward(weights, expected, r, activation), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("pair", LOSSES, ids="-".join)
@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "softplus", "relu"])
def test_residuals_give_the_gradient_of_the_loss(activation, pair):
    """d(Σ loss)/dW_l = -r_lᵀ ã_{l-1}, by central differences of the whole network."""
    phi, loss = ACTIVATIONS[activation], get_loss(*pair)
    weights, x = network((3, 4, 5, 2), np.float64, seed=2)
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, len(x)) if loss.coded else rng.random((len(x), 2))

    def total(weights):
        return loss.value(forward(weights, x, phi)[-1], y).sum()

    activations = forward(weights, x, phi)
    r, _ = loss.residual(activations[-1], y)
    residuals = backward(weights, activations, r, phi)
    direction = [rng.standard_normal(W.shape) for W in weights]
    step = 1e-6
    up, down = (
        total([W + sign * D for W, D in zip(weights, direction, strict=True)])
        for sign in (step, -step)
    )
    slope = -sum(
        np.vdot(cross(r, a), D)
        for r, a, D in zip(residuals, activations[:-1], direction, strict=True)
    )
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)


def test_inputs_are_left_alone(dtype):
    weights, x = network((4, 5, 3), dtype)
    copies = [W.copy() for W in weights], x.copy()
    activations = forward(weights, x, ACTIVATIONS["relu"])
    a = activations[1].copy()
    backward(weights, activations, activations[-1], ACTIVATIONS["relu"])
    np.testing.assert_array_equal(activations[0], copies[1])
    np.testing.assert_array_equal(activations[1], a)
    for W, before in zip(weights, copies[0], strict=True):
        np.testing.assert_array_equal(W, before)


def test_a_workspace_changes_no_bit_and_is_reused(dtype):
    workspace = Workspace()
    phi = ACTIVATIONS["tanh"]
    for rows in (50, 7, 50):  # the last block of a pass is ragged
        weights, x = network((4, 33, 3), dtype, rows=rows)
        fresh = forward(weights, x, phi)
        reused = forward(weights, x, phi, workspace)
        for a, b in zip(fresh, reused, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(
            backward(weights, fresh, fresh[-1], phi),
            backward(weights, reused, reused[-1], phi, workspace),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    again = forward(weights, x, phi, workspace)
    assert all(np.shares_memory(a, b) for a, b in zip(again[1:], reused[1:], strict=True))


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "logistic"])
def test_a_warm_workspace_copies_no_block(activation):
    """NumPy hands BLAS the views as they are."""
    weights, x = network((64, 256, 8), np.float32, rows=512)
    phi, workspace = ACTIVATIONS[activation], Workspace()

    def run():
        activations = forward(weights, x, phi, workspace)
        backward(weights, activations, activations[-1], phi, workspace)

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

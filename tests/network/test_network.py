"""Networks start from weights under which every layer uses its activation."""

import numpy as np
import pytest

from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.network.initial import OUTPUT_SPREAD, initial_weights
from daskalt.network.network import dense
from tests import naive

CROSS_ENTROPY = get_loss("cross_entropy", "softmax")


def rows_of(n, columns, dtype="float32", seed=0, scale=1.0):
    a = scale * np.random.default_rng(seed).standard_normal((n, columns + 1))
    a[:, -1] = 1
    return a.astype(dtype)


def spread_of(z, weight=None):
    mean = np.average(z, axis=0, weights=weight)
    return np.mean(np.sqrt(np.average((z - mean) ** 2, axis=0, weights=weight)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_have_bias_columns_and_the_type_of_the_rows(dtype):
    network = dense((5, 7, 4, 3), ACTIVATIONS["relu"], CROSS_ENTROPY)
    weights = initial_weights(network, rows_of(50, 5, dtype), np.random.default_rng(0))
    assert [w.shape for w in weights] == [(7, 6), (4, 8), (3, 5)]
    assert all(w.dtype == dtype and w.flags.c_contiguous for w in weights)
    assert tuple(w.shape for w in weights) == network.shapes
    assert network.n_layers == 3
    assert network.flops == 2 * (6 * 7 + 8 * 4 + 5 * 3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_layer_has_the_spread_that_suits_its_activation(activation, scale):
    network = dense((6, *[20] * 6, 3), ACTIVATIONS[activation], CROSS_ENTROPY)
    x = rows_of(400, 6, "float64", scale=scale)
    weights = initial_weights(network, x, np.random.default_rng(0))
    a = x
    for w in weights[:-1]:
        z = a @ w.T
        np.testing.assert_allclose(spread_of(z), network.phi.spread, rtol=1e-5)
        if network.phi.centred:
            np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
        a = np.column_stack([naive.each(naive.ACTIVATIONS[activation][0], z), np.ones(len(z))])
    np.testing.assert_allclose(spread_of(a @ weights[-1].T), OUTPUT_SPREAD, rtol=1e-5)


def test_the_seed_decides():
    network = dense((4, 5, 2), ACTIVATIONS["tanh"], CROSS_ENTROPY)
    x = rows_of(30, 4)
    a, b, c = (initial_weights(network, x, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(np.array_equal(u, v) for u, v in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])


def test_rows_of_no_weight_do_not_count():
    network = dense((4, 5, 2), ACTIVATIONS["logistic"], CROSS_ENTROPY)
    x, rng = rows_of(30, 4, "float64"), np.random.default_rng
    weight = np.r_[np.full(20, 3.0), np.zeros(10)]
    with_weight = initial_weights(network, x, rng(0), weight)
    without_rows = initial_weights(network, x[:20], rng(0))
    for a, b in zip(with_weight, without_rows, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("x", [rows_of(1, 4), np.ones((20, 5), np.float32)], ids=["row", "same"])
def test_rows_without_spread_leave_plain_gaussian_weights(x):
    network = dense((4, 5, 2), ACTIVATIONS["softplus"], CROSS_ENTROPY)
    assert all(np.isfinite(w).all() for w in initial_weights(network, x, np.random.default_rng(0)))


def test_the_sample_is_left_as_it_was():
    x = rows_of(30, 4)
    before = x.copy()
    initial_weights(
        dense((4, 5, 2), ACTIVATIONS["relu"], CROSS_ENTROPY), x, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(x, before)


def test_rows_of_weight_zero_are_absent_however_large():
    network = dense((5, 7, 3), ACTIVATIONS["tanh"], CROSS_ENTROPY)
    x = rows_of(40, 5, "float64")
    weight = np.arange(40) % 2.0
    kept = initial_weights(network, x[1::2], np.random.default_rng(0))
    x[::2, :-1] = 1e300
    for a, b in zip(
        initial_weights(network, x, np.random.default_rng(0), weight), kept, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_weights_that_are_zero_in_all_rows_of_the_sample_count_as_equal():
    network = dense((5, 7, 3), ACTIVATIONS["relu"], CROSS_ENTROPY)
    x = rows_of(40, 5)
    zero = initial_weights(network, x, np.random.default_rng(0), np.zeros(40))
    for a, b in zip(zero, initial_weights(network, x, np.random.default_rng(0)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pair", [("cross_entropy", "softmax"), ("cross_entropy", "logistic")])
def test_the_biases_of_the_outputs_give_the_mean_target(pair):
    network = dense((4, 5, 3), ACTIVATIONS["relu"], get_loss(*pair))
    x, mean = rows_of(30, 4), np.array([0.01, 0.2, 0.79])
    plain = initial_weights(network, x, np.random.default_rng(0))
    start = initial_weights(network, x, np.random.default_rng(0), mean_target=mean)
    np.testing.assert_allclose(network.loss.link(start[-1][None, :, -1])[0], mean, rtol=1e-5)
    np.testing.assert_array_equal(start[0], plain[0])
    np.testing.assert_array_equal(start[-1][:, :-1], plain[-1][:, :-1])

"""Element-wise passes over weight matrices, held to their formulas."""

import numpy as np
import pytest

from daskalt.kernels.step import advance, averaged, difference_scaled, mean_gradient, running_mean

RTOL = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def matrices(count, dtype, shape=(5, 7)):
    """Rows of larger matrices, as strips are."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((9, 7)).astype(dtype)[: shape[0], : shape[1]] for _ in range(count)]


def close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=RTOL[dtype], atol=RTOL[dtype])
    assert found.dtype == dtype


@pytest.mark.parametrize("bias", [True, False])
def test_a_mean_gradient(dtype, bias):
    """Of a strip with the biases, and of one without."""
    total, w = matrices(2, dtype)
    out = np.empty_like(w)
    assert mean_gradient(total, w, 4.0, 0.3, bias, out=out) is out
    penalised = np.c_[w[:, :-1], np.zeros(5)] if bias else w
    close(out, total / 4.0 - 0.3 * penalised, dtype)


def test_a_running_mean(dtype):
    old, total = matrices(2, dtype)
    kept = old.copy()
    close(running_mean(None, total, 0.8, 4.0), total / 4.0, dtype)
    close(running_mean(old, total, 0.8, 4.0), 0.8 * kept + 0.2 * total / 4.0, dtype)
    np.testing.assert_array_equal(old, kept)


def test_an_average_is_written_to_the_given_array(dtype):
    old, new = matrices(2, dtype)
    out = np.full((9, 7), np.nan, dtype)
    averaged(old, new, 0.25, out[2:7])
    close(out[2:7], 0.75 * old + 0.25 * new, dtype)
    assert np.isnan(out[[0, 1, 7, 8]]).all()


def test_a_scaled_difference_overwrites_its_second_argument(dtype):
    b, x = matrices(2, dtype)
    before, kept = x.copy(), b.copy()
    difference_scaled(b, x, 3.0)
    close(x, 3.0 * (kept - before), dtype)
    np.testing.assert_array_equal(b, kept)


def test_a_step_with_momentum_is_written_to_the_given_arrays(dtype):
    w, v, d = matrices(3, dtype)
    before = [a.copy() for a in (w, v, d)]
    new_w, new_v = np.full((2, 9, 7), np.nan, dtype)
    advance(w, v, d, 0.6, 0.5, new_w[:5], new_v[:5])
    velocity = 0.6 * v + 0.4 * 0.5 * d
    close(new_v[:5], velocity, dtype)
    close(new_w[:5], w + 0.6 * velocity + 0.4 * 0.5 * d, dtype)
    assert np.isnan(new_w[5:]).all()
    assert np.isnan(new_v[5:]).all()
    for a, kept in zip((w, v, d), before, strict=True):
        np.testing.assert_array_equal(a, kept)

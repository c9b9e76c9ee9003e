"""The scaling of columns, and its folding into first-layer weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from daskalt.data.scaling import REACH, choose_scaling
from daskalt.errors import InputError
from daskalt.kernels.scale import scale_rows


def rows_of(n=200, columns=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, columns)) * [0.01, 1, 300, 5] + [1e3, 0, -50, 7]


def scaled(X, scaling, dtype=np.float64):
    return scale_rows(X, scaling.shift, scaling.factor, dtype)[:, :-1]


def test_standard_is_that_of_scikit_learn_where_no_value_is_far_out():
    X = rows_of()
    np.testing.assert_allclose(
        scaled(X, choose_scaling(X, None, "standard")), StandardScaler().fit_transform(X), atol=1e-9
    )


def test_weights_count_as_repeated_rows():
    X = rows_of(30)
    weight = np.arange(30) % 3
    repeated = choose_scaling(np.repeat(X, weight, axis=0), None, "standard")
    weighted = choose_scaling(X, weight.astype(float), "standard")
    np.testing.assert_allclose(weighted.shift, repeated.shift, rtol=1e-12)
    np.testing.assert_allclose(weighted.factor, repeated.factor, rtol=1e-10)


def test_rare_values_reach_no_further_than_the_limit():
    X = np.zeros((4000, 1))
    X[7] = 1
    column = scaled(X, choose_scaling(X, None, "auto"))
    np.testing.assert_allclose(np.abs(column).max(), REACH, rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.0, 1e8, -1e-12])
def test_constant_columns_are_shifted_and_brought_down_to_one(value):
    X = np.full((20, 1), value)
    scaling = choose_scaling(X, None, "auto")
    assert scaling.shift[0] == pytest.approx(value)
    assert scaling.factor[0] == pytest.approx(1 / max(abs(value), 1))


def test_a_large_constant_column_drowns_nothing_once_folded():
    X = rows_of().astype(np.float32)
    X[:, 0] = 1e9
    scaling = choose_scaling(X, None, "auto")
    w = np.random.default_rng(0).standard_normal((3, 5))
    folded = scaling.fold(w).astype(np.float32)
    ones = np.ones((len(X), 1), np.float32)
    raw = np.concatenate([X, ones], axis=1) @ folded.T
    x = scale_rows(X, scaling.shift, scaling.factor, np.float32)
    np.testing.assert_allclose(raw, x @ w.T, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "value", "how"),
    [
        ("float32", 1e38, "auto"),
        ("float64", 1e308, "standard"),
        ("float32", 1e16, "none"),
        ("int64", 10**16, "none"),
        ("float64", 1e200, "none"),
    ],
)
def test_values_whose_arithmetic_overflows_are_named(dtype, value, how):
    X = np.array([[1, value], [2, -value], [3, value]]).astype(dtype)
    with pytest.raises(InputError, match=r"X reaches 1e\+\d+ in column 1"):
        choose_scaling(X, None, how)


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e37), ("float64", 1e307)])
def test_the_largest_values_are_standardised(dtype, value):
    X = (rows_of(60, 4, 1).astype(np.float64) / 2000 * value).astype(dtype)
    x = scaled(X, choose_scaling(X, None, "auto"), dtype)
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-3)


def test_huge_row_weights_overflow_nothing():
    X = rows_of(3)
    huge = choose_scaling(X, np.array([1e308, 1e308, 0]), "auto")
    equal = choose_scaling(X, np.array([1.0, 1, 0]), "auto")
    np.testing.assert_allclose(huge.factor, equal.factor)


def test_bytes_keep_one_scale():
    X = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    auto = choose_scaling(X, None, "auto")
    np.testing.assert_array_equal(auto.factor, 1 / 255)
    np.testing.assert_array_equal(auto.shift, 0)
    assert not np.array_equal(choose_scaling(X, None, "standard").factor, auto.factor)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int32"])
def test_none_leaves_columns_as_they_are(dtype):
    X = (rows_of() % 100).astype(dtype)
    np.testing.assert_array_equal(scaled(X, choose_scaling(X, None, "none")), X)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 99), outputs=st.integers(1, 4))
def test_folded_weights_act_on_raw_rows_and_unfold_again(seed, outputs):
    X = rows_of(seed=seed)
    scaling = choose_scaling(X, None, "auto")
    w = np.random.default_rng(seed).standard_normal((outputs, 5))
    before = w.copy()
    folded = scaling.fold(w)
    z = scale_rows(X, scaling.shift, scaling.factor, np.float64) @ w.T
    np.testing.assert_allclose(X @ folded[:, :-1].T + folded[:, -1], z, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(scaling.unfold(folded, np.dtype(float)), w, rtol=1e-9, atol=1e-7)
    assert scaling.unfold(folded, np.dtype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(w, before)

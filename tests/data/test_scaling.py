"""The scaling of columns, and its folding into first-layer weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from daskalt.data import scaling as scaling_module
from daskalt.data.scaling import REACH, choose_scaling
from daskalt.errors import InputError
from daskalt.kernels.scale import scale_rows


def rows_of(n=200, columns=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, columns)) * [0.01, 1, 300, 5] + [1e3, 0, -50, 7]


def scaled(X, scaling, dtype=np.float64):
    return scaling.apply(X, dtype)[:, :-1]


def test_standard_is_that_of_scikit_learn_where_no_value_is_far_out():
    X = rows_of()
    np.testing.assert_allclose(
        scaled(X, choose_scaling(X, None, "standard")), StandardScaler().fit_transform(X), atol=1e-9
    )


@pytest.mark.parametrize("how", ["auto", "standard"])
@pytest.mark.parametrize("seed", range(5))
def test_weights_count_as_repeated_rows(how, seed):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rows_of(60), rows_of(60) * (rng.random((60, 4)) < 0.3)], axis=1)
    X[3] *= 1e4
    weight = rng.integers(0, 4, 60)
    repeated = choose_scaling(np.repeat(X, weight, axis=0), None, how)
    weighted = choose_scaling(X, 0.3 * weight, how)
    np.testing.assert_allclose(weighted.shift, repeated.shift, rtol=1e-9)
    np.testing.assert_allclose(weighted.factor, repeated.factor, rtol=1e-9)


def test_auto_is_standard_where_no_value_is_far_out_or_makes_up_half():
    X = rows_of()
    X[: len(X) // 2 - 1, 1] = 0
    auto, standard = (choose_scaling(X, None, how) for how in ("auto", "standard"))
    np.testing.assert_allclose(auto.shift, standard.shift, rtol=1e-9)
    np.testing.assert_allclose(auto.factor, standard.factor, rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, -3.0])
@pytest.mark.parametrize("others", [1, 30, 90])
def test_a_value_over_half_of_the_time_stays_at_zero_and_others_have_unit_mean_square(
    value, others
):
    column = np.full(200, value)
    rows = np.random.default_rng(others).choice(200, others, replace=False)
    column[rows] += np.random.default_rng(1).uniform(1, 5, others)
    auto = choose_scaling(column[:, None], None, "auto")
    assert auto.shift[0] == value
    expected = 1 / np.sqrt(np.mean((column[rows] - value) ** 2))
    np.testing.assert_allclose(auto.factor[0], expected, rtol=1e-9)


def test_rare_values_of_standard_reach_no_further_than_the_limit():
    X = np.zeros((4000, 1))
    X[7] = 1
    column = scaled(X, choose_scaling(X, None, "standard"))
    np.testing.assert_allclose(np.abs(column).max(), REACH, rtol=1e-9)


def test_a_few_wild_values_hardly_move_the_scale_and_are_clipped():
    X = rows_of(4000)
    X[:, 3] *= np.random.default_rng(2).random(4000) < 0.2
    clean = choose_scaling(X, None, "auto")
    X[:3] = [[1e8], [-1e8], [1e20]]
    wild = choose_scaling(X, None, "auto")
    # Ten deviations out, as they count, three of 4,000 add 300 / 4,000 to a variance of one, and
    # five times as much where four entries in five are zero.
    np.testing.assert_allclose(wild.factor, clean.factor, rtol=0.2)
    np.testing.assert_allclose((wild.shift - clean.shift) * clean.factor, 0, atol=0.02)
    x = scaled(X, wild)
    np.testing.assert_array_equal(x[:3], np.repeat([[REACH], [-REACH], [REACH]], 4, axis=1))
    np.testing.assert_array_less(np.abs(x[3:]), REACH)


def test_clipped_entries_are_those_at_the_limits():
    X = rows_of()
    scaling = choose_scaling(X, None, "auto")
    X[:4] *= [[1e3], [-1e3], [30], [-30]]
    within = np.clip(X, *scaling.limits)
    assert (within != X).any()
    np.testing.assert_allclose(scaled(X, scaling), scaled(within, scaling), atol=1e-9)


@pytest.mark.parametrize("how", ["auto", "standard"])
def test_scaled_entries_depend_on_no_unit_and_no_type(how):
    X = np.random.default_rng(0).poisson([0.1, 0.6, 3, 40], (500, 4)).astype(np.uint8)
    factors = np.array([1e-3, 7.0, 1e3, -0.1])
    expected = scaled(X, choose_scaling(X, None, how), np.float32)
    for other in (
        X.astype(np.int64),
        X.astype(np.float32),
        X * factors,
        X * factors + [5, 0, 9, 1],
    ):
        x = scaled(other, choose_scaling(other, None, how), np.float32)
        np.testing.assert_allclose(np.abs(x), np.abs(expected), atol=1e-5)


def test_columns_are_scaled_alike_however_many_there_are(monkeypatch):
    X = rows_of(300, 4)
    together = choose_scaling(X, None, "auto")
    monkeypatch.setattr(scaling_module, "BLOCK_ENTRIES", 300)
    for one, other in zip(together[:2], choose_scaling(X, None, "auto")[:2], strict=True):
        np.testing.assert_array_equal(one, other)


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


def test_rows_that_may_lie_elsewhere_are_not_clipped():
    X = np.random.default_rng(0).standard_normal((50, 3))
    clipped, open_ended = (choose_scaling(X, None, "auto", clip=clip) for clip in (True, False))
    assert clipped.reach == REACH
    assert np.isinf(open_ended.reach)
    assert np.isinf(open_ended.limits).all()
    np.testing.assert_array_equal(clipped.factor, open_ended.factor)

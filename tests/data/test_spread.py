"""Centre and spread by quartiles: those of NumPy, of all rows or of a sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from daskalt.data.spread import LEAST_ROWS, SAMPLE_ROWS, sample_of
from daskalt.data.survey import survey_numbers
from tests.data.test_survey import table_of


def sample(y, weight=None, rows=10):
    return survey_numbers(table_of(y, weight, rows), sampled=True).sample


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 80), rows=st.integers(1, 90), weighted=st.booleans())
def test_small_tables_have_the_quartiles_of_numpy(n, rows, weighted):
    rng = np.random.default_rng(n)
    y = rng.standard_cauchy((n, 2))
    weight = rng.integers(0, 3, n).astype(float) if weighted else None
    if weight is not None:
        weight[0] = 1.0
    centre, spread = sample(y, weight, rows).centre_and_spread()
    low, median, high = np.quantile(
        y, [0.25, 0.5, 0.75], axis=0, weights=weight, method="inverted_cdf"
    )
    np.testing.assert_array_equal(centre, median)
    if (high > low).all():
        np.testing.assert_allclose(spread, (high - low) / (2 * norm.ppf(0.75)))


@pytest.mark.parametrize("rows", [1000, 7919, 40_000])
def test_the_sample_of_many_rows_does_not_depend_on_their_blocks(rows):
    rng = np.random.default_rng(0)
    y, weight = rng.standard_cauchy(40_000), rng.random(40_000)
    whole = sample_of(y[:, None], weight, 0)
    assert len(whole.keys) == SAMPLE_ROWS
    cut = sample(y, weight, rows)
    for name in ("keys", "values", "weights"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def test_samples_add_in_any_order():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((30_000, 1))
    a, b, c = (sample_of(y[i : i + 10_000], np.ones(10_000), i) for i in (0, 10_000, 20_000))
    left, right, turned = (a + b) + c, a + (b + c), c + (b + a)
    for name in ("keys", "values", "weights"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        np.testing.assert_array_equal(getattr(left, name), getattr(turned, name))


@pytest.mark.parametrize("order", [np.sort, np.random.default_rng(1).permutation])
def test_the_sample_is_near_all_rows_however_they_are_sorted(order):
    y = order(5 + 3 * np.random.default_rng(0).standard_normal(200_000))
    centre, spread = sample(y, rows=10_000).centre_and_spread()
    # Five standard errors of a median and of a distance of quartiles.
    assert centre[0] == pytest.approx(5, abs=5 * 3 * 1.2533 / SAMPLE_ROWS**0.5)
    assert spread[0] == pytest.approx(3, abs=5 * 3 * 1.17 / SAMPLE_ROWS**0.5)


def test_the_sample_of_wide_rows_is_small():
    wide = sample_of(np.zeros((3000, 4000)), np.ones(3000), 0)
    assert wide.values.shape == (LEAST_ROWS, 4000)


def test_rows_without_weight_are_absent():
    y, weight = np.r_[np.full(80, 1e9), np.arange(15.0)], np.r_[np.zeros(80), np.ones(15)]
    assert sample(y, weight).centre_and_spread()[0][0] == 7


def test_where_most_targets_are_equal_the_others_give_the_spread():
    y = np.r_[np.zeros(80), np.array([-2.0, 2, 3, -3]), [1e6]]
    centre, spread = sample(y).centre_and_spread()
    assert centre[0] == 0
    assert spread[0] == pytest.approx(3 / norm.ppf(0.75))
    assert sample(np.full(30, 7.0)).centre_and_spread() == ([7.0], [0.0])

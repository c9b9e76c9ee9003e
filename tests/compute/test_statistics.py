"""Statistics add: associatively, with None as zero, and without touching their inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from daskalt.compute.statistics import Score, combine
from daskalt.solvers.local_steps import LocalSteps
from daskalt.solvers.z_step import Step

# Whole numbers of a size whose sums are exact: the order of additions then changes no bit.
numbers = st.integers(-1000, 1000).map(float)
matrices = st.none() | st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(-99, 99, (3, 2)).astype(np.float32)
)
scores = st.builds(Score, numbers, numbers, numbers, matrices, matrices, matrices)


def same(a, b):
    if isinstance(a, tuple):
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif a is None:
        assert b is None
    else:
        np.testing.assert_array_equal(a, b)


def kin(kind):
    """Three statistics of one kind, or zeros."""
    return st.tuples(*[st.none() | kind] * 3)


pairs = st.tuples(matrices, matrices)
weights = st.integers(0, 1000).map(float)
steps = st.builds(Step, scores, pairs, pairs, pairs, weights)


@given(kin(steps) | kin(scores) | kin(st.tuples(numbers, matrices)))
def test_combine_is_associative_and_commutes(parts):
    a, b, c = parts
    same(combine(combine(a, b), c), combine(a, combine(b, c)))
    same(combine(a, b), combine(b, a))


@given(steps | scores | matrices)
def test_none_is_the_zero(a):
    same(combine(a, None), a)
    same(combine(None, a), a)


def test_none_in_a_field_means_not_gathered():
    a = Step(Score(1.0, 2.0, 0.0), (np.ones((2, 2)),), (None,), (None,), 0.0)
    b = Step(Score(1.0, 3.0, 1.0), (np.ones((2, 2)),), (np.eye(2),), (np.ones((1, 1)),), 1.0)
    both = combine(a, b)
    sums = (np.full((2, 2), 2.0),), (np.eye(2),), (np.ones((1, 1)),)
    same(both, Step(Score(2.0, 5.0, 1.0), *sums, 1.0))


def test_the_kind_of_a_statistic_survives():
    score = Score(1.0, 1.0, 1.0)
    local = LocalSteps(score, (np.eye(2),), (np.eye(2),), 1.0)
    assert type(combine(local, local)) is LocalSteps
    assert type(combine((1.0, score), (2.0, score))) is tuple


def test_inputs_are_left_as_they_were():
    a, b = np.ones((2, 2), np.float32), np.full((2, 2), 3, np.float32)
    total = combine((a,), (b,))[0]
    assert total.dtype == np.float32
    assert not np.shares_memory(total, a)
    np.testing.assert_array_equal(a, 1)
    np.testing.assert_array_equal(b, 3)


def test_score_gives_means():
    score = Score(4.0, 2.0, 3.0)
    assert score.mean_loss == 0.5
    assert score.accuracy == 0.75


def regression_score(y, prediction, weight):
    return Score(weight.sum(), 0.0, 0.0, weight @ (prediction - y) ** 2, weight @ y, weight @ y**2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_r2_is_that_of_scikit_learn_however_rows_are_divided(outputs):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((50, outputs)) + 5
    prediction = y + 0.3 * rng.standard_normal(y.shape)
    weight = rng.random(50)
    parts = [
        regression_score(y[rows], prediction[rows], weight[rows])
        for rows in (slice(0, 7), slice(7, 30), slice(30, 50))
    ]
    score = combine(combine(parts[0], parts[1]), parts[2])
    expected = r2_score(y, prediction, sample_weight=weight)
    np.testing.assert_allclose(score.r2, expected, rtol=1e-10)


def test_r2_of_a_constant_target():
    y, weight = np.full((4, 1), 2.0), np.ones(4)
    assert regression_score(y, y, weight).r2 == 1.0
    assert regression_score(y, y + 1, weight).r2 == 0.0

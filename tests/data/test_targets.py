"""Targets of every kind, encoded for a loss, decoded again, and refused where they do not fit."""

import numpy as np
import pytest
from scipy.stats import norm

from daskalt.data.rows import MemorySource
from daskalt.data.survey import survey_numbers
from daskalt.data.table import Table
from daskalt.data.targets import (
    BinaryTargets,
    ClassTargets,
    MultilabelTargets,
    RealTargets,
    centre_and_scale,
)
from daskalt.errors import InputError

FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -1, 7, 30]),
        np.array(["cat", "a", "cat", "horse"]),
        np.array([2.0, 0.0, 2.0, 5.0]),
    ],
    ids=["integers", "text", "floats"],
)
def test_labels_become_codes_and_come_back(labels):
    targets = ClassTargets(np.unique(labels))
    codes = targets.encode(labels, FLOAT)
    assert codes.dtype == np.int32
    assert targets.width == 3
    outputs = np.eye(3)[codes]
    decoded = targets.decode(outputs)
    np.testing.assert_array_equal(decoded, labels)
    assert decoded.dtype == np.unique(labels).dtype
    assert targets.hits(outputs, codes).all()


def test_indicators_for_losses_that_want_numbers():
    targets = ClassTargets(np.array([3, 5, 9]), one_hot=True)
    y = targets.encode(np.array([5, 3, 9, 5]), FLOAT)
    np.testing.assert_array_equal(y, np.eye(3)[[1, 0, 2, 1]])
    assert y.dtype == FLOAT
    assert targets.hits(np.eye(3)[[1, 0, 1, 1]], y).tolist() == [True, True, False, True]


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [-1, 1]])
def test_two_labels_share_one_unit(labels):
    labels = np.array(labels)
    targets = BinaryTargets(labels)
    y = targets.encode(labels[[1, 0, 1]], FLOAT)
    np.testing.assert_array_equal(y, [[1], [0], [1]])
    assert y.dtype == FLOAT
    assert targets.width == 1
    outputs = np.array([[0.9], [0.5], [0.4]])
    np.testing.assert_array_equal(targets.decode(outputs), labels[[1, 0, 0]])
    assert targets.hits(outputs, y).tolist() == [True, True, False]


@pytest.mark.parametrize("kind", [ClassTargets, BinaryTargets])
@pytest.mark.parametrize("stranger", [4, -1])
def test_unknown_labels_are_named(kind, stranger):
    targets = kind(np.array([0, 3]))
    with pytest.raises(InputError, match=rf"not among the classes.*\[{stranger}\].*\[0, 3\]"):
        targets.encode(np.array([0, 3, stranger]), FLOAT)


def test_longer_unknown_text_is_not_cut_to_a_known_label():
    targets = ClassTargets(np.array(["a", "b"]))
    with pytest.raises(InputError, match="bcd"):
        targets.encode(np.array(["a", "bcd"]), FLOAT)


def test_a_column_of_labels_is_labels():
    targets = ClassTargets(np.array([0, 1, 2]))
    np.testing.assert_array_equal(targets.encode(np.array([[2], [0]]), FLOAT), [2, 0])


def test_indicator_matrices():
    targets = MultilabelTargets(3)
    y = np.array([[1, 0, 1], [0, 0, 0]])
    encoded = targets.encode(y, FLOAT)
    assert encoded.dtype == FLOAT
    outputs = np.array([[0.9, 0.1, 0.6], [0.2, 0.5, 0.7]])
    np.testing.assert_array_equal(targets.decode(outputs), [[1, 0, 1], [0, 0, 1]])
    assert targets.hits(outputs, encoded).tolist() == [True, False]


@pytest.mark.parametrize("bad", [np.array([[1, 2, 0]]), np.array([[1, 0]]), np.array([1, 0, 1])])
def test_matrices_of_other_numbers_are_refused(bad):
    with pytest.raises(InputError, match="0 and 1 with 3 columns"):
        MultilabelTargets(3).encode(bad, FLOAT)


@pytest.mark.parametrize("columns", [None, 1, 3])
def test_numbers_are_standardised_and_units_folded_in(columns):
    rng = np.random.default_rng(0)
    y = 50 + 7 * rng.standard_normal((20, columns) if columns else 20)
    width = columns or 1
    mean, scale = np.full(width, 50.0), np.arange(1.0, width + 1)
    targets = RealTargets(mean, scale, one_dimensional=columns is None)
    encoded = targets.encode(y, FLOAT)
    assert encoded.shape == (20, width)
    assert encoded.dtype == FLOAT
    np.testing.assert_allclose(encoded, (y.reshape(20, -1) - mean) / scale, rtol=1e-5, atol=1e-5)

    w = rng.standard_normal((width, 5))
    a = np.column_stack([rng.standard_normal((20, 4)), np.ones(20)])
    folded = targets.fold(w)
    np.testing.assert_allclose(a @ folded.T, (a @ w.T) * scale + mean, rtol=1e-12)
    np.testing.assert_allclose(targets.unfold(folded, np.dtype(float)), w, rtol=1e-9, atol=1e-12)
    assert targets.decode(a @ folded.T).shape == y.shape
    assert targets.hits(encoded, encoded) is None


def test_large_offsets_lose_no_digits():
    y = 1e9 + np.arange(5.0)
    targets = RealTargets(np.array([1e9 + 2]), np.array([2.0]), one_dimensional=True)
    np.testing.assert_array_equal(targets.encode(y, FLOAT)[:, 0], [-1, -0.5, 0, 0.5, 1])


def test_another_number_of_columns_is_refused():
    with pytest.raises(InputError, match="must have 2 columns, as in the fit; it has 3"):
        RealTargets(np.zeros(2), np.ones(2), False).encode(np.ones((4, 3)), FLOAT)


def numbers(y, **options):
    y = np.asarray(y, float)
    table = Table(MemorySource(np.zeros((len(y), 1))), MemorySource(y, "y"))
    return survey_numbers(table, **options)


@pytest.mark.parametrize("sampled", [False, True])
def test_constant_targets_have_the_scale_one(sampled):
    for y in (np.zeros(9), np.full(9, 3e8), np.full(9, -0.1)):
        centre, scale = centre_and_scale(numbers(y, sampled=sampled), FLOAT)
        np.testing.assert_allclose(centre, y[0])
        np.testing.assert_array_equal(scale, 1)


def test_targets_are_standardised_by_moments_or_quartiles():
    y = np.r_[np.arange(100.0), 1e6]
    centre, scale = centre_and_scale(numbers(y), FLOAT)
    np.testing.assert_allclose([centre[0], scale[0]], [y.mean(), y.std()])
    centre, scale = centre_and_scale(numbers(y, sampled=True), FLOAT)
    np.testing.assert_allclose([centre[0], scale[0]], [50, 25 / norm.ppf(0.75)])


def test_where_the_sample_has_one_value_the_deviation_is_the_scale():
    y = np.zeros(400_000)
    y[123_456] = 1.0
    surveyed = numbers(y, sampled=True)
    assert not surveyed.sample.values.any()
    centre, scale = centre_and_scale(surveyed, FLOAT)
    assert centre[0] == 0
    np.testing.assert_allclose(scale[0], y.std())


@pytest.mark.parametrize(("dtype", "far"), [("float32", 1e29), ("float64", 1e99)])
def test_targets_far_beyond_the_quartiles_are_refused(dtype, far):
    y = np.r_[np.arange(100.0) / 1e6, far]
    with pytest.raises(InputError, match=rf"y is too far out to train on in {dtype}.*Clip y"):
        centre_and_scale(numbers(y, sampled=True), np.dtype(dtype))

"""A pass over the targets: labels, moments, and how far the rows are from shuffled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.data.readers import MemorySource
from daskalt.data.survey import survey_labels, survey_numbers, total_weight
from daskalt.data.table import Table
from daskalt.errors import InputError


class Chunked(MemorySource):
    """Rows in memory that are taken in blocks of a given size."""

    def __init__(self, array, name, rows):
        super().__init__(np.asarray(array), name)
        self.chunk_rows = rows

    @property
    def row_bytes(self):
        return (64 << 20) // self.chunk_rows  # so that no block has more than one chunk


def table_of(y, weight=None, rows=10):
    y = np.asarray(y)
    weight = None if weight is None else Chunked(weight, "sample_weight", rows)
    return Table(MemorySource(np.zeros((len(y), 2)), "X"), Chunked(y, "y", rows), weight)


def test_the_fixture_makes_blocks():
    assert len(table_of(np.arange(95)).y.array) == 95
    y = table_of(np.arange(95)).y
    assert len(Table(y, y).block_bounds()) == 10


@pytest.mark.parametrize("rows", [1, 7, 10, 1000])
@pytest.mark.parametrize(
    "y",
    [
        np.arange(50) % 7,
        np.array(["b", "a", "longer", "b"] * 10),
        np.array([True, False, True] * 10),
        np.array([2.0, 4.0, 2.0] * 10),
        (np.arange(30) % 3)[:, None],
    ],
    ids=["integers", "text", "booleans", "floats", "column"],
)
def test_labels_and_counts_are_those_of_numpy(y, rows):
    labels = survey_labels(table_of(y, rows=rows))
    classes, counts = np.unique(y, return_counts=True)
    np.testing.assert_array_equal(labels.classes, classes)
    np.testing.assert_array_equal(labels.counts, counts)


def test_fractions_are_no_labels():
    with pytest.raises(InputError, match=r"Unknown label type: continuous.*MLPRegressor"):
        survey_labels(table_of(np.linspace(0, 1, 25)))


def test_bad_targets_are_named_with_their_row_in_the_table():
    y = np.arange(95, dtype=float)
    y[57] = np.nan
    with pytest.raises(InputError, match=r"Input y contains NaN.*row 57.*rows 50 to 60"):
        survey_labels(table_of(y))
    with pytest.raises(InputError, match=r"Input y contains NaN.*row 57.*rows 50 to 60"):
        survey_numbers(table_of(y))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 80),
    rows=st.integers(1, 90),
    offset=st.sampled_from([0.0, 1e6]),
    columns=st.sampled_from([None, 1, 3]),
    weighted=st.booleans(),
)
def test_moments_are_those_of_numpy_however_rows_are_chunked(n, rows, offset, columns, weighted):
    rng = np.random.default_rng(n)
    y = offset + rng.standard_normal((n, columns) if columns else n)
    weight = rng.integers(0, 3, n).astype(float) if weighted else None
    if weight is not None:
        weight[0] = 1.0
    numbers = survey_numbers(table_of(y, weight, rows))
    flat = y.reshape(n, -1)
    mean = np.average(flat, axis=0, weights=weight)
    np.testing.assert_allclose(numbers.mean, mean, rtol=1e-12, atol=1e-12)
    variance = np.average((flat - mean) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(numbers.variance, variance, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("spread", [1, 1000])
def test_clustering_is_about_one_for_shuffled_rows(spread):
    rng = np.random.default_rng(0)
    labels = survey_labels(table_of(rng.integers(0, 4, 20_000), rows=100))
    assert labels.clustering() == pytest.approx(1, abs=0.1)
    numbers = survey_numbers(table_of(spread * rng.standard_normal(20_000), rows=100))
    assert numbers.clustering() == pytest.approx(1, abs=0.1)


def test_clustering_of_sorted_rows_is_the_rows_of_a_block():
    y = np.sort(np.random.default_rng(0).integers(0, 4, 20_000))
    assert survey_labels(table_of(y, rows=100)).clustering() > 50
    assert survey_numbers(table_of(y.astype(float), rows=100)).clustering() > 50


def test_clustering_by_hand():
    # Blocks (a, a), (b, b): χ² of the 2 × 2 table is 4, with one degree of freedom.
    assert survey_labels(table_of(["a", "a", "b", "b"], rows=2)).clustering() == pytest.approx(4)
    # Blocks (a, b), (a, b): χ² is 0.
    assert survey_labels(table_of(["a", "b", "a", "b"], rows=2)).clustering() == pytest.approx(0)
    # Block means 0 and 2 about 1, weight 2 each: 4; their variance were they shuffled: 1.
    assert survey_numbers(table_of([0.0, 0, 2, 2], rows=2)).clustering() == pytest.approx(4)


@pytest.mark.parametrize("y", [[1, 1, 1, 1], [0, 1, 2, 3]])
def test_one_block_or_one_label_says_nothing(y):
    assert survey_labels(table_of(y, rows=100)).clustering() == 1.0
    assert survey_labels(table_of([1, 1, 1, 1], rows=2)).clustering() == 1.0
    assert survey_numbers(table_of([1.0, 1, 1, 1], rows=2)).clustering() == 0.0


@pytest.mark.parametrize("kind", [float, int])
def test_total_weight(kind):
    assert total_weight(table_of(np.zeros(25))) == 25
    assert total_weight(table_of(np.zeros(25), (np.arange(25) % 3).astype(kind))) == 24


def test_weights_that_add_to_nothing_or_are_negative_are_refused():
    with pytest.raises(InputError, match="sample_weight is zero in every row"):
        total_weight(table_of(np.zeros(25), np.zeros(25)))
    weight = np.ones(25)
    weight[17] = -1
    with pytest.raises(InputError, match=r"sample_weight is negative in the block.*10 to 20"):
        survey_numbers(table_of(np.zeros(25), weight))
    weight[17] = np.nan
    with pytest.raises(InputError, match=r"Input sample_weight contains NaN.*row 17"):
        total_weight(table_of(np.zeros(25), weight))


def test_labels_add_in_any_order():
    rng = np.random.default_rng(0)
    a, b, c = (survey_labels(table_of(y, rows=100)) for y in rng.integers(0, 5, (3, 20)))
    left, right = (a + b) + c, a + (b + c)
    for name in ("classes", "counts", "blocks"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    np.testing.assert_allclose(left.between, right.between)


@pytest.mark.parametrize("weight", [1e-300, 1e300, 1e308])
def test_weights_of_an_extreme_sum_are_refused_before_they_overflow(weight):
    table = table_of(np.arange(25.0), np.full(25, weight))
    for survey in (total_weight, survey_numbers):
        with pytest.raises(InputError, match="Divide the weights by their mean"):
            survey(table)


def test_numbers_whose_weights_are_all_zero_are_refused():
    with pytest.raises(InputError, match="sample_weight is zero in every row"):
        survey_numbers(table_of(np.arange(25.0), np.zeros(25)))


@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_labels_are_those_of_the_weight(weighted):
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 95, p=[0.7, 0.2, 0.1])
    weight = rng.random(95) if weighted else np.ones(95)
    labels = survey_labels(table_of(y, weight if weighted else None))
    expected = np.array([weight[y == label].sum() for label in "abc"])
    np.testing.assert_allclose(labels.shares(), expected / weight.sum())
    factors = np.array([0.0, 2.0, 5.0])
    tilted = expected * factors
    np.testing.assert_allclose(labels.shares(factors), tilted / tilted.sum())
    assert labels.shares(np.zeros(3)) is None


def test_a_sample_is_taken_only_where_it_is_asked_for():
    assert survey_numbers(table_of(np.arange(25.0))).sample is None
    assert survey_numbers(table_of(np.arange(25.0)), sampled=True).sample is not None

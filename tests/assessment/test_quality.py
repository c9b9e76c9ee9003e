"""Confusion matrices and residuals of any number of rows, against those of arrays in memory."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from daskalt import MLPClassifier, MLPRegressor
from daskalt.assessment.histograms import histogram_of, merge
from daskalt.assessment.quality import confusion_matrix, residual_histogram
from daskalt.data.readers import ZarrSource
from daskalt.data.sources import as_table
from daskalt.errors import InputError


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 5)).astype(np.float32)
    return X, X[:, 0] - X[:, 1] ** 2 + 0.3 * rng.standard_normal(500), rng.integers(0, 4, 500)


@pytest.fixture(scope="module")
def regressor(rows):
    return MLPRegressor((8,), max_iter=3, random_state=0).fit(rows[0], rows[1])


def small_blocks(monkeypatch):
    monkeypatch.setattr("daskalt.data.table.MEBIBYTE", 64)
    monkeypatch.setattr("daskalt.data.passes.CHUNK_ROWS", 48)


@pytest.mark.parametrize("labels", [("no", "yes"), ("red", "green", "blue")])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_confusion_matrix_is_scikit_learns(rows, store, labels, weighted, monkeypatch):
    X, numbers, weight = rows
    y = np.array(labels)[np.digitize(numbers, [-1.0, 0.5][: len(labels) - 1])]
    weight = weight if weighted else None
    model = MLPClassifier((8,), max_iter=2, random_state=0).fit(X, y)
    small_blocks(monkeypatch)
    expected = metrics.confusion_matrix(y, model.predict(X), sample_weight=weight)
    assert expected.trace() < expected.sum()
    here = confusion_matrix(model, X, y, weight)
    place = store(X, y, weight=weight)
    there = confusion_matrix(model, place)
    for matrix in (here, there, confusion_matrix(model, as_table(place, None, None))):
        np.testing.assert_array_equal(matrix, expected)
    assert weighted or here.dtype == expected.dtype


@pytest.mark.parametrize("weighted", [False, True])
def test_residuals_are_counted_where_numpy_counts_them(
    rows, regressor, store, weighted, monkeypatch
):
    X, y, weight = rows
    weight = weight if weighted else None
    small_blocks(monkeypatch)
    predicted = regressor.predict(X).astype(float)
    for form in ((X, y, weight), (store(X, y, weight=weight),)):
        counts, *edges = residual_histogram(regressor, *form, bins=20)
        expected = np.histogram2d(predicted, y - predicted, edges, weights=weight)[0]
        np.testing.assert_array_equal(counts, expected)
        assert counts.sum() == (500 if weight is None else weight.sum())
        assert all(10 <= side <= 20 for side in counts.shape)


def test_stored_rows_are_read_once_and_not_gathered(rows, regressor, store, monkeypatch):
    place = store(*rows[:2], chunk_rows=50)
    monkeypatch.setattr("daskalt.data.passes.CHUNK_ROWS", 1)
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 50)
    sizes = []
    read = ZarrSource.read

    def spy(source, start, stop):
        sizes.append((source.name, stop - start))
        return read(source, start, stop)

    monkeypatch.setattr(ZarrSource, "read", spy)
    residual_histogram(regressor, place)
    assert sorted(sizes) == [("X", 50)] * 10 + [("y", 50)] * 10


def test_a_cluster_counts_the_same(rows, regressor, store, cluster, monkeypatch):
    X, y, _ = rows
    place = store(X, y)
    here = residual_histogram(regressor, X, y)
    small_blocks(monkeypatch)
    cluster(2)
    for given_rows in ((X, y), (place,)):
        for a, b in zip(residual_histogram(regressor, *given_rows), here, strict=True):
            np.testing.assert_array_equal(a, b)


def test_each_of_several_outputs_has_residuals(rows):
    X, y, _ = rows
    targets = np.stack([y, 100 - 3 * y], axis=1)
    model = MLPRegressor((8,), max_iter=3, random_state=0).fit(X, targets)
    predicted = model.predict(X).astype(float)[:, 1]
    counts, *edges = residual_histogram(model, X, targets, output=1)
    expected = np.histogram2d(predicted, targets[:, 1] - predicted, edges)[0]
    np.testing.assert_array_equal(counts, expected)
    with pytest.raises(InputError, match="output=2: the model has 2 outputs"):
        residual_histogram(model, X, targets, output=2)


@given(
    st.lists(
        st.tuples(*[st.floats(-1e12, 1e12, allow_subnormal=False)] * 2), min_size=1, max_size=30
    ),
    st.lists(st.integers(0, 30), max_size=3),
    st.integers(2, 9),
)
def test_however_rows_are_cut_their_histogram_is_that_of_all(pairs, cuts, most):
    x, y = np.array(pairs).T
    whole = histogram_of(x, y, None, most)
    total = None
    for part in np.split(np.arange(len(x)), sorted(min(cut, len(x)) for cut in cuts)):
        total = merge(total, histogram_of(x[part], y[part], None, most), most)
    assert total[1:] == whole[1:]
    np.testing.assert_array_equal(total.counts, whole.counts)
    expected = np.histogram2d(x, y, [whole.x.edges, whole.y.edges])[0]
    np.testing.assert_array_equal(whole.counts, expected)


def test_what_does_not_fit_is_named(rows, regressor):
    X, y, _ = rows
    classifier = MLPClassifier((4,), max_iter=1, random_state=0).fit(X, y > 0)
    labels = MLPClassifier((4,), max_iter=1, random_state=0).fit(X, np.stack([y > 0, y > 1], 1))
    with pytest.raises(InputError, match="is for regressors"):
        residual_histogram(classifier, X, y)
    with pytest.raises(InputError, match="for numbers residual_histogram"):
        confusion_matrix(regressor, X, y)
    with pytest.raises(InputError, match="multilabel_confusion_matrix"):
        confusion_matrix(labels, X, np.stack([y > 0, y > 1], 1))
    with pytest.raises(InputError, match="bins must be"):
        residual_histogram(regressor, X, y, bins=1)
    with pytest.raises(InputError, match="model must be"):
        confusion_matrix(object(), X, y)
    with pytest.raises(InputError, match="sample_weight is zero"):
        confusion_matrix(classifier, X, y > 0, np.zeros(len(X)))
    with pytest.raises(InputError, match="not among the classes"):
        confusion_matrix(classifier, X, np.where(y > 0, 1, 7))


def test_arrays_of_a_container_are_named_as_in_fit(rows, regressor, tmp_path):
    X, numbers, labels = rows
    place = str(tmp_path / "rows.zarr")
    zarr.save_group(place, features=X, numbers=numbers, labels=labels)
    classifier = MLPClassifier((8,), max_iter=3, random_state=0).fit(X, labels)
    counts = confusion_matrix(classifier, place, "labels", X="features")
    np.testing.assert_array_equal(counts, confusion_matrix(classifier, X=X, y=labels))
    expected = residual_histogram(regressor, X, numbers)
    for pair in zip(
        residual_histogram(regressor, place, "numbers", X="features"), expected, strict=True
    ):
        np.testing.assert_array_equal(*pair)
    with pytest.raises(InputError, match="Name what is meant by X="):
        confusion_matrix(classifier, place, "labels")

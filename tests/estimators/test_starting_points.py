"""Where fits start: outputs at the mean target, targets by what outliers do not move."""

import dask.array as da
import numpy as np
import pytest
from scipy.special import expit, softmax

from daskalt import MLPClassifier, MLPRegressor
from tests.equality import assert_same

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4)).astype(np.float32)
THREE = RNG.choice(3, 300, p=[0.02, 0.28, 0.7])
WEIGHT = RNG.integers(1, 4, 300).astype(float)


def unmoved(kind, **options):
    """An estimator whose fit leaves the weights where they start."""
    return kind((5,), solver="sgd", learning_rate_init=1e-30, momentum=0.0, max_iter=1, **options)


def shares(y, weight=None):
    return np.bincount(y, weight) / (len(y) if weight is None else weight.sum())


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["rows", "weights"])
def test_classes_start_at_their_shares(weight):
    model = unmoved(MLPClassifier).fit(X, THREE, sample_weight=weight)
    np.testing.assert_allclose(softmax(model.intercepts_[-1]), shares(THREE, weight), rtol=1e-5)
    two = (THREE == 0).astype(int)
    model = unmoved(MLPClassifier).fit(X, two, sample_weight=weight)
    np.testing.assert_allclose(expit(model.intercepts_[-1]), shares(two, weight)[1:], rtol=1e-5)


def test_weights_of_classes_count():
    model = unmoved(MLPClassifier, class_weight={0: 10.0, 1: 1.0, 2: 0.5}).fit(X, THREE)
    tilted = shares(THREE) * [10, 1, 0.5]
    np.testing.assert_allclose(softmax(model.intercepts_[-1]), tilted / tilted.sum(), rtol=1e-5)
    model = unmoved(MLPClassifier, class_weight="balanced").fit(X, THREE)
    np.testing.assert_allclose(model.intercepts_[-1], 0, atol=1e-6)


def test_labels_start_each_at_its_share(store):
    y = np.stack([THREE == 0, THREE == 1, THREE < 2], axis=1).astype(int)
    for data in ((X, y), (store(X, y),)):
        model = unmoved(MLPClassifier).fit(*data)
        np.testing.assert_allclose(expit(model.intercepts_[-1]), y.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("link", "inverse"), [("softplus", lambda a: np.log(np.expm1(a))), ("relu", np.copy)]
)
def test_numbers_on_another_link_start_at_their_mean(link, inverse):
    y = 3 + np.abs(X[:, 0].astype(float))
    model = unmoved(MLPRegressor, output_activation=link).fit(X, y)
    np.testing.assert_allclose(model.intercepts_[-1], inverse(y.mean()), rtol=1e-5)


def test_numbers_on_the_identity_start_at_the_mean_or_the_median():
    y = np.exp(3 * X[:, 0].astype(float))
    for loss, centre in (("squared", np.mean(y)), ("absolute", np.sort(y)[149])):
        model = unmoved(MLPRegressor, loss=loss).fit(X, y)
        np.testing.assert_allclose(model.intercepts_[-1], centre, rtol=1e-5)


def test_first_rows_of_many_say_nothing_of_the_shares():
    model = unmoved(MLPClassifier).partial_fit(X, THREE, classes=[0, 1, 2])
    np.testing.assert_allclose(model.intercepts_[-1], 0, atol=1e-6)


@pytest.mark.parametrize("loss", ["absolute", "huber"])
@pytest.mark.parametrize("solver", ["altmin", "adam"])
def test_how_far_out_an_outlier_is_changes_no_prediction(loss, solver):
    """Its pull has reached its limit, and neither median nor quartiles move."""
    y = (np.sin(X[:, 0]) + X[:, 1]).astype(float)
    y[::20] = 1e3
    expected = MLPRegressor((8,), loss=loss, solver=solver, max_iter=4, random_state=0).fit(X, y)
    y[::20] = 1e9
    model = MLPRegressor((8,), loss=loss, solver=solver, max_iter=4, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_robust_losses_learn_under_cauchy_noise():
    """Both err by 0.28 of what the median does; standardised by moments, by 0.5 and 1.6."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((4000, 5)).astype(np.float32)
    clean = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    y = clean + rng.standard_cauchy(len(X))
    spread = np.mean(np.abs(clean - np.median(clean)))
    for loss in ("absolute", "huber"):
        model = MLPRegressor((64,), loss=loss, random_state=0).fit(X, y)
        assert np.mean(np.abs(model.predict(X) - clean)) < 0.4 * spread, loss


@pytest.mark.parametrize("loss", ["absolute", "huber"])
def test_stored_rows_and_rows_in_memory_have_the_same_bits(store, loss):
    y = X[:, 0] + RNG.standard_cauchy(300)
    kind = {"random_state": 0, "loss": loss, "max_iter": 2}
    in_memory = MLPRegressor((8,), **kind).fit(X, y, sample_weight=WEIGHT)
    stored = MLPRegressor((8,), **kind).fit(store(X, y, weight=WEIGHT))
    assert_same(stored.coefs_ + stored.intercepts_, in_memory.coefs_ + in_memory.intercepts_)


@pytest.mark.parametrize("y", [THREE, np.stack([THREE == 0, THREE < 2], axis=1).astype(int)])
@pytest.mark.parametrize("lazy", [False, True])
def test_to_plan_computes_no_weights(y, lazy):
    def computed(block):
        raise AssertionError("a plan computes nothing")

    weight = da.from_array(WEIGHT, chunks=50).map_blocks(computed, dtype=float)
    given = da.from_array(y, chunks=(50, *y.shape[1:])).map_blocks(computed, dtype=y.dtype)
    classes = [0, 1, 2] if lazy and y.ndim == 1 else None
    plan = MLPClassifier((5,)).plan(X, given if lazy else y, sample_weight=weight, classes=classes)
    assert plan.rows == 300


def test_first_rows_of_many_say_nothing_of_the_shares_of_labels():
    y = np.stack([THREE == 0, THREE < 2], axis=1).astype(int)
    model = unmoved(MLPClassifier).partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(model.intercepts_[-1], 0, atol=1e-6)


@pytest.mark.parametrize("hidden", [(20,), (200, 200)])
@pytest.mark.parametrize("features", [100, 300])
def test_inputs_of_zero_leave_a_constant_prediction(features, hidden):
    """In layers of either kind, exact and of low rank, nothing but the biases can learn."""
    y = np.arange(500.0)
    weight = np.random.default_rng(0).uniform(0, 2, 500)
    X = np.zeros((500, features))
    model = MLPRegressor(hidden, random_state=0, max_iter=3).fit(X, y, sample_weight=weight)
    losses = model.loss_curve_
    assert losses[0] > losses[-1]
    assert losses[-1] == pytest.approx(0.5, abs=0.05)  # half the variance, which is one

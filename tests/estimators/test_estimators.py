"""The estimators: scikit-learn's contract, data of every kind in, lazy predictions out."""

import inspect
import pickle
import re
import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import daskalt
from daskalt import MLPClassifier, MLPRegressor, StochasticAltMin
from daskalt.data.table import Block
from daskalt.errors import InputError, StorageError, UnshuffledWarning
from daskalt.training.drivers import DRIVERS

NAMES = np.array(["ant", "bee", "caterpillar"])


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(360, 8, n_informative=6, n_classes=3, class_sep=1.5, random_state=0)
    return X.astype(np.float32), y


def classifier(**options):
    options = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0} | options
    return MLPClassifier(**options)


def regressor(**options):
    options = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0} | options
    return MLPRegressor(**options)


def assert_same_model(a, b, exactly=True):
    for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        if exactly:
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def assert_differ(a, b):
    assert not np.allclose(a.coefs_[0], b.coefs_[0], atol=1e-3)


# ------------------------------------------------------------------- scikit-learn's contract


@parametrize_with_checks([MLPClassifier(max_iter=20), MLPRegressor(max_iter=20)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_parameters_are_kept_as_given_and_cloned():
    solver = StochasticAltMin(damping=2)
    model = classifier(hidden_layer_sizes=[4, np.int64(3)], solver=solver)
    assert model.solver is solver
    copied = clone(model)
    assert copied.solver is not solver
    assert copied.get_params()["solver__damping"] == 2
    copied.set_params(solver__damping=3)
    assert solver.damping == 2


def test_fit_changes_no_parameter(data):
    model = classifier(solver=StochasticAltMin(damping=2))
    before = repr(model.get_params())
    model.fit(*data)
    assert repr(model.get_params()) == before


def test_a_grid_search_reaches_the_solver(data):
    search = GridSearchCV(
        classifier(solver=StochasticAltMin()), {"solver__damping": [0.5, 50.0]}, cv=2
    ).fit(*data)
    expected = [
        cross_val_score(classifier(solver=StochasticAltMin(damping=d)), *data, cv=2).mean()
        for d in (0.5, 50.0)
    ]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)
    assert search.best_estimator_.solver.damping in (0.5, 50.0)


def test_it_works_at_the_end_of_a_pipeline(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    direct = classifier().fit(StandardScaler().fit_transform(X), y)
    assert_same_model(pipeline[-1], direct)
    assert pipeline.set_params(mlpclassifier__alpha=1.0)[-1].alpha == 1.0


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_pickle_from_before_a_parameter_has_its_default(kind, data, tmp_path):
    X, y = data
    model = kind((8,), max_iter=3, random_state=0, alpha=0.5).fit(X, y)
    old = pickle.loads(pickle.dumps(model))
    for name in ("beta_1", "learning_rate", "max_fun", "early_stopping"):
        delattr(old, name)
    old = pickle.loads(pickle.dumps(old))
    assert old.get_params() == model.get_params()
    assert repr(old) == repr(clone(old)) == repr(model)
    daskalt.save(old, tmp_path / "model")
    np.testing.assert_array_equal(daskalt.load(tmp_path / "model").predict(X), model.predict(X))
    assert_same_model(old.fit(X, y), model)


def test_equal_seeds_give_equal_bits_and_others_do_not(data):
    a, b, c = (classifier(random_state=seed).fit(*data) for seed in (1, 1, 2))
    assert_same_model(a, b)
    assert_differ(a, c)
    generator = np.random.RandomState(1)
    assert_same_model(classifier(random_state=generator).fit(*data), a)
    assert_differ(classifier(random_state=generator).fit(*data), a)


def test_nothing_predicts_before_a_fit(data):
    X, y = data
    for call in (
        lambda model: model.predict(X),
        lambda model: model.predict(da.from_array(X)),
        lambda model: model.score(X, y),
        lambda model: model.to_sklearn(),
    ):
        for model in (classifier(), regressor()):
            with pytest.raises(NotFittedError):
                call(model)


def test_feature_names_are_kept_and_compared(data):
    X, y = data
    frame = pd.DataFrame(X, columns=[f"f{k}" for k in range(8)])
    model = classifier().fit(frame, y)
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)
    np.testing.assert_array_equal(model.predict(frame), model.to_sklearn().predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"f0": "other"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    assert not hasattr(model.fit(X, y), "feature_names_in_")


# ------------------------------------------------------------------- fitted attributes


def test_fitted_attributes_are_those_of_scikit_learn(data):
    X, y = data
    model = classifier(hidden_layer_sizes=(7, 5)).fit(X, y)
    assert [c.shape for c in model.coefs_] == [(8, 7), (7, 5), (5, 3)]
    assert [b.shape for b in model.intercepts_] == [(7,), (5,), (3,)]
    assert model.n_layers_ == 4
    assert model.n_outputs_ == 3
    assert model.n_features_in_ == 8
    assert model.out_activation_ == "softmax"
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.loss_ == model.loss_curve_[-1]
    assert model.best_loss_ == min(model.loss_curve_)


def test_the_history_has_a_record_a_pass_and_the_cost_is_their_sum(store, data):
    X, y = data
    model = classifier().fit(store(X, y, chunk_rows=60))
    row_bytes = X[0].nbytes + y.itemsize
    assert [record["pass"] for record in model.history_] == [1, 2, 3]
    for record in model.history_:
        assert set(record) >= {"loss", "accuracy", "seconds", "total_seconds", "bytes_read"}
        # So few rows stay in memory once they have been read.
        assert record["bytes_read"] == (len(X) * row_bytes if record["pass"] == 1 else 0)
        assert 0 <= record["accuracy"] <= 1
        assert 0 < record["seconds"] <= record["total_seconds"]
    assert model.cost_["passes"] == 3
    assert model.cost_["bytes_read"] == len(X) * row_bytes


def test_rows_that_are_not_kept_are_charged_in_every_pass(store, data, monkeypatch):
    X, y = data
    path = store(X, y, chunk_rows=60)
    kept = classifier().fit(path)
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)
    model = classifier().fit(path)
    assert model.cost_["bytes_read"] == 3 * len(X) * (X[0].nbytes + y.itemsize)
    for a, b in zip(kept.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fit_takes_time_and_operations(data):
    model = classifier().fit(*data)
    assert model.cost_["passes"] == 3
    assert model.cost_["seconds"] > 0
    assert model.cost_["gflops_per_second"] > 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "bool"])
def test_float64_trains_in_double_precision_and_all_else_in_single(dtype, data):
    X, y = data
    X = (X > 0).astype(dtype) if dtype == "bool" else (10 * abs(X)).astype(dtype)
    model = classifier().fit(X, y)
    expected = "float64" if dtype == "float64" else "float32"
    assert {c.dtype for c in model.coefs_ + model.intercepts_} == {np.dtype(expected)}
    assert model.predict_proba(X).dtype == expected


@pytest.fixture(scope="module")
def counted():
    """Bytes that follow the label: counts, flags, some wide and some almost constant columns."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1500)
    rates = rng.uniform(0, 6, (3, 12)) * np.geomspace(0.01, 5, 12)
    return rng.poisson(rates[y]).astype(np.uint8), y


UNITS = {
    "floats": 1.0,
    "times 100": 100.0,
    "divided by 1600": 1 / 1600,
    "each its own": 10 ** np.random.default_rng(1).uniform(-3, 3, 12),
}


@pytest.mark.parametrize("alpha", [1e-4, 30])
@pytest.mark.parametrize("unit", UNITS)
def test_no_unit_and_no_type_of_the_features_matters(unit, alpha, counted):
    X, y = counted
    options = {"max_iter": 4, "alpha": alpha}
    expected = classifier(**options).fit(X, y).predict_proba(X)
    assert np.mean(expected.argmax(axis=1) == y) > 0.7
    rows = (X * UNITS[unit]).astype(np.float32)
    np.testing.assert_allclose(
        classifier(**options).fit(rows, y).predict_proba(rows), expected, atol=2e-3
    )


@pytest.mark.parametrize(("rows", "value"), [(3, 1e5), (2, 1e8), (20, -9999)])
def test_wild_rows_hardly_change_a_fit(rows, value):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6000, 8)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + np.sin(X[:, 2])
    clean = regressor(max_iter=10).fit(X[:5000], y[:5000]).score(X[5000:], y[5000:])
    X[:rows] = value
    wild = regressor(max_iter=10).fit(X[:5000], y[:5000]).score(X[5000:], y[5000:])
    assert clean > 0.5
    assert wild > clean - 0.05


@pytest.mark.parametrize("scale", ["auto", "standard", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_weights_act_on_the_features_as_given(scale, dtype, data):
    X, y = data
    X = (50 * abs(X)).astype(dtype)
    model = classifier(scale=scale, activation="tanh").fit(X, y)
    hidden = np.tanh(X.astype(float) @ model.coefs_[0] + model.intercepts_[0])
    z = hidden @ model.coefs_[1] + model.intercepts_[1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), p, atol=1e-4)


def test_digits_are_learnt():
    X, y = load_digits(return_X_y=True)
    model = MLPClassifier(random_state=0).fit(X[:1300], y[:1300])
    assert model.score(X[1300:], y[1300:]) > 0.93


# ------------------------------------------------------------------- to scikit-learn


TARGETS = {
    "three": lambda y: y,
    "binary": lambda y: (y > 0).astype(int),
    "boolean": lambda y: y > 0,
    "text": lambda y: NAMES[y],
    "binary text": lambda y: NAMES[np.minimum(y, 1)],
    "multilabel": lambda y: np.column_stack([y == 0, y > 0, y > 1]).astype(int),
    "gaps": lambda y: 10 * y - 5,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", TARGETS)
def test_scikit_learn_predicts_the_same(kind, dtype, data):
    X, y = data[0].astype(dtype), TARGETS[kind](data[1])
    model = classifier(max_iter=5).fit(X, y)
    theirs = model.to_sklearn()
    ours, others = model.predict(X), theirs.predict(X)
    np.testing.assert_array_equal(ours, others)
    assert ours.dtype.kind == others.dtype.kind
    np.testing.assert_array_equal(theirs.classes_, model.classes_)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(
        model.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-3, atol=1e-3
    )
    assert model.score(X, y) == theirs.score(X, y)


@pytest.mark.parametrize("outputs", [None, 3])
def test_scikit_learns_regressor_predicts_the_same(outputs, data):
    X = data[0]
    y = 40 + 9 * (X[:, 0] if outputs is None else X[:, :3])
    model = regressor().fit(X, y)
    predicted = model.predict(X)
    assert predicted.shape == y.shape
    np.testing.assert_allclose(predicted, model.to_sklearn().predict(X), rtol=1e-5)


def test_features_beyond_their_limits_count_as_the_limits(data, store):
    X, y = data
    X = np.concatenate([X, X[:2] * 1e6])
    y = np.concatenate([y, y[:2]])
    model = classifier(max_iter=5).fit(X, y)
    within = np.clip(X, *model.feature_limits_)
    np.testing.assert_array_equal(within[:-2], X[:-2])
    assert (within[-2:] != X[-2:]).all()
    expected = model.to_sklearn().predict_proba(within.astype(np.float32))
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-5)
    stored = model.predict_proba(store(X, y, chunk_rows=60))
    np.testing.assert_array_equal(stored, model.predict_proba(X))


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_other_scalings_have_no_limits(scale, data):
    assert classifier(scale=scale).fit(*data).feature_limits_ is None


def test_the_copy_is_its_own(data):
    X, y = data
    model = classifier().fit(X, y)
    theirs = model.to_sklearn()
    theirs.coefs_[0][:] = 0
    assert model.coefs_[0].any()


def test_what_scikit_learn_has_not_is_refused(data):
    with pytest.raises(InputError, match="no activation 'softplus'"):
        classifier(activation="softplus").fit(*data).to_sklearn()
    with pytest.raises(InputError, match="no activation 'tanh'"):
        regressor(output_activation="tanh").fit(data[0], data[1] / 4).to_sklearn()


# ------------------------------------------------------------------- targets


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_of_every_kind_come_back_as_they_were(kind, data, store):
    X, y = data[0], TARGETS[kind](data[1])
    model = classifier(max_iter=6).fit(X, y)
    predicted = model.predict(X)
    assert predicted.dtype.kind == y.dtype.kind
    assert predicted.shape == y.shape
    assert np.isin(predicted, y).all()
    stored = classifier(max_iter=6).fit(store(X, y, chunk_rows=36))
    assert stored.predict(X).dtype.kind == y.dtype.kind
    np.testing.assert_array_equal(stored.classes_, model.classes_)
    assert stored.score(X, y) > 0.78


def test_probabilities_are_of_the_classes(data):
    X, y = data
    for target in (y, y > 0):
        p = classifier().fit(X, target).predict_proba(X)
        assert p.shape == (len(X), len(np.unique(target)))
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "link"),
    [
        ({}, "softmax"),
        ({"output_activation": "logistic"}, "logistic"),
        ({"loss": "squared"}, "logistic"),
        ({"loss": "squared", "output_activation": "softmax"}, "softmax"),
        ({"loss": "squared", "output_activation": "tanh"}, "tanh"),
        ({"loss": "squared", "output_activation": "identity"}, "identity"),
    ],
)
@pytest.mark.parametrize("labels", [2, 3])
def test_every_loss_on_every_output_classifies(options, link, labels, data):
    X, y = data[0], np.minimum(data[1], labels - 1)
    model = classifier(max_iter=10, **options).fit(X, y)
    if labels == 3 or options:
        assert model.out_activation_ == link
    assert model.score(X, y) > 0.85
    p = model.predict_proba(X)
    assert p.shape == (len(X), labels)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert p.min() >= 0
    assert model.history_[-1]["accuracy"] == pytest.approx(model.score(X, y), abs=0.02)


def test_regression_of_several_targets_of_different_scales():
    X, y = load_diabetes(return_X_y=True)
    y = np.column_stack([y, 1e-3 * X[:, 0], 1e6 + 1e4 * X[:, 1]])
    model = regressor(max_iter=30).fit(X, y)
    assert model.n_outputs_ == 3
    assert (r2_score(y, model.predict(X), multioutput="raw_values") > 0.4).all()
    assert model.history_[-1]["loss"] < 1.0


def test_a_constant_target_is_predicted():
    X = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(regressor().fit(X, np.full(50, 7.0)).predict(X), 7, atol=0.5)


# ------------------------------------------------------------------- weights of rows


@pytest.mark.parametrize("kind", [classifier, regressor])
def test_rows_of_no_weight_are_absent(kind, data):
    """With the rows in one step, and no label lost, what they hold makes no difference."""
    X, y = data
    weight = np.r_[np.ones(300), np.zeros(60)]
    spoilt = X.copy()
    spoilt[300:] = 100
    options = {"batch_size": 360, "shuffle": False, "max_iter": 10}
    a = kind(**options).fit(X, y, sample_weight=weight)
    b = kind(**options).fit(spoilt, y, sample_weight=weight)
    np.testing.assert_allclose(a.predict(X[:300]), b.predict(X[:300]), rtol=1e-3, atol=1e-3)
    without = kind(**options).fit(X[:300], y[:300])
    np.testing.assert_allclose(a.predict(X[:300]), without.predict(X[:300]), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(a.loss_curve_, without.loss_curve_, rtol=1e-3)


def test_equal_weights_are_none(data):
    X, y = data
    a = classifier().fit(X, y)
    b = classifier().fit(X, y, sample_weight=np.full(len(X), 1.0))
    assert_same_model(a, b, exactly=False)


def test_class_weight_multiplies_row_weights(data):
    X, y = data
    by_class, weight = {0: 1.0, 1: 5.0, 2: 0.5}, np.linspace(0.5, 2, len(X))
    model = classifier(class_weight=by_class).fit(X, y, weight)
    rows = model._fitted.problem.rows(Block(X, y, weight))
    np.testing.assert_allclose(rows.weight, weight * [by_class[k] for k in y], rtol=1e-6)
    favoured = np.sum(model.predict(X) == 1)
    assert favoured > np.sum(classifier().fit(X, y).predict(X) == 1)


def test_balanced_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.05).astype(int)
    X = (rng.standard_normal((1000, 3)) + y[:, None]).astype(np.float32)
    counts = np.bincount(y)
    explicit = dict(enumerate(1000 / (2 * counts)))
    a = classifier(class_weight="balanced").fit(X, y)
    assert_same_model(a, classifier(class_weight=explicit).fit(X, y))
    recall = np.mean(a.predict(X)[y == 1])
    assert recall > np.mean(classifier().fit(X, y).predict(X)[y == 1])


# ------------------------------------------------------------------- going on


def test_partial_fit_goes_on(data):
    X, y = data
    model = classifier()
    losses = []
    for _ in range(5):
        model.partial_fit(X, y, classes=[0, 1, 2])
        losses.append(model.loss_)
    assert losses[-1] < losses[0]
    assert model.n_iter_ == len(model.history_) == 5
    assert model.score(X, y) > 0.86


def test_partial_fit_takes_labels_that_come_later(data):
    X, y = data
    order = np.argsort(y, kind="stable")
    model = classifier().partial_fit(X[order][:100], y[order][:100], classes=[0, 1, 2])
    model.partial_fit(X, y)
    assert set(model.predict(X)) == {0, 1, 2}


def test_partial_fit_of_stored_rows(data, store):
    path = store(*data, chunk_rows=60)
    model = classifier().partial_fit(path, None, classes=[0, 1, 2])
    assert model.partial_fit(path, None).score(path) > 0.8
    model = regressor().partial_fit(path, None)
    assert np.isfinite(model.predict(data[0])).all()


def test_partial_fit_says_what_it_needs(data):
    X, y = data
    with pytest.raises(InputError, match="classes must be passed on the first call"):
        classifier().partial_fit(X, y)
    model = classifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(InputError, match="not the same as on the last call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(InputError, match=r"not among the classes.*\[7\]"):
        model.partial_fit(X, np.where(y == 1, 7, y))
    with pytest.raises(InputError, match="balanced"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("make", [classifier, regressor])
def test_partial_fit_does_not_stop_early(make, data):
    X, y = data
    labels = {"classes": np.unique(y)} if make is classifier else {}
    model = make(early_stopping=True)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        model.partial_fit(X, y, **labels)
    assert not hasattr(model, "coefs_")
    model.set_params(early_stopping=False).partial_fit(X, y, **labels)
    assert_same_model(model, make().partial_fit(X, y, **labels))


def test_a_warm_start_goes_on_from_the_weights(data):
    X, y = data
    model = classifier(warm_start=True, max_iter=20).fit(X, y)
    last = model.loss_
    assert model.fit(X, y).loss_curve_[0] < 1.5 * last
    cold = classifier(max_iter=20).fit(X, y)
    first = cold.loss_curve_[0]
    assert cold.fit(X, y).loss_curve_[0] == first
    assert first > 2 * last


def test_a_warm_start_of_other_widths_starts_anew(data):
    model = classifier(warm_start=True).fit(*data)
    model.set_params(hidden_layer_sizes=(5,)).fit(*data)
    assert_same_model(model, classifier(hidden_layer_sizes=(5,)).fit(*data))


# ------------------------------------------------------------------- validation and stopping


@pytest.mark.parametrize("kind", [classifier, regressor])
def test_an_eval_set_is_scored_after_every_pass(kind, data, store):
    X, y = data
    # Scored on the very rows of the fit, the last record is of the fitted model.
    for eval_set in ((X, y), [(X, y)], (store(X, y), None), [store(X, y)]):
        model = kind().fit(X, y, eval_set=eval_set)
        quality = "validation_accuracy" if kind is classifier else "validation_r2"
        assert [len(r) for r in model.history_] == [len(model.history_[0])] * 3
        assert model.history_[-1][quality] == pytest.approx(model.score(X, y), abs=1e-6)
        assert model.history_[-1]["validation_loss"] > 0
    plain = kind().fit(X, y)
    assert_same_model(plain, model)
    assert "validation_loss" not in plain.history_[0]


def test_early_stopping_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 20))
    y = (X[:, 0] + 2 * rng.standard_normal(80) > 0).astype(int)
    eval_set = (rng.standard_normal((20_000, 20)), None)
    eval_set = (eval_set[0], (eval_set[0][:, 0] > 0).astype(int))
    model = classifier(
        early_stopping=True, max_iter=60, n_iter_no_change=25, batch_size=40, alpha=0
    ).fit(X, y, eval_set=eval_set)
    scores = np.array(model.validation_scores_)
    error = 1 - scores.max()
    near = np.flatnonzero(1 - scores <= error + np.sqrt(error * (1 - error) / 20_000))
    assert near[-1] < len(scores) - 1  # it did get worse
    assert near[-1] > np.argmax(scores)
    assert model.n_iter_ < 60
    p = model.predict_proba(eval_set[0])
    loss = -np.mean(np.log(p[np.arange(20_000), eval_set[1]]))
    assert model.score(*eval_set) == scores[near[-1]]
    assert loss == pytest.approx(model.history_[near[-1]]["validation_loss"], rel=1e-5)


@pytest.mark.parametrize("how", ["memory", "stored", "one chunk"])
@pytest.mark.parametrize("kind", [classifier, regressor])
def test_held_out_rows_are_not_trained_on(kind, how, data, store, monkeypatch):
    X, y = data
    seen = []
    run = DRIVERS["synchronous"]

    def spy(job, state, position):
        seen.append(job.bounds)
        return run(job, state, position)

    monkeypatch.setitem(DRIVERS, "synchronous", spy)
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 36)
    inputs = (X, y)
    if how != "memory":
        inputs = (store(X, y, chunk_rows=36 if how == "stored" else 360), None)
    model = kind(early_stopping=True, validation_fraction=0.2).fit(*inputs)
    (bounds,) = seen
    trained = int(np.diff(bounds, axis=1).sum())
    assert trained == pytest.approx(288, abs=4)
    assert model.history_[0]["bytes_read"] == trained * (X[0].nbytes + y.itemsize)
    assert "validation_loss" in model.history_[0]


def test_training_stops_when_nothing_is_gained(data):
    model = classifier(max_iter=50, tol=100.0, n_iter_no_change=4).fit(*data)
    assert model.n_iter_ == 5


# ------------------------------------------------------------------- stored and lazy data


@pytest.fixture
def path(data, store):
    return store(*data, chunk_rows=60)


def stored_forms(path):
    xarray = pytest.importorskip("xarray")
    X, y = zarr.open_array(path, path="X", mode="r"), zarr.open_array(path, path="y", mode="r")
    lazy = da.from_zarr(X), da.from_zarr(y)
    return {
        "path": (path, None),
        "path of arrays": (f"{path}/X", f"{path}/y"),
        "url": (f"file://{path}", f"file://{path}"),
        "zarr": (X, y),
        "dask": lazy,
        "xarray": (xarray.DataArray(lazy[0], dims=("r", "c")), xarray.DataArray(lazy[1])),
        "mixed": (X, f"{path}/y"),
    }


def test_stored_rows_give_one_model_whatever_points_to_them(path):
    expected = classifier().fit(path)
    for form in stored_forms(path).values():
        assert_same_model(classifier().fit(*form), expected)


def test_rows_in_memory_give_one_model_whatever_holds_them(data):
    xarray = pytest.importorskip("xarray")
    X, y = data
    expected = classifier().fit(X, y)
    for form in (
        (X.tolist(), y.tolist()),
        (pd.DataFrame(X), pd.Series(y)),
        (da.from_array(X), da.from_array(y)),
        (xarray.DataArray(X), xarray.DataArray(y)),
        (np.asfortranarray(X), y),
    ):
        dtype = np.asarray(form[0]).dtype
        model = classifier().fit(*form)
        if dtype == np.float32:
            assert_same_model(model, expected)
        else:
            np.testing.assert_array_equal(model.predict(X.astype(dtype)), model.predict(X))


def test_a_computed_dask_array_trains_as_its_store_does(data, path, store):
    X, y = da.from_zarr(path, component="X"), da.from_zarr(path, component="y")
    # So few rows are staged as one chunk, whatever the chunks of the graph.
    expected = classifier().fit(store(*data, chunk_rows=360))
    assert_same_model(classifier().fit(X + 0, y + 0), expected)


def test_staging_happens_where_it_is_told(path, tmp_path, monkeypatch):
    from daskalt.data import staging

    places = []
    group = staging.new_group
    monkeypatch.setattr(
        staging, "new_group", lambda place, **o: places.append(str(place)) or group(place, **o)
    )
    X, y = da.from_zarr(path, component="X"), da.from_zarr(path, component="y")
    scratch = tmp_path / "scratch"
    classifier(scratch=str(scratch)).fit(X + 0, y + 0)
    assert places
    assert all(str(scratch) in place for place in places)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("kind", ["three", "binary text", "multilabel"])
def test_dask_in_gives_lazy_dask_out(method, kind, data, no_compute):
    X, y = data[0], TARGETS[kind](data[1])
    model = classifier().fit(X, y)
    lazy = da.from_array(X, chunks=((100, 200, 60), 8))
    expected = getattr(model, method)(X)
    with no_compute():
        result = getattr(model, method)(lazy)
    assert isinstance(result, da.Array)
    assert result.chunks[0] == (100, 200, 60)
    assert result.dtype == expected.dtype
    assert isinstance(result._meta, np.ndarray)
    assert result.ndim == result._meta.ndim == expected.ndim
    assert result.shape == expected.shape
    computed = result.compute()
    assert computed.dtype == expected.dtype
    if computed.dtype.kind == "f":  # products of blocks of other sizes round otherwise
        np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("outputs", [None, 2])
def test_lazy_regression(outputs, data, no_compute):
    X, y = data[0], (data[1] if outputs is None else np.column_stack([data[1], data[0][:, 0]]))
    model = regressor().fit(X, y)
    with no_compute():
        result = model.predict(da.from_array(X, chunks=(90, 8)))
    assert result.shape == y.shape
    # Predictions of about one, by sums in single precision.
    np.testing.assert_allclose(result.compute(), model.predict(X), rtol=1e-5, atol=1e-6)


def test_lazy_rows_of_unknown_number_are_predicted(data, no_compute):
    X, y = data
    model = classifier().fit(X, y)
    lazy = da.from_array(X, chunks=(90, 8))
    with no_compute():
        result = model.predict(lazy[lazy[:, 0] > 0])
    np.testing.assert_array_equal(result.compute(), model.predict(X[X[:, 0] > 0]))


def test_dask_frames_are_fitted_and_predicted_lazily(data, no_compute):
    dd = pytest.importorskip("dask.dataframe")
    X, y = data
    names = [f"f{k}" for k in range(8)]
    frame = dd.from_pandas(pd.DataFrame(X, columns=names), npartitions=3)
    model = classifier().fit(frame, dd.from_pandas(pd.Series(NAMES[y]), npartitions=3))
    assert model.feature_names_in_.tolist() == names
    with no_compute():
        result = model.predict(frame)
    np.testing.assert_array_equal(result.compute(), model.predict(pd.DataFrame(X, columns=names)))


def test_stored_rows_are_predicted_in_memory(data, path):
    model = classifier().fit(*data)
    for X in (path, zarr.open_array(path, path="X", mode="r")):
        result = model.predict(X)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, model.predict(data[0]))


@pytest.mark.parametrize("kind", [classifier, regressor])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_stored_rows_are_those_of_memory(kind, weighted, data, path):
    X, y = data
    model = kind().fit(X, y)
    weight = np.random.default_rng(0).random(len(X)) if weighted else None
    expected = model.score(X, y, weight)
    for form in stored_forms(path).values():
        assert model.score(*form, weight) == pytest.approx(expected, abs=1e-6)


def test_a_score_gathers_no_rows(data, path, monkeypatch):
    from daskalt.data.readers import ZarrSource
    from daskalt.estimators import predicting

    monkeypatch.setattr(predicting, "predict_stored", lambda *_: pytest.fail("gathered"))
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 60)
    sizes = []
    read = ZarrSource.read

    def spy(source, start, stop):
        sizes.append((source.name, stop - start))
        return read(source, start, stop)

    model = classifier().fit(*data)
    monkeypatch.setattr(ZarrSource, "read", spy)
    model.score(path)
    assert max(rows for _, rows in sizes) <= 60
    assert sum(rows for name, rows in sizes if name == "X") == 360


def test_a_multilabel_score_counts_whole_rows(data, store):
    X, y = data[0], TARGETS["multilabel"](data[1])
    model = classifier().fit(X, y)
    path = store(X, y, chunk_rows=60)
    assert model.score(path) == pytest.approx(accuracy_score(y, model.predict(X)))


def test_an_eval_set_is_one_pair(data):
    X, y = data
    with pytest.raises(InputError, match="eval_set must"):
        classifier().fit(X, y, eval_set=[(X, y), (X, y)])
    with pytest.raises(InputError, match="eval_set must"):
        classifier().fit(X, y, eval_set=(X, y, None, None))


def test_an_eval_set_may_be_weighted(data):
    X, y = data
    weight = np.arange(len(X)) % 2.0
    watched = classifier().fit(X, y, eval_set=(X, y, weight)).history_
    odd = classifier().fit(X, y, eval_set=(X[1::2], y[1::2])).history_
    for a, b in zip(watched, odd, strict=True):
        assert a["validation_loss"] == pytest.approx(b["validation_loss"])


# ------------------------------------------------------------------- order of the rows


@pytest.fixture
def sorted_path(store):
    X, y = make_classification(
        12_000, 6, n_informative=6, n_redundant=0, n_classes=4, class_sep=2, random_state=0
    )
    order = np.argsort(y, kind="stable")
    return store(X[order].astype(np.float32), y[order], chunk_rows=100)


@pytest.fixture
def small_buffer(monkeypatch):
    """Rows are mixed a few hundred at a time, and surveyed in blocks of as many."""
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 300 * 32)
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 200)


@pytest.mark.usefixtures("small_buffer")
def test_sorted_rows_warn_and_a_global_shuffle_cures_it(sorted_path, tmp_path):
    with pytest.warns(UnshuffledWarning, match=r"sorted by label.*shuffle='global'"):
        classifier(batch_size=200).fit(sorted_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cured = classifier(batch_size=200, shuffle="global", scratch=str(tmp_path / "s"))
        cured.fit(sorted_path)
    rng = np.random.default_rng(0)
    X = zarr.open_array(sorted_path, path="X", mode="r")[:]
    y = zarr.open_array(sorted_path, path="y", mode="r")[:]
    order = rng.permutation(len(X))
    never_sorted = classifier(batch_size=200).fit(X[order], y[order])
    assert cured.score(X, y) > never_sorted.score(X, y) - 0.01


@pytest.mark.usefixtures("small_buffer")
def test_shuffled_rows_do_not_warn(sorted_path, store):
    order = np.random.default_rng(0).permutation(12_000)
    X = zarr.open_array(sorted_path, path="X", mode="r")[:][order]
    y = zarr.open_array(sorted_path, path="y", mode="r")[:][order]
    classifier(batch_size=200).fit(store(X, y, chunk_rows=100))


def test_sorted_rows_that_fit_the_buffer_do_not_warn(sorted_path):
    classifier(batch_size=200).fit(sorted_path)


@pytest.mark.usefixtures("small_buffer")
def test_a_regressor_warns_too(sorted_path):
    with pytest.warns(UnshuffledWarning):
        regressor(batch_size=200).fit(sorted_path)


@pytest.mark.usefixtures("small_buffer")
def test_a_global_shuffle_leaves_nothing_behind(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    for _ in range(2):
        model = classifier(shuffle="global").fit(path)
        assert model.cost_["bytes_written"] > 0
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------- schedulers and clusters


def test_the_same_bits_on_every_scheduler(path, cluster, request):
    options = {"hidden_layer_sizes": (40,), "batch_size": 120, "early_stopping": True}
    options["solver"] = StochasticAltMin(tasks=2)
    with dask.config.set(scheduler="sync"):
        expected = classifier(**options).fit(path)
    assert_same_model(classifier(**options).fit(path), expected)
    client = cluster(2)
    assert_same_model(classifier(**options).fit(path, client=client), expected)
    on_cluster = classifier(**options).fit(path)
    assert_same_model(on_cluster, expected)
    assert on_cluster.score(path) == expected.score(path)
    assert [r["loss"] for r in on_cluster.history_] == [r["loss"] for r in expected.history_]


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("kind", [classifier, regressor])
def test_a_pool_of_processes_trains_stored_rows(kind, path):
    model = kind().fit(path)
    with dask.config.set(scheduler="sync"):
        assert_same_model(model, kind().fit(path))


def test_rows_in_memory_are_staged_for_a_cluster(data, cluster):
    cluster(1)
    X, y = data
    weight = np.random.default_rng(0).random(len(X))
    model = classifier().fit(X, y, sample_weight=weight, eval_set=(X, y))
    assert model.score(X, y) > 0.81
    assert model.cost_["bytes_written"] > 0
    assert np.isfinite(model.partial_fit(X, y).loss_)
    result = model.predict(da.from_array(X, chunks=(90, 8)))
    np.testing.assert_array_equal(result.compute(), model.predict(X))


def test_verbose_says_a_line_for_each_pass(data, capsys):
    model = classifier(verbose=True, batch_size=60).fit(*data)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split()[:4] for line in printed.err.splitlines()] == [
        ["pass", f"{number}/{model.n_iter_}", "loss", f"{loss:.4g}"]
        for number, loss in enumerate(model.loss_curve_, start=1)
    ]
    classifier().fit(*data)
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize("kind", [classifier, regressor])
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("hidden_layer_sizes", (0,)),
        ("hidden_layer_sizes", (5, 2.5)),
        ("hidden_layer_sizes", "big"),
        ("activation", "swish"),
        ("solver", "sgdd"),
        ("solver", None),
        ("alpha", -1),
        ("alpha", "small"),
        ("batch_size", 0),
        ("batch_size", "large"),
        ("batch_size", None),
        ("max_iter", 0),
        ("max_iter", 2.5),
        ("shuffle", "local"),
        ("shuffle", None),
        ("tol", -1e-3),
        ("tol", float("nan")),
        ("warm_start", "yes"),
        ("early_stopping", None),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("loss", "hing"),
        ("scale", "robust"),
    ],
)
def test_wrong_parameters_are_named_before_any_work(kind, name, bad, data, no_compute):
    with no_compute(), pytest.raises(InputError, match=f"parameter {name}.* must be .*; got"):
        kind(**{name: bad}).fit(*data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross_entropy", "output_activation": "tanh"}, "no loss 'cross_entropy' on"),
        ({"output_activation": "cube"}, "no loss .* on the output activation 'cube'"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict"),
        ({"class_weight": {9: 1.0}}, "class_weight names labels that y does not hold.*9"),
        ({"class_weight": {0: -1.0}}, "class_weight"),
        ({"class_weight": {0: float("nan")}}, "class_weight"),
        ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, "class_weight"),
        ({"solver": StochasticAltMin(damping=-1)}, "parameter damping of StochasticAltMin"),
    ],
)
def test_parameters_that_do_not_fit_the_problem(options, message, data):
    with pytest.raises(InputError, match=message):
        classifier(**options).fit(*data)


def test_a_regressor_has_no_cross_entropy(data):
    with pytest.raises(InputError, match=r"no loss 'cross_entropy' on.*'identity'"):
        regressor(loss="cross_entropy").fit(*data)


def with_entry(X, value):
    X = X.copy()
    X[7, 3] = value
    return X


BAD_ARRAYS = {
    "one dimension": (lambda X, y: (X[:, 0], y), r"(?s)Expected 2D array.*[Rr]eshape"),
    "three dimensions": (lambda X, y: (X[:, :, None], y), r"dim 3"),
    "no rows": (lambda X, y: (X[:0], y[:0]), r"0 sample\(s\)"),
    "no columns": (lambda X, y: (X[:, :0], y), r"0 feature\(s\)"),
    "unequal rows": (lambda X, y: (X, y[:-1]), r"inconsistent numbers of samples: \[360, 359\]"),
    "NaN": (lambda X, y: (with_entry(X, np.nan), y), r"X contains NaN"),
    "infinity": (lambda X, y: (with_entry(X, np.inf), y), r"X contains .*infinity"),
    "one class": (lambda X, y: (X, np.zeros(len(X), int)), r"1 class"),
    "fractions": (lambda X, y: (X, y + 0.5), r"Unknown label type"),
    "text": (lambda X, y: (X.astype(str).astype(object) + "x", y), r"could not convert|object"),
    "complex": (lambda X, y: (X + 1j, y), r"Complex data not supported"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays_in_memory(kind, data):
    make, message = BAD_ARRAYS[kind]
    with pytest.raises(ValueError, match=message):
        classifier().fit(*make(*data))


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_dask_arrays(kind, data):
    make, message = BAD_ARRAYS[kind]
    if kind == "text":
        message = "objects or text|dtype object"
    with pytest.raises(InputError, match=message):
        classifier().fit(*(da.from_array(array, chunks=-1) for array in make(*data)))


@pytest.mark.parametrize(
    "kind", ["one dimension", "unequal rows", "NaN", "infinity", "one class", "fractions"]
)
def test_bad_stored_arrays(kind, data, store):
    make, message = BAD_ARRAYS[kind]
    X, y = make(*data)
    group = store(X, chunk_rows=30)
    targets = store(y, chunk_rows=30)
    with pytest.raises(InputError, match=message):
        classifier().fit(f"{group}/X", f"{targets}/X")


def test_sparse_matrices_are_refused(data):
    X, y = data
    with pytest.raises((InputError, TypeError), match="dense"):
        classifier().fit(scipy.sparse.csr_array(X), y)


def test_dask_arrays_that_cannot_be_read_in_blocks_of_rows(data):
    X, y = data
    lazy, labels = da.from_array(X, chunks=(90, 8)), da.from_array(y, chunks=90)
    with pytest.raises(InputError, match=r"unknown chunk sizes.*compute_chunk_sizes"):
        classifier().fit(lazy[lazy[:, 0] > 0], labels)
    across = (lazy + 0).rechunk((90, 4))
    with pytest.raises(InputError, match=r"chunks across columns.*rechunk\(\{1: -1\}\)"):
        classifier().fit(across, labels)
    model = classifier().fit(X, y)
    with pytest.raises(InputError, match=r"across columns.*rechunk\(\{1: -1\}\)"):
        model.predict(across)


def test_stored_nan_is_named_by_its_row_and_column_in_the_data(store):
    """Whether it is met in the sample of the rows or in the first pass over all of them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 9000)
    for row in (4500, 8999):
        X = rng.standard_normal((9000, 3)).astype(np.float32)
        X[row, 2] = np.nan
        with pytest.raises(InputError, match=rf"X contains NaN.*row {row}, column 2"):
            classifier().fit(store(X, y, chunk_rows=1000))


@pytest.mark.parametrize("kind", [classifier, regressor])
def test_stored_nan_is_refused_after_the_fit_too(kind, data, store):
    X, y = data
    path = store(with_entry(X, np.nan), y, chunk_rows=60)
    model = kind().fit(X, y)
    for use in (
        lambda: model.predict(path),
        lambda: model.score(path),
        lambda: kind().fit(X, y, eval_set=path),
        lambda: model.partial_fit(path, None),
    ):
        with pytest.raises(InputError, match=r"X contains NaN.*row 7, column 3"):
            use()


def test_a_score_needs_some_weight(data, path):
    model = classifier().fit(*data)
    with pytest.raises(InputError, match="sample_weight is zero in every row"):
        model.score(path, sample_weight=np.zeros(360))


@pytest.mark.parametrize("form", ["memory", "stored"])
def test_bad_row_weights(form, data, store):
    X, y = data
    inputs = (X, y) if form == "memory" else (store(X, y), None)
    for weight, message in (
        (np.ones(359), "359|inconsistent"),
        (np.full(360, -1.0), "[Nn]egative"),
        (np.where(np.arange(360) == 9, -1, 1), "[Nn]egative"),
        (np.full(360, np.nan), "sample_weight contains NaN"),
        (np.zeros(360), "zero in every row|at least one non-zero"),
        (np.ones((360, 2)), "1D array"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier().fit(*inputs, sample_weight=weight)


def test_missing_and_damaged_stores_are_named(tmp_path, data, store):
    with pytest.raises(StorageError, match=r"no readable Zarr array or group at .*nowhere"):
        classifier().fit(str(tmp_path / "nowhere"))
    path = store(*data, chunk_rows=60)
    for chunk in (tmp_path / path / "X").glob("c/3/*"):
        chunk.write_bytes(b"not a chunk")
    with pytest.raises(StorageError, match=r"X: rows .* cannot be read"):
        classifier().fit(path)
    with pytest.raises(InputError, match=r"requires y to be passed, but the target y is None"):
        classifier().fit(store(data[0]))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="daskalt ingest"):
        classifier().fit(str(tmp_path / "table.csv"))


def test_targets_must_be_given(data, path):
    X, _ = data
    for features in (X, da.from_array(X)):
        with pytest.raises(ValueError, match="y"):
            classifier().fit(features)
    with pytest.raises(InputError, match=r"y must be numbers.*MLPClassifier"):
        regressor().fit(da.from_array(X), da.from_array(NAMES[data[1]]))


def test_another_number_of_features_is_refused(data, store):
    X, y = data
    model = classifier().fit(X, y)
    narrow = X[:, :5]
    for form in (narrow, da.from_array(narrow), store(narrow)):
        with pytest.raises(ValueError, match=r"5 features|\(360, 5\)"):
            model.predict(form)
    with pytest.raises(ValueError, match="5 features"):
        model.partial_fit(store(narrow, y), None)
    with pytest.raises(ValueError, match="5 features"):
        model.score(store(narrow, y))


def test_a_validation_set_that_leaves_nothing_is_refused():
    X, y = np.eye(2), np.array([0, 1])
    with pytest.raises(InputError, match=r"validation_fraction=0\.9\d* leaves no rows"):
        classifier(early_stopping=True, validation_fraction=0.99).fit(X, y)


def test_labels_in_the_eval_set_that_were_not_fitted_are_named(data):
    X, y = data
    with pytest.raises(InputError, match=r"not among the classes.*\[3\]"):
        classifier().fit(X, y, eval_set=(X, y + 1))


def test_breast_cancer_and_its_stored_copy_train_alike(store):
    X, y = load_breast_cancer(return_X_y=True)
    path = store(X, y, chunk_rows=100)
    for model in (classifier(max_iter=None).fit(X, y), classifier(max_iter=None).fit(path)):
        assert model.score(X, y) > 0.985


def test_the_names_that_users_import():
    assert set(daskalt.__all__) >= {"MLPClassifier", "MLPRegressor", "StochasticAltMin"}
    assert set(daskalt.__all__) <= set(dir(daskalt))
    assert not {"import_module", "TYPE_CHECKING"} & set(dir(daskalt))


@pytest.mark.parametrize("name", ["a.b", "data.table", "nothing", "", "with space", "_hidden"])
def test_what_is_no_name_is_no_attribute(name):
    assert not hasattr(daskalt, name)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(daskalt, name)


@pytest.mark.parametrize("public", [MLPClassifier, MLPRegressor, daskalt.load, daskalt.save])
def test_docstrings_have_their_sections(public, data):
    """Every argument, and all that a fit sets."""
    functions = [public]
    if isinstance(public, type):
        X, y = data
        model = public((4,), max_iter=1).fit(pd.DataFrame(X, columns=list("abcdefgh")), y)
        described = inspect.getdoc(public).partition("Attributes\n---")[2]
        missing = {n for n in vars(model) if n.endswith("_") and not n.startswith("_")}
        missing -= set(re.findall(r"\w+_\b", described))
        assert not missing
        assert "Examples\n---" in inspect.getdoc(public)
        methods = inspect.getmembers(public, inspect.isfunction)
        functions = [f for n, f in methods if f.__module__.startswith("daskalt") and n[0] != "_"]
    for function in functions:
        text = inspect.getdoc(function)
        arguments = set(inspect.signature(function).parameters) - {"self"}
        assert not arguments or "Parameters\n---" in text, function
        assert arguments - {"params"} <= set(re.findall(r"\w+", text)), function
    for name in ("predict_proba", "predict_log_proba", "score", "load"):
        if function := getattr(public, name, public if name == public.__name__ else None):
            assert "Returns\n---" in inspect.getdoc(function), name


# ------------------------------------------------------------------- extreme numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_too_large_for_the_type_of_training_are_refused(store, dtype):
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(dtype)
    y = X[:, 0].astype(float) * (1e32 if dtype == "float32" else 1e200)
    for data in ((X, y), (store(X, y),)):
        with pytest.raises(InputError, match=f"y is too large to train on in {dtype}"):
            regressor().fit(*data)


def test_large_targets_are_learnt_in_double_precision():
    X = np.random.default_rng(0).standard_normal((200, 3))
    assert regressor(max_iter=20).fit(X, X[:, 0] * 1e90).score(X, X[:, 0] * 1e90) > 0.99


def test_weights_that_overflow_in_the_units_of_the_data_are_refused():
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    y = X[:, 0] * np.float32(1e20)
    with pytest.raises(InputError, match="overflow float32: scale X and y"):
        regressor(hidden_layer_sizes=()).fit(X * np.float32(1e-30), y)


def test_a_large_constant_column_leaves_the_others_their_say(data):
    X, y = data
    wide = np.concatenate([X, np.full((len(X), 1), 1e9, np.float32)], axis=1)
    model = classifier(max_iter=10).fit(wide, y)
    assert model.score(wide, y) == pytest.approx(model.history_[-1]["accuracy"], abs=0.02)

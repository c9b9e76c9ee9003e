"""`decision_function` and the scores of held-out rows, as scikit-learn's tools take them."""

import dask.array as da
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import neural_network
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import get_scorer, roc_auc_score

from daskalt import MLPClassifier, MLPRegressor

KINDS = {
    "two": {},
    "three": {},
    "labels": {},
    "two hinge": {"loss": "hinge"},
    "three hinge": {"loss": "hinge"},
    "two softmax": {"output_activation": "softmax"},
    "three squared": {"loss": "squared"},
    "two identity": {"loss": "squared", "output_activation": "identity"},
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((300, 4)).astype(np.float32)
    z = X[:, 0] + X[:, 1] ** 2 + 0.5 * rng.standard_normal(300)
    return X, {
        "two": np.where(z > 0.6, "yes", "no"),
        "three": np.digitize(z, [0.2, 1.2]),
        "labels": np.stack([z > 0, z > 1, X[:, 2] > 0], axis=1).astype(int),
    }


def fitted(rows, kind):
    X, targets = rows
    model = MLPClassifier((8,), max_iter=4, random_state=0, **KINDS[kind])
    return model.fit(X, targets[kind.split()[0]])


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_those_of_predict(rows, kind, store):
    X, model = rows[0], fitted(rows, kind)
    decision, labels = model.decision_function(X), model.predict(X)
    if kind == "labels":
        np.testing.assert_array_equal(decision > 0, labels)
    elif kind.startswith("two"):
        assert decision.shape == (300,)
        np.testing.assert_array_equal(model.classes_[(decision > 0).astype(int)], labels)
    else:
        np.testing.assert_array_equal(model.classes_[decision.argmax(axis=1)], labels)
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(model.decision_function(store(X)), decision)
    lazy = model.decision_function(da.from_array(X, chunks=(100, 4)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy.compute(), decision, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "link"), [("two", expit), ("labels", expit), ("three", softmax)])
def test_their_link_are_the_probabilities(rows, kind, link):
    X, model = rows[0], fitted(rows, kind)
    options = {"axis": 1} if link is softmax else {}
    shares, probabilities = link(model.decision_function(X), **options), model.predict_proba(X)
    expected = probabilities[:, 1] if kind == "two" else probabilities
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_margins_are_the_last_layers_own(rows):
    X, model = rows[0], fitted(rows, "two hinge")
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    expected = (hidden @ model.coefs_[1] + model.intercepts_[1]).ravel()
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-4, atol=1e-5)


def test_scorers_agree_with_probabilities(rows):
    X, y = rows[0], rows[1]["two"]
    model = fitted(rows, "two")
    expected = roc_auc_score(y, model.predict_proba(X)[:, 1])
    assert get_scorer("roc_auc")(model, X, y) == pytest.approx(expected, abs=1e-6)
    assert expected > 0.9
    hinge = fitted(rows, "two hinge")  # which has no probabilities
    expected = roc_auc_score(y, hinge.decision_function(X))
    assert get_scorer("roc_auc")(hinge, X, y) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["two", "three", "two hinge", "three hinge"])
def test_classifiers_are_calibrated(rows, kind):
    X, y = rows[0], rows[1][kind.split()[0]]
    model = MLPClassifier((8,), max_iter=3, random_state=0, **KINDS[kind])
    shares = CalibratedClassifierCV(model, cv=3).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    least = 0.8 if kind.startswith("two") else 0.58
    assert np.mean(np.unique(y)[shares.argmax(axis=1)] == y) > least


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_nothing_of_scikit_learns_is_missing(rows, kind):
    X, y = rows[0], rows[1]["three"]
    theirs = getattr(neural_network, kind.__name__)(hidden_layer_sizes=(8,), tol=1.0).fit(X, y)
    ours = kind((8,), max_iter=2, random_state=0).fit(X, y)
    assert theirs.get_params().keys() <= ours.get_params().keys()
    for owner in (ours, ours.to_sklearn()):
        assert {name for name in vars(theirs) if name[0] != "_"} - {"t_"} <= vars(owner).keys()
    methods = {name for name in dir(theirs) if name[0] != "_"} - {"t_"}
    assert methods <= set(dir(ours))


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_scores_of_held_out_rows_are_kept(rows, kind):
    X, y = rows[0], rows[1]["three"]
    model = kind((8,), max_iter=4, early_stopping=True, random_state=0).fit(X, y)
    name = "validation_accuracy" if kind is MLPClassifier else "validation_r2"
    assert model.validation_scores_ == [record[name] for record in model.history_]
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_loss_ is None
    model = kind((8,), max_iter=2, random_state=0).fit(X[:200], y[:200])
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert model.best_loss_ == min(model.loss_curve_)
    model.fit(X[:200], y[:200], eval_set=(X[200:], y[200:]))
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[200:], y[200:]), abs=1e-6)

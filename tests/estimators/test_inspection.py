"""The estimators in scikit-learn's tools for inspection and composition."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    PartialDependenceDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    average_precision_score,
    confusion_matrix,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    LearningCurveDisplay,
    cross_val_predict,
    learning_curve,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from daskalt import MLPClassifier, MLPRegressor

COLUMNS = ["a", "b", "c"]
FORMS = ["float32", "float64", "int64", "frame"]


pytestmark = pytest.mark.usefixtures("no_windows")


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).standard_normal((160, 3)) * 3


def rows_of(numbers, form):
    if form == "frame":
        return pd.DataFrame(numbers, columns=COLUMNS)
    return numbers.astype(form)


def labels_of(numbers):
    return np.where(numbers[:, 0] + 0.1 * numbers[:, 1] ** 2 > 1, "yes", "no")


def classifier(**options):
    options = {"max_iter": 3, "batch_size": 40, "random_state": 0} | options
    return MLPClassifier((6,), **options)


def regressor(**options):
    return MLPRegressor((6,), max_iter=3, batch_size=40, random_state=0, **options)


# Columns of integers and pandas' columns of float32 are scikit-learn's to refuse: it would write
# the float64 values of its grid into them.
@pytest.mark.parametrize("form", ["float32", "float64", "frame"])
def test_partial_dependence_is_the_mean_prediction(numbers, form):
    X = rows_of(numbers, form)
    model = regressor().fit(X, numbers[:, 0])
    found = partial_dependence(model, X, [0], grid_resolution=4)
    for value, average in zip(found["grid_values"][0], found["average"][0], strict=True):
        changed = numbers.copy()
        changed[:, 0] = value
        expected = model.predict(rows_of(changed, form)).mean()
        np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-5)
    display = PartialDependenceDisplay.from_estimator(model, X, [0, (0, 1)], grid_resolution=3)
    assert len(display.axes_.ravel()) == 2


@pytest.mark.parametrize("form", FORMS)
def test_importance_finds_the_column_that_matters(numbers, form):
    X, y = rows_of(numbers, form), labels_of(numbers)
    found = permutation_importance(classifier().fit(X, y), X, y, n_repeats=2, random_state=0)
    assert found.importances_mean.argmax() == 0


@pytest.mark.parametrize("form", FORMS)
def test_curves_and_matrices_are_drawn(numbers, form):
    X, y = rows_of(numbers, form), labels_of(numbers)
    model = classifier().fit(X, y)
    matrix = ConfusionMatrixDisplay.from_estimator(model, X, y).confusion_matrix
    np.testing.assert_array_equal(matrix, confusion_matrix(y, model.predict(X)))
    roc = RocCurveDisplay.from_estimator(model, X, y)
    expected = roc_auc_score(y == "yes", model.predict_proba(X)[:, 1])
    assert roc.roc_auc == pytest.approx(expected, abs=1e-6)
    curve = PrecisionRecallDisplay.from_estimator(model, X, y)
    expected = average_precision_score(y == "yes", model.predict_proba(X)[:, 1])
    assert curve.average_precision == pytest.approx(expected, abs=1e-6)
    fitted = regressor().fit(X, numbers[:, 0])
    errors = PredictionErrorDisplay.from_estimator(fitted, X, numbers[:, 0], subsample=None)
    np.testing.assert_array_equal(errors.y_pred, fitted.predict(X))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_decision_boundaries_are_drawn(numbers, form, method):
    X = rows_of(numbers[:, :2], form) if form != "frame" else rows_of(numbers, form)[["a", "b"]]
    model = classifier().fit(X, labels_of(numbers))
    display = DecisionBoundaryDisplay.from_estimator(
        model, X, response_method=method, grid_resolution=5
    )
    assert display.response.shape == (5, 5)


@pytest.mark.parametrize("form", FORMS)
def test_learning_curves(numbers, form):
    X, y = rows_of(numbers, form), labels_of(numbers)
    options = {"train_sizes": [0.5, 1.0], "cv": 2}
    display = LearningCurveDisplay.from_estimator(classifier(), X, y, **options)
    np.testing.assert_array_equal(
        display.test_scores, learning_curve(classifier(), X, y, **options)[2]
    )
    steps = learning_curve(classifier(), X, y, exploit_incremental_learning=True, **options)
    assert np.isfinite(steps[2]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predictions_of_held_out_folds(numbers, form, method):
    X, y = rows_of(numbers, form), labels_of(numbers)
    found = cross_val_predict(classifier(), X, y, cv=2, method=method)
    assert found.shape == ((160, 2) if method == "predict_proba" else (160,))
    says_yes = {
        "predict": lambda: found == "yes",
        "predict_proba": lambda: found[:, 1] > 0.5,
        "decision_function": lambda: found > 0,
    }[method]()
    assert np.mean(says_yes == (y == "yes")) > 0.7


@pytest.mark.parametrize("form", FORMS)
def test_ensembles_of_them(numbers, form):
    X, y = rows_of(numbers, form), labels_of(numbers)
    parts = [("one", classifier()), ("other", classifier(loss="hinge"))]
    for ensemble in (
        StackingClassifier(parts, cv=2),
        BaggingClassifier(classifier(), n_estimators=2, random_state=0),
        AdaBoostClassifier(classifier(), n_estimators=2, random_state=0),
    ):
        assert ensemble.fit(X, y).score(X, y) > 0.85


@pytest.mark.parametrize("form", FORMS)
def test_selection_by_the_first_layer(numbers, form):
    def importance(model):
        return np.abs(model.coefs_[0]).sum(axis=1)

    X, y = rows_of(numbers, form), labels_of(numbers)
    model = SelectFromModel(classifier(), importance_getter=importance).fit(X, y)
    expected = importance(model.estimator_)
    np.testing.assert_array_equal(model.get_support(), expected >= expected.mean())
    kept = RFE(classifier(), importance_getter=importance, n_features_to_select=1).fit(X, y)
    assert kept.get_support().sum() == 1


@pytest.mark.parametrize("form", FORMS)
def test_pipelines_of_columns_and_unions(numbers, form):
    X, y = rows_of(numbers, form), labels_of(numbers)
    columns = ColumnTransformer([("some", StandardScaler(), [0, 1])], remainder="passthrough")
    union = FeatureUnion([("plain", StandardScaler()), ("powers", PolynomialFeatures(2))])
    for before in (columns, columns.set_output(transform="pandas"), union):
        model = make_pipeline(before, classifier()).fit(X, y)
        assert model.score(X, y) > 0.85
        assert model.decision_function(X).shape == (160,)
    target = TransformedTargetRegressor(regressor(), transformer=MinMaxScaler())
    assert target.fit(X, numbers[:, 0]).score(X, numbers[:, 0]) > 0.8


@pytest.mark.parametrize("solver", ["altmin", "object"])
def test_they_show_themselves_in_a_notebook(numbers, solver):
    from daskalt import GradientDescent
    from daskalt.rules import Adam

    y = labels_of(numbers)
    solver = GradientDescent(Adam(3e-3)) if solver == "object" else solver
    model = classifier(solver=solver)
    before = model._repr_html_()
    after = model.fit(numbers, y)._repr_html_()
    assert before != after
    for text in (before, after):
        assert "hidden_layer_sizes" in text
        assert isinstance(solver, str) or "Adam(learning_rate=0.003)" in text
    search = GridSearchCV(make_pipeline(StandardScaler(), model), {"mlpclassifier__alpha": [1.0]})
    assert "MLPClassifier" in search._repr_html_()
    assert "MLPClassifier" in search.set_params(cv=2).fit(numbers, y)._repr_html_()

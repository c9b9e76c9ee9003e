"""Records of passes: what a history says of them, and which loss a fit is judged by."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from daskalt import MLPClassifier, MLPRegressor
from daskalt.compute.statistics import Score
from daskalt.solvers.base import Report
from daskalt.training.history import PassRecord, Quality, quality_of
from tests.solvers.problems import make_problem

LOSSES = PassRecord(3, Quality(0.5, 0.9), Report(), 0.25, Quality(0.7, 0.8))
COST = ["bytes_read", "bytes_written", "total_seconds"]


def test_a_record_says_what_there_is_and_no_more():
    plain = PassRecord(1, Quality(0.5), Report(), 0.25, None, 10, 20, 0.75)
    assert plain.as_dict() == {
        "pass": 1,
        "loss": 0.5,
        "seconds": 0.25,
        "bytes_read": 10,
        "bytes_written": 20,
        "total_seconds": 0.75,
    }
    report = Report({"objective": 2.0}, 3, "NaN", "too often", False)
    full = PassRecord(2, Quality(0.5, r2=0.1), report, 0.25, Quality(0.7, r2=0.2))
    assert list(full.as_dict())[:-3] == [
        *("pass", "loss", "r2", "objective", "refused", "refusal", "given_up", "converged"),
        *("seconds", "validation_loss", "validation_r2"),
    ]
    assert full.as_dict()["converged"] is False


def test_the_watched_loss_is_of_the_rows_that_decide():
    assert LOSSES.watched_loss(held_out=False) == 0.5
    assert LOSSES.watched_loss(held_out=True) == 0.7


@pytest.mark.parametrize(
    ("loss", "refused", "unscored"), [(np.nan, 4, True), (np.nan, 0, False), (1.0, 4, False)]
)
def test_a_pass_is_unscored_where_every_step_was_refused(loss, refused, unscored):
    record = LOSSES._replace(training=Quality(loss), report=Report(refused=refused))
    assert record.unscored is unscored


def test_quality_is_of_the_kind_of_the_targets():
    labels = make_problem(("cross_entropy", "softmax"))
    score = Score(4.0, 2.0, 3.0)
    assert quality_of(labels.problem, score) == Quality(0.5, accuracy=0.75)
    numbers = make_problem(("squared", "identity"))
    y, z = np.array([[1.0], [2.0], [4.0]]), np.array([[1.5], [2.0], [3.0]])
    sums = Score(3.0, 6.0, 0.0, ((y - z) ** 2).sum(0), y.sum(0), (y**2).sum(0))
    quality = quality_of(numbers.problem, sums)
    assert quality == Quality(2.0, r2=pytest.approx(r2_score(y, z)))
    assert quality_of(numbers.problem, score) == Quality(0.5)
    nothing = quality_of(labels.problem, Score())
    assert np.isnan(nothing.loss)
    assert nothing[1:] == (None, None)


@pytest.mark.parametrize(
    ("estimator", "own"),
    [
        (MLPClassifier((4,), solver="altmin"), ["accuracy"]),
        (MLPClassifier((4,), solver="adam"), ["accuracy", "learning_rate"]),
        (
            MLPRegressor((4,), solver="lbfgs"),
            ["penalised_loss", "gradient_norm", "lines", "trials", "converged"],
        ),
        (
            MLPClassifier((4,), solver="batch-altmin"),
            ["accuracy", "objective", "restarted", "coupling_1", "coupling_2"],
        ),
    ],
)
def test_histories_have_the_same_names_in_the_same_order(estimator, own):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    y = np.sign(X[:, 0])
    estimator.set_params(max_iter=2, random_state=0).fit(X, y, eval_set=(X, y))
    score = "accuracy" if isinstance(estimator, MLPClassifier) else "r2"
    held = ["validation_loss", f"validation_{score}"]
    expected = ["pass", "loss", *own, "seconds", *held, *COST]
    assert [list(record) for record in estimator.history_] == [expected, expected]
    assert [record["pass"] for record in estimator.history_] == [1, 2]


def test_calls_of_partial_fit_share_one_history():
    X = np.random.default_rng(0).standard_normal((200, 3))
    model = MLPClassifier((4,), random_state=0)
    for _ in range(3):
        model.partial_fit(X, X[:, 0] > 0, classes=[False, True])
    assert [record["pass"] for record in model.history_] == [1, 2, 3]
    assert model.loss_curve_ == [record["loss"] for record in model.history_]
    assert model.n_iter_ == 3

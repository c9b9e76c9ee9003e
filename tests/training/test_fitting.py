"""Monitoring of a fit, and the weights with which it must never end."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from daskalt import MLPClassifier, MLPRegressor, StochasticAltMin
from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceWarning, ObjectiveWarning
from daskalt.solvers.base import Report
from daskalt.training.history import PassRecord, Quality
from daskalt.training.job import Pass
from daskalt.training.monitor import Monitor
from daskalt.training.ruin import Worth, far_above, worth_of_rows
from tests.solvers.problems import make_problem


def watch(losses, objectives):
    """A monitor that has seen passes with these losses and objectives."""
    monitor = Monitor(tol=0.0, patience=100, early_stopping=False)
    for number, (loss, objective) in enumerate(zip(losses, objectives, strict=True)):
        report = Report({"objective": objective})
        result = Pass(number, None, Score(1.0, loss, 0.0), report, 0.0, 1, 1)
        monitor.see(result, PassRecord(number + 1, Quality(loss), report, 0.0))
    return monitor


def test_an_objective_that_falls_alone_is_warned_of_once():
    losses = [1.0, 2.0, 2.1, 2.2, 2.1, 2.3, 2.4, 2.5]
    with pytest.warns(ObjectiveWarning, match=r"fell from 1 to 0\.5.* rose from 1 to 2\.3") as seen:
        watch(losses, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("losses", "objectives"),
    [
        ([1.0, 2.0, 2.1, 0.9, 2.1, 2.3], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),  # one pass was better
        ([1.0, 2.0, 2.1, 2.2, 2.1, 2.3], [1.0, 0.9, 0.8, 1.7, 0.6, 0.5]),  # neither falls
        ([1.0, 2.0, 2.1, 2.2, 2.1], [1.0, 0.9, 0.8, 0.7, 0.6]),  # too early to say
    ],
)
def test_no_warning_while_they_go_together(losses, objectives):
    watch(losses, objectives)  # warnings are errors here


@pytest.mark.parametrize(
    ("losses", "report", "kind"),
    [
        ([1.0, 0.9, 0.8], Report(), None),
        ([1.0, 0.9, 0.8], Report(converged=False), None),
        ([1.0, 0.9, 0.8], Report(converged=True), "converged"),
        ([1.0, 0.9, 0.8], Report(refused=9, refusal="", given_up="Too often."), "diverged"),
        ([1.0, 9.9], Report(), None),
        ([1.0, 10.0], Report(), "diverged"),
        ([1.0, np.nan], Report(), "diverged"),
        ([1.0, 1.1, 1.1], Report(), "settled"),
        ([1.0, 2.0, 0.9], Report(), None),
    ],
)
def test_the_reason_to_stop_is_known_by_its_kind(losses, report, kind):
    """The report is the solver's of the last of these passes."""
    monitor = Monitor(tol=0.0, patience=2, early_stopping=False, divergence=10)
    for number, loss in enumerate(losses):
        last = report if number == len(losses) - 1 else Report()
        result = Pass(number, None, Score(1.0, loss, 0.0), last, 0.0, 1, 1)
        end = monitor.see(result, PassRecord(number + 1, Quality(loss), last, 0.0))
        assert end is None or number == len(losses) - 1
    assert (end if end is None else end.kind) == kind
    assert monitor.end is end
    assert monitor.diverged == (kind == "diverged")


# ------------------------------------------------------------------------- never ruined weights


class Ruined(StochasticAltMin):
    """Ruins its weights at the end of some passes, after they were scored."""

    after = ()  # numbers of steps

    def update(self, problem, state, statistics):
        state = super().update(problem, state, statistics)
        if state.step not in type(self).after:
            return state
        rng = np.random.default_rng(1)  # confident of the wrong labels
        weights = tuple(w + 50 * rng.standard_normal(w.shape) for w in state.weights)
        return state._replace(weights=weights, point=weights)


STEPS = 5  # of a pass


def ruined(data, *after, cls=MLPClassifier, solver=Ruined, **options):
    """A fit of six passes whose weights are ruined after some steps."""
    solver.after = after
    options = {"max_iter": 6, "batch_size": 60, "random_state": 0, "tol": 0} | options
    return cls((8,), solver=solver(), **options).fit(*data)


@pytest.fixture(scope="module")
def rows():
    X = np.random.default_rng(0).standard_normal((300, 4))
    return X, np.argmax(X[:, :3], axis=1)


def test_weights_ruined_by_the_last_step_are_never_returned(rows):
    expected = ruined(rows, max_iter=6)
    with pytest.warns(
        DivergenceWarning,
        match=r"far above.*the weights are those of the last sound step",
    ):
        model = ruined(rows, 6 * STEPS)
    assert "far above that of earlier ones" in model.stop_reason_
    for a, b in zip(model.solver_state_.point, model.solver_state_.weights, strict=True):
        np.testing.assert_array_equal(a, b)  # from which a partial_fit continues
    assert model.score(*rows) > expected.score(*rows) - 0.02
    assert expected.stop_reason_ == "all passes were made"


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}])
def test_weights_ruined_in_a_pass_before_the_last_are_not_either(rows, options):
    """Only while they stay ruined: there is no warning where training repairs them."""
    last = tuple(range(4 * STEPS + 1, 6 * STEPS + 1))
    expected = ruined(rows, **options)
    warned = () if options else (DivergenceWarning,)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = ruined(rows, *last, **options)
    assert {w.category for w in seen} >= set(warned)
    assert model.score(*rows) > expected.score(*rows) - 0.05


def test_a_fit_that_only_ruins_ends_where_it_started(rows):
    with pytest.warns(DivergenceWarning, match="those that the fit started from"):
        model = ruined(rows, *range(1, 100), max_iter=2)
    assert model.n_iter_ == 2
    assert "started from" in model.stop_reason_


def test_partial_fit_keeps_what_it_had_before_rows_that_ruin(rows):
    X, y = rows
    Ruined.after = range(2 * STEPS + 1, 100)
    model = MLPClassifier((8,), solver=Ruined(), batch_size=60, random_state=0)
    for _ in range(2):
        model.partial_fit(X, y, classes=[0, 1, 2])
    before = [w.copy() for w in model.coefs_]
    with pytest.warns(DivergenceWarning, match="the weights are those"):
        model.partial_fit(X, y)
    for a, b in zip(model.coefs_, before, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_resumed_fit_falls_back_to_the_same_weights(rows, tmp_path):
    Ruined.after = tuple(range(4 * STEPS + 1, 6 * STEPS + 1))
    with pytest.warns(DivergenceWarning):
        whole = ruined(rows, *Ruined.after)

    class Stopped(Exception):
        pass

    class Cut(Ruined):
        def renew(self, state):
            if state.step == 5 * STEPS and Cut.armed:
                raise Stopped
            return super().renew(state)

    Cut.armed, Cut.__name__ = True, "Ruined"
    place = str(tmp_path / "points")
    with pytest.raises(Stopped):
        ruined(rows, *Ruined.after, solver=Cut, checkpoint=place)
    Cut.armed = False
    model = MLPClassifier(
        (8,), solver=Cut(), max_iter=6, batch_size=60, random_state=0, tol=0, checkpoint=place
    )
    with pytest.warns(DivergenceWarning):
        model.fit(*rows, resume=True)
    for a, b in zip(model.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.stop_reason_ == whole.stop_reason_


def test_what_is_far_above():
    fine, worse, ruined = Worth(10, 0, 3), Worth(10, 0, 6.9), Worth(10, 0, 7.1)
    assert not far_above(worse, fine, 2.0)
    assert far_above(ruined, fine, 2.0)
    assert not far_above(fine, ruined, 2.0)
    assert far_above(Worth(10, 1, 0), fine, 2.0)  # a tenth of the rows overflows
    assert not far_above(Worth(10, 1, 3), Worth(10, 1, 3), 2.0)
    assert far_above(Worth(10, 10, 0), fine, 2.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_worth_is_the_penalised_loss_of_the_rows_that_have_one(weighted):
    case = make_problem(("squared", "identity"), n=50, weighted=weighted, penalty=0.3)
    case.rows.X[1] = 1e200
    state = SimpleNamespace(weights=case.weights)
    with np.errstate(over="ignore"):
        worth = worth_of_rows(case.problem, state, case.rows)
    keep = np.arange(50) != 1
    w = case.row_weight
    a = np.tanh(case.x[keep] @ case.weights[0].T)
    z = np.column_stack([a, np.ones(49)]) @ case.weights[1].T
    losses = 0.5 * np.sum((z - case.rows.y[keep]) ** 2, axis=1)
    squares = sum(np.sum(each[:, :-1] ** 2) for each in case.weights)
    if np.isfinite(worth.mean) and worth.lost:
        assert worth.share_lost == pytest.approx(w[1] / w.sum())
        expected = np.average(losses, weights=w[keep]) + 0.15 * squares
        assert worth.mean == pytest.approx(expected)
    else:  # tanh saturates: the row has a loss of its own
        assert worth.lost == 0


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.0])
def test_a_penalty_that_shrinks_the_weights_is_no_ruin(factor):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.standard_normal(400)
    alpha = factor * len(X)
    options = {"solver": "lbfgs", "max_iter": 200, "alpha": alpha, "random_state": 0}
    model = MLPRegressor((), scale="standard", **options).fit(X, y)
    standard = make_pipeline(StandardScaler(), Ridge(alpha))
    theirs = standard.fit(X, (y - y.mean()) / y.std()).predict(X) * y.std() + y.mean()
    np.testing.assert_allclose(model.predict(X), theirs, atol=2e-3)
    assert "diverged" not in model.stop_reason_


@pytest.mark.parametrize("rows", [1, 4, 50])
def test_small_partial_fits_are_not_judged_by_a_few_rows(rows):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 4))
    y = X[:, 0] * X[:, 1]
    model = MLPRegressor((16,), random_state=0).partial_fit(X[:300], y[:300])
    for start in range(300, 300 + 20 * rows, rows)[:20]:
        at = slice(start % 500, start % 500 + rows)
        model.partial_fit(X[at], y[at])  # warnings are errors here
    assert model.stop_reason_ == "all passes were made"


def test_targets_of_which_most_are_the_mean_are_no_ruin():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 4))
    y = np.sign(np.round(X[:, 0], 0)) * (np.abs(X[:, 0]) > 0.8)
    model = MLPRegressor((16,), random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.stop_reason_ == "all passes were made"


def test_one_row_that_explodes_is_ruin_though_no_sample_has_it():
    """The losses of the passes show it, and then all rows do."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 5))
    X[7] *= 300
    y = X[:, 0] + X[:, 1] ** 2
    y[7] = 0.0
    options = {"max_iter": 8, "scale": "none", "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor((32,), solver=StochasticAltMin(damping=0.001), **options).fit(X, y)
    start = np.mean((y - y.mean()) ** 2)
    assert np.mean((model.predict(X) - y) ** 2) < 3 * start


def test_a_finished_fit_says_again_why_it_ended(rows, tmp_path):
    options = {"checkpoint": str(tmp_path / "points"), "early_stopping": True}
    options |= {"n_iter_no_change": 1, "tol": 0.2}
    whole = ruined(rows, max_iter=20, **options)
    assert "validation error rate fell by less" in whole.stop_reason_
    again = MLPClassifier(
        (8,), solver=Ruined(), max_iter=20, batch_size=60, random_state=0, **options
    ).fit(*rows, resume=True)
    assert again.stop_reason_ == whole.stop_reason_


class Holding(MLPClassifier):
    """Leaves its contents out of its pickles."""

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "held"}


def test_what_is_not_pickled_survives_a_fit(rows):
    model = Holding((4,), max_iter=1)
    model.held = object()
    held = model.held
    assert model.fit(*rows).held is held
    assert model.partial_fit(*rows).held is held


# ------------------------------------------------------------------------- refused fits


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(
    "wrong",
    [
        {"X": np.full((40, 2), np.nan)},
        {"y": np.zeros(40)},
        {"y": np.arange(39)},
        {"sample_weight": -np.ones(40)},
        {"eval_set": (np.ones((3, 5)), [0, 1, 1])},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_refused_fit_leaves_the_fitted_model_as_it_was(rows, wrong):
    X, y = rows
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = MLPClassifier((4,), max_iter=2, random_state=0).fit(frame, y)
    before, labels = dict(vars(model)), model.predict(frame)
    good = {"X": np.random.default_rng(1).random((40, 2)), "y": np.arange(40) % 2}
    with pytest.raises(ValueError, match=r"."):
        model.fit(**(good | wrong))
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(frame), labels)
    if "eval_set" not in wrong:
        with pytest.raises(ValueError, match=r"."):
            model.partial_fit(**(good | wrong))
        assert vars(model) == before


def test_an_interrupted_fit_leaves_the_fitted_model_as_it_was(rows):
    class Interrupted(StochasticAltMin):
        def update(self, problem, state, statistics):
            raise KeyboardInterrupt

    model = MLPClassifier((4,), max_iter=2, random_state=0).fit(*rows)
    model.solver = Interrupted()
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(rows[0], rows[1] + 5)
    assert vars(model) == before


def test_a_pass_that_diverges_is_not_kept_for_its_accuracy():
    """Which may be within a standard error of the best, though its loss is not."""
    monitor = Monitor(1e-4, 10, True, divergence=3.0, held_rows=20)
    monitor.begin("start", trivial=1.0)
    scores = [(0.5, 0.8), (0.4, 0.85), (0.42, 0.85), (1.9, 0.8)]
    for number, (loss, accuracy) in enumerate(scores, start=1):
        state = f"after {number}"
        held = Quality(loss, accuracy=accuracy)
        record = PassRecord(number, Quality(0.1), Report(), 0.0, held)
        end = monitor.see(Pass(number, state, Score(), Report(), 0.0, 1, 1), record)
    assert end.kind == "diverged"
    assert monitor.best == ("after 3",)

"""What is watched while a fit goes on, and what it must never end with."""

import warnings

import numpy as np
import pandas as pd
import pytest

from daskalt import MLPClassifier, StochasticAltMin
from daskalt.errors import DivergenceWarning, ObjectiveWarning
from daskalt.monitor import Monitor
from daskalt.scoring import Sample, sample_loss, take_sample
from daskalt.solvers.base import Rows
from daskalt.solvers.loop import Pass
from daskalt.statistics import Score
from tests.solvers.problems import make_problem


def watch(losses, objectives):
    """A monitor that has seen passes with these losses and objectives."""
    monitor = Monitor(tol=0.0, patience=100, early_stopping=False)
    for number, (loss, objective) in enumerate(zip(losses, objectives, strict=True)):
        result = Pass(number, None, Score(1.0, loss, 0.0), {}, 0.0, 1, 1)
        monitor.see(result, {"loss": loss, "objective": objective})
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


# ------------------------------------------------------------------------- never ruined weights


class Ruined(StochasticAltMin):
    """Ruins its weights at the end of some passes, after they were scored."""

    after = ()  # numbers of steps

    def update(self, problem, state, statistics):
        state = super().update(problem, state, statistics)
        if state.step not in type(self).after:
            return state
        rng = np.random.default_rng(1)  # sure of the wrong labels
        weights = tuple(w + 50 * rng.standard_normal(w.shape) for w in state.weights)
        return state._replace(weights=weights)


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
    with pytest.warns(DivergenceWarning, match=r"far above.*before the last sound step"):
        model = ruined(rows, 6 * STEPS)
    assert "far above" in model.stop_reason_
    assert model.score(*rows) > expected.score(*rows) - 0.02
    assert expected.stop_reason_ == "all passes were made"


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}])
def test_weights_ruined_in_a_pass_before_the_last_are_not_either(rows, options):
    """As long as they stay ruined: nothing is said where training mends them."""
    last = tuple(range(4 * STEPS + 1, 6 * STEPS + 1))
    expected = ruined(rows, **options)
    warned = () if options else (DivergenceWarning,)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = ruined(rows, *last, **options)
    assert {w.category for w in seen} >= set(warned)
    assert model.score(*rows) > expected.score(*rows) - 0.05
    losses = [record["sample_loss"] for record in model.history_]
    assert max(losses[4:]) > 10 * min(losses)


def test_a_fit_that_only_ruins_ends_where_it_started(rows):
    with pytest.warns(DivergenceWarning, match="those that the fit started from"):
        model = ruined(rows, *range(1, 100), max_iter=2)
    start = MLPClassifier((8,), random_state=0, max_iter=2).fit(*rows)
    assert model.n_iter_ == 2
    assert "started from" in model.stop_reason_
    first = next(iter(start.history_))["sample_loss"]
    assert model.history_[-1]["sample_loss"] > 5 * first


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
        def begin_pass(self, state):
            if state.step == 5 * STEPS and Cut.armed:
                raise Stopped
            return super().begin_pass(state)

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


def test_one_outlier_in_the_sample_has_no_say():
    """Nor have rows whose numbers overflow."""
    case = make_problem(("squared", "identity"), n=50, dtype="float32")
    case.rows.y[0] = 1e6
    case.rows.X[1] = 1e38
    sample = take_sample(case.problem, case.rows)
    loss = sample_loss(case.problem, case.weights, sample)
    part = Rows(case.rows.X[2:], case.rows.y[2:], None)
    without = sample_loss(case.problem, case.weights, take_sample(case.problem, part))
    assert loss < without + 2 * sample.most / 50
    assert sample.most < 100


def test_what_is_far_above():
    monitor = Monitor(0.0, 10, False)
    sample = Sample(None, trivial=2.0, most=100.0)
    monitor.begin(None, 1.5, sample)
    assert not monitor.is_ruin(3.0)
    monitor.history = [{"sample_loss": 0.2}, {"sample_loss": np.nan}]
    assert not monitor.is_ruin(0.49)
    assert monitor.is_ruin(0.51)
    assert monitor.is_ruin(np.inf)
    monitor.early_stopping = True  # held-out rows chose them: they may fit the sample worse
    assert not monitor.is_ruin(0.51)
    monitor.begin(None, 100.0, sample)  # all that the sample can lose: nothing is sound
    assert monitor.is_ruin(100.0)


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

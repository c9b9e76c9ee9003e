"""Non-finite numbers never reach W: the step is refused, and the fit continues or says why not."""

import warnings
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from daskalt import (
    ADMM,
    LBFGS,
    BatchAltMin,
    ConjugateGradient,
    GradientDescent,
    MLPClassifier,
    Newton,
    SteepestDescent,
    StochasticAltMin,
)
from daskalt.compute.statistics import combine
from daskalt.data import scaling
from daskalt.data.sources import as_table
from daskalt.errors import DivergenceError, DivergenceWarning, RefusalWarning
from daskalt.kernels.gram import Sketch
from daskalt.rules import SGD
from daskalt.solvers.base import Budget
from daskalt.solvers.caution import CALM, LIMIT, RAISE
from daskalt.solvers.grams import LowRankGram
from daskalt.solvers.least_squares import damp
from daskalt.training import tasks
from daskalt.training.checkpoint import Checkpoint, Checkpoints
from daskalt.training.drivers import run
from daskalt.training.job import Position
from daskalt.training.reading import Reading
from tests.solvers.problems import job_of, make_problem, map_rows

HUGE = np.float32(1e25)  # whose square float32 does not hold
LITERAL = StochasticAltMin(gram_every=3, z_step="newton", ridge_centre="zero")
# A Gram matrix in every step, so that huge rows are always noticed.
EVERY = StochasticAltMin(gram_every=1, schedule="constant")
STOCHASTIC = {
    "altmin": StochasticAltMin(gram_every=3),
    "exact": StochasticAltMin(rank=None, gram_every=3),
    "local steps": StochasticAltMin(local_steps=2, gram_every=3),
    "literal": LITERAL,
    "adam": GradientDescent("adam"),
    "sgd": GradientDescent(),
}
CAUTIOUS = {**STOCHASTIC, "batch": BatchAltMin(), "batch exact": BatchAltMin(acceleration=None)}
SEARCHING = {
    "gd": SteepestDescent(),
    "gd-exact": SteepestDescent("exact"),
    "cg": ConjugateGradient(),
    "lbfgs": LBFGS(),
}
FOREVER = Budget(None, None)


@pytest.fixture(scope="module")
def digits():
    """Rows to train on, of which fifty can be spoiled, and others to test on."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    poisoned, spoiled = X[:1500].copy(), slice(700, 750)
    poisoned[spoiled] *= HUGE
    return SimpleNamespace(
        X=X[:1500],
        y=y[:1500],
        poisoned=poisoned,
        clean=(np.delete(X[:1500], spoiled, 0), np.delete(y[:1500], spoiled)),
        test=(X[1500:], y[1500:]),
    )


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Numbers that overflow are missed by the check of a sample of the rows."""
    monkeypatch.setitem(scaling.LARGEST_UNSCALED, "float32", np.inf)


def model(solver, **options):
    options = {"max_iter": 15, "batch_size": 50, "shuffle": False, "scale": "none"} | options
    return MLPClassifier((32,), solver=clone(solver), tol=0, random_state=0, **options)


def take_step(solver, case, state, spoil=1):
    """The state after a step as a driver makes it, with its rows times a number."""
    rows = case.rows._replace(X=case.rows.X * np.float32(spoil))
    shared = tasks.Shared(solver, case.problem, None)
    with np.errstate(all="ignore"):
        return tasks.update(shared, state, [tasks.map_rows(shared, state, rows, 0, len(rows.X))])


def after_steps(solver, case, *spoils):
    """The states from the start on."""
    states = [solver.start(case.problem, case.weights, FOREVER)]
    for spoil in spoils:
        states.append(take_step(solver, case, states[-1], spoil))
    return states


@pytest.fixture
def case():
    return make_problem(n=60, hidden=(5,), dtype="float32", activation="relu")


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def start_of(state):
    """The weights from which a step starts; those of a state may be a mean."""
    return getattr(state, "point", state.weights)


def is_finite(weights):
    return all(np.isfinite(w).all() for w in weights)


# -------------------------------------------------------------------- one refused step


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
@pytest.mark.parametrize("sound", [0, 1, 3])
def test_a_refused_step_goes_back_to_the_weights_before_the_last_sound_one(case, solver, sound):
    *_, state = states = after_steps(solver, case, *[1] * sound)
    if isinstance(solver, StochasticAltMin) and sound:
        state = state._replace(step=10 * solver.gram_every)  # which renews Gram matrices
    refused = take_step(solver, case, state, HUGE)
    assert_same(refused.weights, start_of(states[max(sound - 1, 0)]))
    assert refused.score == state.score
    assert refused.step == state.step + 1
    assert refused.caution.factor == RAISE
    assert refused.caution.refused == 1
    # The next one goes no further back.
    if isinstance(solver, StochasticAltMin):
        refused = refused._replace(step=state.step)
    again = take_step(solver, case, refused, HUGE)
    assert_same(again.weights, refused.weights)
    assert again.caution.factor == RAISE**2


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
def test_a_refused_step_stops_the_motion_of_the_weights(case, solver):
    *_, state = after_steps(solver, case, 1, 1, 1)
    step = 10 * getattr(solver, "gram_every", 1)  # which renews Gram matrices
    refused = take_step(solver, case, state._replace(step=step), HUGE)
    if isinstance(solver, GradientDescent):
        assert not any(slot.any() for slots in refused.slots for slot in slots)
        return
    assert not any(v.any() for v in refused.motion.velocity)
    assert refused.motion.length == 0
    assert refused.motion.trust == pytest.approx(state.motion.trust / RAISE)


def test_a_refused_step_begins_the_mean_of_the_weights_anew(case):
    solver = StochasticAltMin(window=0.6, gram_every=1)
    *_, state = after_steps(solver, case, 1, 1, 1)
    assert not np.array_equal(state.weights[0], state.point[0])
    refused = take_step(solver, case, state, HUGE)
    assert_same(refused.point, refused.weights)
    first = take_step(solver, case, refused)
    assert_same(first.weights, first.point)
    assert not np.array_equal(first.point[0], refused.point[0])
    second = take_step(solver, case, first)
    assert not np.array_equal(second.weights[0], second.point[0])


def diagonal_of(gram):
    """The mean of the diagonal without the entry of the bias."""
    if isinstance(gram, LowRankGram):
        return gram.rest / (len(gram.basis) - 1)
    return np.mean(np.diag(gram.mean)[:-1], dtype=np.float64)


@pytest.mark.parametrize("rank", [None, 1])
def test_damping_is_raised_and_lowered_again(case, rank):
    solver = StochasticAltMin(rank=rank, gram_every=1)
    *_, state = after_steps(solver, case, 1, 1, HUGE)
    expected = 1.0
    for factor in (10.0, 5.0, 2.5, 1.25, 1.0, 1.0):
        assert state.caution.factor == factor
        for gram in state.inputs:
            expected = solver.damping * factor * diagonal_of(gram)
            assert gram.damping == pytest.approx(expected)
            if rank is None:
                fresh = damp(gram.mean, solver.damping * factor)
                identity = np.eye(len(gram.mean), dtype=np.float32)
                np.testing.assert_array_equal(gram.inverse, fresh.solve(identity))
        state = take_step(solver, case, state)


def test_the_learning_rate_is_lowered_and_raised_again(case):
    solver = GradientDescent(SGD(0.1, momentum=0.0))
    *_, state = after_steps(solver, case, 1, HUGE)
    plain = take_step(solver, case, state._replace(caution=state.caution._replace(factor=1.0)))
    for w, slow, fast in zip(
        state.weights, take_step(solver, case, state).weights, plain.weights, strict=True
    ):
        np.testing.assert_allclose(RAISE * (slow - w), fast - w, rtol=1e-2, atol=1e-5)
    for factor in (10.0, 5.0, 2.5, 1.25, 1.0):
        assert state.caution.factor == factor
        state = take_step(solver, case, state)


def test_adam_begins_anew_with_its_bias_corrections(case):
    """Otherwise slots that are zero, corrected as if they were not, would lead to long steps."""
    solver = GradientDescent("adam")
    *_, state = after_steps(solver, case, *[1] * 20, HUGE)
    state = state._replace(caution=state.caution._replace(factor=1.0))
    new = take_step(solver, case, state)
    rate = solver.report(new).figures["learning_rate"]
    longest = max(np.abs(a - b).max() for a, b in zip(new.weights, state.weights, strict=True))
    assert longest == pytest.approx(rate, rel=1e-2)


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
def test_sound_steps_undo_the_caution(case, solver):
    *_, state = after_steps(solver, case, 1, HUGE)
    factors = []
    for _ in range(5):
        factors.append(state.caution.factor)
        state = take_step(solver, case, state)
    assert factors == [10.0, 5.0, 2.5, 1.25, 1.0]


def test_refusals_are_forgotten_after_a_calm(case):
    *_, state = after_steps(EVERY, case, 1, HUGE, HUGE)
    for _ in range(CALM):
        assert state.caution.refusals == 2
        state = take_step(EVERY, case, state)
    assert take_step(EVERY, case, state).caution.refusals == 0


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
def test_weights_that_overflow_under_finite_statistics_are_refused(case, solver, monkeypatch):
    *_, before, state = after_steps(solver, case, 1, 1)
    update = type(solver).update

    def overflowing(self, problem, state, statistics):
        new = update(self, problem, state, statistics)
        weights = [w.copy() for w in new.weights]
        weights[-1][0, -1] = np.inf
        return new._replace(weights=tuple(weights))

    monkeypatch.setattr(type(solver), "update", overflowing)
    refused = take_step(solver, case, state)
    assert_same(refused.weights, start_of(before))
    assert "new weights are not finite" in refused.caution.reason


# ------------------------------------------------------------------- sums that overflow


def large(total):
    """Sums within float32, twice which is not."""
    if isinstance(total, Sketch):
        return Sketch(np.full_like(total.image, 2e38), 2e38, 1e38)
    return np.full_like(total, 2e38 / len(total))


@pytest.mark.parametrize("rank", [None, 1])
def test_a_sum_of_gram_matrices_that_overflows_is_refused(case, rank):
    """Each task's own is within float32."""
    case.rows.X[:] *= np.float32(1e18)
    solver = StochasticAltMin(damping=10.0, rank=rank)
    state = solver.start(case.problem, case.weights, FOREVER)
    half = map_rows(solver, case.problem, state, case.rows)
    half = half._replace(
        score=half.score._replace(weight=1.0),
        gathered=1.0,
        moments=tuple(np.zeros_like(r) for r in half.moments),
        grams=tuple(map(large, half.grams)),
    )
    with np.errstate(over="ignore"):
        whole = combine(half, half)
    with pytest.raises(DivergenceError, match="overflowed"):
        solver.update(case.problem, state, whole)


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
def test_no_sound_step_at_all_is_an_error_that_says_why(digits, solver):
    with pytest.raises(DivergenceError, match=r"No step .* finite numbers.*(overflowed|extreme)"):
        model(solver, max_iter=2).fit(digits.X * HUGE, digits.y)


@pytest.mark.parametrize("solver", SEARCHING.values(), ids=SEARCHING)
def test_line_searches_raise_at_initial_weights_that_overflow(digits, solver):
    with pytest.raises(DivergenceError, match="initial weights"):
        model(solver, max_iter=3).fit(digits.poisoned, digits.y)


def test_newton_and_admm_raise_where_there_is_nothing_to_fall_back_on(digits):
    with pytest.raises(DivergenceError, match="initial weights"):
        model(Newton(), max_iter=3).set_params(hidden_layer_sizes=()).fit(digits.poisoned, digits.y)
    with pytest.raises(DivergenceError, match="overflowed"):
        model(ADMM(), max_iter=3).fit(digits.poisoned, digits.y)


@pytest.mark.parametrize("part", ["loss", "gradient"])
@pytest.mark.parametrize("solver", SEARCHING.values(), ids=SEARCHING)
def test_a_trial_that_overflows_shortens_the_step(solver, part):
    case = make_problem(n=30, dtype="float32")
    state = solver.start(case.problem, case.weights, FOREVER)
    for _ in range(4):
        statistics = map_rows(solver, case.problem, state, case.rows)
        state = solver.update(case.problem, state, statistics)
    statistics = map_rows(solver, case.problem, state, case.rows)
    if part == "loss":
        bad = statistics._replace(score=statistics.score._replace(loss=np.nan))
    else:
        bad = statistics._replace(moments=tuple(r * np.inf for r in statistics.moments))
    with np.errstate(invalid="ignore"):
        after = solver.update(case.problem, state, bad)
    assert after.search.trial < state.search.trial
    assert_same(after.weights, state.weights)
    assert after.value == state.value
    assert is_finite(after.trial)


# ---------------------------------------------------------------------------- whole fits


@pytest.mark.parametrize("solver", STOCHASTIC.values(), ids=STOCHASTIC)
def test_a_fit_continues_after_a_block_that_overflows(digits, solver):
    clean = model(solver).fit(*digits.clean)
    with pytest.warns(RefusalWarning, match="left these steps out"):
        fitted = model(solver).fit(digits.poisoned, digits.y)
    assert fitted.n_iter_ == 15
    assert is_finite(fitted.coefs_)
    assert np.isfinite(fitted.loss_curve_).all()
    assert fitted.score(*digits.test) > clean.score(*digits.test) - 0.03
    assert sum(record["refused"] for record in fitted.history_) >= 15
    assert not any("refused" in record for record in clean.history_)


def test_rows_that_overflow_outside_the_sample_are_passed_by(digits, store, monkeypatch):
    """The sample has the first rows of a block."""
    monkeypatch.undo()
    monkeypatch.setattr("daskalt.training.preparing.SAMPLE_ROWS", 600)
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 0)  # so that blocks are drawn
    path = store(digits.poisoned, digits.y, chunk_rows=750)
    with pytest.warns(RefusalWarning, match="left these steps out"):
        fitted = model(StochasticAltMin()).fit(path)
    assert fitted.score(*digits.test) > 0.85


@pytest.mark.parametrize("solver", STOCHASTIC.values(), ids=STOCHASTIC)
def test_threads_change_no_bit(digits, store, solver):
    path = store(digits.poisoned, digits.y, chunk_rows=50)
    fits = []
    for options in ({"scheduler": "sync"}, {"num_workers": 1}, {"num_workers": 4}):
        with dask.config.set(**options), pytest.warns(RefusalWarning):
            fits.append(model(solver, max_iter=2).fit(path))
    for other in fits[1:]:
        assert_same(other.coefs_, fits[0].coefs_)


def test_a_cluster_changes_no_bit(digits, store, cluster):
    path = store(digits.poisoned, digits.y, chunk_rows=50)
    solver = StochasticAltMin(tasks=2)
    with pytest.warns(RefusalWarning):
        here = model(solver, max_iter=2).fit(path)
    cluster(2)
    with pytest.warns(RefusalWarning):
        there = model(solver, max_iter=2).fit(path)
    assert_same(here.coefs_, there.coefs_)


def failing_from(monkeypatch, kind, step, until=np.inf):
    """Make the loss infinite at some steps of a solver; the state that each step met."""
    map_, met = kind.map, {}

    def spoiled(self, problem, state, rows, variables=None):
        met[state.step] = state
        statistics, moved = map_(self, problem, state, rows, variables)
        if step <= state.step < until:
            statistics = statistics._replace(score=statistics.score._replace(loss=np.inf))
        return statistics, moved

    monkeypatch.setattr(kind, "map", spoiled)
    return met


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.filterwarnings("ignore::daskalt.errors.RefusalWarning")
@pytest.mark.parametrize("solver", [EVERY, GradientDescent("adam")], ids=["altmin", "adam"])
@pytest.mark.parametrize("step", [3, 95])
def test_a_fit_that_gives_up_has_its_best_weights(digits, monkeypatch, solver, step):
    """Thirty steps a pass: the fit ends in the first pass, or in the fourth."""
    met = failing_from(monkeypatch, type(solver), step)
    fitted = model(solver, max_iter=6)
    with pytest.warns(DivergenceWarning, match=rf"the last at step {step + LIMIT}: The loss is"):
        fitted.fit(digits.X, digits.y)
    assert fitted.n_iter_ == step // 30 + 1
    assert fitted.history_[-1]["refused"] == LIMIT
    assert is_finite(fitted.coefs_)
    # Before the last sound step, or where the last whole pass led to.
    choices = [start_of(met[step - 1])]
    if step > 30:
        choices.append(met[step // 30 * 30].weights)
    assert any(same(fitted.solver_state_.weights, choice) for choice in choices)
    assert not np.array_equal(choices[0][0], start_of(met[step - 2])[0])


@pytest.mark.filterwarnings("ignore::daskalt.errors.RefusalWarning")
def test_a_full_batch_fit_that_gives_up_has_its_best_weights(digits, monkeypatch):
    solver = BatchAltMin(schedule="constant")
    earlier = model(solver, max_iter=6).fit(digits.X, digits.y)
    failing_from(monkeypatch, BatchAltMin, 6)
    with pytest.warns(DivergenceWarning, match="weights are those (after|before|of)"):
        fitted = model(solver, max_iter=30).fit(digits.X, digits.y)
    assert fitted.n_iter_ == 6 + LIMIT
    assert_same(fitted.coefs_, earlier.coefs_)


def test_a_refused_iteration_leaves_no_z_behind(digits, monkeypatch):
    failing_from(monkeypatch, BatchAltMin, 4, until=5)
    with pytest.warns(RefusalWarning, match="1 time,"):
        fitted = model(BatchAltMin(), max_iter=9).fit(digits.X, digits.y)
    assert np.isnan(fitted.loss_curve_[4])
    assert fitted.loss_curve_[5] == pytest.approx(fitted.loss_curve_[3], rel=1e-5)  # a step back
    restarted = [record["restarted"] for record in fitted.history_]
    assert restarted[5] == 1.0
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[3]


def test_a_solver_that_gave_up_takes_no_more_steps(case):
    states = after_steps(EVERY, case, 1, *[HUGE] * LIMIT)
    last = states[-1]
    assert EVERY.gave_up(last)
    assert not EVERY.gave_up(states[-2])
    assert take_step(EVERY, case, last) is last
    assert f"{LIMIT} steps" in EVERY.report(last).given_up
    # Another pass may work, such as partial_fit with other rows.
    assert take_step(EVERY, case, EVERY.renew(last)).step == last.step + 1


@pytest.mark.filterwarnings("ignore::daskalt.errors.DivergenceWarning")  # it may go back, too
def test_partial_fit_continues_after_rows_that_overflow(digits):
    X, y = digits.X, digits.y
    parts = model(EVERY, batch_size=500)
    parts.partial_fit(X[:500], y[:500], classes=np.arange(10))
    parts.partial_fit(X[500:1000], y[500:1000])
    before = [w.copy() for w in parts.coefs_]
    with pytest.warns(RefusalWarning):
        parts.partial_fit(X[:500] * HUGE, y[:500])
    assert is_finite(parts.coefs_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts.partial_fit(X[1000:], y[1000:])
    assert is_finite(parts.coefs_)
    assert not np.array_equal(parts.coefs_[0], before[0])


def test_a_pass_of_the_loop_reports_what_it_refused(store):
    case = make_problem(n=100, dtype="float32", activation="relu")
    case.rows.X[40:50] *= HUGE
    table = as_table(store(case.rows.X, case.rows.y, chunk_rows=10))
    budget = Budget(20, 10)
    state = EVERY.start(case.problem, case.weights, budget)
    reading = Reading(batch_size=10, lanes=1, buffer_rows=10, seed=None)
    job = job_of(EVERY, case, table, reading, range(2), budget)
    results = list(run(job, state, Position(0)))
    assert [result.report.refused for result in results] == [1, 1]
    assert [result.score.weight for result in results] == [90, 90]


@pytest.mark.parametrize("solver", CAUTIOUS.values(), ids=CAUTIOUS)
def test_checkpoints_keep_the_caution(case, solver, tmp_path):
    *_, state = after_steps(solver, case, 1, 1, HUGE)
    state = state._replace(step=10 * getattr(solver, "gram_every", 1))
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, state, []))
    loaded = checkpoints.load(solver.state_types).state
    assert loaded.caution._replace(before=None) == state.caution._replace(before=None)
    for spoil in (1, HUGE):
        ours, theirs = (take_step(solver, case, each, spoil) for each in (state, loaded))
        assert_same(ours.weights, theirs.weights)
        assert ours.caution[1:] == theirs.caution[1:]

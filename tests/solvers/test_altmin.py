"""One step equals its formula; linear problems have known answers."""

import copy
import re
from dataclasses import replace
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import scale

import daskalt
from daskalt.compute.statistics import combine
from daskalt.errors import DivergenceError, InputError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import LOSSES
from daskalt.kernels.gram import Sketch
from daskalt.network.layers import Input, Layer
from daskalt.network.network import Network
from daskalt.solvers import SOLVERS, StochasticAltMin, get_solver
from daskalt.solvers.altmin import GATHERED_ROWS, GATHERED_SHARE
from daskalt.solvers.base import Budget
from daskalt.solvers.grams import ExactGram, LowRankGram
from daskalt.solvers.z_step import gradient_step
from tests import naive
from tests.solvers.problems import make_problem, map_rows

FOREVER = Budget(None, None)
PAIRS = sorted(LOSSES)
# Every parameter that the formula has, so that no default matters here.
PLAIN = {
    "damping": 0.7,
    "step_limit": 2.0,
    "change_limit": 1e6,
    "momentum": 0.0,
    "schedule": "constant",
    "rank": None,
    "local_steps": 1,
    "z_step": "gradient",
    "window": 0,
    "evidence": 0,
    "ridge_centre": "current",
}
FORMULA = ("damping", "step_limit", "change_limit", "momentum")
LITERAL = {"z_step": "newton", "ridge_centre": "zero", "window": 0}
VARIANTS = {
    "plain": {},
    "low rank": {"rank": 1},
    "shared curvature": {"z_step": "shared"},
    "local steps": {"local_steps": 3},
    "newton": {"z_step": "newton"},
    "literal": LITERAL,
}


def one_step(solver, case, state=None, parts=1):
    """The state after a step whose rows are divided among tasks."""
    if state is None:
        state = solver.start(case.problem, case.weights, FOREVER)
    edges = np.linspace(0, len(case.rows.X), parts + 1).astype(int)
    statistics = [
        map_rows(solver, case.problem, state, case.rows.part(a, b)) for a, b in pairwise(edges)
    ]
    return solver.update(case.problem, state, reduce(solver.combine, statistics))


def assert_naive_step(state, case, options, **more):
    """The weights of a state are those of one step by the formula."""
    formula = {name: options[name] for name in FORMULA} | more
    expected = naive.altmin_step(
        case.weights,
        case.x,
        case.rows.y,
        case.row_weight,
        case.kinds,
        penalty=case.problem.penalty,
        **formula,
    )
    for w, goal in zip(state.weights, expected, strict=True):
        np.testing.assert_allclose(w, goal, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------- a step is its formula


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_step_is_the_naive_one(pair, activation):
    case = make_problem(pair, activation, n=6, hidden=(3, 2), weighted=True)
    options = PLAIN | {"momentum": 0.3}
    state = one_step(StochasticAltMin(**options), case)
    assert_naive_step(state, case, options)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("z_damping", [0.05, 3.0])
def test_a_step_by_the_shared_curvature_is_the_naive_one(pair, z_damping):
    case = make_problem(pair, n=6, hidden=(3, 2), weighted=True)
    options = PLAIN | {"momentum": 0.3, "z_step": "shared", "z_damping": z_damping}
    state = one_step(StochasticAltMin(**options), case)
    assert_naive_step(state, case, options, z_damping=z_damping)


@pytest.mark.parametrize("z_damping", [None, 0.3])
def test_layers_that_share_a_matrix_sum_their_curvatures(z_damping):
    case = make_problem(n=8, features=3, hidden=(3, 3), outputs=2, weighted=True)
    tanh, (first, _, last) = ACTIVATIONS["tanh"], case.weights
    layers = (
        Layer("a", 3, ("x",), 0, tanh),
        Layer("b", 3, ("a",), 0, tanh),
        Layer("y", 2, ("b",), 1),
    )
    network = Network((Input("x", 3),), layers, case.problem.network.loss)
    case.problem, case.weights = replace(case.problem, network=network), (first, last)
    options = dict(PLAIN)
    if z_damping is not None:
        options |= {"z_step": "shared", "z_damping": z_damping}
    state = one_step(StochasticAltMin(**options), case)
    assert_naive_step(state, case, options, z_damping=z_damping, matrices=(0, 0, 1))


@pytest.mark.parametrize("limit", [1e-3, 0.05])
def test_the_change_limit_shortens_a_step(limit):
    case = make_problem(n=6, hidden=(3,))
    options = PLAIN | {"change_limit": limit, "step_limit": 1e6}
    # The first steps of a fit without an end may change z by three times as much.
    state = one_step(StochasticAltMin(**options), case)
    expected = naive.altmin_step(
        case.weights,
        case.x,
        case.rows.y,
        case.row_weight,
        case.kinds,
        penalty=case.problem.penalty,
        **({name: options[name] for name in FORMULA} | {"change_limit": 3 * limit}),
    )
    for w, goal in zip(state.weights, expected, strict=True):
        np.testing.assert_allclose(w, goal, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dividing_a_step_among_tasks_changes_nothing_but_rounding(dtype):
    case = make_problem(n=30, hidden=(4,), dtype=dtype)
    solver = StochasticAltMin(**PLAIN)
    whole, parts = one_step(solver, case), one_step(solver, case, parts=4)
    for a, b in zip(whole.weights, parts.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4 if dtype == "float32" else 1e-10, atol=1e-5)


def score_of(solver, case):
    """The score of the rows at the start."""
    state = solver.start(case.problem, case.weights, FOREVER)
    return map_rows(solver, case.problem, state, case.rows).score


def test_row_weights_count_as_repeated_rows():
    case = make_problem(n=20)
    repeats = np.arange(20) % 3
    rows = np.repeat(np.arange(20), repeats)
    solver = StochasticAltMin(**PLAIN)
    weighted, repeated = copy.copy(case), copy.copy(case)
    weighted.rows = case.rows._replace(weight=repeats.astype(float))
    repeated.rows = case.rows._replace(X=case.rows.X[rows], y=case.rows.y[rows])
    shared = {"z_step": "shared", "evidence": 0.5, "gram_every": 1}
    for options in (PLAIN, PLAIN | LITERAL, PLAIN | shared):
        solver = StochasticAltMin(**options)
        a, b = (one_step(solver, each, one_step(solver, each)) for each in (weighted, repeated))
        assert a.decay == pytest.approx(b.decay, rel=1e-8)
        assert all(own > 0 for own in a.decay) == (options["evidence"] > 0)
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)
        losses = [score_of(solver, each).mean_loss for each in (weighted, repeated)]
        assert losses[0] == pytest.approx(losses[1])


def test_rows_of_weight_zero_do_not_hide_the_others_from_the_gram_matrices():
    """Neither in the first step that has rows, nor where all of those gathered have no weight."""
    case = make_problem(n=3 * GATHERED_ROWS)
    first = GATHERED_ROWS
    weight = np.r_[np.zeros(first), np.ones(2 * first)]
    solver = StochasticAltMin(**(PLAIN | {"z_step": "shared", "evidence": 0.5, "gram_every": 1}))
    start = solver.start(case.problem, case.weights, FOREVER)._replace(step=1)  # one had no rows
    hidden, seen = copy.copy(case), copy.copy(case)
    hidden.rows = case.rows._replace(weight=weight)
    seen.rows = case.rows.part(first, len(weight))
    a, b = (one_step(solver, each, start) for each in (hidden, seen))
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)
    after = one_step(solver, hidden, a)
    assert after.inputs is a.inputs
    assert after.residuals is a.residuals
    assert not np.allclose(after.point[0], a.point[0], atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_score_is_of_the_forward_pass_before_the_step(variant):
    case = make_problem(n=12, weighted=True)
    score = score_of(StochasticAltMin(**(PLAIN | VARIANTS[variant])), case)
    if variant == "local steps":  # each part is scored after the updates of earlier parts
        case.rows = case.rows.part(0, 4)
        score = score_of(StochasticAltMin(**PLAIN), case)
    n = len(case.rows.X)
    z = naive.forward(case.weights, case.x[:n], case.kinds[0])[-1]
    losses = [naive.loss(*case.kinds[1:], z[i], case.rows.y[i]) for i in range(n)]
    right = [naive.correct(case.kinds[2], z[i], case.rows.y[i]) for i in range(n)]
    weight = case.row_weight[:n]
    assert score.mean_loss == pytest.approx(np.average(losses, weights=weight))
    assert score.accuracy == pytest.approx(np.average(right, weights=weight))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_literal_form_is_the_naive_loop(pair, activation):
    case = make_problem(pair, activation, n=7, hidden=(3, 2), weighted=True)
    options = {"mu": (0.5, 1.0, 2.0), "sweeps": 2, "average": 0.4}
    state = one_step(StochasticAltMin(**LITERAL, **options), case)
    expected = naive.literal_step(
        case.weights,
        case.x,
        case.rows.y,
        case.row_weight,
        case.kinds,
        penalty=case.problem.penalty,
        **options,
    )
    for w, goal, before in zip(state.weights, expected, case.weights, strict=True):
        np.testing.assert_allclose(w, goal, rtol=0, atol=1e-6 * np.abs(goal - before).max())


def test_newton_z_with_a_centred_ridge_fits_its_residuals():
    case = make_problem(n=9, hidden=(3,))
    mu, options = 0.8, PLAIN | {"step_limit": 1 / PLAIN["damping"]}
    state = one_step(StochasticAltMin(**(options | {"z_step": "newton", "mu": mu})), case)
    z = [
        naive.auxiliary(case.weights, case.x[i], case.rows.y[i], case.kinds, (mu, mu), 1)
        for i in range(9)
    ]
    phi = naive.ACTIVATIONS[case.kinds[0]][0]
    for layer, w in enumerate(case.weights):
        a = case.x
        if layer:
            a = np.array([np.append(naive.each(phi, row[layer - 1]), 1.0) for row in z])
        r = np.array([row[layer] for row in z]) - a @ w.T
        gram = a.T @ a / 9
        g = r.T @ a / 9
        g[:, :-1] -= case.problem.penalty * w[:, :-1]
        ridge = options["damping"] * np.mean(np.diag(gram)[:-1])
        d = g @ np.linalg.inv(gram + ridge * np.eye(len(gram)))
        np.testing.assert_allclose(state.weights[layer] - w, d, rtol=0, atol=1e-3 * abs(d).max())


# ------------------------------------------------------------------------ local steps


def test_local_results_merge_weighted_by_their_gram_matrices():
    case = make_problem(n=120, hidden=(3,), penalty=0.0)
    solver = StochasticAltMin(**(PLAIN | {"local_steps": 3, "gram_every": 1}))
    state = one_step(solver, case, parts=2)
    moved, grams = [], []
    for start in (0, 60):
        weights, motion = state.weights, state.motion
        sums = None
        for k in range(3):
            rows = case.rows.part(start + 20 * k, start + 20 * (k + 1))
            part = gradient_step(case.problem, weights, rows, (True, True))
            sums = combine(sums, part.grams)
            weights, motion = solver._descend(
                case.problem, state, weights, motion, state.inputs, part
            )
        moved.append(weights)
        grams.append(sums)
    after = one_step(solver, case, state, parts=2)
    for layer, w in enumerate(after.weights):
        total = sum(g[layer] for g in grams)
        expected = sum(m[layer] @ g[layer] for m, g in zip(moved, grams, strict=True))
        expected = np.linalg.solve(total, expected.T).T
        np.testing.assert_allclose(w, expected, rtol=1e-8, atol=1e-10)
        assert not np.allclose(w, (moved[0][layer] + moved[1][layer]) / 2, rtol=1e-4)


@pytest.mark.parametrize("rank", [None, 1])
def test_one_task_keeps_its_own_local_result(rank):
    case = make_problem(n=60, features=5, hidden=(6,))
    solver = StochasticAltMin(**(PLAIN | {"local_steps": 2, "rank": rank}))
    state = one_step(solver, case)
    assert isinstance(state.inputs[0], ExactGram if rank is None else LowRankGram)
    weights, motion = state.weights, state.motion
    for start, stop in ((0, 30), (30, 60)):
        part = gradient_step(case.problem, weights, case.rows.part(start, stop))
        weights, motion = solver._descend(case.problem, state, weights, motion, state.inputs, part)
    for a, b in zip(one_step(solver, case, state).weights, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_more_local_steps_than_rows():
    case = make_problem(n=3, hidden=(3,))
    solver = StochasticAltMin(**(PLAIN | {"local_steps": 5}))
    state = one_step(solver, case, one_step(solver, case))
    assert all(np.isfinite(w).all() for w in state.weights)
    assert score_of(solver, case).weight == 3


# ------------------------------------------------------------------- schedule and sums


@pytest.mark.parametrize(
    ("window", "share"),
    [
        (0.5, lambda t: t),
        (0.25, lambda t: t * (t - 1) * (t - 2)),  # about t³, as t^(1 / window - 1)
    ],
)
def test_the_weights_are_a_mean_of_the_points(window, share):
    case = make_problem(n=24)
    solver = StochasticAltMin(**(PLAIN | {"window": window}))
    state, points = one_step(solver, case), []
    for t in range(7):
        points.append(state.point)
        short = window * (t + 1) <= 1  # the window is of one step
        shares = [0] * t + [1] if short else [share(k) for k in range(t + 1)]
        for layer, w in enumerate(state.weights):
            mean = np.average([own[layer] for own in points], axis=0, weights=shares)
            np.testing.assert_allclose(w, mean, rtol=1e-10, atol=1e-12)
        state = one_step(solver, case, state)


def test_the_mean_of_the_points_changes_none():
    case, states = make_problem(n=24), [None, None]
    for _ in range(4):
        for k, window in enumerate((0, 0.3)):
            options = PLAIN | {"window": window, "z_step": "shared"}
            states[k] = one_step(StochasticAltMin(**options), case, states[k])
    for a, b in zip(states[0].point, states[1].point, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_last_step_is_almost_none(schedule):
    case = make_problem(n=24)
    solver = StochasticAltMin(**(PLAIN | {"schedule": schedule, "change_limit": 1e-2}))
    state = solver.start(case.problem, case.weights, Budget(100, 100))
    lengths = []
    for _ in range(100):
        after = one_step(solver, case, state)
        lengths.append(np.linalg.norm(after.weights[0] - state.weights[0]))
        state = after
    assert lengths[-1] < 0.2 * lengths[0]
    past_the_end = one_step(solver, case, state)
    np.testing.assert_allclose(past_the_end.weights[0], state.weights[0], atol=1e-12)


@pytest.mark.parametrize("rank", [None, 1])
def test_the_inputs_gram_matrix_is_the_mean_of_the_first_pass(rank):
    case = make_problem(n=60, features=5, hidden=(6,))
    solver = StochasticAltMin(**(PLAIN | {"gram_every": 1, "gram_memory": 0.5, "rank": rank}))
    state = solver.start(case.problem, case.weights, Budget(24, 12))
    grams = []
    for k in range(12):
        rows = case.rows.part(5 * k, 5 * k + 5)
        a = case.x[5 * k : 5 * k + 5]
        grams.append(a.T @ a / 5)
        statistics = map_rows(solver, case.problem, state, rows)
        assert statistics.gathered == 5
        state = solver.update(case.problem, state, statistics)
    # The first one counts twice; none is forgotten, whatever gram_memory is.
    mean = np.average(grams, axis=0, weights=np.r_[2, np.ones(11)])
    first, second = state.inputs
    ridge = PLAIN["damping"] * np.mean(np.diag(mean)[:-1])
    assert first.damping == pytest.approx(ridge)
    if rank is None:
        np.testing.assert_allclose(first.mean, mean, rtol=1e-10, atol=1e-12)
        b, x = np.random.default_rng(0).standard_normal((2, 6)), np.empty((2, 6))
        expected = np.linalg.solve(mean + ridge * np.eye(6), b.T).T
        first.solve(b, x)
        np.testing.assert_allclose(x, expected, rtol=1e-8, atol=1e-10)
    else:
        assert first.rest + first.last == pytest.approx(np.trace(mean))
        assert first.last == pytest.approx(1)
    # Later passes leave it as it is.
    statistics = map_rows(solver, case.problem, state, case.rows.part(0, 5))
    assert statistics.grams[0] is None
    state = solver.update(case.problem, state, statistics)
    assert state.inputs[0] is first
    assert state.inputs[1] is not second


def test_in_a_fit_without_an_end_all_gram_matrices_are_renewed():
    case = make_problem(n=20)
    solver = StochasticAltMin(**(PLAIN | {"gram_every": 1}))
    state = one_step(solver, case, one_step(solver, case))
    statistics = map_rows(solver, case.problem, state._replace(step=1000), case.rows)
    assert all(own is not None for own in statistics.grams)


@pytest.mark.parametrize("rank", [None, 1])
def test_a_task_gathers_what_its_gram_matrices_are_taken_by(rank):
    case = make_problem(n=20, features=5, hidden=(6,))
    options = {"gram_every": 1, "rank": rank, "z_step": "shared"}
    solver = StochasticAltMin(**(PLAIN | options))
    state = solver.start(case.problem, case.weights, FOREVER)
    step = map_rows(solver, case.problem, state, case.rows)
    kinds = [type(own) for own in (*step.grams, *step.curvatures)]
    few = np.ndarray if rank is None else Sketch
    assert kinds == [few, few, few, np.ndarray]  # of the three outputs, all


def test_flops_are_those_of_the_matrix_products():
    case = make_problem(features=50, hidden=(40,), outputs=10)
    solver = StochasticAltMin(**(PLAIN | {"gram_every": 5}))
    products = 2 * (51 * 40 + 41 * 10)
    expected = 2 * products + 2 * 41 * 10 + GATHERED_SHARE * 41**2
    assert solver.flops(case.problem.network) == pytest.approx(expected)
    solver = StochasticAltMin(**(PLAIN | {"gram_every": 5, "z_step": "shared"}))
    expected += GATHERED_SHARE * (40**2 + 10**2)
    assert solver.flops(case.problem.network) == pytest.approx(expected)


# ------------------------------------------------------------------------ known answers


def full_batch(kind, n, step, passes):
    """A model whose steps see all rows: its fixed point is the regularised optimum."""
    # With damping 1 the iteration contracts every direction, for steps below 2 on the squared loss
    # and below 5 on the cross-entropy.
    options = {"damping": 1.0, "step_limit": step, "change_limit": 1e3}
    return kind(
        hidden_layer_sizes=(),
        solver=StochasticAltMin(**(PLAIN | options)),
        alpha=0.1 * n,
        batch_size=n,
        max_iter=passes,
        tol=0,
        n_iter_no_change=passes,
        scale="none",
        random_state=0,
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_no_hidden_layer_and_squared_loss_is_ridge_regression(outputs):
    X, y = load_diabetes(return_X_y=True)
    X = scale(X)
    if outputs > 1:
        y = np.column_stack([y, X[:, 0] ** 2])
    model = full_batch(daskalt.MLPRegressor, len(X), 1.0, 300).fit(X, y)
    expected = Ridge(alpha=model.alpha).fit(X, y)
    coef, intercept = np.atleast_2d(expected.coef_), np.atleast_1d(expected.intercept_)
    spread = np.abs(coef).max(axis=1, keepdims=True)
    np.testing.assert_allclose(model.coefs_[0].T / spread, coef / spread, atol=1e-8)
    np.testing.assert_allclose(model.intercepts_[0], intercept, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_no_hidden_layer_and_cross_entropy_is_logistic_regression(load):
    X, y = load(return_X_y=True)
    X = scale(X)
    model = full_batch(daskalt.MLPClassifier, len(X), 4.0, 400).fit(X, y)
    expected = LogisticRegression(C=1 / model.alpha, tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0].T, expected.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=1e-6)


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("damping", 0),
        ("damping", "big"),
        ("step_limit", -1),
        ("change_limit", float("nan")),
        ("momentum", 1.0),
        ("schedule", "step"),
        ("gram_memory", 1),
        ("gram_every", 0),
        ("rank", 0),
        ("local_steps", 1.5),
        ("tasks", "many"),
        ("tasks", True),
        ("z_step", "exact"),
        ("z_damping", 0),
        ("window", 1),
        ("evidence", -1),
        ("ridge_centre", None),
        ("average", -0.1),
        ("mu", 0),
        ("mu", (1.0, -1.0)),
        ("sweeps", 0),
    ],
)
def test_wrong_parameters_are_named_with_their_range(name, bad):
    message = f"parameter {name} of StochasticAltMin must be .*; got {re.escape(repr(bad))}"
    with pytest.raises(InputError, match=message):
        StochasticAltMin(**{name: bad}).check()


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"ridge_centre": "zero"}, "set z_step='newton'"),
        ({"z_step": "newton", "local_steps": 2}, "local_steps=1"),
        ({"mu": (1.0, 1.0, 1.0)}, "mu has 3 values, but the network has 2 layers"),
    ],
)
def test_parameters_that_do_not_go_together(options, cure):
    def validate(solver):
        solver.check()
        solver.validate(make_problem().problem)

    with pytest.raises(InputError, match=cure):
        validate(StochasticAltMin(**options))


@pytest.mark.parametrize("variant", VARIANTS)
def test_overflow_is_a_divergence_that_names_the_cure(variant):
    case = make_problem(n=24, hidden=(5,), activation="relu", dtype="float32")
    case.weights = tuple(w * np.float32(1e30) for w in case.weights)
    solver = StochasticAltMin(**(PLAIN | VARIANTS[variant]))
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"damping|overflowed"):
        one_step(solver, case)


def test_solvers_are_found_by_name():
    assert isinstance(get_solver("altmin"), StochasticAltMin)
    given = StochasticAltMin(damping=2)
    assert get_solver(given) is given
    for bad in ("sgdd", None, StochasticAltMin):
        with pytest.raises(InputError, match="parameter solver must be one of 'altmin'"):
            get_solver(bad)
    descents = {"gd", "sgd", "adagrad", "rmsprop", "adadelta", "adam", "cg", "lbfgs", "newton"}
    assert set(SOLVERS) == {"altmin", "batch-altmin", "admm"} | descents


def test_parameters_can_be_read_and_set():
    solver = StochasticAltMin().set_params(damping=7, mu=(1, 2))
    assert solver.get_params()["damping"] == 7
    assert type(solver)(**solver.get_params()).get_params() == solver.get_params()


@pytest.mark.parametrize(
    ("steps", "every"), [(None, 3), (40, 3), (319, 3), (320, 4), (799, 9), (100_000, 10)]
)
def test_gram_matrices_are_renewed_at_shares_of_the_steps(steps, every):
    case, solver = make_problem(), StochasticAltMin()
    state = solver.start(case.problem, case.weights, Budget(steps, 10**6, 10**6, 30.0))
    renewed = []
    for n in range(60):
        statistics = map_rows(solver, case.problem, state, case.rows)
        renewed += [n] * (statistics.curvatures[0] is not None)
        assert (statistics.grams[1] is not None) == (statistics.curvatures[0] is not None)
        state = solver.update(case.problem, state, statistics)
    assert renewed == [n for n in range(60) if n < 10 or n % every == 0]


def test_a_call_without_an_end_leaves_the_mean_of_a_fit():
    """And starts from it; another fit with an end, or a call after a call, goes on."""
    case, solver = make_problem(), StochasticAltMin()
    state = solver.start(case.problem, case.weights, Budget(40, 4, 4, 30.0))
    for _ in range(40):
        statistics = map_rows(solver, case.problem, state, case.rows)
        state = solver.update(case.problem, state, statistics)
    endless = Budget(None, None, 4, 30.0)
    called = solver.continued(state, endless)
    assert called.weights is called.point is state.weights
    assert called.begun == 0  # what came before counts as a hundred steps, or as many as there are
    assert not np.any(called.motion.velocity[0])
    new = solver.update(case.problem, called, map_rows(solver, case.problem, called, case.rows))
    share = 1 / (solver.window * 41)
    for mean, old, point in zip(new.weights, state.weights, new.point, strict=True):
        np.testing.assert_allclose(mean, (1 - share) * old + share * point, rtol=1e-12)
    assert solver.continued(new, endless).begun == 0
    late = state._replace(step=700)
    assert solver.continued(late, endless).begun == 600
    assert solver.continued(state, Budget(80, 4, 4, 30.0)).point is state.point

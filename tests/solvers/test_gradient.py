"""Gradient descent and line-search methods: naive loops, known optima, the same bits."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, huber
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, make_classification, make_regression
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge, SGDClassifier
from sklearn.metrics import log_loss

from daskalt import (
    LBFGS,
    ConjugateGradient,
    GradientDescent,
    MLPClassifier,
    MLPRegressor,
    Newton,
    SteepestDescent,
)
from daskalt.compute.statistics import combine
from daskalt.errors import DivergenceWarning, InputError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import LOSSES
from daskalt.network.network import pack, unpack
from daskalt.rules import SGD, Adam, InverseTimeDecay, StepDecay
from daskalt.solvers import SOLVERS
from daskalt.solvers.base import Budget
from tests import naive
from tests.solvers.problems import make_problem, map_rows

PAIRS = sorted(LOSSES)
SEARCHING = {
    "gd": SteepestDescent(),
    "gd-exact": SteepestDescent("exact"),
    "cg": ConjugateGradient(),
    "lbfgs": LBFGS(),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (15 * X[:500]).astype(np.uint8), y[:500]


def patient(kind, hidden=(), **parameters):
    """An estimator that never stops early and keeps the features as they are."""
    return kind(
        hidden,
        scale="none",
        random_state=0,
        **{"tol": 0, "n_iter_no_change": 10_000, "max_iter": 300} | parameters,
    )


# ------------------------------------------------------------------------- naive loops


def naive_gradient(case, weights, rows):
    """The gradient of the mean loss of some rows plus the penalty, by the naive passes."""
    activation, *pair = case.kinds
    total = [np.zeros_like(w) for w in weights]
    share = case.row_weight[rows] / case.row_weight[rows].sum()
    activations = naive.forward(weights, case.x[rows], activation)
    r = np.array(
        [
            naive.residual(*pair, z, case.rows.y[i], h=1e-6)
            for z, i in zip(activations[-1], rows, strict=True)
        ]
    )
    residuals = naive.backward(weights, activations, r, activation)
    for layer, w in enumerate(weights):
        for k in range(len(rows)):
            total[layer] -= share[k] * np.outer(residuals[layer][k], activations[layer][k])
        total[layer][:, :-1] += case.problem.penalty * w[:, :-1]
    return total


@pytest.mark.parametrize("rule", [SGD(0.05, momentum=0.9, nesterov=False), Adam(0.01)], ids=str)
def test_ten_mini_batch_steps_equal_a_naive_loop(rule):
    case = make_problem(hidden=(4, 3), n=20, weighted=True)
    solver = GradientDescent(rule, schedule=InverseTimeDecay(0.5))
    state = solver.start(case.problem, case.weights, Budget(10, 2, 2))
    weights = [w.copy() for w in case.weights]
    memory = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    for step in range(10):
        start = 10 * (step % 2)
        parts = [case.rows.part(start, start + 6), case.rows.part(start + 6, start + 10)]
        statistics = [map_rows(solver, case.problem, state, part) for part in parts]
        state = solver.update(case.problem, state, combine(*statistics))
        rate = rule.learning_rate / (1 + 0.5 * step / 2)
        gradient = naive_gradient(case, weights, np.arange(start, start + 10))
        for layer, g in enumerate(gradient):
            m, s = memory[layer]
            if isinstance(rule, Adam):
                m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
                corrected = m / (1 - 0.9 ** (step + 1))
                size = np.sqrt(s / (1 - 0.999 ** (step + 1)))
                weights[layer] = weights[layer] - rate * corrected / (size + 1e-8)
            else:
                m = 0.9 * m + g
                weights[layer] = weights[layer] - rate * m
            memory[layer] = m, s
    for ours, theirs in zip(state.weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def total_loss(case, weights):
    """The penalised mean loss of all rows."""
    loss = case.problem.network.loss
    phi = case.problem.network.phi
    a = case.x
    for w in weights[:-1]:
        a = np.column_stack([phi.value(a @ w.T), np.ones(len(a))])
    values = loss.value(a @ weights[-1].T, case.rows.y)
    squares = sum(np.sum(w[:, :-1] ** 2) for w in weights)
    return case.row_weight @ values / case.row_weight.sum() + case.problem.penalty / 2 * squares


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_gradients_equal_finite_differences(pair, activation):
    case = make_problem(pair, activation, hidden=(4, 3), n=9, weighted=True)
    solver = SteepestDescent()
    state = solver.start(case.problem, case.weights, Budget(None, None))
    state = solver.update(case.problem, state, map_rows(solver, case.problem, state, case.rows))
    assert state.value == pytest.approx(total_loss(case, case.weights), rel=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(3):
        along = rng.standard_normal(state.gradient.size)
        up, down = (
            total_loss(case, unpack(pack(case.weights) + sign * along, case.weights))
            for sign in (1e-6, -1e-6)
        )
        slope = (up - down) / 2e-6
        np.testing.assert_allclose(state.gradient @ along, slope, rtol=1e-5, atol=1e-7)


# -------------------------------------------------------------------------- known optima


@pytest.mark.parametrize("solver", [*SEARCHING.values(), Newton()], ids=[*SEARCHING, "newton"])
def test_squared_loss_without_hidden_layers_is_ridge_regression(solver):
    X, y = make_regression(100, 5, n_targets=2, noise=10, random_state=0)
    model = patient(MLPRegressor, solver=clone(solver), alpha=7.0).fit(X, y)
    ridge = Ridge(alpha=7.0).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0].T, ridge.coef_, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(model.intercepts_[0], ridge.intercept_, atol=1e-3)


@pytest.mark.parametrize("solver", ["lbfgs", "cg", "newton"])
@pytest.mark.parametrize("classes", [2, 4])
def test_cross_entropy_without_hidden_layers_is_logistic_regression(solver, classes):
    X, y = make_classification(
        300, 6, n_informative=5, n_redundant=0, n_classes=classes, random_state=0
    )
    model = patient(MLPClassifier, solver=solver, alpha=2.0).fit(X, y)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


def test_newton_takes_few_passes_and_says_that_it_has_converged():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = patient(MLPClassifier, solver="newton", alpha=1.0).fit(X, y)
    assert model.history_[-1]["converged"]
    assert model.n_iter_ < 30
    assert model.history_[-1]["gradient_norm"] < 1e-9


def test_the_hinge_loss_reaches_the_optimum_of_sgd_classifier():
    X, y = make_classification(400, 5, n_informative=4, n_redundant=0, random_state=2)
    alpha = 4.0
    rule = SGD(0.2, momentum=0.0)
    solver = GradientDescent(rule, schedule=InverseTimeDecay(0.02), full_batch=True)
    model = patient(MLPClassifier, solver=solver, loss="hinge", alpha=alpha, max_iter=800)
    model.fit(X, y)
    theirs = SGDClassifier(
        "hinge", alpha=alpha / 400, max_iter=20_000, tol=None, average=True, random_state=0
    ).fit(X, y)

    def objective(w, b):
        margins = np.where(y == 1, 1, -1) * (X @ w + b)
        return np.mean(np.maximum(0, 1 - margins)) + alpha / 800 * w @ w

    ours = objective(model.coefs_[0][:, 0], model.intercepts_[0][0])
    assert ours <= objective(theirs.coef_[0], theirs.intercept_[0]) * (1 + 1e-3)
    assert np.mean(model.predict(X) == theirs.predict(X)) > 0.98
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict_proba(X)


def test_the_absolute_loss_reaches_the_median_regression():
    X, y = make_regression(200, 3, noise=5, random_state=0)
    y[::9] += 300
    solver = GradientDescent(
        SGD(1.0, momentum=0.0), schedule=InverseTimeDecay(0.2), full_batch=True
    )
    model = patient(MLPRegressor, solver=solver, loss="absolute", alpha=0.0, max_iter=500)
    model.fit(X, y)
    theirs = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y)
    ours, best = (np.mean(np.abs(y - m.predict(X))) for m in (model, theirs))
    assert ours <= best * (1 + 1e-4)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_the_huber_loss_reaches_the_optimum_of_scipy(solver):
    X, y = make_regression(200, 3, noise=5, random_state=0)
    y[::9] += 1e4
    model = patient(MLPRegressor, solver=solver, loss="huber", alpha=0.0, max_iter=100).fit(X, y)
    assert model.history_[-1]["converged"]
    low, middle, high = np.quantile(y, [0.25, 0.5, 0.75], method="inverted_cdf")
    scale = (high - low) / (2 * norm.ppf(0.75))
    ones = np.column_stack([X, np.ones(len(X))])

    def objective(w):
        return huber(0.5, ones @ w - (y - middle) / scale).mean()

    best = minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-10})
    theirs = ones @ best.x * scale + middle
    np.testing.assert_allclose(model.predict(X), theirs, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("solver", ["lbfgs", "cg"])
@pytest.mark.parametrize("activation", ["tanh", "logistic", "softplus"])
def test_networks_reach_what_scipy_reaches(solver, activation):
    """From the same weights: no lower value is near where the method says that it has converged.

    How many trials that takes in a flat valley depends on rounding, and so on the processor.
    """
    case = make_problem(activation=activation, hidden=(3,), n=40, penalty=0.02)
    method = SOLVERS[solver]()
    state = method.start(case.problem, case.weights, Budget(None, None))
    for _ in range(20_000):
        state = method.update(case.problem, state, map_rows(method, case.problem, state, case.rows))
        if state.converged:
            break
    assert state.converged
    assert state.value == pytest.approx(total_loss(case, state.weights), rel=1e-12)

    def objective(v):
        return total_loss(case, unpack(v, case.weights))

    polished = minimize(objective, pack(state.weights), method="BFGS", options={"gtol": 1e-7})
    assert state.value <= polished.fun * (1 + 1e-7)
    free = minimize(objective, pack(case.weights), method="BFGS", options={"gtol": 1e-7})
    assert state.value <= free.fun * 1.05  # the loss has several minima


def test_conjugate_gradients_solve_a_quadratic_in_as_many_lines_as_unknowns():
    X, y = make_regression(60, 4, noise=3, random_state=1)
    solver = ConjugateGradient("exact")
    model = patient(MLPRegressor, solver=solver, alpha=1.0, max_iter=40).fit(X, y)
    last = model.history_[-1]
    assert last["converged"]
    assert last["gradient_norm"] < 1e-6 * model.history_[0]["gradient_norm"]
    assert last["lines"] <= 5 + 2  # unknowns; rounding may cost a line


@pytest.mark.parametrize("pair", [("cross_entropy", "softmax"), ("cross_entropy", "logistic")])
@pytest.mark.parametrize("weighted", [False, True])
def test_newtons_hessian_equals_finite_differences(pair, weighted):
    case = make_problem(pair, hidden=(), n=12, weighted=weighted)
    solver = Newton()

    def gradient(v):
        weights = unpack(v, case.weights)
        state = solver.start(case.problem, weights, Budget(None, None))
        return -np.ravel(map_rows(solver, case.problem, state, case.rows).moments[0])

    start = pack(case.weights)
    state = solver.start(case.problem, case.weights, Budget(None, None))
    ours = map_rows(solver, case.problem, state, case.rows).hessian
    for k in range(len(start)):
        along = 1e-6 * np.eye(len(start))[k]
        column = (gradient(start + along) - gradient(start - along)) / 2e-6
        np.testing.assert_allclose(ours[:, k], column, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ same bits


def assert_same_weights(a, b):
    for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(x, y)


def test_chunks_that_divide_the_batches_of_rows_in_order_change_no_bit(digits, store):
    model = MLPClassifier(
        (8,),
        solver=GradientDescent("adam", tasks=1),
        batch_size=128,
        shuffle=False,
        max_iter=3,
        random_state=0,
        tol=0,
    )
    fits = [clone(model).fit(store(*digits, chunk_rows=rows)) for rows in (32, 64, 128)]
    assert_same_weights(fits[0], fits[1])
    assert_same_weights(fits[0], fits[2])


def test_dividing_a_batch_among_tasks_changes_rounding_alone():
    case = make_problem(n=24)
    solver = GradientDescent("adam")
    state = solver.start(case.problem, case.weights, Budget(None, None))
    whole = solver.update(case.problem, state, map_rows(solver, case.problem, state, case.rows))
    total = None
    for start in range(0, 24, 6):
        total = combine(
            total, map_rows(solver, case.problem, state, case.rows.part(start, start + 6))
        )
    split = solver.update(case.problem, state, total)
    for a, b in zip(whole.weights, split.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# ---------------------------------------------------------------------------------- users


def test_partial_fit_makes_a_pass_a_call(digits):
    X, y = digits
    weight = np.where(np.arange(500) % 4 == 0, 0.0, 1.0)
    model = MLPClassifier((16,), solver="adam", random_state=0)
    for _ in range(3):
        model.partial_fit(X, y, classes=np.arange(10), sample_weight=weight)
    assert len(model.history_) == 3
    assert model.solver_state_.step == 6  # two batches of 250 rows a pass


def test_the_schedule_sets_the_rate(digits):
    solver = GradientDescent(SGD(0.2), schedule=StepDecay(2, factor=0.1))
    model = MLPClassifier((8,), solver=solver, max_iter=5, random_state=0, tol=0).fit(*digits)
    rates = [record["learning_rate"] for record in model.history_]
    np.testing.assert_allclose(rates, [0.2, 0.2, 0.02, 0.02, 0.002])


def test_the_best_weights_are_kept_while_a_line_is_searched():
    """Whenever a fit ends, it returns the best weights that any trial has seen."""
    case = make_problem(hidden=(5,), n=30)
    method, best, refused = SteepestDescent("exact"), np.inf, 0
    state = method.start(case.problem, case.weights, Budget(None, None))
    for _ in range(40):
        best = min(best, total_loss(case, state.trial))
        state = method.update(case.problem, state, map_rows(method, case.problem, state, case.rows))
        refused += state.search.trials > 0
        assert total_loss(case, state.weights) == pytest.approx(best, rel=1e-12)
        assert state.value == pytest.approx(best, rel=1e-12)
    assert refused > 5


def test_sources_losses(digits):
    """Squared loss on logistic units with one-hot targets, and their cross-entropy."""
    X, y = digits
    for loss, link in (("squared", "logistic"), ("cross_entropy", "logistic")):
        model = MLPClassifier(
            (16,),
            activation="logistic",
            solver="lbfgs",
            loss=loss,
            output_activation=link,
            max_iter=150,
            random_state=0,
            tol=0,
        ).fit(X, y)
        assert model.score(X, y) > 0.9
        assert model.history_[-1]["accuracy"] == pytest.approx(model.score(X, y), abs=0.05)


@pytest.mark.parametrize(
    ("solver", "named"),
    [
        (GradientDescent("adamm"), "rule"),
        (GradientDescent(schedule="slow"), "schedule"),
        (GradientDescent(tasks=0), "tasks"),
        (GradientDescent(blas_threads=0), "blas_threads"),
        (GradientDescent(Adam(beta_1=1.0)), "beta_1"),
        (SteepestDescent("far"), "line_search"),
        (ConjugateGradient(restart_every=0), "restart_every"),
        (LBFGS(0), "memory"),
    ],
)
def test_wrong_parameters_are_named(digits, solver, named):
    with pytest.raises(InputError, match=named):
        MLPClassifier((4,), solver=solver).fit(*digits)


@pytest.mark.parametrize(
    ("solver", "parameters", "named"),
    [
        ("newton", {"hidden_layer_sizes": (4,)}, "hidden layers"),
        ("newton", {"loss": "squared"}, "convex"),
        ("lbfgs", {"loss": "hinge"}, "kinks"),
        ("cg", {"loss": "hinge"}, "kinks"),
    ],
)
def test_methods_say_what_they_need(digits, solver, parameters, named):
    given = {"hidden_layer_sizes": ()} | parameters
    with pytest.raises(InputError, match=named):
        MLPClassifier(solver=solver, **given).fit(*digits)


def test_newton_refuses_a_hessian_that_no_memory_holds():
    X, y = np.zeros((20, 1500)), np.arange(20) % 10
    X[:, 0] = np.arange(20)
    with pytest.raises(InputError, match=r"15010 rows and columns, .* GB"):
        MLPClassifier((), solver="newton").fit(X, y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::daskalt.errors.RefusalWarning")
def test_rates_that_are_too_high_end_a_fit_with_a_warning_that_says_so():
    X, y = make_regression(200, 5, random_state=0)
    solver = GradientDescent(SGD(1e6))
    model = MLPRegressor((8,), solver=solver, max_iter=50, random_state=0)
    with pytest.warns(DivergenceWarning, match="lower the learning rate"):
        model.fit(X, y)
    assert model.n_iter_ < 50
    # The only pass with a loss to speak of scored the weights that it started from.
    error = np.mean((model.predict(X) - y) ** 2) / np.var(y) / 2
    assert error == pytest.approx(model.loss_curve_[0])


def test_blas_threads_inside_a_task(digits):
    """They change rounding at most."""
    X, y = digits
    one, two = (
        MLPClassifier(
            (64,),
            solver=GradientDescent("adam", blas_threads=n),
            max_iter=2,
            random_state=0,
            tol=0,
        ).fit(X.astype(np.float64), y)
        for n in (1, 2)
    )
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_probabilities_of_a_logistic_fit():
    X, y = make_classification(200, 4, random_state=0)
    model = patient(MLPClassifier, solver="newton", alpha=1.0).fit(X, y)
    z = X @ model.coefs_[0][:, 0] + model.intercepts_[0][0]
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expit(z), rtol=1e-12)


def test_warm_start_continues(digits):
    X, y = digits
    model = MLPClassifier((16,), solver="lbfgs", warm_start=True, max_iter=10, random_state=0)
    reached = log_loss(y, model.fit(X, y).predict_proba(X))
    assert model.fit(X, y).loss_curve_[0] == pytest.approx(reached, rel=1e-4)

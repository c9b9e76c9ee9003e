"""ADMM: every update against a slow minimisation, and a report of its divergence."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.datasets import load_digits

from daskalt import ADMM, MLPClassifier
from daskalt.errors import DivergenceError, DivergenceWarning
from daskalt.functions.activations import ACTIVATIONS
from daskalt.kernels.admm import fit_pre_activations
from daskalt.solvers.base import Budget
from tests import naive
from tests.solvers.problems import make_problem, map_rows


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.uint8), y[:600]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("gamma", "beta"), [(10.0, 1.0), (0.2, 3.0)])
def test_pre_activations_are_the_global_minimum_of_each_entry(activation, gamma, beta):
    rng = np.random.default_rng(0)
    a, m = 1.5 * rng.standard_normal((2, 6, 5))
    z = fit_pre_activations(a, m, gamma, beta, ACTIVATIONS[activation])
    phi = naive.ACTIVATIONS[activation][0]
    for index in np.ndindex(*a.shape):

        def objective(v, index=index):
            return gamma * (a[index] - phi(v)) ** 2 + beta * (v - m[index]) ** 2

        grid = np.linspace(-12, 12, 241)
        start = grid[np.argmin([objective(v) for v in grid])]
        best = minimize_scalar(objective, bounds=(start - 0.2, start + 0.2), method="bounded")
        assert objective(z[index]) <= best.fun + 1e-6 * (1 + abs(best.fun))


@pytest.mark.parametrize("hidden", [(5,), (3, 6)], ids=str)  # narrow below, and narrow above
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_iteration_is_the_formulas_of_the_paper(hidden, activation):
    case = make_problem(activation=activation, hidden=hidden, n=7, penalty=0.0)
    solver = ADMM(beta=0.7, gamma=4.0, warm_up=0)
    state = solver.start(case.problem, case.weights, Budget(3, 1))
    step = map_rows(solver, case.problem, state, case.rows)
    phi = naive.ACTIVATIONS[activation][0]
    W = case.weights
    z, below = [], case.x
    for w in W:
        z.append(below @ w.T)
        below = np.column_stack([naive.each(phi, z[-1]), np.ones(7)])
    below, inputs = case.x, [case.x]
    for layer in range(len(W) - 1):
        v, b = W[layer + 1][:, :-1], W[layer + 1][:, -1]
        system = 0.7 * v.T @ v + 4.0 * np.eye(v.shape[1])
        right = 0.7 * (z[layer + 1] - b) @ v + 4.0 * naive.each(phi, z[layer])
        a = np.linalg.solve(system, right.T).T
        m = below @ W[layer].T
        z[layer] = fit_pre_activations(a, m, 4.0, 0.7, ACTIVATIONS[activation])
        below = np.column_stack([a, np.ones(7)])
        inputs.append(below)
    m = below @ W[-1].T
    for i in range(7):
        best = minimize(
            lambda v, i=i: naive.output_objective(v, m[i], case.rows.y[i], 0.7, *case.kinds[1:]),
            m[i],
            options={"gtol": 1e-8},
        )
        z[-1][i] = best.x
    for total, gram, own, ã, w in zip(step.moments, step.grams, z, inputs, W, strict=True):
        np.testing.assert_allclose(total, (own - ã @ w.T).T @ ã, atol=1e-4)
        np.testing.assert_allclose(gram, ã.T @ ã, atol=1e-9)
    assert step.dual == pytest.approx(0.49 * np.sum((z[-1] - m) ** 2), rel=1e-4)


def test_the_multiplier_is_zero_during_the_warm_up(digits):
    model = MLPClassifier((16,), solver=ADMM(warm_up=3), max_iter=5, random_state=0, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        model.fit(*digits)
    dual = [entry["dual"] for entry in model.history_]
    assert dual[:3] == [0, 0, 0]
    assert all(value > 0 for value in dual[3:])


def test_a_fit_that_diverges_ends_with_its_best_weights(digits, monkeypatch):
    update = ADMM.update

    def spoiling(self, problem, state, statistics):
        state = update(self, problem, state, statistics)
        if state.step == 4:
            state = state._replace(weights=tuple(50 * w for w in state.weights))
        return state

    monkeypatch.setattr(ADMM, "update", spoiling)
    model = MLPClassifier((16,), solver=ADMM(), max_iter=9, random_state=0, tol=0)
    with pytest.warns(DivergenceWarning, match="forward loss rose from"):
        model.fit(*digits)
    losses = model.loss_curve_
    assert len(losses) < 9
    best = int(np.argmin(losses))
    monkeypatch.setattr(ADMM, "update", update)
    same = MLPClassifier((16,), solver=ADMM(), max_iter=max(best, 1), random_state=0, tol=0)
    if best:
        for a, b in zip(model.coefs_, same.fit(*digits).coefs_, strict=True):
            np.testing.assert_array_equal(a, b)


def test_numbers_that_overflow_end_it_too(digits, monkeypatch):
    update = ADMM.update

    def failing(self, problem, state, statistics):
        if state.step == 2:
            raise DivergenceError("ADMM's numbers are not finite at iteration 3: ...")
        return update(self, problem, state, statistics)

    monkeypatch.setattr(ADMM, "update", failing)
    model = MLPClassifier((16,), solver=ADMM(), max_iter=9, random_state=0, tol=0)
    with pytest.warns(DivergenceWarning, match="not finite at iteration 3"):
        model.fit(*digits)
    assert model.n_iter_ == 2

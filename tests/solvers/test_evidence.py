"""The weight decay by evidence, held to dense linear algebra and to scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.linear_model import BayesianRidge

from daskalt.solvers.altmin import StochasticAltMin
from daskalt.solvers.base import Budget
from daskalt.solvers.evidence import evidence
from tests.solvers.problems import known_gram, make_problem, map_rows


def with_ones(a):
    return np.column_stack([a, np.ones(len(a))])


def naive_alpha(hessian, squares, penalised):
    """Where α ‖W‖² is the number of weights that the data determine, by dense inverses."""

    def excess(log_alpha):
        alpha = np.exp(log_alpha)
        covariance = np.linalg.inv(hessian + alpha * np.diag(penalised.astype(float)))
        determined = penalised.sum() - alpha * np.diag(covariance)[penalised].sum()
        return alpha * squares - determined

    return float(np.exp(brentq(excess, -40, 40, xtol=1e-12)))


def test_evidence_is_bayesian_ridges():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 8)) @ np.diag(np.linspace(0.1, 1, 8)) + 3
    y = X @ rng.standard_normal(8) + 2 + 1.5 * rng.standard_normal(60)
    nothing = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    found = BayesianRidge(**nothing, tol=1e-14, max_iter=100_000).fit(X, y)
    w, noise = np.append(found.coef_, found.intercept_)[None], 1 / found.alpha_
    inputs = known_gram(with_ones(X).T @ with_ones(X) / 60, bias=True)
    residuals = known_gram(np.array([[noise]]), bias=False)
    (penalty,) = evidence((w,), (inputs,), (residuals,), (1,), 60, noise)
    assert penalty == pytest.approx(found.lambda_ / found.alpha_ / 60, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("noise", [1.0, 0.2])
def test_evidence_is_that_of_the_dense_hessian(scale, noise):
    """Of weights that the data determine hardly, in part, and fully."""
    rng = np.random.default_rng(0)
    a = with_ones(scale * (rng.standard_normal((40, 4)) + 1))
    r = rng.standard_normal((40, 3)) * [0.1, 0.5, 1]
    w, gram, curvature = rng.standard_normal((3, 5)), a.T @ a / 40, r.T @ r / 40
    hessian = 40 / noise**2 * np.kron(curvature, gram)
    penalised = np.tile(np.arange(5) < 4, 3)
    expected = naive_alpha(hessian, (w[:, :-1] ** 2).sum(), penalised) * noise / 40
    inputs, residuals = known_gram(gram, bias=True), known_gram(curvature, bias=False)
    found = evidence((w,), (inputs,), (residuals,), (1,), 40, noise)
    assert found == pytest.approx((expected,), rel=1e-5)


def test_evidence_of_a_low_rank_is_that_of_its_dense_form():
    """In which the bias has the penalty, too, but no part in what is counted."""
    rng = np.random.default_rng(0)
    a = with_ones(rng.standard_normal((70, 20)) @ np.diag(1 / np.arange(1, 21)) + 0.3)
    w, gram, curvature = rng.standard_normal((2, 21)), a.T @ a / 70, np.diag([0.3, 0.1])
    inputs, residuals = known_gram(gram, rank=3, bias=True), known_gram(curvature, bias=False)
    rest = np.eye(21) - inputs.basis @ inputs.basis.T
    dense = inputs.basis @ np.diag(inputs.values) @ inputs.basis.T + inputs.tail * rest
    np.testing.assert_allclose(np.linalg.eigvalsh(dense)[-3:], np.linalg.eigvalsh(gram)[-3:], 1e-3)
    hessian, counted = 70 * np.kron(curvature, dense), np.tile(np.arange(21) < 20, 2)

    def excess(log_alpha):
        alpha = np.exp(log_alpha)
        shares = np.diag(hessian @ np.linalg.inv(hessian + alpha * np.eye(42)))
        return alpha * (w[:, :-1] ** 2).sum() - shares[counted].sum()

    expected = np.exp(brentq(excess, -40, 40, xtol=1e-12)) / 70
    found = evidence((w,), (inputs,), (residuals,), (1,), 70, 1.0)
    assert found == pytest.approx((expected,), rel=1e-5)


def test_directions_that_are_zero_but_for_rounding_count_for_nothing():
    rng = np.random.default_rng(0)
    narrow = rng.standard_normal((30, 3))
    wide = narrow @ np.linalg.qr(rng.standard_normal((12, 3)))[0].T  # the same, among nine zeros
    w = rng.standard_normal((2, 4))
    weights = (np.column_stack([w[:, :3], np.zeros((2, 9)), w[:, 3]]), w)
    found = [
        evidence(
            (own,),
            (known_gram(with_ones(a).T @ with_ones(a) / 30, bias=True),),
            (known_gram(np.eye(2), bias=False),),
            (1,),
            30,
            1.0,
        )
        for own, a in zip(weights, (wide, narrow), strict=True)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_weights_of_zero_have_no_evidence():
    given = (known_gram(np.eye(4), bias=True),), (known_gram(np.eye(2), bias=False),)
    assert evidence((np.zeros((2, 4)),), *given, (1,), 30, 1.0) == (0.0,)


@pytest.mark.parametrize("uses", [1, 2, 5])
def test_layers_that_share_a_matrix_sum_their_curvatures(uses):
    """Their A and C are sums over the layers, so the curvature is not theirs times each other's."""
    rng = np.random.default_rng(0)
    a, r = with_ones(rng.standard_normal((40, 4))), rng.standard_normal((40, 3))
    w, gram, curvature = rng.standard_normal((3, 5)), a.T @ a / 40, r.T @ r / 40
    hessian = uses * 40 * np.kron(curvature, gram)
    expected = naive_alpha(hessian, (w[:, :-1] ** 2).sum(), np.tile(np.arange(5) < 4, 3)) / 40
    inputs, residuals = (
        known_gram(uses * gram, bias=True),
        known_gram(uses * curvature, bias=False),
    )
    found = evidence((w,), (inputs,), (residuals,), (uses,), 40, 1.0)
    assert found == pytest.approx((expected,), rel=1e-5)


def test_every_matrix_has_its_own():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((2, n)) for n in (5, 7)]
    inputs = [known_gram(np.diag(rng.uniform(1, 3, n)), bias=True) for n in (5, 7)]
    residuals = [known_gram(np.diag(rng.uniform(1, 3, 2)), bias=False) for _ in range(2)]
    both = evidence(tuple(weights), inputs, residuals, (1, 2), 40, 0.5)
    each = [
        evidence((w,), (a,), (c,), (uses,), 40, 0.5)
        for w, a, c, uses in zip(weights, inputs, residuals, (1, 2), strict=True)
    ]
    assert both == (*each[0], *each[1])


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_linear_fit_settles_where_mackays_loop_does(share):
    """No hidden layer and one output, where C ⊗ A is the curvature itself."""
    case = make_problem(
        ("squared", "identity"), features=6, hidden=(), outputs=1, n=40, penalty=0.0
    )
    rng = np.random.default_rng(1)
    y = case.rows.X @ [1.0, -0.5, 0.2, 0, 0, 0.1] + 0.7 * rng.standard_normal(40) + 1
    case.rows = case.rows._replace(y=y[:, None])
    solver = StochasticAltMin(
        damping=1.0,
        step_limit=1.0,
        change_limit=1e6,
        momentum=0.0,
        schedule="constant",
        gram_memory=0.0,
        gram_every=1,
        z_step="shared",
        window=0.0,
        evidence=share,
    )
    state = solver.start(case.problem, case.weights, Budget(10_000, None, None, 40.0))
    for _ in range(1200):
        statistics = map_rows(solver, case.problem, state, case.rows)
        state = solver.update(case.problem, state, statistics)

    a, penalised, penalty = case.x, np.arange(7) < 6, 0.0
    for _ in range(200):
        w = np.linalg.solve(a.T @ a / 40 + penalty * np.diag(penalised.astype(float)), a.T @ y / 40)
        noise = np.mean((y - a @ w) ** 2)
        alpha = naive_alpha(a.T @ a / noise, (w[:-1] ** 2).sum(), penalised)
        penalty = share * alpha * noise / 40
    assert state.decay == pytest.approx((penalty,), rel=1e-5)
    np.testing.assert_allclose(state.weights[0][0], w, rtol=1e-5, atol=1e-7)

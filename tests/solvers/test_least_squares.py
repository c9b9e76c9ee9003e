"""Solves with Gram matrices, held to dense solves and to scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from daskalt.errors import DivergenceError
from daskalt.solvers.least_squares import damp, ridge_solve

RTOL = {"float32": 2e-4, "float64": 1e-9}


def gram_of(rows, columns, dtype="float64"):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, columns))
    return (a.T @ a / rows).astype(dtype)


def dense_solve(b, gram, damping, *, bias=True):
    ridge = damping * np.mean(np.diag(gram)[: -1 if bias else None])
    return np.linalg.solve((gram + ridge * np.eye(len(gram))).T, b.T).T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("damping", [1e-2, 1.0, 30.0])
def test_damped_solve_is_the_dense_one(dtype, damping):
    gram = gram_of(60, 12, dtype)
    before = gram.copy()
    b = np.random.default_rng(1).standard_normal((5, 12)).astype(dtype)
    x = damp(gram, damping).solve(b)
    expected = dense_solve(b.astype(float), gram.astype(float), damping)
    np.testing.assert_allclose(x, expected, rtol=RTOL[dtype], atol=RTOL[dtype])
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(gram, before)


def test_a_ridge_adds_to_the_damping_in_the_units_of_the_gram_matrix():
    gram, b = gram_of(60, 12), np.random.default_rng(1).standard_normal((5, 12))
    ridge = 0.2 * np.mean(np.diag(gram)[:-1]) + 0.7
    expected = np.linalg.solve(gram + ridge * np.eye(12), b.T).T
    np.testing.assert_allclose(damp(gram, 0.2, ridge=0.7).solve(b), expected, rtol=1e-9)


def test_a_solve_writes_to_the_given_array():
    gram = gram_of(300, 50)
    b = np.random.default_rng(1).standard_normal((4, 50))
    kept, out = b.copy(), np.empty_like(b)
    solved = damp(gram, 1.0)
    expected = solved.solve(b)
    x = solved.solve(b, out=out)
    assert x is out
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(b, kept)


def test_dead_inputs_are_solvable():
    b = np.ones((2, 3), np.float32)
    assert np.isfinite(damp(np.zeros((3, 3), np.float32), 1.0).solve(b)).all()
    assert np.isfinite(ridge_solve(b, np.zeros((3, 3), np.float32), 0.0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_overflowed_gram_matrix_is_a_divergence(bad):
    gram = np.eye(20)
    gram[3, 3] = bad
    with pytest.raises(DivergenceError, match="overflowed"):
        damp(gram, 1.0)
    with pytest.raises(DivergenceError, match="overflowed"):
        ridge_solve(np.ones((1, 20)), gram, 0.0)


def test_an_indefinite_gram_matrix_is_a_divergence():
    gram = np.diag([1.0, 1.0, -3.0, 2.0])
    with pytest.raises(DivergenceError, match="raise the solver's damping"):
        damp(gram, 1e-3)
    with pytest.raises(DivergenceError, match="not positive definite"):
        ridge_solve(np.ones((1, 4)), gram, 0.0)


@pytest.mark.parametrize("ridge", [1e-6, 0.5, 100.0])
def test_ridge_solve_is_scikit_learns_ridge(ridge):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 6))
    z = rng.standard_normal((40, 3))
    expected = Ridge(alpha=ridge, fit_intercept=False).fit(a, z).coef_
    np.testing.assert_allclose(ridge_solve(z.T @ a, a.T @ a, ridge), expected, rtol=1e-8)


def test_ridge_solve_without_a_ridge_survives_equal_columns():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 3))
    a = np.column_stack([a, a[:, 0]])
    z = rng.standard_normal((40, 2))
    w = ridge_solve(z.T @ a, a.T @ a, 0.0)
    best = np.linalg.lstsq(a, z, rcond=None)[0]
    np.testing.assert_allclose(a @ w.T, a @ best, atol=1e-6)

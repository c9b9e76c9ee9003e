"""Solves with Gram matrices, exact and low-rank, held to dense solves and to scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from daskalt.errors import DivergenceError
from daskalt.solvers.least_squares import damp, ridge_solve

RTOL = {"float32": 2e-4, "float64": 1e-9}


def gram_of(rows, columns, dtype="float64", seed=0, spectrum=None):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, columns))
    if spectrum is not None:
        a = a @ np.diag(spectrum)
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


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 6),
    extra=st.integers(0, 3),
    damping=st.floats(1e-2, 10),
    seed=st.integers(0, 99),
)
def test_low_rank_is_exact_where_the_rank_suffices(rank, extra, damping, seed):
    rng = np.random.default_rng(seed)
    size = 4 * (rank + extra) + 1 + seed % 5
    factor = rng.standard_normal((rank, size))
    gram = factor.T @ factor
    b = rng.standard_normal((3, size))
    approximate = damp(gram, damping, rank + extra)
    assert approximate.basis is not None
    assert approximate.basis.shape == (size, rank + extra)
    np.testing.assert_allclose(
        approximate.solve(b), dense_solve(b, gram, damping), rtol=1e-6, atol=1e-8
    )


def test_a_flat_tail_is_exact_too():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    gram = q @ np.diag([900.0, 500, 300, *[0.5] * 37]) @ q.T
    b = rng.standard_normal((2, 40))
    solved = damp(gram, 0.1, 3)
    assert solved.tail == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_allclose(solved.solve(b), dense_solve(b, gram, 0.1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [None, 5, 7])
def test_a_solve_from_the_left_is_the_dense_one(rank, bias):
    """Of five directions and a flat rest: exact, by a basis that just suffices, and by a wider."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    gram = q @ np.diag([90.0, 50, 30, 20, 10, *[0.0] * 25]) @ q.T
    b = rng.standard_normal((30, 4))
    ridge = 0.1 * np.mean(np.diag(gram)[: -1 if bias else None])
    expected = np.linalg.solve(gram + ridge * np.eye(30), b)
    solved = damp(gram, 0.1, rank, bias=bias)
    assert (solved.basis is None) == (rank is None)
    np.testing.assert_allclose(solved.solve_left(b), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(solved.solve(b.T), expected.T, rtol=1e-6, atol=1e-8)


def test_a_ridge_adds_to_the_damping_in_the_units_of_the_gram_matrix():
    gram, b = gram_of(60, 12), np.random.default_rng(1).standard_normal((5, 12))
    ridge = 0.2 * np.mean(np.diag(gram)[:-1]) + 0.7
    expected = np.linalg.solve(gram + ridge * np.eye(12), b.T).T
    np.testing.assert_allclose(damp(gram, 0.2, ridge=0.7).solve(b), expected, rtol=1e-9)


def test_a_spectrum_is_numpys():
    gram = gram_of(60, 12)
    values, times = damp(gram, 1.0, bias=False).spectrum(gram, bias=False)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(gram), rtol=1e-10)
    np.testing.assert_array_equal(times, 1)


def test_a_spectrum_without_the_bias_is_that_of_the_covariance():
    a = np.random.default_rng(0).standard_normal((60, 5)) + 2
    gram = np.column_stack([a, np.ones(60)]).T @ np.column_stack([a, np.ones(60)]) / 60
    values, times = damp(gram, 1.0).spectrum(gram, bias=True)
    expected = np.linalg.eigvalsh(np.cov(a, rowvar=False, bias=True))
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_array_equal(times, 1)


def test_a_low_rank_spectrum_has_the_leading_eigenvalues_and_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    gram = q @ np.diag([900.0, 500, 300, *[0.5] * 37]) @ q.T
    damped = damp(gram, 0.1, 3, bias=False)
    values, times = damped.spectrum(gram, bias=False)
    order = np.argsort(values)
    np.testing.assert_allclose(values[order], [0.5, 300, 500, 900], rtol=1e-6)
    np.testing.assert_allclose(times[order], [37, 1, 1, 1])
    _, times = damped.spectrum(gram, bias=True)
    np.testing.assert_allclose(times[order][::-1][:3], 1 - q[-1, :3] ** 2, rtol=1e-6)
    assert times.sum() == pytest.approx(39)


def test_an_earlier_basis_is_refined():
    gram = gram_of(400, 50, spectrum=1.0 / np.arange(1, 51))
    leading = np.linalg.eigvalsh(gram)[:-6:-1]
    solved = damp(gram, 1.0, 5)
    errors = []
    for _ in range(5):
        errors.append(np.abs(np.sort(solved.eigenvalues)[::-1] - leading).max())
        solved = damp(gram, 1.0, 5, solved.basis)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * leading[0]


def test_a_solve_writes_to_the_given_array():
    gram = gram_of(300, 50)
    b = np.random.default_rng(1).standard_normal((4, 50))
    kept, out = b.copy(), np.empty_like(b)
    solved = damp(gram, 1.0, 5)
    expected = solved.solve(b)
    x = solved.solve(b, out=out)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(b, kept)


def test_the_low_rank_of_equal_inputs_has_equal_bits():
    gram = gram_of(300, 50, "float32")
    a, b = damp(gram, 1.0, 5), damp(gram, 1.0, 5)
    np.testing.assert_array_equal(a.basis, b.basis)
    assert a.tail == b.tail


def test_dead_inputs_are_solvable():
    b = np.ones((2, 3), np.float32)
    assert np.isfinite(damp(np.zeros((3, 3), np.float32), 1.0).solve(b)).all()
    assert np.isfinite(ridge_solve(b, np.zeros((3, 3), np.float32), 0.0)).all()


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_overflowed_gram_matrix_is_a_divergence(bad, rank):
    gram = np.eye(20)
    gram[3, 3] = bad
    with pytest.raises(DivergenceError, match="overflowed"):
        damp(gram, 1.0, rank)


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

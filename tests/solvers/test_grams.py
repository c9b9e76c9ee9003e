"""Running means of Gram matrices, whole and of low rank, held to dense linear algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.errors import DivergenceError
from daskalt.kernels.gram import Sketch, sketch
from daskalt.solvers.grams import NARROW, ExactGram, LowRankGram, unknown
from tests.solvers.problems import FEW, FLAT, KINDS, known_gram, shown, turned


def mean_diagonal(matrix, bias):
    return np.mean(np.diag(matrix)[: -1 if bias else None])


def dense_solve(b, matrix, damping, *, bias):
    ridge = damping * mean_diagonal(matrix, bias)
    return np.linalg.solve((matrix + ridge * np.eye(len(matrix))).T, b.T).T


def solved(gram, b):
    kept, out = b.copy(), np.full_like(b, np.nan)
    gram.solve(b, out)
    np.testing.assert_array_equal(b, kept)
    return out


def solved_left(gram, b):
    kept, out = b.copy(), np.full_like(b, np.nan)
    gram.solve_left(b, gram.seen_left(b, slice(None)), slice(None), out)
    np.testing.assert_array_equal(b, kept)
    return out


# ------------------------------------------------------------------------------- solves


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
    matrix, b = factor.T @ factor, rng.standard_normal((3, size))
    gram = known_gram(matrix, rank + extra, bias=True, damping=damping)
    assert gram.basis.shape == (size, rank + extra)
    expected = dense_solve(b, matrix, damping, bias=True)
    np.testing.assert_allclose(solved(gram, b), expected, rtol=1e-6, atol=1e-8)


def test_a_flat_tail_is_exact_too():
    matrix, _ = turned(900.0, 500, 300, *[0.5] * 37)
    b = np.random.default_rng(0).standard_normal((2, 40))
    gram = known_gram(matrix, 3, bias=True, damping=0.1)
    assert gram.tail == pytest.approx(0.5, rel=1e-6)
    expected = dense_solve(b, matrix, 0.1, bias=True)
    np.testing.assert_allclose(solved(gram, b), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("spectrum", "rank"),
    [(FEW, None), (FEW, 5), (FEW, 7), (FLAT, None), (FLAT, 5)],
    ids=["exact", "low rank", "wider", "flat exact", "flat low rank"],
)
def test_solves_from_both_sides_are_the_dense_ones(spectrum, rank, bias):
    """Of five directions and a flat rest: exact, by a basis that just suffices, and by a wider."""
    matrix, _ = turned(*spectrum)
    b = np.random.default_rng(1).standard_normal((30, 4))
    renewals = 16  # to turn five directions, of which the least is 33 times the rest
    gram = known_gram(matrix, rank, bias=bias, damping=0.1, renewals=renewals)
    assert isinstance(gram, ExactGram if rank is None else LowRankGram)
    units = mean_diagonal(matrix, bias)
    assert gram.mean_diagonal == pytest.approx(units)
    assert gram.damping == pytest.approx(0.1 * units)
    expected = np.linalg.solve(matrix + 0.1 * units * np.eye(30), b)
    np.testing.assert_allclose(solved(gram, b.T.copy()), expected.T, rtol=1e-6, atol=1e-8)
    # From the left in units of the mean diagonal, damped.
    expected *= units + 0.1 * units
    np.testing.assert_allclose(solved_left(gram, b), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rank", [None, 2, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e12])
def test_a_matrix_without_a_direction_changes_nothing_from_the_left(rank, scale):
    gram = known_gram(scale * np.eye(30), rank, bias=False, damping=0.3)
    b = np.random.default_rng(0).standard_normal((30, 4))
    np.testing.assert_allclose(solved_left(gram, b), b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 16, 30, 64])
def test_solves_by_strips_are_those_of_the_whole(kind, dtype, size):
    matrix, _ = turned(*FLAT)
    rng = np.random.default_rng(1)
    gram = known_gram(matrix.astype(dtype), KINDS[kind], bias=False)
    b, c = rng.standard_normal((33, 30)).astype(dtype), rng.standard_normal((30, 9)).astype(dtype)
    right, left = np.full_like(b, np.nan), np.full_like(c, np.nan)
    for start in range(0, 33, size):
        rows = slice(start, min(start + size, 33))
        gram.solve(b[rows], right[rows])
    if KINDS[kind] is not None:  # both sides of a low rank can be divided
        parts = [slice(start, min(start + size, 30)) for start in range(0, 30, size)]
        across = np.full_like(b, np.nan)
        seen = sum(gram.seen_right(b[:, part], part) for part in parts)
        for part in parts:
            gram.solve_right(b[:, part], seen, part, across[:, part])
        np.testing.assert_allclose(across, solved(gram, b), rtol=0, atol=1e-4)
        seen = sum(gram.seen_left(c[part], part) for part in parts)
        for part in parts:
            gram.solve_left(c[part], seen, part, left[part])
    else:  # from the left, an exact one divides the other side
        for start in range(0, 9, size):
            part = slice(start, start + size)
            gram.solve_left(c[:, part], None, slice(None), left[:, part])
    close = {"rtol": 0, "atol": 1e-12 if dtype == "float64" else 2e-5}
    np.testing.assert_allclose(right, solved(gram, b), **close)
    np.testing.assert_allclose(left, solved_left(gram, c), **close)
    assert right.dtype == left.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_inputs_give_equal_bits(kind, dtype):
    matrix = turned(*FLAT)[0].astype(dtype)
    b = np.random.default_rng(1).standard_normal((4, 30)).astype(dtype)
    first, second = (solved(known_gram(matrix.copy(), KINDS[kind], bias=True), b) for _ in range(2))
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, second)


# ------------------------------------------------------------------------------ spectra


def test_a_spectrum_is_numpys():
    a = np.random.default_rng(0).standard_normal((60, 12))
    matrix = a.T @ a / 60
    values, times = known_gram(matrix, bias=False).spectrum()
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-10)
    np.testing.assert_array_equal(times, 1)


def test_a_spectrum_without_the_bias_is_that_of_the_covariance():
    a = np.random.default_rng(0).standard_normal((60, 5)) + 2
    extended = np.column_stack([a, np.ones(60)])
    values, times = known_gram(extended.T @ extended / 60, bias=True).spectrum()
    expected = np.linalg.eigvalsh(np.cov(a, rowvar=False, bias=True))
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_array_equal(times, 1)


def test_a_low_rank_spectrum_has_the_leading_eigenvalues_and_the_mean_of_the_others():
    matrix, q = turned(900.0, 500, 300, *[0.5] * 37)
    values, times = known_gram(matrix, 3, bias=False).spectrum()
    order = np.argsort(values)
    np.testing.assert_allclose(values[order], [0.5, 300, 500, 900], rtol=1e-6)
    np.testing.assert_allclose(times[order], [37, 1, 1, 1])
    values, times = known_gram(matrix, 3, bias=True).spectrum()
    np.testing.assert_allclose(values[order], [0.5, 300, 500, 900], rtol=1e-6)
    np.testing.assert_allclose(times[order][::-1][:3], 1 - q[-1, :3] ** 2, rtol=1e-6)
    assert times.sum() == pytest.approx(39)


# ----------------------------------------------------------------------------- renewals


@pytest.mark.parametrize("bias", [True, False])
def test_an_exact_mean_is_the_running_one(bias):
    rng = np.random.default_rng(0)
    gram, mean = unknown(6, None, np.dtype(float), bias=bias), 0.0
    assert not gram.known
    for keep, weight in ((0.7, 20.0), (0.5, 3.0), (0.9, 8.0)):
        a = rng.standard_normal((20, 6))
        share = keep if gram.known else 0.0
        mean = share * mean + (1 - share) * (a.T @ a) / weight
        gram = gram.renewed(a.T @ a, keep, weight).damped(2.0)
        assert gram.known
        np.testing.assert_allclose(gram.mean, mean, rtol=1e-12)
        assert gram.damping == pytest.approx(2 * mean_diagonal(mean, bias))


@pytest.mark.parametrize("bias", [True, False])
def test_a_low_rank_mean_has_the_trace_of_the_running_one(bias):
    """And the matrix itself, where all of its rows are of the same few directions."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((3, 40))
    gram, mean = unknown(40, 3, np.dtype(float), bias=bias), 0.0
    for keep, weight in ((0.7, 20.0), (0.5, 3.0), (0.9, 8.0), (0.6, 5.0)):
        a = rng.standard_normal((20, 3)) @ directions
        share = keep if gram.known else 0.0
        mean = share * mean + (1 - share) * (a.T @ a) / weight
        gram = gram.renewed(sketch([a], gram.sought), keep, weight).damped(2.0)
        assert gram.known
        assert gram.rest + gram.last == pytest.approx(np.trace(mean))
        assert gram.last == pytest.approx(mean[-1, -1])
        assert gram.damping == pytest.approx(2 * mean_diagonal(mean, bias))
        values = np.linalg.eigvalsh(mean)[-3:]
        # In the first, the directions are random, and a shift against rounding is seen.
        rtol = 1e-3 if share == 0 else 1e-6
        np.testing.assert_allclose(np.sort(gram.values), values, rtol=rtol)
    rest = np.eye(40) - gram.basis @ gram.basis.T
    taken = gram.basis @ np.diag(gram.values) @ gram.basis.T + gram.tail * rest
    np.testing.assert_allclose(taken, mean, rtol=0, atol=1e-6 * np.trace(mean))


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_renewals_turn_the_basis_towards_the_leading_eigenvectors(keep):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 50)) @ np.diag(1.0 / np.arange(1, 51))
    matrix = a.T @ a / 400
    exact, vectors = np.linalg.eigh(matrix)
    leading, span = exact[:-6:-1], vectors[:, :-6:-1]
    gram, errors = unknown(50, 5, np.dtype(float), bias=False), []
    for _ in range(70):
        gram = gram.renewed(shown(matrix, gram.sought), keep, 1.0).damped(1.0)
        errors.append(np.abs(np.sort(gram.values)[::-1] - leading).max())
    assert errors[:8] == sorted(errors[:8], reverse=True)
    assert errors[-1] < 1e-6 * leading[0]
    np.testing.assert_allclose(gram.basis @ gram.basis.T, span @ span.T, rtol=0, atol=1e-3)


SPECTRA = {
    "gap": np.r_[100.0, 60, 40, 25, np.full(56, 0.3)],
    "fast": 30.0 / np.arange(1, 61) ** 2,
    "slow": 30.0 / np.arange(1, 61),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_fresh_rows_lead_to_the_eigenvalues_of_their_distribution(spectrum, dtype):
    matrix, _ = turned(*SPECTRA[spectrum])
    values, vectors = np.linalg.eigh(matrix)
    root, rng = vectors * np.sqrt(values) @ vectors.T, np.random.default_rng(0)
    rank, rows = 4 if spectrum == "gap" else 6, 2000
    gram = unknown(60, rank, np.dtype(dtype), bias=False)
    for renewal in range(60):
        a = (rng.standard_normal((rows, 60)) @ root).astype(dtype)
        keep = min(0.9, 1 - 1 / (renewal + 1))
        gram = gram.renewed(sketch([a], gram.sought), keep, rows).damped(1.0)
        identity = gram.basis.T.astype(float) @ gram.basis
        np.testing.assert_allclose(identity, np.eye(rank), rtol=0, atol=orthonormal(dtype))
    assert gram.basis.dtype == gram.values.dtype == dtype
    # A running mean that keeps 0.9 is as good as (1 + 0.9) / (1 - 0.9) times the rows of a
    # renewal. Of so many Gaussian rows an eigenvalue varies by √(2 / rows).
    deviation = np.sqrt(2 / (19 * rows))
    leading = values[::-1][:rank]
    np.testing.assert_allclose(np.sort(gram.values)[::-1], leading, rtol=4 * deviation)
    assert gram.tail == pytest.approx(values[:-rank].mean(), rel=4 * deviation)
    assert gram.rest + gram.last == pytest.approx(values.sum(), rel=4 * deviation)
    basis = gram.basis.astype(float)
    assert np.trace(basis.T @ matrix @ basis) > 0.99 * leading.sum()


def orthonormal(dtype):
    """How far from it a basis may be: rounding, or its part in the shift against it."""
    return 1e-6 if dtype == "float32" else 1e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_inputs_of_fewer_directions_than_the_rank(rank, dtype, scale):
    rng = np.random.default_rng(0)
    factor = np.sqrt(scale) * rng.standard_normal((2, 60))
    gram = unknown(60, 8, np.dtype(dtype), bias=True)
    total = 0.0
    for _ in range(rank):  # at first of one direction alone
        total = total + np.outer(factor[0], factor[0])
        gram = gram.renewed(shown(total.astype(dtype), gram.sought), 0.0, 1.0).damped(1.0)
    matrix = factor.T @ factor
    for _ in range(4):
        gram = gram.renewed(shown(matrix.astype(dtype), gram.sought), 0.0, 1.0).damped(1.0)
        identity = gram.basis.T.astype(float) @ gram.basis
        np.testing.assert_allclose(identity, np.eye(8), rtol=0, atol=orthonormal(dtype))
    close = 1e-5 if dtype == "float32" else 1e-9
    expected = np.r_[np.linalg.eigvalsh(matrix)[:-3:-1], np.zeros(6)]
    found = np.sort(gram.values)[::-1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=close * np.trace(matrix))
    b = rng.standard_normal((3, 60)).astype(dtype)
    x = solved(gram, b) * gram.damping
    expected = dense_solve(b.astype(float), matrix, 1.0, bias=True) * gram.damping
    np.testing.assert_allclose(x, expected, rtol=0, atol=10 * close)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [None, 5])
def test_dead_inputs_change_nothing(rank, dtype):
    """All zero: at first, after others, and before others."""
    nothing = np.zeros((40, 40), dtype)
    b = np.random.default_rng(0).standard_normal((2, 40)).astype(dtype)
    dead = known_gram(nothing, rank, bias=False)
    assert dead.known
    assert dead.damping == 1
    np.testing.assert_array_equal(solved(dead, b), b)
    np.testing.assert_array_equal(dead.spectrum()[0], 0)
    some = turned(*FLAT, *[0.3] * 10)[0].astype(dtype)
    gram = known_gram(some, rank, bias=False)
    died = gram.renewed(shown(nothing, gram.sought), 0.0, 1.0).damped(0.5)
    np.testing.assert_array_equal(solved(died, b), b)
    alive, fresh = died, known_gram(some, rank, bias=False, renewals=20)
    for _ in range(20):
        alive = alive.renewed(shown(some, alive.sought), 0.0, 1.0).damped(0.5)
    # Of what was left of the others, none.
    np.testing.assert_allclose(solved(alive, b), solved(fresh, b), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("before", [0, 3], ids=["at first", "later"])
def test_sums_that_are_not_finite_are_a_divergence(bad, rank, before):
    gram = known_gram(np.eye(20), rank, bias=True, renewals=max(before, 1))
    gram = gram if before else unknown(20, rank, np.dtype(float), bias=True)
    matrix = np.eye(20)
    matrix[3, 3] = bad
    with pytest.raises(DivergenceError, match="overflowed"):
        gram.renewed(shown(matrix, gram.sought), 0.5, 1.0).damped(1.0)


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        *(("image", bad) for bad in (np.nan, np.inf, -np.inf)),
        *(("rest", bad) for bad in (np.nan, np.inf)),  # a sum of squares
    ],
)
def test_any_part_of_a_sketch_that_is_not_finite_is_a_divergence(part, bad):
    gram = unknown(20, 2, np.dtype(np.float32), bias=False)
    total = Sketch(np.ones((20, 2), np.float32), 19.0, 1.0)
    if part == "image":
        total.image[4, 1] = bad
    else:
        total = total._replace(rest=bad)
    with pytest.raises(DivergenceError, match="overflowed"):
        gram.renewed(total, 0.5, 1.0)


def test_sums_whose_eigenvalues_are_out_of_range_are_a_divergence():
    """Though float32 holds each of the sums."""
    gram = unknown(20, 2, np.dtype(np.float32), bias=False)
    total = Sketch(np.full((20, 2), 2e38, np.float32), 1e38, 1e37)
    with pytest.raises(DivergenceError, match="overflowed"):
        gram.renewed(total, 0.5, 1.0)


# ---------------------------------------------------------------- how many, and how often


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 5])
def test_only_wide_matrices_are_of_low_rank(rank, dtype):
    narrow = unknown(NARROW * rank, rank, np.dtype(dtype), bias=True)
    assert narrow == ExactGram(True)
    wide = unknown(NARROW * rank + 1, rank, np.dtype(dtype), bias=True)
    assert wide.basis.shape == (NARROW * rank + 1, rank)
    assert wide.basis.dtype == dtype
    identity = wide.basis.T.astype(float) @ wide.basis
    rounding = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(identity, np.eye(rank), rtol=0, atol=rounding)
    assert unknown(1000, None, np.dtype(dtype), bias=False) == ExactGram(False)
    assert not narrow.known
    assert not wide.known

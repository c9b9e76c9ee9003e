"""Tasks that update their own weights, and what becomes of these."""

import numpy as np
import pytest

from daskalt.compute.statistics import combine
from daskalt.kernels.gram import sketch
from daskalt.solvers.descent import Limits, Motion, at_rest, descend
from daskalt.solvers.grams import ExactGram, unknown
from daskalt.solvers.local_steps import merge_steps, take_steps
from tests.solvers.problems import FLAT, KINDS, known_gram, make_problem, shown, turned

RANKS = {"exact": None, "low rank": 2}


def met(case, rank, renewals):
    """Gram matrices of the inputs, as they are before any steps or after some."""
    rng = np.random.default_rng(3)
    found = []
    for w in case.weights:
        a = rng.standard_normal((90, w.shape[1]))
        found.append(known_gram((a.T @ a / 90), rank, bias=True, renewals=renewals))
    return tuple(found)


def taken(case, grams, rows, count):
    """Local steps on some rows, and the weights and motion after each."""
    after = []

    def advance(weights, motion, part):
        divisors, penalties = (part.score.weight,) * len(weights), (0.01,) * len(weights)
        limits = Limits(0.5, 1e6, 0.4)
        after.append(descend(weights, motion, grams, part.moments, divisors, penalties, limits))
        return after[-1]

    start = case.weights, at_rest(case.weights)
    return take_steps(case.problem, *start, grams, rows, count, advance), after


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_one_task_keeps_its_own_weights(rank, count, weighted):
    case = make_problem(n=60, features=9, hidden=(11,), weighted=weighted)
    grams = met(case, rank, 3)
    found, after = taken(case, grams, case.rows, count)
    assert len(after) == count
    weights, motion = merge_steps(case.weights, at_rest(case.weights), grams, found)
    for merged, own, start in zip(weights, after[-1][0], case.weights, strict=True):
        np.testing.assert_allclose(merged, own, rtol=1e-8, atol=1e-10)
        assert not np.allclose(own, start, rtol=1e-2)
    assert motion.trust == pytest.approx(after[-1][1].trust)
    assert not any(v.any() for v in motion.velocity)
    assert found.score.weight == pytest.approx(case.row_weight.sum())


def dense_sum(gram, sum_):
    """The matrix for which a sum is taken."""
    return gram.product(np.eye(len(sum_.image) if hasattr(sum_, "image") else len(sum_)), sum_)


@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
def test_tasks_are_weighted_by_their_gram_matrices(rank):
    case = make_problem(n=90, features=9, hidden=(11,))
    grams = met(case, rank, 3)
    parts = [taken(case, grams, case.rows.part(a, b), 2) for a, b in ((0, 20), (20, 90))]
    merged = combine(*(found for found, _ in parts))
    weights, motion = merge_steps(case.weights, at_rest(case.weights), grams, merged)
    for n, gram in enumerate(grams):
        sums = [dense_sum(gram, found.grams[n]) for found, _ in parts]
        own = [after[-1][0][n] for _, after in parts]
        expected = sum(w @ a for w, a in zip(own, sums, strict=True)) @ np.linalg.inv(sum(sums))
        np.testing.assert_allclose(weights[n], expected, rtol=1e-7, atol=1e-9)
        assert not np.allclose(weights[n], (own[0] + own[1]) / 2, rtol=1e-4)
    trusts = [after[-1][1].trust for _, after in parts]
    assert motion.trust == pytest.approx((20 * trusts[0] + 70 * trusts[1]) / 90)


@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
def test_tasks_that_agree_are_not_changed_by_merging(rank):
    case = make_problem(n=90, features=9, hidden=(11,))
    grams = met(case, rank, 3)
    found, after = taken(case, grams, case.rows, 2)
    other, _ = taken(case, grams, case.rows.part(0, 15), 2)
    moved = [new - old for new, old in zip(after[-1][0], case.weights, strict=True)]
    moments = [gram.product(d, a) for gram, d, a in zip(grams, moved, other.grams, strict=True)]
    merged = combine(found, other._replace(moments=tuple(moments)))
    weights, _ = merge_steps(case.weights, at_rest(case.weights), grams, merged)
    for w, own in zip(weights, after[-1][0], strict=True):
        np.testing.assert_allclose(w, own, rtol=1e-8, atol=1e-10)


def test_rows_without_weight_take_no_step():
    case = make_problem(n=30, features=9, hidden=(11,))
    grams = met(case, 2, 3)
    rows = case.rows._replace(weight=np.r_[np.zeros(10), np.ones(20)])
    found, after = taken(case, grams, rows, 3)
    assert len(after) == 2
    assert found.score.weight == 20


def test_the_factor_against_overshooting_outlives_a_merge():
    case = make_problem(n=30, features=9, hidden=(11,))
    grams = met(case, None, 3)
    start = Motion(tuple(np.ones_like(w) for w in case.weights), 2.0, 0.4)
    found, _ = taken(case, grams, case.rows, 1)
    found = found._replace(trust=0.3 * found.score.weight)
    _, motion = merge_steps(case.weights, start, grams, found)
    assert motion.trust == pytest.approx(0.3)
    assert motion.velocity is start.velocity


# ----------------------------------------------------------------------- sums of a step


def some_sum(gram, bias):
    """What a step gathers, and the matrix that it stands for."""
    a = np.random.default_rng(2).standard_normal((70, 30)) * np.linspace(0.3, 2, 30)
    if isinstance(gram, ExactGram):
        return a.T @ a, a.T @ a
    total = sketch([a], gram.sought)
    core = gram.basis.T @ a.T @ a @ gram.basis
    rest = np.eye(30) - gram.basis @ gram.basis.T
    tail = (np.sum(a**2) - np.trace(core)) / (30 - len(core))
    return total, gram.basis @ core @ gram.basis.T + tail * rest


@pytest.mark.parametrize("renewals", [0, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_products_and_quotients_by_a_sum_are_inverse_to_each_other(kind, bias, renewals):
    gram = unknown(30, KINDS[kind], np.dtype(float), bias=bias)
    if renewals:
        gram = known_gram(turned(*FLAT)[0], KINDS[kind], bias=bias, renewals=renewals)
    total, matrix = some_sum(gram, bias)
    x = np.random.default_rng(1).standard_normal((4, 30))
    # But for the specks that keep what is divided by from zero.
    close = {"rtol": 0, "atol": 1e-11 if kind == "exact" else 1e-4}
    product = gram.product(x, total)
    np.testing.assert_allclose(product / 70, x @ matrix / 70, **close)
    np.testing.assert_allclose(gram.quotient(x, total), x @ np.linalg.inv(matrix), **close)
    close = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(gram.quotient(product, total), x, **close)
    np.testing.assert_allclose(gram.product(gram.quotient(x, total), total), x, **close)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quotient_by_nothing_is_finite(kind, dtype):
    gram = known_gram(turned(*FLAT)[0].astype(dtype), KINDS[kind], bias=True)
    nothing = shown(np.zeros((30, 30), dtype), gram.sought)
    x = np.zeros((4, 30), dtype)
    found = gram.quotient(gram.product(x, nothing), nothing)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)

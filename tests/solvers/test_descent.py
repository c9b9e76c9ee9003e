"""A bounded step along damped directions, in strips that threads share."""

import numpy as np
import pytest

from daskalt.compute.graph import held_to_threads
from daskalt.compute.hands import hands
from daskalt.compute.threads import blas_threads
from daskalt.errors import DivergenceError
from daskalt.solvers import descent
from daskalt.solvers.altmin import StochasticAltMin
from daskalt.solvers.base import Budget
from daskalt.solvers.batch_altmin import BatchAltMin
from daskalt.solvers.descent import Limits, Motion, at_rest, descend, mean_of
from daskalt.solvers.least_squares import damp
from tests.solvers.problems import known_gram, make_problem, map_rows

# ------------------------------------------------------------------- a step is its formula


def some_step(rank=None, shapes=((12, 5), (10, 13)), seed=0):
    """Weights, a motion, totals, and the dense A and C of each layer."""
    rng = np.random.default_rng(seed)
    weights = tuple(rng.standard_normal(shape) for shape in shapes)
    motion = Motion(tuple(0.1 * rng.standard_normal(shape) for shape in shapes), 0.7, 0.9)
    totals = [rng.standard_normal(shape) for shape in shapes]
    means = [[gram_of(rng, shape[axis], rank) for shape in shapes] for axis in (1, 0)]
    return weights, motion, totals, *means


def gram_of(rng, size, rank):
    """Of a few directions and a flat rest, where the rank is limited."""
    if rank is None:
        a = rng.standard_normal((50, size))
        return a.T @ a / 50
    q, _ = np.linalg.qr(rng.standard_normal((size, size)))
    return q @ np.diag([*(9.0 + np.arange(rank)), *[0.2] * (size - rank)]) @ q.T


@pytest.mark.parametrize("strips", ["one", "many"])
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("rank", [None, 2])
def test_a_step_is_the_dense_one(rank, curved, strips, monkeypatch):
    if strips == "many":
        monkeypatch.setattr(descent, "STRIP_ENTRIES", 1)
        monkeypatch.setattr(descent, "STRIP_WIDTH", 3)
    weights, motion, totals, inputs, residuals = some_step(rank)
    divisors, penalties, limits = (2.0, 3.0), (0.1, 0.2), Limits(0.8, 0.5, 0.3)
    given = [known_gram(a, rank, bias=True, damping=0.7, renewals=9) for a in inputs]
    left = [known_gram(c, rank, bias=False, damping=0.4, renewals=9) for c in residuals]
    before = [w.copy() for w in (*weights, *motion.velocity, *totals)]
    new, moved = descend(
        weights, motion, given, totals, divisors, penalties, limits, left if curved else None
    )
    for a, b in zip((*weights, *motion.velocity, *totals), before, strict=True):
        np.testing.assert_array_equal(a, b)

    gradients, directions = [], []
    for w, total, n, penalty, a, c in zip(
        weights, totals, divisors, penalties, inputs, residuals, strict=True
    ):
        g = total / n
        g[:, :-1] -= penalty * w[:, :-1]
        d = g @ np.linalg.inv(a + 0.7 * np.mean(np.diag(a)[:-1]) * np.eye(len(a)))
        if curved:
            size = np.mean(np.diag(c))
            d = 1.4 * size * np.linalg.inv(c + 0.4 * size * np.eye(len(c))) @ d
        gradients.append(g)
        directions.append(d)
    length = np.sqrt(sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True)))
    past = sum(np.sum(g * v) for g, v in zip(gradients, motion.velocity, strict=True))
    trust = min(0.9 * np.exp(past / (0.7 * length) + 0.15), 1.0)
    step = trust * min(0.8, 0.5 / length)
    for w, v, d, a, b in zip(
        weights, motion.velocity, directions, new, moved.velocity, strict=True
    ):
        velocity = 0.3 * v + 0.7 * step * d
        np.testing.assert_allclose(b, velocity, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(a, w + 0.3 * velocity + 0.7 * step * d, rtol=1e-7, atol=1e-9)
    assert moved.trust == pytest.approx(trust)
    assert moved.length == pytest.approx(0.3 * 0.7 + 0.7 * step * length)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_curvature_without_a_direction_changes_nothing(rank):
    weights, _, totals, inputs, _ = some_step()
    damped = [damp(a, 0.7) for a in inputs]
    steps = []
    for curved in (
        None,
        [known_gram(c * np.eye(n), rank, bias=False, damping=0.3) for c, n in ((4, 12), (9, 10))],
    ):
        limits = Limits(0.8, 1e9, 0.3)
        given = (weights, at_rest(weights), damped, totals, (2.0, 3.0), (0.1, 0.2), limits)
        steps.append(descend(*given, curved)[0])
    for a, b in zip(*steps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rank", [None, 2])
def test_no_curvature_at_all_changes_nothing_either(rank):
    """Where all residuals are zero."""
    w, g = np.ones((9, 4)), np.random.default_rng(0).standard_normal((9, 4))
    given = ((w,), at_rest((w,)), [damp(np.eye(4), 1.0)], [g], (1.0,), (0.0,))
    plain, _ = descend(*given, Limits(1.0, 9.0, 0.0))
    zero = known_gram(np.zeros((9, 9)), rank, bias=False, damping=0.2)
    curved, _ = descend(*given, Limits(1.0, 9.0, 0.0), [zero])
    np.testing.assert_allclose(curved[0], plain[0], rtol=1e-12)


def test_a_gradient_that_is_not_finite_is_a_divergence():
    weights, motion, totals, inputs, _ = some_step()
    totals[1][3, 4] = np.nan
    damped = [damp(a, 0.7) for a in inputs]
    with pytest.raises(DivergenceError, match="gradient is not finite"):
        descend(weights, motion, damped, totals, (2, 3), (0, 0), Limits(0.8, 1e9, 0.3))


@pytest.mark.parametrize("shape", [(1, 1), (15, 3), (700, 301), (3, 70_000), (40, 5000)])
def test_strips_have_every_entry_once_and_keep_products_fast(shape):
    w = np.empty(shape)
    for divide, side in ((descent._by_rows, 0), (descent._by_columns, 1)):
        places = divide(w)
        assert all(place[1 - side] == slice(None) for place in places)
        parts = [place[side] for place in places]
        assert [n for part in parts for n in range(part.start, part.stop)] == [*range(shape[side])]
        widths = [part.stop - part.start for part in parts]
        assert all(width >= min(descent.STRIP_WIDTH, shape[side]) for width in widths[:-1])
        assert all(
            width * shape[1 - side] <= descent.STRIP_ENTRIES or width <= descent.STRIP_WIDTH
            for width in widths
        )


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_mean_of_weights(share, threads):
    rng = np.random.default_rng(0)
    old, new = (
        tuple(rng.standard_normal(shape) for shape in ((500, 301), (3, 4))) for _ in range(2)
    )
    with blas_threads(), hands(threads):
        found = mean_of(old, new, share)
    for a, b, mean in zip(old, new, found, strict=True):
        np.testing.assert_allclose(mean, (1 - share) * a + share * b, rtol=1e-12, atol=1e-15)
    if share == 1:
        assert found is new


# ------------------------------------------------------------------------------ threads


WIDE = {
    "low rank": StochasticAltMin(gram_every=2),
    "exact": StochasticAltMin(rank=None, gram_every=2),
    "gradient": StochasticAltMin(z_step="gradient"),
    "local steps": StochasticAltMin(local_steps=2),
    "newton": StochasticAltMin(z_step="newton", gram_every=2),
    "literal": StochasticAltMin(z_step="newton", ridge_centre="zero"),
    "batch": BatchAltMin(),
}


@pytest.fixture(scope="module")
def wide():
    return make_problem(
        features=300, hidden=(300, 260), outputs=3, n=40, dtype="float32", weighted=True
    )


@pytest.mark.parametrize("solver", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("entries", [descent.STRIP_ENTRIES, 1 << 12])
def test_threads_change_no_bit_of_updates(wide, solver, entries, monkeypatch):
    """Of networks so wide that a matrix has several strips, of rows and of columns."""
    monkeypatch.setattr(descent, "STRIP_ENTRIES", entries)
    assert sum(len(descent._by_rows(w)) for w in wide.weights) >= 5

    def fitted(threads):
        state = solver.start(wide.problem, wide.weights, Budget(12, 4, 4, 40.0))
        for _ in range(4):
            statistics = map_rows(solver, wide.problem, state, wide.rows)
            with hands(threads):
                state = solver.update(wide.problem, state, statistics)
        return state

    alone, *others = (held_to_threads(1, fitted, threads) for threads in (1, 2, 3))
    assert not np.array_equal(alone.weights[0], wide.weights[0])
    for other in others:
        assert_same(alone, other)


def assert_same(a, b):
    """Equal bits in all arrays and numbers of two states."""
    if isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b

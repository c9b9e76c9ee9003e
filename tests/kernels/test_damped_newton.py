import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import LOSSES, get_loss
from daskalt.kernels.damped_newton import Coupling, hidden_newton, output_newton
from tests import naive

PAIRS = [pair for pair, loss in sorted(LOSSES.items()) if loss.smooth]
CONVEX = [pair for pair in PAIRS if pair[0] == "cross_entropy" or pair[1] == "identity"]


def output_problem(pair, rows, outputs, dtype, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    z, m = (spread * rng.standard_normal((2, rows, outputs))).astype(dtype)
    coded = get_loss(*pair).coded
    return z, m, rng.integers(0, outputs, rows) if coded else rng.random((rows, outputs))


def hidden_problem(rows, width, above, dtype, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    z, m = (spread * rng.standard_normal((2, rows, width))).astype(dtype)
    z_next = (spread * rng.standard_normal((rows, above))).astype(dtype)
    return z, m, z_next, rng.standard_normal((above, width + 1)).astype(dtype)


def output_objectives(z, m, y, mu, pair):
    return np.array([naive.output_objective(z[i], m[i], y[i], mu, *pair) for i in range(len(z))])


def hidden_objectives(z, m, z_next, W, mu, mu_next, activation):
    return np.array(
        [
            naive.hidden_objective(z[i], m[i], z_next[i], W, mu, mu_next, activation)
            for i in range(len(z))
        ]
    )


def assert_none_rises(before, after):
    assert (after <= before * (1 + 1e-12) + 1e-12).all()


@pytest.mark.parametrize("mu", [1e-3, 0.1, 10])
@pytest.mark.parametrize("pair", CONVEX, ids="-".join)
def test_output_newton_finds_the_minimum_of_convex_losses(pair, mu):
    z, m, y = output_problem(pair, 4, 3, np.float64, spread=2)
    result = output_newton(z, m, y, mu, get_loss(*pair), sweeps=30)
    for i in range(len(z)):
        best = minimize(
            lambda v, i=i: naive.output_objective(v, m[i], y[i], mu, *pair),
            z[i],
            method="BFGS",
            options={"gtol": 1e-6},
        )
        found = naive.output_objective(result[i], m[i], y[i], mu, *pair)
        np.testing.assert_allclose(found, best.fun, rtol=1e-8, atol=1e-10)
    gradient = get_loss(*pair).gradient(result, y) + 2 * mu * (result - m)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_output_newton_ends_where_the_gradient_vanishes(pair):
    z, m, y = output_problem(pair, 6, 3, np.float64)
    result = output_newton(z, m, y, 1.0, get_loss(*pair), sweeps=60)
    gradient = get_loss(*pair).gradient(result, y) + 2 * (result - m)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_output_newton_takes_a_quadratic_in_one_step():
    pair = ("squared", "identity")
    z, m, y = output_problem(pair, 5, 3, np.float64)
    result = output_newton(z, m, y, 0.25, get_loss(*pair))
    np.testing.assert_allclose(result, (y + 0.5 * m) / 1.5, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    dtype=st.sampled_from([np.float32, np.float64]),
    outputs=st.integers(2, 4),
    mu=st.floats(1e-6, 1e3),
    spread=st.floats(0.01, 10),
    sweeps=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_output_newton_raises_no_objective(pair, dtype, outputs, mu, spread, sweeps, seed):
    z, m, y = output_problem(pair, 5, outputs, dtype, seed, spread)
    start = z.copy()
    result = output_newton(z, m, y, mu, get_loss(*pair), sweeps)
    np.testing.assert_array_equal(z, start)
    assert result.dtype == dtype
    assert_none_rises(*(output_objectives(v, m, y, mu, pair) for v in (z, result)))


@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "softplus"])
@pytest.mark.parametrize(("width", "above"), [(4, 2), (2, 5)])
def test_hidden_newton_finds_a_minimum(activation, width, above):
    """From its own end, scipy cannot go lower."""
    z, m, z_next, W = hidden_problem(3, width, above, np.float64)
    mu, mu_next = 0.5, 0.3
    result = hidden_newton(
        z, m, z_next, Coupling(W, mu, mu_next, ACTIVATIONS[activation]), sweeps=100
    )[0]
    for i in range(len(z)):
        args = (m[i], z_next[i], W, mu, mu_next, activation)
        best = minimize(naive.hidden_objective, result[i], args, options={"gtol": 1e-7})
        found = naive.hidden_objective(result[i], *args)
        np.testing.assert_allclose(found, best.fun, rtol=1e-8)
        np.testing.assert_allclose(result[i], best.x, atol=1e-4)


def test_hidden_newton_solves_the_identity_in_closed_form():
    z, m, z_next, W = hidden_problem(5, 4, 3, np.float64)
    mu, mu_next = 0.5, 2.0
    result = hidden_newton(
        z, m, z_next, Coupling(W, mu, mu_next, ACTIVATIONS["identity"]), sweeps=4
    )[0]
    A, b = W[:, :-1], W[:, -1]
    expected = np.linalg.solve(
        mu * np.eye(4) + mu_next * A.T @ A, (mu * m + mu_next * (z_next - b) @ A).T
    ).T
    np.testing.assert_allclose(result, expected, atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    dtype=st.sampled_from([np.float32, np.float64]),
    width=st.integers(1, 5),
    above=st.integers(1, 5),
    mu=st.floats(1e-4, 1e2),
    mu_next=st.floats(1e-4, 1e2),
    spread=st.floats(0.01, 10),
    sweeps=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_hidden_newton_raises_no_objective(
    activation, dtype, width, above, mu, mu_next, spread, sweeps, seed
):
    z, m, z_next, W = hidden_problem(4, width, above, dtype, seed, spread)
    start = z.copy()
    result = hidden_newton(z, m, z_next, Coupling(W, mu, mu_next, ACTIVATIONS[activation]), sweeps)[
        0
    ]
    np.testing.assert_array_equal(z, start)
    assert result.dtype == dtype
    assert_none_rises(
        *(hidden_objectives(v, m, z_next, W, mu, mu_next, activation) for v in (z, result))
    )


def test_rows_are_independent():
    z, m, z_next, W = hidden_problem(6, 4, 3, np.float64)
    phi = ACTIVATIONS["tanh"]
    together = hidden_newton(z, m, z_next, Coupling(W, 0.5, 0.3, phi), sweeps=3)[0]
    for i in range(len(z)):
        row = slice(i, i + 1)
        alone = hidden_newton(z[row], m[row], z_next[row], Coupling(W, 0.5, 0.3, phi), sweeps=3)[0]
        np.testing.assert_allclose(together[row], alone, rtol=1e-10)


def test_a_bad_row_stays_and_spoils_no_other():
    z, m, z_next, W = hidden_problem(3, 4, 2, np.float64)
    expected = hidden_newton(z, m, z_next, Coupling(W, 0.5, 0.3, ACTIVATIONS["tanh"]))[0]
    bad = m.copy()
    bad[1] = np.nan
    result = hidden_newton(z, bad, z_next, Coupling(W, 0.5, 0.3, ACTIVATIONS["tanh"]))[0]
    np.testing.assert_array_equal(result[1], z[1])
    np.testing.assert_allclose(result[[0, 2]], expected[[0, 2]], rtol=1e-10)

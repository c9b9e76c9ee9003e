"""Full-batch alternating minimisation: a monotone objective, known answers, the same bits."""

import json
from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge

from daskalt import ADMM, BatchAltMin, MLPClassifier, MLPRegressor
from daskalt.errors import InputError, StorageError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import LOSSES
from daskalt.solvers.base import Budget
from daskalt.solvers.batch_z_step import ZStep, batch_step
from daskalt.training import tasks
from tests import naive
from tests.equality import assert_same, history_of, weights_of
from tests.solvers.problems import make_problem

CONVEX = [pair for pair, loss in sorted(LOSSES.items()) if loss.convex and loss.smooth]
BOTH = (True, True)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.uint8), y[:600]


def network(**options):
    passes = options.pop("max_iter", 6)
    return MLPClassifier(
        (16,), solver=BatchAltMin(**options), max_iter=passes, random_state=0, tol=0
    )


# ------------------------------------------------------------------------------ z-step


def row_objective(case, weights, x, y, z, mu):
    """ℓ(z_L, y) + Σ μ ‖z_l - W_l ã_{l-1}‖² of one row, slowly."""
    activation, *pair = case.kinds
    phi = naive.ACTIVATIONS[activation][0]
    value, below = naive.loss(*pair, z[-1], y), x
    for w, own, m in zip(weights, z, mu, strict=True):
        value += m * float(np.sum((own - w @ below) ** 2))
        below = np.append(naive.each(phi, own), 1.0)
    return value


@pytest.mark.parametrize("activation", [name for name in sorted(ACTIVATIONS) if name != "relu"])
@pytest.mark.parametrize("pair", CONVEX, ids="-".join)
@pytest.mark.parametrize("hidden", [(3,), (20, 18)], ids=str)
def test_many_sweeps_end_at_a_minimum_of_each_row(activation, pair, hidden):
    """From there SciPy finds nothing lower in all z of the row together."""
    case = make_problem(pair, activation, hidden=hidden, n=3)
    mu = (0.7, 0.4, 0.9)[: len(hidden) + 1]
    how = ZStep(mu, sweeps=150, iterations=50)
    wanted = (False,) * len(mu)
    z, _ = batch_step(case.problem, case.weights, case.rows, None, how, wanted=wanted)
    widths = case.problem.network.units
    edges = np.cumsum([0, *widths])
    for i in range(3):

        def objective(flat, i=i):
            own = [flat[a:b] for a, b in pairwise(edges)]
            return row_objective(case, case.weights, case.x[i], case.rows.y[i], own, mu)

        start = np.concatenate([layer[i] for layer in z])
        best = minimize(objective, start, options={"gtol": 1e-6, "maxiter": 50})
        assert objective(start) <= best.fun * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_are_their_sums(weighted):
    case = make_problem(hidden=(5,), n=12, weighted=weighted)
    mu = (0.5, 2.0)
    z, step = batch_step(case.problem, case.weights, case.rows, None, ZStep(mu), wanted=BOTH)
    a = np.column_stack([np.tanh(z[0]), np.ones(12)])
    residuals = [z[0] - case.x @ case.weights[0].T, z[1] - a @ case.weights[1].T]
    for r, inputs, total, gram, norm in zip(
        residuals, (case.x, a), step.moments, step.grams, step.couplings, strict=True
    ):
        weight = case.row_weight[:, None]
        np.testing.assert_allclose(total, (weight * r).T @ inputs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gram, (weight * inputs).T @ inputs, rtol=1e-9)
        np.testing.assert_allclose(norm, np.sum(weight * r**2), rtol=1e-9)
    rows = [
        row_objective(case, case.weights, case.x[i], case.rows.y[i], [layer[i] for layer in z], mu)
        for i in range(12)
    ]
    np.testing.assert_allclose(step.objective, case.row_weight @ rows, rtol=1e-9)


def test_a_row_starts_from_the_better_of_its_z_and_the_forward_pass():
    case = make_problem(hidden=(5,), n=8)
    mu = (1.0, 1.0)
    forward, _ = batch_step(case.problem, case.weights, case.rows, None, ZStep(mu), wanted=BOTH)
    far = [layer.copy() for layer in forward]
    for layer in far:
        layer[:4] += 50  # a z with a high objective in every row
    z, step = batch_step(case.problem, case.weights, case.rows, far, ZStep(mu), wanted=BOTH)
    assert step.restarted >= 4
    for layer, expected in zip(z, forward, strict=True):
        np.testing.assert_allclose(layer[:4], expected[:4], rtol=1e-9)


# -------------------------------------------------------------------------- objective


@settings(max_examples=60, deadline=None)
@given(
    pair=st.sampled_from(CONVEX),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    hidden=st.sampled_from([(), (3,), (4, 2), (18, 17)]),
    mu=st.floats(1e-2, 1e2),
    restart=st.booleans(),
    rows=st.integers(1, 40),
    parts=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_objective_never_rises_without_acceleration(
    pair, activation, hidden, mu, restart, rows, parts, seed
):
    case = make_problem(pair, activation, hidden=hidden, n=rows, seed=seed, weighted=True)
    solver = BatchAltMin(acceleration=None, damping=0.1, mu=mu, restart=restart)
    size = -(-rows // parts)
    z = {}
    state = solver.start(case.problem, case.weights, Budget(5, 1))
    objectives = []
    for _ in range(5):
        total = None
        for start in range(0, rows, size):
            part = case.rows.part(start, start + size)
            step, moved = solver.map(case.problem, state, part, z.get(start))
            z[start] = [own.copy() for own in moved]
            total = solver.combine(total, step)
        state = solver.update(case.problem, state, total)
        objectives.append(state.objective)
    for before, after in pairwise(objectives):
        assert after <= before * (1 + 1e-9) + 1e-12


# ----------------------------------------------------------------------- known answers


def test_without_hidden_layer_squared_loss_is_ridge_regression():
    X, y = make_regression(80, 6, noise=5, random_state=0)
    mu, alpha = 0.5, 3.0
    model = MLPRegressor(
        (),
        solver=BatchAltMin(acceleration=None, damping=1e-4, mu=mu),
        alpha=alpha,
        scale="none",
        max_iter=200,
        tol=0,
        random_state=0,
    ).fit(X, y)
    # Over z, ½ (z - y)² + μ (z - m)² is κ/2 (y - m)² with this κ.
    kappa = 2 * mu / (1 + 2 * mu)
    ridge = Ridge(alpha=alpha / kappa).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0][:, 0], ridge.coef_, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(model.intercepts_[0], ridge.intercept_, atol=0.05)


def test_without_hidden_layer_cross_entropy_tends_to_logistic_regression():
    X, y = make_classification(200, 5, n_informative=4, n_redundant=0, random_state=1)
    alpha = 5.0
    model = MLPClassifier(
        (),
        solver=BatchAltMin(mu=100.0, schedule="constant", damping=0.5, step_limit=2.0),
        alpha=alpha,
        scale="none",
        max_iter=300,
        tol=0,
        n_iter_no_change=300,
        random_state=0,
    ).fit(X, y)
    logistic = LogisticRegression(C=1 / alpha, tol=1e-8, max_iter=1000).fit(X, y)
    ours = model.predict_proba(X)
    np.testing.assert_allclose(ours, logistic.predict_proba(X), atol=0.02)


def test_an_l1_coupling_is_huber_regression_and_leaves_outliers_behind():
    """Over z, ½ (z - y)² + μ |z - m| is Huber's function of y - m with the threshold μ."""
    X, y = make_regression(120, 4, noise=3, random_state=0)
    y = (y - y.mean()) / y.std()
    clean = Ridge(alpha=1e-6).fit(X, y)
    rng = np.random.default_rng(0)
    spoiled = y + np.where(rng.random(120) < 0.1, 30.0, 0.0)

    def fit(**options):
        solver = BatchAltMin(
            acceleration=None, damping=1e-4, mu=0.5 / spoiled.std(), restart=False, **options
        )
        return MLPRegressor(
            (),
            solver=solver,
            alpha=0.0,
            scale="none",
            max_iter=100,
            tol=0,
            n_iter_no_change=100,
            random_state=0,
        ).fit(X, spoiled)

    robust = fit(coupling="l1").coefs_[0][:, 0]

    def huber(w):
        errors = np.abs(spoiled - X @ w[:-1] - w[-1])
        return np.sum(np.where(errors < 0.5, 0.5 * errors**2, 0.5 * errors - 0.125))

    best = minimize(huber, np.zeros(5), options={"gtol": 1e-8})
    np.testing.assert_allclose(robust, best.x[:-1], atol=1e-4)
    error = np.linalg.norm(robust - clean.coef_)
    assert error < 0.2 * np.linalg.norm(fit().coefs_[0][:, 0] - clean.coef_)


# ---------------------------------------------------------------------------- resumed


@pytest.mark.parametrize(
    "solver",
    [BatchAltMin(gram_every=2), ADMM(divergence=1e6, warm_up=2)],
    ids=["batch-altmin", "admm"],
)
def test_z_of_a_resumed_fit_have_the_bits_of_an_uninterrupted_one(
    digits, tmp_path, monkeypatch, solver
):
    X, y = digits

    def model(place):
        ours = clone(solver).set_params(store=tmp_path / place)
        return MLPClassifier((16,), solver=ours, max_iter=6, random_state=0, tol=0)

    whole = model("whole.zarr").fit(X, y)
    interrupt(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="sync"):
        model("z.zarr").fit(X, y)
    monkeypatch.undo()
    resumed = model("z.zarr").fit(X, y, resume=True)
    assert_same(weights_of(resumed), weights_of(whole))
    assert_same(history_of(resumed), history_of(whole))
    for a, b in zip(resumed.z_, whole.z_, strict=True):
        np.testing.assert_array_equal(a.compute(), b.compute())


def interrupt(monkeypatch, step):
    """Raise KeyboardInterrupt in the update of a step."""
    update = tasks.update

    def failing(shared, state, parts):
        if state.step == step:
            raise KeyboardInterrupt
        return update(shared, state, parts)

    monkeypatch.setattr(tasks, "update", failing)


def test_a_fit_whose_seed_was_left_to_chance_is_resumed_with_that_seed(
    digits, tmp_path, monkeypatch
):
    model = network(store=tmp_path / "z.zarr").set_params(random_state=None)
    interrupt(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="sync"):
        model.fit(*digits)
    monkeypatch.undo()
    model.fit(*digits, resume=True)
    drawn = record_in(tmp_path / "z.zarr")["identity"]["random_state"]
    monkeypatch.setattr("daskalt.estimators.perceptron.check_random_state", lambda _: Drawn(drawn))
    assert_same(weights_of(model), weights_of(network().fit(*digits)))


def record_in(folder):
    """The newest checkpoint's record."""
    return json.loads(max(folder.glob("checkpoint-*.json")).read_text())["record"]


class Drawn:
    """A random state that draws one number."""

    def __init__(self, number):
        self.number = number

    def randint(self, _):
        return self.number


def test_resume_notices_other_rows(digits, tmp_path):
    X, y = digits
    place = tmp_path / "z.zarr"
    network(store=place).fit(X, y)
    other = y.copy()
    other[:2] = other[1::-1]
    with pytest.raises(InputError, match="of another fit, with y "):
        network(store=place).fit(X, other, resume=True)
    darker = X.copy()
    darker[3, 20] ^= 1
    with pytest.raises(InputError, match="of another fit, with X "):
        network(store=place).fit(darker, y, resume=True)


def test_resume_starts_where_there_is_nothing_yet_and_repeats_nothing_at_the_end(digits, tmp_path):
    X, y = digits
    place = tmp_path / "z.zarr"
    first = network(store=place).fit(X, y, resume=True)
    again = network(store=place).fit(X, y, resume=True)
    assert_same(weights_of(first), weights_of(again))
    assert again.n_iter_ == 6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mu": 2.0}, "mu 10.0"),
        ({"max_iter": 5}, "has made 6 passes already"),
        ({"sweeps": 2}, "sweeps 1"),
    ],
)
def test_resume_refuses_the_checkpoint_of_another_fit(digits, tmp_path, change, named):
    place = tmp_path / "z.zarr"
    network(store=place).fit(*digits)
    with pytest.raises(InputError, match=named):
        network(**change, store=place).fit(*digits, resume=True)


def test_resume_without_a_place_says_what_it_needs(digits):
    with pytest.raises(InputError, match="checkpoint='folder'"):
        network().fit(*digits, resume=True)


def test_a_broken_checkpoint_is_named(digits, tmp_path):
    place = tmp_path / "z.zarr"
    network(store=place).fit(*digits)
    max(place.glob("checkpoint-*.json")).write_text("{")
    with pytest.raises(StorageError, match="checkpoint in"):
        network(store=place).fit(*digits, resume=True)


def test_a_bit_flipped_in_z_is_found(digits, tmp_path, monkeypatch):
    place = tmp_path / "z.zarr"
    interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="sync"):
        network(store=place).fit(*digits)
    monkeypatch.undo()
    chunk = place / "odd" / "z1" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[7] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="z1, rows 0"):
        network(store=place).fit(*digits, resume=True)


# ----------------------------------------------------------------------------- z on disk


def test_z_can_be_seen_as_dask_arrays(digits, tmp_path):
    model = network(mu=0.1, store=tmp_path / "z.zarr").fit(*digits)
    z = model.z_
    assert [array.shape for array in z] == [(600, 16), (600, 10)]
    assert all(isinstance(array, da.Array) for array in z)
    hits = np.mean(z[-1].compute().argmax(axis=1) == digits[1])
    assert hits > 0.95  # z_L is pulled towards the labels
    size = sum(p.stat().st_size for p in (tmp_path / "z.zarr").rglob("c/*/*"))
    planned = model._kept_variables.nbytes
    assert planned <= size <= 1.05 * planned


def test_z_is_removed_after_the_fit_unless_it_has_a_place(digits, tmp_path):
    model = network(max_iter=2).set_params(scratch=str(tmp_path)).fit(*digits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AttributeError, match="store="):
        _ = model.z_


def test_what_is_no_store_of_z_is_never_replaced(digits, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    zarr.save_group(str(tmp_path / "data.zarr"), X=digits[0])
    for place in (tmp_path, tmp_path / "data.zarr"):
        for resume in (False, True):
            with pytest.raises(InputError, match="is no store of z"):
                network(store=str(place)).fit(*digits, resume=resume)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    assert zarr.open_array(str(tmp_path / "data.zarr" / "X")).shape == (600, 64)
    own = network(store=str(tmp_path / "z.zarr"), max_iter=1)
    own.fit(*digits)
    own.fit(*digits)  # a new fit replaces the old one


def test_z_is_removed_after_a_failure_too(digits, tmp_path, monkeypatch):
    def failing(self, problem, state, statistics):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(BatchAltMin, "update", failing)
    with pytest.raises(RuntimeError, match="on purpose"):
        network().set_params(scratch=str(tmp_path)).fit(*digits)
    assert list(tmp_path.iterdir()) == []


def test_a_z_store_on_an_object_store(digits):
    model = network(store="memory://batch-z.zarr", max_iter=2)
    with dask.config.set(scheduler="threads"):
        model.fit(*digits)
    assert zarr.open_group("memory://batch-z.zarr", mode="r")["even/z1"].shape == (600, 16)
    assert len(model.z_) == 2


def test_early_stopping_and_row_weights(digits):
    X, y = digits
    model = network(max_iter=20).set_params(early_stopping=True)
    weight = np.where(np.arange(600) % 5 == 0, 0.0, 1.0)
    model.fit(X, y, weight)
    assert {"validation_loss", "objective", "coupling_2", "restarted"} <= set(model.history_[0])
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("mu", [(1.0,), (1.0, 1.0, 1.0)])
def test_a_mu_for_each_layer(digits, mu):
    with pytest.raises(InputError, match="mu has"):
        network(mu=mu).fit(*digits)

"""scikit-learn's parameters of a perceptron: their equivalents here, and those refused."""

import re
import warnings

import numpy as np
import pytest
import yaml
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from daskalt import (
    LBFGS,
    BatchAltMin,
    GradientDescent,
    MLPClassifier,
    MLPRegressor,
    Newton,
    StochasticAltMin,
)
from daskalt.errors import InputError
from daskalt.rules import SGD, Adam, Constant, CosineRestarts, InverseScaling, RMSProp
from daskalt.runs.config import load_config

SAME = {
    "sgd": (
        {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.5, "nesterovs_momentum": False},
        GradientDescent(SGD(0.05, momentum=0.5, nesterov=False)),
    ),
    "constant": (
        {"solver": "sgd", "learning_rate": "constant", "momentum": 0.0},
        GradientDescent(SGD(momentum=0.0)),
    ),
    "invscaling": (
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
        GradientDescent(SGD(), schedule=InverseScaling(0.3)),
    ),
    "adam": (
        {
            "solver": "adam",
            "learning_rate_init": 0.02,
            "beta_1": 0.8,
            "beta_2": 0.99,
            "epsilon": 1e-3,
        },
        GradientDescent(Adam(0.02, beta_1=0.8, beta_2=0.99, epsilon=1e-3)),
    ),
    "rmsprop": (
        {"solver": "rmsprop", "learning_rate_init": 0.02},
        GradientDescent(RMSProp(0.02)),
    ),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((240, 5))
    return X, np.digitize(X[:, 0] + X[:, 1] ** 2, [0.3, 1.5])


def assert_same(model, other):
    for a, b in zip(
        model.coefs_ + model.intercepts_, other.coefs_ + other.intercepts_, strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SAME)
def test_parameters_give_the_bits_of_the_solver_object(rows, name):
    borrowed, solver = SAME[name]
    common = {"max_iter": 3, "batch_size": 40, "random_state": 0}
    model = MLPClassifier((6,), **borrowed, **common).fit(*rows)
    assert_same(model, MLPClassifier((6,), solver=solver, **common).fit(*rows))
    default = MLPClassifier((6,), solver=borrowed["solver"], **common).fit(*rows)
    assert name == "constant" or any(
        np.any(a != b) for a, b in zip(model.coefs_, default.coefs_, strict=True)
    )
    # None is the solver's own, also where it comes from clone or set_params.
    model = clone(model).set_params(**dict.fromkeys(borrowed.keys() - {"solver"}))
    assert_same(model.fit(*rows), default)


def test_a_saved_model_and_partial_fit_keep_to_them(rows, tmp_path):
    from daskalt import load, save

    model = MLPClassifier((6,), solver="sgd", momentum=0.3, random_state=0)
    other = MLPClassifier((6,), solver=GradientDescent(SGD(momentum=0.3)), random_state=0)
    for each in (model, other):
        each.partial_fit(*rows, classes=[0, 1, 2]).partial_fit(*rows)
    assert_same(model, other)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.momentum == 0.3
    assert_same(loaded, model)
    save(other, tmp_path / "other")
    assert_same(loaded.partial_fit(*rows), load(tmp_path / "other").partial_fit(*rows))


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
        {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.7, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.7, "nesterovs_momentum": True},
        {"solver": "adam", "learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.9},
    ],
)
def test_full_batches_step_as_scikit_learn_does(rows, options):
    X, y = rows
    common = {**options, "activation": "tanh", "alpha": 0.1, "batch_size": len(X), "tol": 0}
    common |= {"max_iter": 1, "warm_start": True, "random_state": 0}
    ours = MLPClassifier((6,), scale="none", **common).fit(X, y)
    theirs = neural_network.MLPClassifier((6,), **common, n_iter_no_change=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)
        theirs.coefs_ = [w.copy() for w in ours.coefs_]
        theirs.intercepts_ = [b.copy() for b in ours.intercepts_]
        theirs.set_params(max_iter=6).fit(X, y)
    before = ours.coefs_[0]
    ours.set_params(max_iter=6).fit(X, y)
    assert np.abs(ours.coefs_[0] - before).max() > 0.01
    for a, b in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        # Adam's epsilon is added after the correction of the bias here, and before it there.
        rough = options["solver"] == "adam"
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4 if rough else 1e-8)
    np.testing.assert_allclose(ours.best_loss_, ours.loss_curve_[-1])


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd", "momentum": 0.3, "learning_rate": "invscaling", "power_t": 0.2},
        {"solver": "lbfgs", "max_fun": 4},
    ],
)
def test_a_written_out_configuration_makes_the_same_run(tmp_path, parameters):
    tree = {"estimator": "MLPClassifier", "parameters": parameters, "output": "run"}
    tree |= {"data": {"dataset": "wine"}}
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    written = yaml.safe_dump(config.resolved())
    path.write_text(written)
    again = load_config(path)
    assert yaml.safe_dump(again.resolved()) == written
    assert again.estimator.max_fun == parameters.get("max_fun")
    solvers = [each.estimator._solver.get_params() for each in (config, again)]
    assert parameters["solver"] == "lbfgs" or all(
        each["rule"].momentum == 0.3 and each["schedule"].power == 0.2 for each in solvers
    )


def test_a_grid_search_reaches_them(rows):
    grid = {"momentum": [0.1, 0.9], "learning_rate_init": [1e-9, 0.1]}
    model = MLPClassifier((6,), solver="sgd", max_iter=5, random_state=0)
    assert GridSearchCV(model, grid, cv=2).fit(*rows).best_params_["learning_rate_init"] == 0.1


def test_an_evaluation_of_the_loss_is_a_pass(rows):
    for solver in ("lbfgs", LBFGS()):
        model = MLPClassifier((6,), solver=solver, max_fun=4, random_state=0).fit(*rows)
        assert model.n_iter_ == 4
        assert model.plan(*rows).passes == 4
    model = MLPClassifier((6,), solver="lbfgs", max_fun=40, max_iter=3, random_state=0).fit(*rows)
    assert model.n_iter_ == 3


def test_scikit_learns_name_of_the_squared_error(rows):
    X, y = rows[0], rows[0][:, 0]
    model = MLPRegressor((6,), loss="squared_error", max_iter=2, random_state=0).fit(X, y)
    assert_same(model, MLPRegressor((6,), loss="squared", max_iter=2, random_state=0).fit(X, y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 0.9}, "momentum=0.9 means nothing to solver='altmin'.*solver='sgd'"),
        ({"learning_rate": "constant"}, "learning_rate='constant' means nothing .*StochasticAlt"),
        ({"learning_rate_init": 0.001}, "solver='sgd' or solver='adam'"),
        ({"max_fun": 15000}, "max_fun=15000 means nothing .* choose solver='lbfgs'"),
        ({"solver": "adam", "momentum": 0.9}, "momentum=0.9 means nothing to solver='adam'"),
        ({"solver": "sgd", "beta_1": 0.9}, "beta_1=0.9 means nothing to solver='sgd'"),
        ({"solver": "sgd", "power_t": 0.5}, "power_t=0.5 applies to learning_rate='invscaling'"),
        ({"solver": "sgd", "learning_rate": "adaptive"}, "'adaptive'.*schedule=StepDecay"),
        (
            {"solver": GradientDescent(Adam(0.01)), "learning_rate": "adaptive"},
            r"solver=GradientDescent\(rule=Adam\(learning_rate=0.01\), schedule=StepDecay",
        ),
        (
            {"solver": GradientDescent(), "learning_rate": "constant", "power_t": 0.2},
            "power_t=0.2 applies to learning_rate='invscaling'",
        ),
        ({"solver": GradientDescent(), "max_fun": 5}, "means nothing.*needs none.*of solver='lbf"),
        ({"solver": "sgd", "momentum": 1.5}, "parameter momentum of MLPClassifier must be"),
        ({"solver": "adam", "beta_2": True}, "parameter beta_2 of MLPClassifier must be"),
    ],
)
def test_what_has_no_meaning_is_refused_before_any_work(options, message):
    with pytest.raises(InputError, match=message):
        MLPClassifier(**options).fit("there is no such store")


@pytest.mark.parametrize(
    ("solver", "options", "meant"),
    [
        (GradientDescent(SGD()), {"power_t": 0.3}, GradientDescent(schedule=InverseScaling(0.3))),
        (
            GradientDescent(SGD(), schedule=InverseScaling(0.3)),
            {"learning_rate": "invscaling", "momentum": 0.4},
            GradientDescent(SGD(momentum=0.4), schedule=InverseScaling(0.3)),
        ),
        (
            GradientDescent(schedule=CosineRestarts(3.0)),
            {"learning_rate": "constant"},
            GradientDescent(schedule=Constant()),
        ),
        (
            GradientDescent(Adam(1e-2), schedule=CosineRestarts(3.0), tasks=2),
            {"learning_rate_init": 0.02, "epsilon": 1e-3},
            GradientDescent(Adam(0.02, epsilon=1e-3), schedule=CosineRestarts(3.0), tasks=2),
        ),
        (GradientDescent("rmsprop"), {"epsilon": 1e-3}, GradientDescent(RMSProp(epsilon=1e-3))),
    ],
)
def test_beside_an_object_the_equivalent_object_is_suggested(solver, options, meant):
    before = repr(solver)
    with pytest.raises(InputError, match="beside a solver object") as caught:
        MLPClassifier(solver=solver, **options).fit("there is no such store")
    suggested = eval(re.search(r"or give solver=(.*)\.$", str(caught.value)).group(1))
    assert repr(suggested.set_params(schedule=suggested._schedule)) == repr(
        meant.set_params(schedule=meant._schedule, rule=meant._rule)
    )
    assert repr(solver) == before


@pytest.mark.parametrize("solver", [LBFGS(), Newton(), StochasticAltMin(damping=2), BatchAltMin()])
@pytest.mark.parametrize("options", [{"learning_rate": "constant"}, {"learning_rate_init": 0.01}])
def test_a_solver_that_needs_no_rate_is_not_exchanged(solver, options):
    with pytest.raises(InputError, match="needs none: leave it out") as caught:
        MLPClassifier(solver=solver, **options).fit("there is no such store")
    assert f"solver={' '.join(repr(solver).split())}," in str(caught.value)
    assert "GradientDescent" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_newton_leaves_a_common_change_of_all_biases_alone(dtype):
    """Of a softmax it changes nothing, so that only rounding could ask for it."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 4)).astype(dtype), rng.integers(0, 3, 200)
    model = MLPClassifier((), solver="newton", max_iter=5, tol=0, random_state=0).fit(X, y)
    assert np.ptp(model.intercepts_[0]) > 0.01
    assert abs(model.solver_state_.weights[0][:, -1].sum()) < 100 * np.finfo(dtype).eps

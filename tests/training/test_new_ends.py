"""Fits resumed to make more passes than planned at first."""

import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
import yaml

from daskalt import BatchAltMin, Checkpoints, GradientDescent, MLPClassifier, StochasticAltMin, load
from daskalt.errors import CheckpointWarning, InputError
from daskalt.runs import cli
from daskalt.solvers.descent import FALLS
from tests.conftest import write_group
from tests.training.test_keeping import Cut, assert_same, cut_at

STEADY = {
    "sgd": "sgd",
    "adam": "adam",
    "full batch": GradientDescent(full_batch=True),
    "gd": "gd",
    "cg": "cg",
    "lbfgs": "lbfgs",
    "newton": "newton",
    "constant altmin": StochasticAltMin(schedule="constant"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((400, 6)).astype(np.float32)
    y = np.argmax(X[:, :3] + X[:, 3:] ** 2 + 0.1 * rng.standard_normal((400, 3)), axis=1)
    return write_group(tmp_path_factory.mktemp("rows") / "rows.zarr", X, y, chunk_rows=50)


def network(solver, checkpoint=None, **options):
    hidden = () if solver == "newton" else (7,)
    options = {"max_iter": 3, "batch_size": 50, "tol": 0, "random_state": 0} | options
    solver = STEADY.get(solver, solver)
    return MLPClassifier(hidden, solver=solver, checkpoint=checkpoint, **options)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", STEADY)
def test_steps_that_do_not_depend_on_the_end_have_the_same_bits(
    place, tmp_path, solver, early_stopping
):
    """Also from a fit that ended with the weights of an earlier pass than its last."""
    if early_stopping and solver not in ("sgd", "full batch"):
        return
    options = {"early_stopping": early_stopping}
    network(solver, tmp_path / "fit", **options).fit(place)
    model = network(solver, tmp_path / "fit", max_iter=6, **options).fit(place, resume=True)
    whole = network(solver, max_iter=6, **options).fit(place)
    assert_same(model, whole)
    assert model.stop_reason_ == whole.stop_reason_
    assert model.cost_["resumed_after"] == min(3, whole.n_iter_)
    # The state that it ended with is in its checkpoint, too.
    assert_same(
        network(solver, tmp_path / "fit", max_iter=6, **options).fit(place, resume=True), whole
    )


def test_a_finished_fit_is_trained_on_elsewhere(place, tmp_path, cluster):
    options = {"early_stopping": True, "max_iter": 4}
    whole = network("sgd", **options | {"max_iter": 6}).fit(place)
    client = cluster(2)
    model = network("sgd", tmp_path / "fit", **options).fit(place, client=client)
    with dask.config.set(scheduler="threads"):
        model.set_params(max_iter=5).fit(place, resume=True)
    assert_same(model.set_params(max_iter=6).fit(place, resume=True, client=client), whole)
    with dask.config.set(scheduler="threads"):
        assert_same(model.fit(place, resume=True), whole)


def test_steps_that_shrink_towards_the_end_say_so(place, tmp_path):
    network("altmin", tmp_path / "fit").fit(place)
    model = network("altmin", tmp_path / "fit", max_iter=5)
    with pytest.warns(CheckpointWarning, match="after 5 passes instead of 3"):
        model.fit(place, resume=True)
    assert model.n_iter_ == 5
    state = model.solver_state_
    assert state.budget.steps == state.step == 5 * 8
    assert model.loss_curve_[4] < model.loss_curve_[2]
    whole = network("altmin", max_iter=5).fit(place)
    assert any(np.any(a != b) for a, b in zip(model.coefs_, whole.coefs_, strict=True))


def test_the_schedule_continues_at_the_same_pass(place, tmp_path, monkeypatch):
    network("altmin", tmp_path / "fit").fit(place)
    shares = []
    linear = FALLS["linear"]
    monkeypatch.setitem(FALLS, "linear", lambda share: shares.append(share) or linear(share))
    with pytest.warns(CheckpointWarning):
        network("altmin", tmp_path / "fit", max_iter=4).fit(place, resume=True)
    np.testing.assert_allclose(shares, np.arange(24, 32) / 32)


@pytest.mark.parametrize("solver", ["adam", "altmin", "batch-altmin"])
@pytest.mark.parametrize("passes", [2, 5])
def test_a_fit_cut_short_gets_a_new_end(place, tmp_path, solver, passes):
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_steps=3, every_minutes=None)
    with cut_at(5 if solver != "batch-altmin" else 1), pytest.raises(Cut):
        network(solver, checkpoints, max_iter=4).fit(place)
    model = network(solver, checkpoints, max_iter=passes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(place, resume=True)
    assert [w.category for w in caught] == ([] if solver == "adam" else [CheckpointWarning])
    assert model.n_iter_ == passes
    if solver == "adam":
        assert_same(model, network(solver, max_iter=passes).fit(place))


def test_a_number_takes_the_place_of_the_solvers_own(place, tmp_path):
    network("adam", tmp_path / "fit", max_iter=3).fit(place)
    model = network("adam", tmp_path / "fit", max_iter=None, n_iter_no_change=2, tol=1e-4)
    with pytest.raises(InputError, match="with tol 0"):  # all else is strict
        model.fit(place, resume=True)
    model = network("adam", tmp_path / "fit", max_iter=None).fit(place, resume=True)
    assert_same(model, network("adam", max_iter=None).fit(place))


def test_fewer_passes_than_were_made_are_refused(place, tmp_path):
    network("adam", tmp_path / "fit").fit(place)
    with pytest.raises(InputError, match=r"max_iter=2: .* has made 3 passes already. Raise max_it"):
        network("adam", tmp_path / "fit", max_iter=2).fit(place, resume=True)
    checkpoints = Checkpoints(str(tmp_path / "cut"), every_steps=3, every_minutes=None)
    with cut_at(4), pytest.raises(Cut):
        network("adam", checkpoints).fit(place)
    with pytest.raises(InputError, match="has made 1 pass, step 3 of the next already"):
        network("adam", checkpoints, max_iter=1).fit(place, resume=True)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"max_fun": 3, "max_iter": 50}, "max_fun"),
        ({"max_fun": 3, "max_iter": None}, "max_fun"),
        ({"max_fun": 3}, "max_iter and max_fun"),
        ({"max_fun": 50}, "max_iter"),
    ],
)
def test_what_limits_the_passes_is_named(place, tmp_path, options, limit):
    network("lbfgs", tmp_path / "fit", max_iter=6).fit(place)
    with pytest.raises(InputError, match=rf"^{limit}=3: .* Raise {limit} to train on"):
        network("lbfgs", tmp_path / "fit", **options).fit(place, resume=True)


def test_a_fit_that_ended_by_itself_stays_so(place, tmp_path):
    options = {"tol": 10.0, "n_iter_no_change": 1}
    first = network("adam", tmp_path / "fit", **options).fit(place)
    assert first.n_iter_ == 2
    model = network("adam", tmp_path / "fit", max_iter=9, **options)
    with pytest.warns(CheckpointWarning, match=r"ended by itself after 2 passes: training loss"):
        model.fit(place, resume=True)
    assert_same(model, first)
    assert model.stop_reason_ == first.stop_reason_


def test_variables_of_the_rows_must_still_be_there(place, tmp_path):
    steady = BatchAltMin(schedule="constant")
    network(steady, tmp_path / "fit").fit(place)
    with pytest.raises(InputError, match=r"is finished, and z is no longer kept.*warm_start"):
        network(steady, tmp_path / "fit", max_iter=5).fit(place, resume=True)
    network("batch-altmin", tmp_path / "annealed").fit(place)
    with pytest.raises(InputError, match=r"max_iter: .* is finished, and z is no longer kept"):
        # Refused, and not warned of the end that it will not have.
        network("batch-altmin", tmp_path / "annealed", max_iter=5).fit(place, resume=True)
    kept = BatchAltMin(schedule="constant", store=str(tmp_path / "z.zarr"))
    network(kept).fit(place)
    model = network(kept, max_iter=5).fit(place, resume=True)
    assert_same(model, network(steady, max_iter=5).fit(place))
    assert Path(tmp_path / "z.zarr").is_dir()


def test_a_finished_run_is_trained_on_from_a_place_of_its_own(place, tmp_path, capsys):
    def fit(*options, passes=2):
        words = ["--parameters.max_iter", str(passes), "--output", str(tmp_path / "run")]
        return cli.main(["fit", str(tmp_path / "conf.yaml"), *words, *options])

    parameters = {"hidden_layer_sizes": [7], "solver": "adam", "random_state": 0, "tol": 0}
    parameters |= {"batch_size": 50}
    conf = {"estimator": "MLPClassifier", "parameters": parameters, "data": {"train": place}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf | {"output": "none"}))
    kept = ("--parameters.checkpoint", str(tmp_path / "points"), "--overwrite")
    assert fit(*kept) == 0
    assert fit(*kept[:2], "--resume", passes=4) == 2
    assert "Pass --resume and --overwrite to train on" in capsys.readouterr().err
    assert fit(*kept, "--resume", passes=4) == 0
    assert "Trained 4 passes" in capsys.readouterr().out
    assert_same(load(tmp_path / "run" / "model"), network("adam", max_iter=4).fit(place))
    assert fit(*kept, "--resume", passes=3) == 2
    assert "has made 4 passes already" in capsys.readouterr().err

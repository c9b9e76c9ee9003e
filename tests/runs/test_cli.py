"""The `daskalt` command: whole runs, every kind of wrong input, nothing left half-written."""

import csv
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import distributed
import numpy as np
import pytest
import yaml
import zarr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import daskalt
from daskalt import Checkpoints
from daskalt.errors import ConfigError, InputError
from daskalt.runs import cli, clusters, running
from daskalt.runs.config import load_config
from daskalt.runs.document import read_words
from daskalt.runs.folder import RunFolder
from daskalt.storage.locks import locked
from daskalt.training.monitor import Monitor

CONF = Path(__file__).parents[2] / "conf"
QUICK = {
    "estimator": "MLPClassifier",
    "parameters": {"hidden_layer_sizes": [8], "max_iter": 2, "random_state": 0},
    "data": {"dataset": "wine", "chunk_rows": 32},
}


def write_config(folder, **changes):
    tree = QUICK | {"output": str(folder / "run")} | changes
    path = folder / "conf.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in tree.items() if value is not None})
    )
    return str(path)


@pytest.fixture
def rows(tmp_path):
    """A Zarr group of three classes that lie apart."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = rng.normal(y[:, None], 0.1, (300, 4)).astype(np.float32)
    group = zarr.create_group(tmp_path / "rows.zarr")
    group.create_array("X", data=X, chunks=(64, 4))
    group.create_array("y", data=y, chunks=(64,))
    return str(tmp_path / "rows.zarr")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert cli.main(["fit", write_config(folder)]) == 0
    return folder / "run"


def refused(capsys, *words):
    """Return the one line on stderr of a command that must exit with 2."""
    assert cli.main(list(words)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


# Runs


def test_run_folder_is_complete(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoint", "config.yaml", "data", "log.txt", "metrics.csv", "model",
        "report.html", "report.json",
    ]  # fmt: skip
    assert [path.name for path in finished.parent.iterdir() if path.name[0] == "."] == []
    report = json.loads((finished / "report.json").read_text())
    test = str(finished / "data" / "test.zarr")
    model = daskalt.load(finished / "model")
    assert report["held_out"]["accuracy"] == model.score(test)
    assert report["cost"]["passes"] == 2
    assert report["rows"] == {"training": 142, "held_out": 36}
    assert report["versions"]["daskalt"] == daskalt.__version__
    with (finished / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in metrics] == model.loss_curve_
    assert float(metrics[-1]["validation_accuracy"]) == model.score(test)


def test_held_out_rows_are_the_rest_of_the_data_set(finished):
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True)
    parts = [zarr.open_group(finished / "data" / f"{part}.zarr") for part in ("train", "test")]
    both = np.concatenate([np.c_[part["X"][:], part["y"][:]] for part in parts])
    expected = np.c_[X.astype(np.float32), y]
    order = [np.lexsort(rows.T) for rows in (both, expected)]
    np.testing.assert_array_equal(both[order[0]], expected[order[1]])


def test_resolved_configuration_has_every_parameter_and_makes_the_same_run(finished, tmp_path):
    resolved = yaml.safe_load((finished / "config.yaml").read_text())
    assert set(resolved["parameters"]) == set(daskalt.MLPClassifier().get_params(deep=False))
    solver = dict(resolved["parameters"]["solver"])
    assert solver.pop("name") == "altmin"
    assert set(solver) == set(daskalt.StochasticAltMin().get_params())
    assert (
        cli.main(["fit", str(finished / "config.yaml"), "--output", str(tmp_path / "again")]) == 0
    )
    again = daskalt.load(tmp_path / "again" / "model")
    for a, b in zip(again.coefs_, daskalt.load(finished / "model").coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_bundled_configurations_load(path):
    config = load_config(path)
    assert config.output == f"runs/{path.stem}"
    tree = config.resolved()
    assert yaml.safe_load(yaml.safe_dump(tree))["data"] == tree["data"]


@pytest.mark.parametrize("name", ["digits", "breast-cancer", "diabetes"])
def test_bundled_runs_learn_as_much_as_a_linear_model(name, tmp_path):
    folder = tmp_path / "run"
    words = ["--output", str(folder), "--parameters.verbose", "false"]
    assert cli.main(["fit", str(CONF / f"{name}.yaml"), *words]) == 0
    parts = [zarr.open_group(folder / "data" / f"{part}.zarr") for part in ("train", "test")]
    (X, y), test = ((part["X"][:], part["y"][:]) for part in parts)
    linear = RidgeCV() if name == "diabetes" else LogisticRegression(max_iter=1000)
    expected = make_pipeline(StandardScaler(), linear).fit(X, y).score(*test)
    # A few standard errors of so few rows: what fails here has not learned.
    margin = 0.15 if name == "diabetes" else 0.04
    held_out = json.loads((folder / "report.json").read_text())["held_out"]
    assert held_out["r2" if name == "diabetes" else "accuracy"] > expected - margin


@pytest.mark.parametrize("early_stopping", [False, True])
def test_curves_say_which_rows_were_watched(tmp_path, early_stopping):
    path = write_config(tmp_path)
    assert cli.main(["fit", path, "--parameters.early_stopping", str(early_stopping)]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    held = "validation" if early_stopping else "held-out"
    assert f"Curve of the loss by pass: training, {held}." in page


def test_regression_reports_r2(tmp_path):
    path = write_config(tmp_path, estimator="MLPRegressor", data={"dataset": "diabetes"})
    assert cli.main(["fit", path, "--parameters.early_stopping", "true"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    model = daskalt.load(tmp_path / "run" / "model")
    assert report["held_out"]["r2"] == model.score(str(tmp_path / "run" / "data" / "test.zarr"))
    # Early stopping watches rows of its own, not those that are held out for the report.
    assert report["last_pass"]["validation_r2"] != report["held_out"]["r2"]


def test_own_data_with_last_rows_held_out(rows, tmp_path):
    path = write_config(tmp_path, data={"train": rows, "held_out": 0.25})
    assert cli.main(["fit", path, "--parameters.max_iter", "10"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["rows"] == {"training": 225, "held_out": 75}  # not 108, in whole chunks of 64
    assert report["held_out"]["accuracy"] > 0.95
    assert not (tmp_path / "run" / "data").exists()


def test_own_data_and_own_held_out(rows, tmp_path):
    path = write_config(tmp_path, data={"train": rows, "test": rows})
    assert cli.main(["fit", path]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["rows"] == {"training": 300, "held_out": 300}
    assert "held_out" in report


def test_own_data_without_held_out_rows(rows, tmp_path):
    path = write_config(tmp_path, data={"train": rows})
    assert cli.main(["fit", path]) == 0
    assert "held_out" not in json.loads((tmp_path / "run" / "report.json").read_text())


def test_worker_processes_give_the_same_bits(finished, tmp_path):
    words = ["fit", write_config(tmp_path), "--workers", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "daskalt.runs.cli", *words],
        cwd=CONF.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "held-out rows: loss" in run.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["measured"]["worker_bytes"] > 0
    here, there = (daskalt.load(run / "model") for run in (finished, tmp_path / "run"))
    for a, b in zip(here.coefs_, there.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


# The run folder is whole or not there


def test_a_finished_run_is_kept_unless_told_otherwise(tmp_path, capsys):
    path = write_config(tmp_path)
    assert cli.main(["fit", path]) == 0
    capsys.readouterr()
    before = (tmp_path / "run" / "report.json").read_bytes()
    assert "Pass --overwrite" in refused(capsys, "fit", path)
    refused(capsys, "fit", path, "--overwrite", "--parameters.solver.damping", "-1")
    assert (tmp_path / "run" / "report.json").read_bytes() == before
    assert cli.main(["fit", path, "--overwrite"]) == 0
    assert (tmp_path / "run" / "report.json").read_bytes() != before


def test_what_a_killed_run_left_is_cleared(tmp_path):
    left = tmp_path / ".run.partial"
    left.mkdir()
    (left / "report.json").write_text("half")
    assert cli.main(["fit", write_config(tmp_path)]) == 0
    assert not left.exists()


def test_a_folder_of_something_else_is_never_replaced(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    assert "not replaced" in refused(capsys, "fit", write_config(tmp_path), "--overwrite")
    assert (tmp_path / "run" / "thesis.tex").exists()


def test_the_data_is_never_replaced(tmp_path, capsys):
    path = write_config(tmp_path)
    assert cli.main(["fit", path]) == 0
    capsys.readouterr()
    train = str(tmp_path / "run" / "data" / "train.zarr")
    other = write_config(tmp_path, data={"train": train})
    assert "lies in the run folder" in refused(capsys, "fit", other, "--overwrite")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (None, 1)])
def test_interrupts_and_bugs_leave_nothing(tmp_path, monkeypatch, error, code):
    def stop(*_):
        raise error or RuntimeError("a bug")

    monkeypatch.setattr(running, "_fit", stop)
    path = write_config(tmp_path)
    if code == 130:
        assert cli.main(["fit", path]) == code
    else:  # an uncaught exception is exit code 1, with its traceback
        with pytest.raises(RuntimeError, match="a bug"):
            cli.main(["fit", path])
    assert [path.name for path in tmp_path.iterdir()] == ["conf.yaml"]


@pytest.mark.parametrize("solver", ["altmin", "batch-altmin", "stored"])
def test_a_run_that_was_cut_short_is_resumed(tmp_path, monkeypatch, capsys, solver):
    def config(name):
        described = {"name": "batch-altmin", "store": str(tmp_path / f"{name}.zarr")}
        parameters = QUICK["parameters"] | {
            "solver": described if solver == "stored" else solver,
            "max_iter": 4,
            "batch_size": 50,
        }
        return write_config(tmp_path, parameters=parameters, output=str(tmp_path / name))

    assert cli.main(["fit", config("whole")]) == 0
    see = Monitor.see

    def failing(self, result, record):
        if result.number == 2:
            raise KeyboardInterrupt
        return see(self, result, record)

    monkeypatch.setattr(Monitor, "see", failing)
    assert cli.main(["fit", config("cut"), "--data.seed", "0"]) == 130
    monkeypatch.undo()
    error = capsys.readouterr().err
    command = error.splitlines()[-1]
    assert command == f"daskalt fit {tmp_path}/conf.yaml --data.seed 0 --resume"
    assert json.loads((tmp_path / "cut" / "report.json").read_text())["status"] == "stopped"
    message = refused(capsys, "fit", config("cut"))
    assert "cut short after 2 passes" in message
    assert "--resume" in message
    assert cli.main(shlex.split(command)[1:]) == 0
    resumed, whole = (daskalt.load(tmp_path / name / "model") for name in ("cut", "whole"))
    assert resumed.n_iter_ == 4
    for a, b in zip(resumed.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    kept = {"cut.zarr", "whole.zarr"} if solver == "stored" else set()
    assert {path.name for path in tmp_path.iterdir()} == {"conf.yaml", "cut", "whole"} | kept


def test_a_run_that_was_cut_short_is_replaced_when_asked_to(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)
    monkeypatch.setattr(running, "save", None)  # the fit is over, the model cannot be written
    with pytest.raises(TypeError):
        cli.main(["fit", config])
    monkeypatch.undo()
    capsys.readouterr()
    assert (tmp_path / "run" / "checkpoint").is_dir()
    assert "after its last pass" in refused(capsys, "fit", config)
    assert cli.main(["fit", config, "--overwrite"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"conf.yaml", "run"}
    assert len(list((tmp_path / "run" / "checkpoint").glob("*.json"))) == 1


def test_a_run_goes_on_until_its_workers_have_ended(tmp_path, monkeypatch, capsys):
    """Stopped after the fit, while workers are being told to end, a run can still go on."""
    config = write_config(tmp_path)

    @contextmanager
    def interrupted(_):
        yield
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "cluster_of", interrupted)
        assert cli.main(["fit", config]) == 130
    assert (tmp_path / "run" / "checkpoint").is_dir()
    assert cli.main(["fit", config, "--resume"]) == 0
    assert len(list((tmp_path / "run" / "checkpoint").glob("*.json"))) == 1


def test_a_run_that_replaces_another_prints_a_command_that_does(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)
    assert cli.main(["fit", config]) == 0

    def failing(self, result, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", failing)
        assert cli.main(["fit", config, "--overwrite"]) == 130
    command = capsys.readouterr().err.splitlines()[-1]
    assert cli.main(shlex.split(command)[1:]) == 0


def test_sigterm_puts_a_run_down(tmp_path):
    """As a batch system ends a job: a process of its own, told in the middle of a pass."""
    rng = np.random.default_rng(0)
    group = zarr.create_group(tmp_path / "rows.zarr")
    X = rng.standard_normal((4000, 30)).astype(np.float32)
    group.create_array("X", data=X, chunks=(50, 30))
    group.create_array("y", data=(X[:, 0] > 0).astype(int), chunks=(50,))
    parameters = {"max_iter": 100_000, "n_iter_no_change": 100_000, "batch_size": 100}
    config = write_config(
        tmp_path,
        parameters=parameters,
        data={"train": str(tmp_path / "rows.zarr")},
        output=str(tmp_path / "run"),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "daskalt", "fit", config], stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(tmp_path.glob("run/checkpoint/*.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.terminate()
        error = process.communicate()[1]
    assert process.returncode == 143
    assert error.splitlines()[-1] == f"daskalt fit {config} --resume"
    assert {path.name for path in tmp_path.iterdir()} == {"conf.yaml", "rows.zarr", "run"}
    assert json.loads((tmp_path / "run" / "report.json").read_text())["status"] == "stopped"


def test_the_place_of_checkpoints_is_not_configured_by_being_left_out(tmp_path, monkeypatch):
    """A resolved configuration run elsewhere left its checkpoints beside the first run."""
    assert cli.main(["fit", write_config(tmp_path)]) == 0
    resolved = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(resolved.read_text())["parameters"]["checkpoint"] is None
    places, save = [], Checkpoints.save

    def watched(self, *arguments, **options):
        places.append(self.location)
        save(self, *arguments, **options)

    monkeypatch.setattr(Checkpoints, "save", watched)
    output = str(tmp_path / "other")
    words = ["--output", output, "--parameters.random_state", "1"]
    assert cli.main(["fit", str(resolved), *words]) == 0
    assert set(places) == {str(tmp_path / "other" / "checkpoint")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf.yaml", "other", "run"]


def test_a_resumed_run_says_so_and_reports_all_of_it(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, parameters=QUICK["parameters"] | {"max_iter": 5})
    see = Monitor.see

    def failing(self, result, record):
        if result.number == 3:
            raise KeyboardInterrupt
        return see(self, result, record)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", failing)
        assert cli.main(["fit", config]) == 130
    assert cli.main(["fit", config, "--resume"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    cost = report["cost"]
    assert (cost["passes"], cost["resumed_after"]) == (5, 3)
    assert cost["seconds"] >= report["last_pass"]["total_seconds"] >= cost["training_seconds"]
    assert "3 of them before it was resumed" in capsys.readouterr().out


def test_two_runs_in_one_folder(tmp_path, capsys):
    config = write_config(tmp_path)
    with locked(str(tmp_path / "run")):
        error = refused(capsys, "fit", config)
    assert f"process {os.getpid()} on" in error
    assert cli.main(["fit", config]) == 0


def test_a_signal_while_the_report_is_written_loses_nothing(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)

    def told(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(running, "render", told)
        assert cli.main(["fit", config]) == 143
    error = capsys.readouterr().err
    command = f"daskalt fit {config} --resume"
    assert error.splitlines() == ["daskalt fit: stopped. Continue with:", command]
    assert {path.name for path in tmp_path.iterdir()} == {"conf.yaml", "run"}
    monkeypatch.setattr(
        "daskalt.estimators.perceptron.train", lambda *_: pytest.fail("trained again")
    )
    assert cli.main(shlex.split(command)[1:]) == 0


def test_a_signal_while_the_run_is_completed_comes_too_late(tmp_path, monkeypatch):
    config, complete = write_config(tmp_path), RunFolder.complete

    def told(self):
        os.kill(os.getpid(), signal.SIGINT)
        complete(self)

    monkeypatch.setattr(RunFolder, "complete", told)
    assert cli.main(["fit", config]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"conf.yaml", "run"}
    assert json.loads((tmp_path / "run" / "report.json").read_text())["status"] == "complete"


@pytest.fixture
def _loggers():
    loggers = [logging.getLogger(name) for name in ("asyncio", "distributed")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("_loggers")
def test_workers_that_are_interrupted_while_they_start_are_gone(tmp_path, monkeypatch, capfd):
    """The signal counts once they can be told to end; of their end nothing is to be seen."""
    make, made = clusters.LocalCluster, []

    def told(**options):
        os.kill(os.getpid(), signal.SIGINT)
        made.append(make(**options))
        return made[0]

    monkeypatch.setattr(clusters, "LocalCluster", told)
    config = write_config(tmp_path, workers=1)
    assert cli.main(["fit", config]) == 130
    assert made[0].status.name == "closed"
    assert not made[0].workers
    assert capfd.readouterr().err.splitlines()[1:] == [f"daskalt fit {config} --resume"]


def test_workers_have_a_session_of_their_own():
    with clusters.local_workers(1) as client:
        ((session, pid),) = client.run(lambda: (os.getsid(0), os.getpid())).values()
    assert session == pid != os.getsid(0)


def test_help_waits_for_no_library():
    code = (
        "import sys; from daskalt import __main__; from daskalt.runs import cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        "print({'numba', 'distributed', 'numpy', 'sklearn'} & set(sys.modules))"
    )
    for words in ([], ["--version"], ["--help"], ["fit", "--help"], ["plan", "--help"]):
        run = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=CONF.parent, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert run.stdout.splitlines()[-1] == "set()"


def test_the_package_has_its_names_before_they_are_imported():
    code = (
        "import daskalt, pickle; assert set(daskalt.__all__) <= set(dir(daskalt))\n"
        "assert daskalt.rules.Adam and daskalt.errors\n"
        "assert all(getattr(daskalt, name).__name__ == name for name in daskalt.__all__)\n"
        "from daskalt import *; home = daskalt.estimators.classifier\n"
        "assert MLPClassifier is home.MLPClassifier\n"
        "assert pickle.loads(pickle.dumps(MLPRegressor)) is MLPRegressor\n"
        "print(hasattr(daskalt, 'nothing'), hasattr(daskalt, '__wrapped__'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CONF.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.stdout, run.stderr) == ("False False\n", "")


def test_checkpoints_can_be_configured(tmp_path):
    config = write_config(tmp_path)
    place = str(tmp_path / "points")
    chosen = {"location": place, "every_steps": 3, "keep": 4}
    run = load_config(config, {"parameters.checkpoint": chosen})
    assert run.estimator.checkpoint == Checkpoints(place, every_steps=3, keep=4)
    assert run.resolved()["parameters"]["checkpoint"] == chosen | {"every_minutes": 5.0}
    assert cli.main(["fit", config, "--parameters.checkpoint", place]) == 0
    assert list((tmp_path / "points").glob("*.json"))


# Wrong configurations

WRONG = [
    (["--parameters.max_itre", "5"], "max_itre. Did you mean parameters.max_iter?"),
    (["--max-iter", "5"], "Did you mean --parameters.max_iter?"),
    (["--hiden", "5"], "Unknown option --hiden. Did you mean --hidden?"),
    (["--estimator", "Popen"], "estimator must be 'MLPClassifier' or 'MLPRegressor'; got"),
    (["--estimator", "subprocess.Popen"], "estimator must be 'MLPC"),
    (["--parameters", "5"], "parameters must be a valid dictionary; got 5"),
    (["--parameters.alpha", "much"], "parameters.alpha must be a valid number; got 'much'"),
    (["--parameters.alpha", "-1"], "must be a number at least 0"),
    (["--parameters.verbose", "1"], "parameters.verbose must be a valid boolean; got 1"),
    (["--parameters.verbose", "'true'"], "parameters.verbose must be a valid boolean"),
    (["--parameters.alpha", "true"], "parameters.alpha must be a valid number; got True"),
    (["--parameters.max_iter", "'5'"], "parameters.max_iter must be a valid integer; got '5'"),
    (["--parameters.max_iter", "2.5"], "parameters.max_iter must be a valid integer; got 2.5"),
    (["--parameters.random_state", "x"], "parameters.random_state must be a valid integer"),
    (["--parameters.hidden_layer_sizes", "[8, x]"], "sequence of integers"),
    (["--parameters.activation", "swish"], "'softplus'"),
    (["--parameters.output_activation", "swish"], "choose from cross_entropy on softmax"),
    (["--parameters.max_iter.x", "5"], "max_iter is 2, which has no keys"),
    (["--parameters.checkpoint.keep", "2"], "parameters.checkpoint has no location"),
    (["--parameters.checkpoint", "{location: x, kep: 2}"], "checkpoint.kep. Did you mean"),
    (["--parameters.checkpoint", "{location: x, keep: 0}"], "The parameter keep of Checkpoints"),
    (["--parameters.solver", "sgdd"], "parameters.solver must be one of altmin"),
    (["--parameters.solver", "{class_path: os.system}"], "Unknown key parameters.solver.class"),
    (["--parameters.solver.dampng", "1"], "Did you mean parameters.solver.damping?"),
    (["--parameters.solver.damping", "x"], "parameters.solver.damping must be a valid number"),
    (["--parameters.solver.mu", "[1, x]"], "parameters.solver.mu.1 must be a valid number"),
    (["--parameters.solver.mu", "x"], "mu must be a valid number or a valid tuple; got 'x'"),
    (["--parameters.solver.damping", "0"], "damping of StochasticAltMin must be a number above 0"),
    (["--data.dataset", "iris"], "data.dataset must be 'digits', 'breast_cancer'"),
    (["--data.dataset", "diabetes"], "use MLPRegressor"),
    (["--data.train", "x.zarr"], "either dataset"),
    (["--data.test", "x.zarr"], "data.test goes with data.train"),
    (["--data.held_out", "1.5"], "data.held_out must be less than 1"),
    (["--data.held_out", "0"], "data.held_out must be greater than 0"),
    (["--data.held_out", "0.001"], "held_out=0.001 does not divide 178 rows"),
    (["--data.seed", "-1"], "data.seed must be greater than or equal to 0; got -1"),
    (["--data.chunk_rows", "0"], "data.chunk_rows must be greater than or equal to 1"),
    (["--data.dataset", "null", "--data.train", "missing.zarr"], "missing.zarr"),
    (["--workers", "0"], "workers must be greater than or equal to 1; got 0"),
    (["--workers", "2", "--scheduler", "tcp://x:1"], "not both"),
    (["--parameters.alpha"], "--parameters.alpha has no value"),
    (["--parameters.alpha", "--overwrite"], "--parameters.alpha has no value"),
    (["--parameters.alpha", "[1"], "not valid YAML"),
    (["extra"], "A configuration stands alone"),
    (["-x", "5"], "Expected --key value; got '-x'"),
    (["--parameters.tol", "1", "--parameters.tol", "2"], "--parameters.tol is given twice"),
    (["--passes", "5", "--parameters.max_iter", "5"], "mean the same: give one of them"),
    (["--passes", "five"], "Invalid value for '--passes'"),
    (["--hidden", "8,x"], "--hidden must be a width or several with commas"),
    (["--dashboard", "70000"], "dashboard must be less than 65536"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda case: str(case)[:50])
def test_wrong_configurations_are_one_clear_line(tmp_path, capsys, words, message):
    assert message in refused(capsys, "fit", write_config(tmp_path), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["conf.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("5", "must be a mapping"),
        ("", "must be a mapping"),
        ("estimator: MLPClassifier", "no data and no output"),
        ("data: {seed: 1, seed: 2}", "seed appears twice"),
        ("estimator: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("estimator: MLPClassifier\ndata:\noutput: x", "no data"),
        ("estimator: MLPClassifier\ndata: {seed: 1}\noutput: x", "either dataset"),
    ],
)
def test_wrong_files(tmp_path, capsys, text, message):
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    assert message in refused(capsys, "fit", str(path))


def test_missing_configuration(tmp_path, capsys):
    assert "cannot be read" in refused(capsys, "fit", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere://127.0.0.1:1"])
def test_unreachable_scheduler(tmp_path, capsys, monkeypatch, address):
    start = partial(distributed.Client, timeout="0.2s")
    monkeypatch.setattr(clusters, "Client", lambda address, timeout: start(address))
    words = ["fit", write_config(tmp_path), "--scheduler", address]
    assert f"No Dask scheduler answers at scheduler='{address}'" in refused(capsys, *words)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ConfigError):
        cli.main(["fit", str(tmp_path / "none.yaml"), "--debug"])


def test_unrecognised_options_of_the_other_commands(capsys):
    assert "No such option: --proba" in refused(capsys, "evaluate", "model", "data", "--proba")


def test_overrides_are_read_as_yaml():
    words = [
        "--a.b",
        "1e-3",
        "--c=[64, 32]",
        "--d",
        "null",
        "--e-f",
        "-5",
        "--g",
        "text",
        "--h=1E5",
    ]
    expected = {"a.b": 1e-3, "c": [64, 32], "d": None, "e_f": -5, "g": "text", "h": 1e5}
    assert read_words(["place", *words]) == (["place"], expected)


def test_solver_of_its_own_parameters(tmp_path):
    path = write_config(tmp_path, parameters={"solver": "altmin"})
    config = load_config(path, {"parameters.solver.mu": [1.0, 2.0], "parameters.solver.damping": 3})
    assert config.estimator.solver.get_params()["damping"] == 3
    assert config.estimator.solver.mu == (1.0, 2.0)
    assert load_config(path).estimator.solver == "altmin"


def test_parts_of_a_solver(tmp_path):
    solver = {"name": "sgd", "rule": {"name": "adam", "beta_1": 0.8}, "schedule": "step"}
    path = write_config(tmp_path, parameters={"hidden_layer_sizes": [8], "solver": solver})
    overrides = {"parameters.solver.schedule.every": 3.0}
    config = load_config(path, overrides)
    assert config.estimator.solver.rule.get_params()["beta_1"] == 0.8
    assert config.estimator.solver.schedule.every == 3.0
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config.resolved()))
    assert load_config(again).resolved() == config.resolved()
    named = load_config(write_config(tmp_path, parameters={"solver": "adam"}))
    assert named.resolved()["parameters"]["solver"]["rule"] == "adam"
    for wrong, message in (
        ({"rule": "adamm"}, "parameters.solver.rule must be one of sgd"),
        ({"rule": {"name": "adam", "beta": 1}}, "parameters.solver.rule.beta"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(write_config(tmp_path, parameters={"solver": {"name": "sgd"} | wrong}))


# The other commands


@pytest.fixture
def held_out(finished):
    return str(finished / "data" / "test.zarr")


def test_evaluate(finished, held_out, capsys):
    assert cli.main(["evaluate", str(finished), held_out]) == 0
    printed = json.loads(capsys.readouterr().out)
    report = json.loads((finished / "report.json").read_text())
    assert printed == {"rows": 36, **report["held_out"]}


def test_predict_to_every_format(finished, held_out, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("daskalt.runs.inputs.BLOCK_ROWS", 10)
    model = daskalt.load(finished / "model")
    X = zarr.open_array(held_out, path="X")[:]
    labels, proba = model.predict(X), model.predict_proba(X)
    words = ["predict", str(finished / "model"), held_out]
    assert cli.main(words) == 0
    expected = ["row,prediction", *(f"{row},{label}" for row, label in enumerate(labels))]
    assert capsys.readouterr().out.splitlines() == expected
    outputs = {suffix: tmp_path / f"p.{suffix}" for suffix in ("csv", "npy", "zarr")}
    for output in outputs.values():
        assert cli.main([*words, "--output", str(output), "--proba"]) == 0
        assert capsys.readouterr().out == f"{len(X)} predictions in {output}\n"
    written = np.loadtxt(outputs["csv"], delimiter=",", skiprows=1)
    np.testing.assert_array_equal(written[:, 1], labels)
    np.testing.assert_array_equal(written[:, 2:].astype(np.float32), np.load(outputs["npy"]))
    np.testing.assert_allclose(np.load(outputs["npy"]), proba, rtol=1e-5)
    group = zarr.open_group(outputs["zarr"], mode="r")
    np.testing.assert_allclose(group["probability"][:], proba, rtol=1e-5)
    np.testing.assert_array_equal(group["y"][:], labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "p.npy", "p.zarr"]
    for output in outputs.values():
        assert "exists already" in refused(capsys, *words, "--output", str(output))
        assert cli.main([*words, "--output", str(output), "--overwrite"]) == 0
        capsys.readouterr()
    np.testing.assert_array_equal(np.load(outputs["npy"]), labels)


def test_predict_text_labels(tmp_path, capsys):
    X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "up", "down")
    model = daskalt.MLPClassifier((4,), max_iter=2).fit(X, y)
    daskalt.save(model, tmp_path / "model")
    zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(16, 3))
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "X.zarr")]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(",")[1] for line in printed[1:]] == model.predict(X).tolist()
    assert cli.main([*words, "--output", str(tmp_path / "p.zarr")]) == 0
    assert zarr.open_array(tmp_path / "p.zarr", path="y")[:].tolist() == model.predict(X).tolist()


def test_predict_refuses(finished, held_out, tmp_path, capsys):
    model = str(finished)
    assert "no model at" in refused(capsys, "predict", str(tmp_path), held_out)
    assert "Zarr" in refused(capsys, "predict", model, str(tmp_path / "none.zarr"))
    output = str(tmp_path / "p.xlsx")
    assert "must end in" in refused(capsys, "predict", model, held_out, "--output", output)
    bad = np.ones((40, 13), np.float32)  # chunks of zeros would be left out
    bad[33, 2] = np.nan
    zarr.create_array(tmp_path / "bad.zarr", data=bad, chunks=(16, 13))
    words = ["predict", model, str(tmp_path / "bad.zarr"), "--output", str(tmp_path / "p.npy")]
    assert "row 33, column 2" in refused(capsys, *words)
    zarr.create_array(tmp_path / "narrow.zarr", data=bad[:, :5], chunks=(16, 5))
    assert "expecting 13 features" in refused(
        capsys, "predict", model, str(tmp_path / "narrow.zarr")
    )
    regressor = daskalt.MLPRegressor((2,), max_iter=1).fit(bad[:30], np.arange(30.0))
    daskalt.save(regressor, tmp_path / "model")
    words = ["predict", str(tmp_path / "model"), held_out, "--proba"]
    assert "predicts numbers" in refused(capsys, *words)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "p."))]


def test_evaluate_refuses(finished, held_out, tmp_path, capsys):
    zarr.create_array(tmp_path / "X.zarr", data=np.zeros((4, 13)))
    place = str(tmp_path / "X.zarr")
    assert "DATA: MLPClassifier requires y" in refused(capsys, "evaluate", str(finished), place)
    assert "no model at" in refused(capsys, "evaluate", str(tmp_path), held_out)


def test_ingest_then_fit_and_evaluate(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{'up' if a > b else 'down'}" for a, b in rng.random((200, 2))]
    source = tmp_path / "rows.csv"
    source.write_text("\n".join(["a,b,way", *sorted(lines, key=lambda line: line[-2:])]))
    place = str(tmp_path / "rows.zarr")
    assert cli.main(["ingest", str(source), place, "--target", "way", "--seed", "3"]) == 0
    assert "200 rows of 2 features" in capsys.readouterr().out
    path = write_config(tmp_path, data={"train": place, "held_out": 0.2})
    assert cli.main(["fit", path, "--parameters.max_iter", "20"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run"), place]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9


def test_a_wrong_column_is_guessed_and_the_list_says_how_long_it_is(tmp_path, capsys):
    names = [f"c{i}" for i in range(30)] + ["Species"]
    source = tmp_path / "rows.csv"
    source.write_text(",".join(names) + "\n" + ",".join(["1"] * 31) + "\n")
    words = ["ingest", str(source), str(tmp_path / "x.zarr"), "--target", "species"]
    error = refused(capsys, *words)
    assert "has no column 'species'. Did you mean 'Species'?" in error
    assert "'c19'] and 11 columns more." in error
    assert "'c20'" not in error


def test_rows_are_counted_once_while_they_are_ingested(tmp_path, capsys):
    zarr.save_group(str(tmp_path / "rows.zarr"), X=np.ones((70, 2)), y=np.arange(70))
    words = ["ingest", str(tmp_path / "rows.zarr"), str(tmp_path / "x.zarr")]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "70/70" in printed.err
    assert "140" not in printed.err
    assert "70 rows of 2 features" in printed.out


def test_ingest_refuses(tmp_path, capsys):
    assert "none.csv" in refused(capsys, "ingest", str(tmp_path / "none.csv"), str(tmp_path / "x"))
    assert not list(tmp_path.iterdir())


def test_entry_point_exits_with_the_code_of_main(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "daskalt.runs.cli", "fit", str(tmp_path / "none.yaml")],
        cwd=CONF.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("daskalt fit: The configuration")
    assert "Traceback" not in run.stderr


def test_check_of_the_run_folder_names_the_cure(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="Name another place"):
        running.run(load_config(write_config(tmp_path)))

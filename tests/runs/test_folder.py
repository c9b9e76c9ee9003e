"""The life of a run folder: its content at any moment, and what a killed run leaves."""

import csv
import json
import warnings

import numpy as np
import pytest
import yaml

import daskalt
from daskalt.errors import DivergenceError, InputError
from daskalt.runs import cli, running
from daskalt.runs.journal import Journal
from daskalt.training.monitor import Monitor
from tests.runs.killing import killed

PASSES = 4
TREE = {
    "estimator": "MLPClassifier",
    "parameters": {"hidden_layer_sizes": [8], "max_iter": PASSES, "random_state": 0},
    "data": {"dataset": "wine", "chunk_rows": 32},
}


def write_config(folder, **parameters):
    tree = TREE | {"parameters": TREE["parameters"] | parameters, "output": str(folder / "run")}
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def metrics_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model of the run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole")
    assert cli.main(["fit", write_config(folder)]) == 0
    return daskalt.load(folder / "run" / "model")


def assert_complete(folder, whole, passes=PASSES):
    assert report_of(folder)["status"] == "complete"
    model = daskalt.load(folder / "model")
    for ours, theirs in zip(model.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [int(row["pass"]) for row in metrics_of(folder)] == list(range(1, passes + 1))
    assert [float(row["loss"]) for row in metrics_of(folder)] == whole.loss_curve_
    assert len(list((folder / "checkpoint").glob("*.json"))) == 1  # to train on from


@pytest.mark.parametrize(
    ("where", "passes", "points"),
    [
        (
            "daskalt.training.checkpoint:Checkpoints.save:3",
            3,
            2,
        ),  # a pass is reported before its checkpoint
        ("daskalt.runs.journal:Journal.passed:3", 2, 2),
        ("daskalt.runs.running:render:1", PASSES, PASSES),
    ],
)
def test_what_a_killed_run_leaves_is_whole_and_goes_on(tmp_path, whole, where, passes, points):
    config, folder = write_config(tmp_path), tmp_path / "run"
    killed(where, "fit", config)
    assert report_of(folder)["status"] == "running"
    assert [float(row["loss"]) for row in metrics_of(folder)] == whole.loss_curve_[:passes]
    assert yaml.safe_load((folder / "config.yaml").read_text())["output"] == str(folder)
    left = daskalt.load(folder / "model")  # the best when there last was time to write it
    assert left.loss_curve_ == whole.loss_curve_[: left.n_iter_]
    assert len(list((folder / "checkpoint").glob("*.json"))) == min(points, 2)
    assert cli.main(["fit", config, "--resume"]) == 0
    assert_complete(folder, whole)
    assert names_in(tmp_path) == {"conf.yaml", "run"}
    assert len(report_of(folder)["resumed"]) == 1


def test_a_finished_run_survives_the_one_that_is_to_replace_it(tmp_path, whole, capsys):
    config, folder, before = write_config(tmp_path), tmp_path / "run", tmp_path / ".run.before"
    assert cli.main(["fit", config]) == 0
    first = (folder / "report.json").read_bytes()

    killed("daskalt.training.checkpoint:Checkpoints.save:2", "fit", config, "--overwrite")
    assert (before / "report.json").read_bytes() == first
    assert report_of(folder)["status"] == "running"
    daskalt.load(before / "model")

    assert cli.main(["fit", config]) == 2  # neither is replaced unasked
    assert "cut short after 1 pass" in capsys.readouterr().err
    assert before.is_dir()

    assert cli.main(["fit", config, "--overwrite", "--resume"]) == 0
    assert_complete(folder, whole)
    assert names_in(tmp_path) == {"conf.yaml", "run"}


@pytest.mark.parametrize(
    "where", ["daskalt.runs.running:make_tables:1", "daskalt.runs.folder:whole_folder:1"]
)
def test_a_finished_run_comes_back_after_one_that_was_killed_too_early(tmp_path, where, capsys):
    config, folder = write_config(tmp_path), tmp_path / "run"
    assert cli.main(["fit", config]) == 0
    first = (folder / "report.json").read_bytes()
    killed(where, "fit", config, "--overwrite")
    assert (tmp_path / ".run.before" / "report.json").read_bytes() == first
    assert cli.main(["fit", config]) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() == first
    assert names_in(tmp_path) == {"conf.yaml", "run"}


def test_a_run_that_was_killed_when_it_was_complete_is(tmp_path, capsys):
    config, folder = write_config(tmp_path), tmp_path / "run"
    assert cli.main(["fit", config]) == 0
    first = (folder / "report.json").read_bytes()
    killed("daskalt.runs.folder:RunFolder.complete:1", "fit", config, "--overwrite")
    assert cli.main(["fit", config]) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() != first
    assert names_in(tmp_path) == {"conf.yaml", "run"}


def test_a_run_that_was_killed_before_its_first_pass_is_replaced(tmp_path, whole):
    config = write_config(tmp_path)
    killed("daskalt.runs.journal:Journal.begin:1", "fit", config)
    assert report_of(tmp_path / "run")["passes"] == 0
    assert cli.main(["fit", config]) == 0
    assert_complete(tmp_path / "run", whole)
    assert names_in(tmp_path) == {"conf.yaml", "run"}


def test_a_refused_run_leaves_all_as_it_was(tmp_path, monkeypatch):
    config, folder = write_config(tmp_path), tmp_path / "run"

    def refuse(*_, **__):
        raise InputError("These rows will not do.")

    with monkeypatch.context() as patch:
        patch.setattr(running, "make_tables", refuse)
        assert cli.main(["fit", config]) == 2
        assert names_in(tmp_path) == {"conf.yaml"}
    assert cli.main(["fit", config]) == 0
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(running, "make_tables", refuse)
        assert cli.main(["fit", config, "--overwrite"]) == 2
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert names_in(tmp_path) == {"conf.yaml", "run"}


@pytest.mark.parametrize("finished", [True, False])
def test_what_others_keep_beside_a_run_is_left_alone(tmp_path, finished):
    config = write_config(tmp_path)
    if finished:
        assert cli.main(["fit", config]) == 0
    for name in ("run.before", ".run.before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("precious")
    assert cli.main(["fit", config, "--overwrite"]) == 2
    assert (tmp_path / "run").exists() == finished
    for name in ("run.before", ".run.before"):
        assert (tmp_path / name / "thesis.txt").read_text() == "precious"


def test_a_run_that_cannot_be_resumed_as_told_is_left_as_it_is(tmp_path, whole, capsys):
    config, folder = write_config(tmp_path), tmp_path / "run"
    killed("daskalt.training.checkpoint:Checkpoints.save:3", "fit", config)
    text = {
        name: (folder / name).read_bytes() for name in ("config.yaml", "report.json", "log.txt")
    }
    assert cli.main(["fit", config, "--resume", "--parameters.alpha", "0.1"]) == 2
    assert "alpha" in capsys.readouterr().err
    assert {name: (folder / name).read_bytes() for name in text} == text
    assert cli.main(["fit", config, "--resume"]) == 0
    assert_complete(folder, whole)


def test_a_finished_run_is_trained_on(tmp_path, capsys):
    """To the weights of a longer run, as far as steps do not shrink towards the end."""
    options = ["--parameters.solver", "adam", "--parameters.tol", "0"]
    config, folder = write_config(tmp_path), tmp_path / "run"
    more = [config, *options, "--passes", "7"]
    longer = str(tmp_path / "longer")
    assert cli.main(["fit", *more, "--output", longer]) == 0
    assert cli.main(["fit", config, *options]) == 0
    capsys.readouterr()
    for words, told in (
        ([*more], "Pass --resume to train on"),
        ([config, *options, "--resume"], "ask for more passes"),
        ([config, *options, "--resume", "--passes", "2"], "has made 4 passes already"),
        ([*more, "--resume", "--parameters.alpha", "0.1"], "alpha"),
    ):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert cli.main(["fit", *words]) == 2
        assert told in capsys.readouterr().err
        assert {path: path.read_bytes() for path in before} == before
    assert cli.main(["fit", *more, "--resume"]) == 0
    assert_complete(folder, daskalt.load(folder.with_name("longer") / "model"), passes=7)
    assert len(report_of(folder)["resumed"]) == 1


def test_training_on_that_is_cut_short_goes_on(tmp_path, whole, capsys):
    config, folder = write_config(tmp_path, tol=0), tmp_path / "run"
    longer = [config, "--passes", "7", "--resume"]
    assert cli.main(["fit", config]) == 0
    killed("daskalt.training.checkpoint:Checkpoints.save:3", "fit", *longer)
    assert report_of(folder)["status"] == "running"
    assert cli.main(["fit", *longer]) == 0
    assert report_of(folder)["status"] == "complete"
    assert [int(row["pass"]) for row in metrics_of(folder)] == list(range(1, 8))


def test_a_run_that_fails_between_its_passes_says_so(tmp_path, monkeypatch, capsys):
    config, folder, see = write_config(tmp_path), tmp_path / "run", Monitor.see

    def failing(self, result, record):
        if result.number == 2:
            raise InputError("Row 7 has become NaN.")
        return see(self, result, record)

    monkeypatch.setattr(Monitor, "see", failing)
    assert cli.main(["fit", config]) == 2
    report = report_of(folder)
    assert (report["status"], report["passes"]) == ("failed", 2)
    assert report["error"] == "Row 7 has become NaN."
    assert "failed: InputError: Row 7 has become NaN." in (folder / "log.txt").read_text()
    assert len(metrics_of(folder)) == 2


def test_a_bug_leaves_its_traceback_in_the_log(tmp_path, monkeypatch):
    see = Monitor.see

    def failing(self, result, record):
        if result.number == 1:
            raise ZeroDivisionError("a bug")
        return see(self, result, record)

    monkeypatch.setattr(Monitor, "see", failing)
    with pytest.raises(ZeroDivisionError):
        cli.main(["fit", write_config(tmp_path)])
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Traceback" in log
    assert "ZeroDivisionError: a bug" in log


def test_a_run_that_fails_for_good_gives_the_old_one_back(tmp_path, monkeypatch):
    """Its last pass has no checkpoint, so there is nothing to continue from."""
    config, folder = write_config(tmp_path, max_iter=1), tmp_path / "run"
    assert cli.main(["fit", config]) == 0
    first = (folder / "report.json").read_bytes()

    def failing(*_):
        raise DivergenceError("Numbers overflow: take smaller steps.")

    monkeypatch.setattr("daskalt.training.fitting._last_sound", failing)
    assert cli.main(["fit", config, "--overwrite"]) == 2
    assert (folder / "report.json").read_bytes() == first
    assert names_in(tmp_path) == {"conf.yaml", "run"}


def test_the_folder_tells_how_far_a_run_is(tmp_path, monkeypatch):
    config, folder, seen = write_config(tmp_path), tmp_path / "run", []
    passed = Journal.passed
    monkeypatch.setattr("daskalt.runs.journal.GLANCE_SECONDS", 0.0)

    def watched(self, fit):
        passed(self, fit)
        report, log = report_of(folder), (folder / "log.txt").read_text()
        assert report["status"] == "running"
        assert log.count("  pass ") == report["passes"] == len(metrics_of(folder))
        seen.append((report["passes"], report["last_pass"]["loss"]))

    monkeypatch.setattr(Journal, "passed", watched)
    assert cli.main(["fit", config]) == 0
    losses = [float(row["loss"]) for row in metrics_of(folder)]
    assert seen == list(enumerate(losses, start=1))


def test_models_of_passes_are_the_best_until_then(tmp_path, monkeypatch):
    """Of held-out rows, what early stopping would end with; and only as often as is cheap."""
    config, saved = write_config(tmp_path, early_stopping=True, max_iter=12), []
    monkeypatch.setattr("daskalt.runs.journal.SHARE", np.inf)
    passed = Journal.passed

    def watched(self, fit):
        passed(self, fit)
        saved.append(daskalt.load(self.folder / "model").coefs_)

    monkeypatch.setattr(Journal, "passed", watched)
    assert cli.main(["fit", config]) == 0
    held = [float(row["validation_loss"]) for row in metrics_of(tmp_path / "run")]
    best = int(np.argmin(held))
    final = daskalt.load(tmp_path / "run" / "model").coefs_
    for number, coefs in enumerate(saved):
        same = all(np.array_equal(a, b) for a, b in zip(coefs, final, strict=True))
        assert same == (number >= best)

    saves = []
    monkeypatch.setattr("daskalt.runs.journal.SHARE", 1e-9)  # not again in a lifetime
    monkeypatch.setattr("daskalt.runs.journal.save", lambda *words: saves.append(words))
    monkeypatch.setattr(Journal, "passed", passed)
    assert cli.main(["fit", config, "--overwrite"]) == 0
    assert len(saves) == 1


def test_warnings_are_a_line_on_the_terminal_and_in_the_log(tmp_path, capsys):
    """And what the method came to is said in the report, not the warning once more."""
    config = write_config(tmp_path, solver={"name": "sgd", "rule": {"name": "sgd"}})
    rate = ["--parameters.solver.rule.learning_rate", "1e20"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.filterwarnings("error", category=RuntimeWarning)
        assert cli.main(["fit", config, *rate]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert told[-1].startswith("warning: The method diverged: ")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert all(line in log for line in told)
    report = report_of(tmp_path / "run")
    assert [f"warning: {each['words']}" for each in report["warnings"]] == told
    assert sum("method diverged" in words for words in report["shortcomings"]) == 1

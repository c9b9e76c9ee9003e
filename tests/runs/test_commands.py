"""`daskalt fit` on data without a configuration: how it is interpreted, and the results."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr

import daskalt
from daskalt.errors import ConfigError
from daskalt.ingest.ingest import ingest
from daskalt.runs import cli
from daskalt.runs.commands import KEYS, configured
from daskalt.runs.options import parse
from daskalt.training.monitor import Monitor

WORDS = ["--target", "label", "--hidden", "8,4", "--passes", "3"]


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)).round(3)
    return pd.DataFrame(X, columns=list("abc")).assign(
        label=np.where(X[:, 0] > X[:, 1], "up", "down")
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *words):
    """Return the one line on stderr of a command that must exit with 2."""
    assert cli.main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def weights(model):
    return model.coefs_ + model.intercepts_


def same(a, b):
    for one, other in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(one, other)


def asked(line):
    """The configuration that a line asks for."""
    _, options = parse(shlex.split(line))
    return configured(options["words"], {key: options[key] for key in KEYS})


def trained(X, y, **options):
    """What a fit to the first nine tenths of some rows gives from memory."""
    cut = len(X) - round(0.1 * len(X))
    weight = options.pop("sample_weight", np.ones(len(X)))[:cut]
    model = daskalt.MLPClassifier((8, 4), max_iter=3, random_state=0, **options)
    return model.fit(X[:cut], y[:cut], sample_weight=weight)


# ------------------------------------------------------------------------------- whole runs


def test_a_csv_file_is_ingested_and_trained_on(here, frame, capsys):
    frame.to_csv("rows.csv", index=False)
    assert cli.main(["fit", "rows.csv", *WORDS]) == 0
    words = "MLPClassifier, as the target is text; --estimator MLPRegressor for the other."
    assert words in capsys.readouterr().out
    ingest("rows.csv", "rows.zarr", target="label", seed=0)
    group = zarr.open_group("rows.zarr", mode="r")
    run = daskalt.load("runs/rows/model")
    same(run, trained(group["X"][:], group["y"][:]))
    cut = zarr.open_array("runs/rows/data/train.zarr", path="y")[180:]
    report = json.loads((here / "runs/rows/report.json").read_text())
    predicted = run.predict(pd.DataFrame(group["X"][180:], columns=list("abc")))
    assert report["held_out"]["accuracy"] == np.mean(predicted == cut)
    assert cli.main(["fit", "runs/rows/config.yaml", "--output", "again"]) == 0
    same(daskalt.load("again/model"), run)


def test_several_files_and_patterns_are_one_table(here, frame):
    frame.to_csv("rows.csv", index=False)
    for part in range(2):
        frame[100 * part : 100 * part + 100].to_csv(f"part-{part}.csv", index=False)
    for output, places in (
        ("one", ["rows.csv"]),
        ("two", ["part-0.csv", "part-1.csv"]),
        ("pattern", ["part-*.csv"]),
    ):
        assert cli.main(["fit", *places, *WORDS, "--output", output]) == 0
    for output in ("two", "pattern"):
        same(daskalt.load(f"{output}/model"), daskalt.load("one/model"))


def test_parquet_files_by_a_configuration(here, frame):
    frame.to_parquet("rows.parquet")
    data = {"train": "rows.parquet", "target": "label", "features": ["a", "b"], "held_out": 0.1}
    parameters = {"hidden_layer_sizes": [8, 4], "max_iter": 3, "random_state": 0}
    tree = {"estimator": "MLPClassifier", "parameters": parameters, "data": data, "output": "run"}
    (here / "conf.yaml").write_text(yaml.safe_dump(tree))
    assert cli.main(["fit", "conf.yaml"]) == 0
    ingest("rows.parquet", "rows.zarr", target="label", features=["a", "b"], seed=0)
    group = zarr.open_group("rows.zarr", mode="r")
    same(daskalt.load("run/model"), trained(group["X"][:], group["y"][:]))


def test_arrays_of_other_names(here):
    rng = np.random.default_rng(1)
    features, label = rng.normal(size=(100, 3)), np.arange(100) % 3
    weight = rng.uniform(1, 2, 100)
    zarr.save_group("rows.zarr", features=features, label=label, sample_weight=weight, w=weight**2)
    words = ["fit", "rows.zarr", "--data.X", "features", *WORDS]
    assert cli.main([*words, "--output", "found"]) == 0
    assert cli.main([*words, "--data.sample_weight", "w", "--output", "named"]) == 0
    same(daskalt.load("found/model"), trained(features, label, sample_weight=weight))
    same(daskalt.load("named/model"), trained(features, label, sample_weight=weight**2))


def test_arrays_without_the_names_of_the_fit_are_given_by_their_paths(here, capsys):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(100, 3)), np.arange(100) % 3
    zarr.save_group("rows.zarr", features=X, label=y)
    zarr.save_group("others.zarr", X=X, y=y)
    model = daskalt.MLPClassifier((8,), max_iter=2, random_state=0)
    model.fit("rows.zarr", X="features", y="label")
    daskalt.save(model, "model")
    for words in (["predict", "model", "others.zarr"], ["evaluate", "model", "others.zarr"]):
        target = ["--target", "y"] if words[0] == "evaluate" else []
        assert cli.main([*words, *target]) == 2
        said = capsys.readouterr().err
        assert "Give the path of the array itself" in said
        assert "X=" not in said
    words = ["evaluate", "model", "others.zarr/X", "--target", "others.zarr/y"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(model.score(X, y))
    assert cli.main(["predict", "model", "others.zarr/X", "--output", "p.csv"]) == 0


def test_files_beside_a_test_set_in_zarr(here, frame):
    frame.to_csv("rows.csv", index=False)
    ingest("rows.csv", "test.zarr", target="label")
    assert cli.main(["fit", "rows.csv", *WORDS, "--test", "test.zarr"]) == 0
    report = json.loads((here / "runs/rows/report.json").read_text())
    assert report["rows"] == {"training": 200, "held_out": 200}


def test_a_run_on_files_that_was_cut_short_is_resumed(here, frame, monkeypatch, capsys):
    frame.to_csv("rows.csv", index=False)
    assert cli.main(["fit", "rows.csv", *WORDS, "--output", "whole"]) == 0
    see = Monitor.see

    def failing(self, result, record):
        if result.number == 1:
            raise KeyboardInterrupt
        return see(self, result, record)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", failing)
        assert cli.main(["fit", "rows.csv", *WORDS, "--output", "cut"]) == 130
    command = capsys.readouterr().err.splitlines()[-1]
    assert cli.main(shlex.split(command)[1:]) == 0
    assert "1 of them before it was resumed" in capsys.readouterr().out
    same(daskalt.load("cut/model"), daskalt.load("whole/model"))


def test_a_plan_of_files(here, frame, capsys):
    frame.to_csv("rows.csv", index=False)
    assert cli.main(["plan", "rows.csv", *WORDS, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {path.name for path in here.iterdir()} == {"rows.csv"}
    assert plan["rows"] == 180
    assert cli.main(["plan", "rows.csv", *WORDS]) == 0
    assert capsys.readouterr().out.startswith("MLPClassifier, as the target is text")


# ------------------------------------------------------------------------------- understanding


@pytest.fixture
def store(here):
    zarr.save_group("rows.zarr", X=np.ones((30, 2)), y=np.arange(30) % 3)
    return "rows.zarr"


def test_what_is_not_said(store):
    config = asked(f"fit {store}")
    assert config.output == "runs/rows"
    assert config.data.chosen() == {"train": store, "held_out": 0.1}
    defaults = daskalt.MLPClassifier().get_params(deep=False)
    differing = {"random_state": 0, "verbose": True}
    assert config.estimator.get_params(deep=False) == defaults | differing
    assert asked(f"fit {store} --test {store}").data.held_out is None


def test_options_stand_for_keys(store):
    config = asked(
        f"fit {store} --hidden 7 --passes 4 --solver adam --seed 3 --early-stopping --workers 2 "
        "--dashboard 8787 --held-out 0.3 --output here --estimator MLPRegressor --target y "
        "--parameters.alpha 1e-3 --parameters.solver.rule.beta_1 0.8"
    )
    parameters = config.resolved()["parameters"]
    assert (parameters["hidden_layer_sizes"], parameters["max_iter"]) == ((7,), 4)
    assert (parameters["early_stopping"], parameters["alpha"]) == (True, 1e-3)
    assert parameters["random_state"] == config.data.seed == 3
    assert config.estimator.solver.rule.get_params() | {"beta_1": 0.8} == (
        config.estimator.solver.rule.get_params()
    )
    assert (config.workers, config.dashboard, config.output) == (2, 8787, "here")
    assert config.data.chosen() == {"train": store, "held_out": 0.3, "seed": 3, "target": "y"}
    assert type(config.estimator) is daskalt.MLPRegressor


def test_options_go_before_a_configuration(here, store):
    tree = {"parameters": {"max_iter": 9}, "data": {"train": "gone.zarr"}, "output": "there"}
    (here / "conf.yml").write_text(yaml.safe_dump(tree))
    config = asked(f"fit --passes 4 conf.yml --data.train {store} --target y --output here")
    assert (config.estimator.max_iter, config.output) == (4, "here")
    assert config.data.chosen() == {"train": store, "target": "y"}
    assert config.estimator.verbose is False


@pytest.mark.parametrize(
    ("place", "output"),
    [
        ("data/my rows.v2.zarr", "runs/my-rows"),
        ("s3://bucket/rows.zarr", "runs/rows"),
        ("parts/*.zarr", "runs/run"),
    ],
)
def test_the_run_folder_is_named_after_the_data(place, output):
    given = {"target": ["y"], "estimator": "MLPClassifier"}
    assert configured([place], given).output == output


def test_fit_and_plan_take_the_same_options():
    given = {"held_out": "0.5", "early_stopping": None}
    for command in ("fit", "plan"):
        for key in KEYS:
            value = given.get(key, "1")
            option = f"--{key.replace('_', '-')}"
            asked_for = parse([command, "x.zarr", option, *([value] if value else [])])
            assert asked_for.command == command
            assert [name for name in KEYS if asked_for.options[name] is not None] == [key]


def test_help_names_every_option(capsys):
    assert cli.main(["fit", "--help"]) == 0
    printed = capsys.readouterr().out
    for key in KEYS:
        assert f"--{key.replace('_', '-')} " in printed
    for words in ("Data", "Network and training", "Where it runs", "daskalt fit train.csv"):
        assert words in printed


WRONG = [
    (["nothing.csv", "--target", "x"], "no CSV, Parquet, .npy or .npz file"),
    (["nothing.zarr"], "no readable Zarr array or group at"),
    (["empty"], "no CSV, Parquet, .npy or .npz file and no Zarr store found. Check the path"),
    (["nothing.yaml"], "The configuration nothing.yaml cannot be read"),
    (["rows.csv"], "say which column of"),
    (["rows.csv"], "as in --target label. It has a, b, c, label."),
    (["rows.csv", "--target", "lable"], "no column 'lable'. Did you mean 'label'? It has a, b"),
    (["rows.csv", "--estimator", "MLPClassifier"], "as in --target label"),
    (["rows.csv", "--target", "label", "--data.X", "a"], "data.X names an array of a Zarr group"),
    (["rows.zarr", "--target", "z"], "no array called 'z'; it has ['X', 'y']. Name what is meant"),
    (["rows.zarr", "--data.X", "x"], "no array called 'x'; it has ['X', 'y']. Did you mean 'X'?"),
    (["rows.zarr", "--features", "a"], "data.features is for files, and data.train is a Zarr"),
    (["rows.zarr", "--target", "a", "--target", "b"], "a Zarr group has one of targets"),
    (["rows.zarr", "--target", "y", "--data.y", "y"], "both target and y"),
    (["rows.zarr", "conf.yaml"], "A configuration stands alone"),
    ([], "Name a configuration or data first"),
    (["X.npy"], "Give --estimator MLPClassifier or --estimator MLPRegressor"),
    (["bad.parquet", "--target", "x"], "bad.parquet is no parquet file as expected"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda case: str(case)[:50])
def test_wrong_first_words_are_one_line_with_the_cure(here, frame, capsys, words, message):
    frame.to_csv("rows.csv", index=False)
    (here / "empty").mkdir()
    (here / "bad.parquet").write_text("no")
    np.save("X.npy", np.ones((10, 2)))
    zarr.save_group("rows.zarr", X=np.ones((30, 2)), y=np.arange(30) % 3)
    before = {path.name for path in here.iterdir()}
    assert message in refused(capsys, "fit", *words)
    assert {path.name for path in here.iterdir()} - {"runs"} == before
    assert not list(here.glob("runs/*"))


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("hiden", "--hidden"),
        ("Held_out", "--held-out"),
        ("held_out", "--held-out"),
        ("max_iter", "--parameters.max_iter"),
        ("resum", "--resume"),
    ],
)
def test_words_that_are_no_options_are_guessed(key, guess):
    with pytest.raises(ConfigError, match=rf"Unknown option --\w+\. Did you mean {guess}\?"):
        configured(["x.zarr", f"--{key}", "5"], {})


def test_the_shell_can_complete():
    asked_for = {"_DASKALT_COMPLETE": "complete_bash", "COMP_WORDS": "daskalt fit --hi"}
    run = subprocess.run(
        [sys.executable, "-c", "from daskalt.runs import cli; cli.main()"],
        env=os.environ | asked_for | {"COMP_CWORD": "2"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.split() == ["--hidden"]

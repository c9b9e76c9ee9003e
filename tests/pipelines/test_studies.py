"""The studies: tiny runs of each, and what must hold even for those."""

import json
import runpy
import sys

import numpy as np
import pytest

import daskalt
from pipelines import parallel_gradient
from pipelines.studies import (
    admm_stability,
    map_reduce,
    outliers,
    regions,
    ridge_paths,
    steady_state,
)
from pipelines.studies.stepping import linear_problem, path
from pipelines.studies.study import run


def rows_of(module, folder, seeds=1):
    """The cells of a quick run's table, which are finite; there is a picture, too."""
    assert run(module.study, ["--quick", "--seeds", str(seeds), "--out", str(folder)]) == 0
    return left_in(folder, module.__name__.rsplit(".", 1)[-1])


def left_in(folder, name):
    (record,) = (json.loads(p.read_text()) for p in folder.glob("*.json"))
    (picture,) = folder.glob("*.png")
    assert picture.stem == name
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| ---" in (folder / "benchmark.md").read_text()
    rows = [row["cells"] for row in record["rows"]]
    for row in rows:
        assert np.isfinite([value for value in row.values() if isinstance(value, float)]).all()
    return rows


@pytest.mark.parametrize(
    "module",
    [admm_stability, map_reduce, outliers, regions],
    ids=lambda module: module.__name__.rsplit(".", 1)[-1],
)
def test_a_quick_run_leaves_table_and_picture(module, tmp_path, capsys):
    rows = rows_of(module, tmp_path)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2


def test_a_study_by_itself_is_named_after_its_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["xor.py", "--quick", "--seeds", "1"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("pipelines.studies.xor", run_name="__main__")
    left_in(tmp_path / "runs" / "xor", "xor")


def test_newton_is_at_the_foot_of_a_quadratic_in_a_step(tmp_path):
    rows = {row["method"]: row for row in rows_of(ridge_paths, tmp_path)}
    assert rows["Newton"]["steps to within 0 05"] <= 3  # the first pass only looks
    assert rows["Newton"]["distance at the end"] < 1e-9


def test_constant_steps_settle_where_the_theory_says(tmp_path):
    rows = {row["steps"]: row for row in rows_of(steady_state, tmp_path, seeds=2)}
    assert rows["step 0.02"]["ratio"] == pytest.approx(1, abs=0.35)


def test_a_path_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    problem, weights = linear_problem(2, penalty=0.1)
    solver = daskalt.GradientDescent(daskalt.rules.SGD(0.3, momentum=0.0))
    batches = [slice(0, 3), slice(3, 6)]
    w, expected = np.zeros(3), []
    for batch in batches:
        x = np.column_stack([X[batch], np.ones(3)])
        w = w - 0.3 * (x.T @ (x @ w - y[batch]) / 3 + 0.1 * w * [1, 1, 0])
        expected.append(w)
    taken = [w[0][0] for w in path(solver, problem, weights, X, y, batches, 2)]
    np.testing.assert_allclose(taken, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (2, {"examples": (2, 1), "products": (1, 2)}),
        (16, {"examples": (16, 1), "products": (1, 16), "both": (8, 2)}),
    ],
)
def test_ways_use_the_cores_and_no_more(cores, expected):
    assert parallel_gradient.ways(cores) == expected
    assert all(tasks * threads == cores for tasks, threads in expected.values())


def test_the_parallel_experiment(tmp_path):
    arguments = ["--data", "synthetic", "--quick", "--batches", "100", "--out", str(tmp_path)]
    assert parallel_gradient.main(arguments) == 0
    record = json.loads((tmp_path / "parallel-gradient.json").read_text())
    rows = [row["cells"] for row in record["rows"]]
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert row["seconds an epoch"] > 0
        if row["way"] == "serial":
            assert row["speed up"] == 1
    assert (tmp_path / "parallel-gradient.png").is_file()

"""The README: its examples run, and its commands are those that exist and that CI runs."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from daskalt.runs.commands import KEYS, configured
from daskalt.runs.options import parse
from pipelines import benchmark_mnist
from tests.test_layers import PACKAGES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language):
    """The contents of all fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in fenced("sh") for line in block.splitlines()]


@pytest.mark.filterwarnings("default")  # as a reader would run them
def test_python_examples_run_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")  # for worker processes
    examples = fenced("python")
    assert len(examples) == 5
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        for number, example in enumerate(examples):
            space = {"__name__": "__main__"}
            exec(compile(example, f"README.md, example {number + 1}", "exec"), space)
            assert space["model"].score("test.zarr") > 0.9
    assert re.match(r"accuracy 0\.9\d+ after \d+ passes\n\[\d( \d){9}\]\n", capsys.readouterr().out)


def test_the_story_from_csv_to_predictions(tmp_path):
    """Every line that it prints, but for some numbers, is what the README says it prints."""
    (story,) = [block for block in fenced("sh") if "import csv" in block]
    (printed,) = fenced("text")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, words in {"python": "", "daskalt": " -m daskalt"}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (tools / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    run = subprocess.run(
        ["bash", "-e"], input=story, cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours, theirs = run.stdout.splitlines(), printed.splitlines()
    words = [[re.split("[ ,]+", line.strip())[:2] for line in lines] for lines in (ours, theirs)]
    assert words[0] == words[1]
    assert ours[:7] == theirs[:7]
    assert ours[-3] == theirs[-3]  # the columns of the predictions
    assert (tmp_path / "runs" / "customers" / "report.html").is_file()
    with (tmp_path / "new.csv").open() as new, (tmp_path / "predictions.csv").open() as predicted:
        rows, answers = list(csv.DictReader(new)), list(csv.DictReader(predicted))
    assert [row["customer"] for row in rows] == [row["customer"] for row in answers]
    for answer in answers:
        shares = {name: float(answer[f"probability_{name}"]) for name in ("leaves", "stays")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        assert shares[answer["outcome"]] >= 0.5
    right = [
        ("leaves" if float(row["bill"]) > 30 + 30 * (row["region"] == "north") else "stays")
        == answer["outcome"]
        for row, answer in zip(rows, answers, strict=True)
        if int(row["age"]) < 50
    ]
    assert sum(right) > 0.97 * len(right)


def test_ci_runs_the_two_commands_word_for_word():
    install = [line for line in COMMANDS if line.startswith("pip install")]
    assert install == [
        "pip install -e . && daskalt fit conf/digits.yaml",
        'pip install -e ".[test]" && pytest -n 2 --dist loadfile',
    ]
    script = [line.strip() for line in (ROOT / ".ci/run").read_text("utf-8").splitlines()]
    assert [line for line in script if line.startswith("pip ")] == install
    for linter in ("ruff check .", "ruff format --check .", "mypy"):
        assert f"`{linter}`" in README
        assert linter in script


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("daskalt ")])
def test_command_lines_are_understood(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, options = parse(shlex.split(line)[1:])
    if command in ("fit", "plan") and options["words"][0].startswith("conf/"):
        configured(options["words"], {key: options[key] for key in KEYS})


def test_benchmark_command_is_understood():
    (line,) = [line for line in COMMANDS if line.startswith("python -m pipelines")]
    words = shlex.split(line)
    assert words[2] == "pipelines.benchmark_mnist"
    assert benchmark_mnist.parser().parse_args(words[3:]).data == "PATH"


PATH = r"`((?:daskalt|conf|notebooks|pipelines|tests)/[\w./-]*)`"


def tables_of_development():
    """The cells of its three tables: packages, questions, and what can be added."""
    section = README.split("\n## Development\n")[1]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[line.strip("| ").split(" | ") for line in t.splitlines()[2:]] for t in tables]


def test_the_tables_of_files_name_files_that_exist():
    for table in tables_of_development():
        for row in table:
            named = [path for cell in row[1:] for path in re.findall(PATH, cell)]
            assert named, f"no file for {row[0]!r}"
            for path in named:
                assert (ROOT / path).exists(), path


def test_the_packages_stand_in_the_order_of_imports():
    packages = [path for row in tables_of_development()[0] for path in re.findall(PATH, row[0])]
    assert packages == ["daskalt/", *(f"daskalt/{name}/" for name in PACKAGES)]


def test_the_questions_of_a_reader_come_first():
    assert [row[0] for row in tables_of_development()[1][:5]] == [
        "where is one row's z moved",
        "where are statistics summed",
        "what does a checkpoint hold",
        "who decides the size of a block",
        "what happens when a worker dies",
    ]


def test_files_that_the_readme_names_exist():
    names = re.findall(PATH, README)
    assert names
    for name in [*names, "LICENSE", "CHANGELOG.md"]:
        assert (ROOT / name).exists(), name

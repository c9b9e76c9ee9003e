"""Rows ingested by a run: once, and again when anything about them has changed."""

import os

import numpy as np
import pandas as pd
import pytest

from daskalt import MLPClassifier, MLPRegressor
from daskalt.data.readers import MemorySource
from daskalt.data.table import Table
from daskalt.errors import InputError
from daskalt.runs import rows
from daskalt.runs.origins import DataConfig
from daskalt.runs.rows import check_labels, make_tables, open_tables


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that makes tables of a file, and says how often the file was ingested so far."""
    calls, ingest = [], rows.ingest

    def counted(*places, **options):
        calls.append(places)
        return ingest(*places, **options)

    monkeypatch.setattr(rows, "ingest", counted)

    def make(**options):
        data = DataConfig(train=str(tmp_path / "rows.csv"), target="y", **options)
        assert open_tables(data) is None
        train, _ = make_tables(data, tmp_path / "run", progress=len(calls) > 0)
        return train, len(calls)

    write(tmp_path, 40)
    return make


def write(folder, n):
    frame = pd.DataFrame({"a": np.arange(n), "y": np.arange(n) % 2})
    frame.to_csv(folder / "rows.csv", index=False)


def test_files_are_ingested_once(made):
    first, calls = made()
    again, calls_then = made()
    assert (calls, calls_then) == (1, 1)
    np.testing.assert_array_equal(first.X.read(0, 40), again.X.read(0, 40))


def test_files_that_changed_are_ingested_again(made, tmp_path):
    made()
    write(tmp_path, 50)
    table, calls = made()
    assert (table.n_rows, calls) == (50, 2)


@pytest.mark.parametrize("change", ["file", "options"])
def test_what_a_run_goes_on_with_is_not_replaced(made, tmp_path, change):
    made()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    options = {"missing": "drop"} if change == "options" else {}
    if change == "file":
        write(tmp_path, 50)
    data = DataConfig(train=str(tmp_path / "rows.csv"), target="y", **options)
    with pytest.raises(InputError, match=r"rows\.csv changed since this run ingested it"):
        make_tables(data, tmp_path / "run", resumed=True)
    assert {path: path.read_bytes() for path in before} == before


def test_labels_that_only_held_out_rows_have_are_named_before_training():
    def table(labels):
        X = np.zeros((len(labels), 2), np.float32)
        return Table(MemorySource(X, "X"), MemorySource(np.array(labels), "y"))

    train, test = table(["a", "b", "b"]), table(["a", "rare"])
    with pytest.raises(InputError, match="no row to train on has: 'rare'"):
        check_labels(MLPClassifier(), train, test)
    check_labels(MLPClassifier(), train, table(["a"]))
    check_labels(MLPClassifier(), train, None)
    check_labels(MLPRegressor(), table([0.5, 1.5]), table([2.5]))


def test_other_options_ingest_again(made):
    made()
    assert made(features=("a",))[1] == 2
    assert made(seed=1)[1] == 3
    assert made(seed=1, held_out=0.5)[1] == 3  # how rows are divided is not written


def test_what_was_cut_short_is_ingested_again(made, tmp_path):
    made()
    os.remove(tmp_path / "run" / "data" / "train.json")
    assert made()[1] == 2

"""Rows of a run that are made first: once, and anew when anything about them has changed."""

import os

import numpy as np
import pandas as pd
import pytest

from daskalt.runs import rows
from daskalt.runs.origins import DataConfig
from daskalt.runs.rows import make_tables, open_tables


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
        train, _ = make_tables(data, tmp_path / "run", progress=False)
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


def test_other_options_ingest_again(made):
    made()
    assert made(features=("a",))[1] == 2
    assert made(seed=1)[1] == 3
    assert made(seed=1, held_out=0.5)[1] == 3  # how rows are divided is not written


def test_what_was_cut_short_is_ingested_again(made, tmp_path):
    made()
    os.remove(tmp_path / "run" / "data" / "train.json")
    assert made()[1] == 2

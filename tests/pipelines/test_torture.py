"""The quick part of the torture command: fits survive its harm."""

import json

import pytest

from pipelines import torture


def run(tmp_path, check):
    """The rows of a check's table."""
    code = torture.main(["--quick", "--only", check, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / f"{check}.json").read_text())["rows"]
    assert code == 0, rows
    return [row["cells"] for row in rows]


@pytest.mark.filterwarnings("default")
def test_killed_workers_cost_no_bit(tmp_path):
    rows = run(tmp_path, "workers")
    assert len(rows) == 2
    assert all(row["same bits"] and row["files left"] == 0 for row in rows)


def test_a_killed_run_is_resumed_to_the_same_bits(tmp_path):
    rows = run(tmp_path, "clients")
    assert sum(row["kills"] for row in rows) == 2
    assert all(row["same bits"] and row["files left"] == 0 for row in rows)


def test_a_run_that_is_told_to_stop_ends_quietly_and_goes_on_to_the_same_bits(tmp_path):
    rows = run(tmp_path, "interrupts")
    assert [row["place"] for row in rows] == ["workers", "threads"]
    assert all(row["same bits"] and row["left"] == 0 and not row["traceback"] for row in rows)


def test_flipped_bits_are_found(tmp_path):
    rows = run(tmp_path, "flips")
    assert len(rows) == 10
    assert all(row["trained on"] == 0 for row in rows)
    assert sum(row["found"] for row in rows) > 15


@pytest.mark.filterwarnings("default")
def test_the_same_rows_give_the_same_bits_everywhere(tmp_path):
    rows = run(tmp_path, "bits")
    assert [row["solver"] for row in rows] == ["altmin", "batch-altmin", "a wide start"]
    assert all(row["digests"] == 1 for row in rows)
    assert [row["fits"] for row in rows] == [16, 16, 2]


def test_stores_that_vanish_or_change_are_named(tmp_path):
    rows = run(tmp_path, "stores")
    assert len(rows) == 7
    assert all(row["in time"] and row["named"] and not row["trained on"] for row in rows)

"""Temporary stores carry the name of their process, and are removed once it has ended."""

import os
import subprocess
import sys
import tempfile

import pytest

from daskalt.storage import scratch
from daskalt.storage.scratch import TemporaryStore, temporary_place
from daskalt.storage.variables import ZStore


def left_by(process, folder, token="0123456789ab", form="{}"):
    name = f"daskalt-{scratch._host()}-{process}-{token}.zarr"
    place = folder / form.format(name)
    (place / "X").mkdir(parents=True)
    (place / "X" / "zarr.json").write_text("{}")
    return place


@pytest.fixture
def dead():
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("make", [TemporaryStore, ZStore.place], ids=["staged", "z"])
@pytest.mark.parametrize("form", ["{}", ".{}.partial"], ids=["whole", "half written"])
def test_what_dead_processes_left_is_cleared(tmp_path, dead, make, form):
    orphan = left_by(dead, tmp_path, form=form)
    make(tmp_path)
    assert not orphan.exists()


def test_all_else_is_left_alone(tmp_path, dead):
    kept = [
        left_by(os.getpid(), tmp_path),
        left_by(1, tmp_path),  # alive, and mostly not ours
        left_by(dead, tmp_path, form="x{}"),
        left_by(dead, tmp_path, form="{}.bak"),
        left_by(dead, tmp_path, token="0123"),
        left_by(dead, tmp_path / "below"),
    ]
    other = tmp_path / f"daskalt-{'0' * 12}-{dead}-0123456789ab.zarr"  # of another host
    other.mkdir()
    older = tmp_path / "daskalt-0123456789ab.zarr"
    older.mkdir()
    file = tmp_path / f"daskalt-{scratch._host()}-{dead}-ffffffffffff.zarr"
    file.write_text("no folder")
    target = tmp_path / "precious"
    target.mkdir()
    link = tmp_path / f"daskalt-{scratch._host()}-{dead}-eeeeeeeeeeee.zarr"
    link.symlink_to(target)
    temporary_place(tmp_path)
    assert all(place.exists() for place in (*kept, other, older, file, link, target))


def test_a_store_that_its_process_did_not_remove_is_cleared_by_the_next(tmp_path):
    """By a process that is killed, for real."""
    script = (
        "import os, sys; from daskalt.storage.groups import new_group\n"
        "from daskalt.storage.scratch import TemporaryStore\n"
        "store = TemporaryStore(sys.argv[1])\n"
        "with new_group(store.location): pass\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    mine = TemporaryStore(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert str(os.getpid()) in mine.location


def test_places_are_new_each_time_and_may_be_anywhere():
    assert temporary_place("memory://scratch") != temporary_place("memory://scratch")
    assert temporary_place("memory://scratch/").startswith("memory://scratch/daskalt-")
    assert temporary_place(None).startswith(tempfile.gettempdir())
    assert temporary_place("/nowhere/at/all").startswith("/nowhere/at/all/daskalt-")

"""One fit at a time in a folder, until its process ends."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from daskalt import BatchAltMin, Checkpoints, MLPClassifier
from daskalt.errors import InputError
from daskalt.storage.locks import alone_in, locked

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys
from daskalt.storage.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
    os._exit(0)  # no chance to clean up
"""


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def refused(place, message):
    with pytest.raises(InputError, match=message), locked(str(place)):
        pytest.fail("had it twice")


def test_a_place_is_given_back(tmp_path):
    place = tmp_path / "made" / "fit"
    for _ in range(2):
        with locked(str(place)):
            refused(place, "is at work in .*fit")
        assert not list(place.parent.iterdir())


def test_several_places_are_taken_in_one_order(tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with alone_in([b, a, b]):
        for place in (a, b):
            with pytest.raises(InputError), locked(place):
                pass
    with locked(b), pytest.raises(InputError), alone_in([a, b]):
        pass
    with locked(a):  # which the failed attempt has given back
        pass


def test_other_processes_are_kept_out_and_a_dead_one_keeps_nobody_out(tmp_path):
    place = str(tmp_path / "fit")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, place],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        refused(place, f"process {holder.pid} on .*Wait for it or end it")
        holder.communicate("")
    assert [path.name for path in tmp_path.iterdir()] == [".fit.lock"]
    with locked(place):
        pass
    assert not list(tmp_path.iterdir())


def test_only_one_of_many_threads_has_a_place(tmp_path):
    """Also while others give it back."""
    inside, most, entered = [], [], []

    def enter():
        for _ in range(200):
            try:
                with locked(str(tmp_path / "fit")):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    entered.append(1)
            except InputError:
                pass

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered
    assert max(most) == 1


def test_stores_that_are_not_local_are_not_locked():
    with locked("memory://fit"), locked("memory://fit"):
        pass


@pytest.mark.parametrize("what", ["checkpoint", "checkpoints", "store"])
def test_a_fit_refuses_a_folder_in_which_another_is_at_work(rows, tmp_path, what):
    place = str(tmp_path / "here")
    options = {
        "checkpoint": {"checkpoint": place},
        "checkpoints": {"checkpoint": Checkpoints(place)},
        "store": {"solver": BatchAltMin(store=place)},
    }[what]
    model = MLPClassifier((3,), max_iter=2, random_state=0, **options)
    with locked(place), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        model.fit(*rows, resume=True)
    assert not list(tmp_path.iterdir())
    model.fit(*rows)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]

"""Checkpoints: any state survives a round trip, complete or absent, and nothing runs code."""

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from daskalt.data.fingerprint import checksum
from daskalt.errors import CheckpointWarning, InputError, StorageError
from daskalt.solvers.base import Report
from daskalt.storage.sealed import seal
from daskalt.training.checkpoint import Checkpoint, Checkpoints
from daskalt.training.history import End, PassRecord, Quality


class Inner(NamedTuple):
    value: float
    array: np.ndarray | None


class Outer(NamedTuple):
    parts: tuple
    inner: Inner
    step: int
    name: str


STATE = Outer(
    (np.arange(6, dtype=np.float32).reshape(2, 3), None, np.float64(0.1)),
    Inner(np.inf, np.ones(2)),
    3,
    "linear",
)
TYPES = (Inner, Outer)
PASSES = [
    PassRecord(1, Quality(0.1 + 0.2, r2=0.5), Report({"objective": np.inf}), 0.25, Quality(1.5)),
    PassRecord(2, Quality(1e-300), Report(refused=2, refusal="NaN", converged=False), 0.5),
]


@pytest.fixture(params=["local", "memory"])
def checkpoints(request, tmp_path):
    place = tmp_path / "fit" if request.param == "local" else f"memory://{tmp_path.name}/fit"
    return Checkpoints(str(place))


def test_a_state_comes_back_as_it_was(checkpoints):
    assert checkpoints.load(TYPES) is None
    checkpoints.refuse_unfinished()
    end = End("converged", "the solver has converged")
    checkpoints.save(Checkpoint({"random_state": 1}, STATE, PASSES, end=end))
    saved = checkpoints.load(TYPES, {"random_state": 1})
    assert saved.history == PASSES
    parts = ("training", "report")
    assert [type(getattr(saved.history[0], part)) for part in parts] == [Quality, Report]
    assert (saved.end, type(saved.end)) == (end, End)
    assert type(saved.state) is Outer
    np.testing.assert_array_equal(saved.state.parts[0], STATE.parts[0])
    assert saved.state.parts[0].dtype == np.float32
    assert saved.state.parts[1:] == (None, 0.1)
    assert saved.state.inner.value == np.inf
    np.testing.assert_array_equal(saved.state.inner.array, np.ones(2))
    assert saved.state[2:] == (3, "linear")


def test_a_checkpoint_of_another_fit_is_named(checkpoints):
    checkpoints.save(Checkpoint({"seed": 1, "mu": 2.0}, STATE, []))
    with pytest.raises(InputError, match=r"of another fit, with mu 2\.0, not 3\.0"):
        checkpoints.load(TYPES, {"seed": 1, "mu": 3.0})


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, PASSES[:1]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daskalt.storage.folders.os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        checkpoints.save(Checkpoint({}, STATE._replace(step=4), PASSES))
    monkeypatch.undo()
    assert checkpoints.load(TYPES).state.step == 3


def test_the_newest_are_kept(checkpoints):
    checkpoints = replace(checkpoints, keep=3)
    for step in range(6):
        checkpoints.save(Checkpoint({}, STATE._replace(step=step), []))
    assert sorted(checkpoints._numbers()) == [4, 5, 6]
    assert checkpoints.load(TYPES).state.step == 5
    checkpoints.save(Checkpoint({}, STATE, []), alone=True)
    assert checkpoints._numbers() == [7]
    checkpoints.clear()
    assert checkpoints.load(TYPES) is None


def test_what_killed_writers_leave_is_cleared_away(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    for name in ("checkpoint-00000001.npz.partial", "checkpoint-00000001.npz"):
        (tmp_path / name).write_bytes(b"half")
    checkpoints.save(Checkpoint({}, STATE, []))
    assert checkpoints.load(TYPES).state.step == STATE.step
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "checkpoint-00000001.json", "checkpoint-00000001.npz"}


def test_a_fit_cut_short_is_not_replaced_unasked(checkpoints):
    checkpoints.save(Checkpoint({}, STATE, PASSES))
    with pytest.raises(InputError, match=r"cut short after 2 passes.*resume=True"):
        checkpoints.refuse_unfinished()
    checkpoints.save(Checkpoint({}, STATE, PASSES, finished=True))
    checkpoints.refuse_unfinished()


def test_what_the_other_fit_has_more_is_named_too(checkpoints):
    checkpoints.save(Checkpoint({"seed": 1, "weight": 2.0}, STATE, []))
    with pytest.raises(InputError, match=r"of another fit, with weight 2\.0, not None"):
        checkpoints.load((), {"seed": 1})  # before any of its state is built


def test_a_damaged_record_is_not_replaced_unasked(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, PASSES[:1], finished=True))
    checkpoints.save(Checkpoint({"seed": 7}, STATE, PASSES))
    path = tmp_path / "checkpoint-00000002.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="newest checkpoint is damaged"):
        checkpoints.refuse_unfinished()


@pytest.mark.parametrize("name", ["checkpoint-00000001.json", "checkpoint-00000001.npz"])
def test_every_flipped_bit_and_every_cut_is_found(tmp_path, name):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({"seed": 1}, STATE, PASSES))
    path = tmp_path / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        with pytest.raises(StorageError, match="checkpoint-00000001"):
            checkpoints.load(TYPES)
    for spoilt in (whole[:-1], whole[: len(whole) // 2], b""):
        path.write_bytes(spoilt)
        with pytest.raises(StorageError, match="checkpoint-00000001"):
            checkpoints.load(TYPES)
    path.unlink()
    if name.endswith("npz"):
        with pytest.raises(StorageError, match="checkpoint-00000001"):
            checkpoints.load(TYPES)
    path.write_bytes(whole)
    assert checkpoints.load(TYPES).history == PASSES


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, PASSES[:1]))
    checkpoints.save(Checkpoint({}, STATE._replace(step=4), PASSES))
    (tmp_path / "checkpoint-00000002.npz").write_bytes(b"PK")
    with pytest.warns(CheckpointWarning, match="checkpoint-00000002.*after 1 pass"):
        assert checkpoints.load(TYPES).state.step == 3


def test_only_declared_types_are_built(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, PASSES[:1]))
    path = tmp_path / "checkpoint-00000001.json"
    record = json.loads(path.read_text())["record"]
    record["state"]["<object>"][0] = "Popen"
    path.write_bytes(seal(record))
    with pytest.raises(StorageError, match="Popen"):
        checkpoints.load(TYPES)


@pytest.mark.parametrize(
    "wrong", [{"keep": 0}, {"every_steps": 0}, {"every_minutes": 0}, {"every_minutes": "5"}]
)
def test_wrong_parameters_are_named(wrong):
    with pytest.raises(InputError, match=f"The parameter {next(iter(wrong))} of Checkpoints"):
        Checkpoints("anywhere", **wrong).check()


def test_arrays_of_objects_are_never_pickled(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    with pytest.raises(InputError, match=r"state\.0\.0 is of type object"):
        checkpoints.save(Checkpoint({}, (np.array([object()]),), PASSES[:1]))


def test_checksums_tell_arrays_apart():
    a = np.arange(6.0)
    assert checksum(a, None) == checksum(a)
    assert checksum(a) != checksum(a + 1e-9)
    assert checksum(a[::2]) == checksum(a[::2].copy())
    words = np.array(["a", "b"], dtype=object)
    assert checksum(words) == checksum(words.astype(str)) != checksum(words[::-1])

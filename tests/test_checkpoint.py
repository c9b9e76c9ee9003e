"""Checkpoints: any state there and back, whole or not at all, nothing that runs code."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from daskalt.checkpoint import Checkpoint, Checkpoints, checksum
from daskalt.errors import InputError, StorageError


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


@pytest.fixture(params=["local", "memory"])
def checkpoints(request, tmp_path):
    place = tmp_path / "fit" if request.param == "local" else f"memory://{tmp_path.name}/fit"
    if request.param == "local":
        place.mkdir()
    return Checkpoints(str(place))


def test_a_state_comes_back_as_it_was(checkpoints):
    assert checkpoints.load(TYPES) is None
    assert checkpoints.passes is None
    history = [{"loss": 0.1 + 0.2}, {"loss": 1e-300}]
    checkpoints.save(Checkpoint({"seed": 1}, STATE, history))
    saved = checkpoints.resume(TYPES, {"seed": 1})
    assert saved.history == history
    assert checkpoints.passes == 2
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
        checkpoints.resume(TYPES, {"seed": 1, "mu": 3.0})


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, [{}]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daskalt.checkpoint.os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        checkpoints.save(Checkpoint({}, STATE._replace(step=4), [{}, {}]))
    monkeypatch.undo()
    assert checkpoints.load(TYPES).state.step == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "checkpoint.json").write_text("{"),
        lambda folder: (folder / "checkpoint-1.npz").unlink(),
        lambda folder: (folder / "checkpoint-1.npz").write_bytes(b"PK"),
        lambda folder: flip(folder / "checkpoint-1.npz"),
    ],
    ids=["record", "missing", "truncated", "flipped"],
)
def test_a_spoilt_checkpoint_is_named(tmp_path, spoil):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, [{}]))
    spoil(tmp_path)
    with pytest.raises(StorageError, match="checkpoint in"):
        checkpoints.load(TYPES)


def flip(path):
    """Change a bit of the first array's numbers."""
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(4).tobytes())] ^= 1
    path.write_bytes(bytes(content))


def test_only_declared_types_are_built(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(Checkpoint({}, STATE, [{}]))
    record = json.loads((tmp_path / "checkpoint.json").read_text())
    record["state"]["type"] = "Popen"
    (tmp_path / "checkpoint.json").write_text(json.dumps(record))
    with pytest.raises(StorageError, match="Popen"):
        checkpoints.load(TYPES)


def test_arrays_of_objects_are_never_pickled(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    with pytest.raises(TypeError, match="array of objects"):
        checkpoints.save(Checkpoint({}, (np.array([object()]),), [{}]))


def test_checksums_tell_arrays_apart():
    a = np.arange(6.0)
    assert checksum(a, None) == checksum(a)
    assert checksum(a) != checksum(a + 1e-9)
    assert checksum(a[::2]) == checksum(a[::2].copy())
    words = np.array(["a", "b"], dtype=object)
    assert checksum(words) == checksum(words.astype(str)) != checksum(words[::-1])

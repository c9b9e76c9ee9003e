"""Transient errors are retried, lasting ones are raised; both are named."""

import errno
import pickle
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

from daskalt.data.readers import MemorySource, ZarrSource
from daskalt.data.staging import copy_to_scratch, stage
from daskalt.data.table import Table
from daskalt.errors import InputError, StorageError
from daskalt.storage import retries
from daskalt.storage.groups import PatientArray
from daskalt.storage.retries import is_transient, patiently
from daskalt.storage.store import storage_errors
from daskalt.storage.variables import ZStore

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.fixture(autouse=True)
def naps(monkeypatch):
    """Seconds that would have been slept."""
    slept = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


class Flaky:
    """A call that fails some times before it does what it should."""

    def __init__(self, call, failures, error=None):
        self.call = call
        self.left = failures
        self.error = error or TimeoutError("too slow")
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return self.call(*args, **kwargs)


def client_error(module, **attributes):
    kind = type("ClientError", (Exception,), {"__module__": module, **attributes})
    return kind("from afar")


TRANSIENT = [
    TimeoutError(),
    ConnectionResetError(),
    BrokenPipeError(),
    *(OSError(number, "") for number in (errno.EIO, errno.ESTALE, errno.EBUSY, errno.EHOSTUNREACH)),
    client_error("aiohttp.client_exceptions"),
    client_error("aiohttp.client_exceptions", status=503),
    client_error("gcsfs.retry", code=429),
    client_error("google.api_core.exceptions", code=500),
    client_error("botocore.exceptions"),
]
LASTING = [
    *(OSError(number, "") for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES)),
    FileNotFoundError(),
    ValueError("checksum"),
    RuntimeError("decode"),
    MemoryError(),
    StorageError("ours"),
    client_error("aiohttp.client_exceptions", status=403),
    client_error("gcsfs.retry", code="404"),
    type("NotFound", (FileNotFoundError,), {"__module__": "s3fs.errors"})(),
    client_error("aiohttpish"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_passing_trouble_is_waited_out(error, naps):
    call = Flaky(lambda value: value, 2, error)
    assert patiently("Reading", call, 7) == 7
    assert call.calls == 3
    assert len(naps) == 2


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_lasting_trouble_is_let_through_at_once(error, naps):
    call = Flaky(lambda: None, 1, error)
    with pytest.raises(type(error)):
        patiently("Reading", call)
    assert call.calls == 1
    assert naps == []
    assert not is_transient(error)


def test_the_last_failure_says_how_often_it_was_tried(naps):
    call = Flaky(lambda: None, 99)
    with pytest.raises(StorageError, match="Reading a failed, tried 5 times: TimeoutError: too"):
        patiently("Reading a", call)
    assert call.calls == 5
    assert len(naps) == 4


def test_waits_double_are_not_all_alike_and_stay_short(naps):
    for _ in range(20):
        with pytest.raises(StorageError):
            patiently("Reading", Flaky(lambda: None, 99))
    waits = np.reshape(naps, (20, 4))
    least = retries.FIRST_DELAY * 2.0 ** np.arange(4)
    assert (waits >= least).all()
    assert (waits <= least + retries.FIRST_DELAY).all()
    assert waits.sum(axis=1).max() <= 10
    assert len(set(waits[:, 0])) > 1


def test_constants_set_how_often(monkeypatch):
    monkeypatch.setattr(retries, "TRIES", 2)
    call = Flaky(lambda: None, 99)
    with pytest.raises(StorageError, match="tried 2 times"):
        patiently("Reading", call)
    assert call.calls == 2


# --------------------------------------------------------------------------- where it is used


@pytest.fixture
def shaky(monkeypatch):
    """A function that makes a method of Zarr's local store fail some times."""

    def shake(method, failures, error=None):
        real = getattr(zarr.storage.LocalStore, method)
        flaky = Flaky(lambda: None, failures, error)

        async def shaken(self, *args, **kwargs):
            flaky()
            return await real(self, *args, **kwargs)

        monkeypatch.setattr(zarr.storage.LocalStore, method, shaken)
        return flaky

    return shake


def test_rows_are_read_in_spite_of_it(tmp_path, shaky):
    zarr.create_array(str(tmp_path / "a"), data=ROWS, chunks=(5, 3))
    source = ZarrSource(tmp_path / "a")
    flaky = shaky("get", 2)
    np.testing.assert_array_equal(source.read(0, 5), ROWS[:5])
    assert flaky.left == 0


def test_opening_is_tried_again(tmp_path, shaky):
    zarr.create_array(str(tmp_path / "a"), data=ROWS, chunks=(5, 3))
    flaky = shaky("get", 2, OSError(errno.ESTALE, "stale handle"))
    assert len(ZarrSource(tmp_path / "a")) == 20
    assert flaky.left == 0


def test_storage_that_stays_away_is_named_with_store_rows_and_tries(tmp_path, shaky):
    zarr.create_array(str(tmp_path / "a"), data=ROWS, chunks=(5, 3))
    source = ZarrSource(tmp_path / "a")
    shaky("get", 9999)
    with pytest.raises(StorageError, match=r"X: reading rows 3 to 7 of .*/a failed, tried 5 times"):
        source.decode(3, 7)
    with pytest.raises(StorageError, match=r"X: opening the Zarr array at .*/a failed, tried 5"):
        ZarrSource(tmp_path / "a")


def test_a_damaged_chunk_is_not_waited_for(tmp_path, naps):
    zarr.create_array(str(tmp_path / "a"), data=ROWS, chunks=(5, 3))
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(b"bad")
    with pytest.raises(StorageError, match="chunk c/0/0"):
        ZarrSource(tmp_path / "a").read(0, 5)
    assert naps == []


def test_z_is_written_and_read_in_spite_of_it(tmp_path, shaky):
    store = ZStore(str(tmp_path / "z"), 20, ("z1",), (3,), 10, "float32", kept=True).create()
    writing = shaky("set", 2)
    store.write(0, 0, [ROWS])
    reading = shaky("get", 3, ConnectionResetError("gone"))
    np.testing.assert_array_equal(store.read(0, 0, 20)[0], ROWS)
    assert writing.left == reading.left == 0
    shaky("get", 9999)
    with pytest.raises(StorageError, match=r"Reading z1, rows 0 to 20 of .*/z failed, tried"):
        store.read(0, 0, 20)
    shaky("set", 9999)
    with pytest.raises(StorageError, match=r"Writing to .*/z/even/z1 failed, tried 5 times"):
        store.write(0, 0, [ROWS])


@pytest.mark.parametrize("how", ["copy", "stage"])
def test_copies_are_written_in_spite_of_it(tmp_path, monkeypatch, how):
    write = zarr.Array.__setitem__
    flaky = Flaky(write, 2)
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda *args: flaky(*args))
    if how == "copy":
        source = copy_to_scratch(Table(MemorySource(ROWS)), tmp_path, None).X
    else:
        source = stage({"X": da.from_array(ROWS, chunks=(5, 3)) + 0}, tmp_path)["X"]
    assert flaky.left == 0
    np.testing.assert_array_equal(source.read(0, 20), ROWS)


# --------------------------------------------------------------------------------- a full disk


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_disk_that_fills_while_zarr_writes_is_said(tmp_path, monkeypatch, step, naps):
    array = zarr.create_array(str(tmp_path / "a"), shape=(20, 3), dtype="f4", chunks=(5, 3))
    method = {"write": "open", "replace": "replace"}[step]
    monkeypatch.setattr(Path, method, full)
    said = pytest.raises(StorageError, match=r"The disk is full: .*a cannot be finished")
    with said, storage_errors(tmp_path / "a"):
        PatientArray(array)[:] = ROWS + 1
    assert naps == []


def wrapped(kind):
    try:
        full()
    except OSError as error:
        if kind == "group":
            return ExceptionGroup("tasks failed", [ValueError("other"), error])
        wrapper = RuntimeError("could not write chunk")
        if kind == "cause":
            wrapper.__cause__ = error
        else:
            wrapper.__context__ = error
        return wrapper


@pytest.mark.parametrize("kind", ["cause", "context", "group"])
def test_a_full_disk_is_known_under_wrappers(tmp_path, kind):
    with pytest.raises(StorageError, match="The disk is full"), storage_errors(tmp_path):
        raise wrapped(kind)


def test_other_errors_keep_their_kind(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path):
        _ = 1 // 0
    with pytest.raises(InputError, match="as it was"), storage_errors(tmp_path):
        raise InputError("as it was") from OSError(errno.ENOSPC, "")


def raise_full(place):
    with storage_errors(place):
        full()


def test_a_storage_error_comes_back_from_a_worker_with_its_message(tmp_path, cluster):
    error = StorageError("X: chunk c/0/0 is missing.")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (StorageError, str(error))
    client = cluster(1, processes=True)
    with pytest.raises(StorageError, match="The disk is full: "):
        client.submit(raise_full, str(tmp_path)).result()

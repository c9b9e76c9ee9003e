"""The global shuffle is exact, in bounded memory, and leaves all or nothing."""

import errno

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.data import writers
from daskalt.data.readers import MemorySource, ZarrSource
from daskalt.data.table import Table
from daskalt.data.writers import shuffle_to_zarr
from daskalt.errors import InputError, StorageError
from daskalt.storage import store

NAMES = np.array(["a", "bb", "ünï"])


def sorted_table(n=300):
    rows = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    y = NAMES[np.arange(n) * 3 // n]
    return Table(
        MemorySource(rows), MemorySource(y, "y"), MemorySource(np.arange(n) / 7, "sample_weight")
    )


def order(n, seed):
    """The order that the shuffle promises."""
    return np.argsort(np.random.default_rng(seed).random(n), kind="stable")


@given(
    n=st.integers(1, 200),
    chunk=st.integers(1, 60),
    chunk_rows=st.none() | st.integers(1, 60),
    memory=st.integers(100, 100_000),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_rows_go_where_their_numbers_rank_them(
    tmp_path_factory, n, chunk, chunk_rows, memory, seed
):
    folder = tmp_path_factory.mktemp("shuffle")
    table = sorted_table(n)
    zarr.create_array(str(folder / "X"), data=table.X.array, chunks=(chunk, 3))
    table = Table(ZarrSource(folder / "X"), table.y, table.weight)
    shuffled = shuffle_to_zarr(
        table, folder / "s", seed=seed, chunk_rows=chunk_rows, memory_bytes=memory
    )
    expected, block = table.read(0, n), shuffled.read(0, n)
    for given_, found in zip(expected, block, strict=True):
        np.testing.assert_array_equal(found, given_[order(n, seed)])


def test_labels_end_up_evenly_spread(tmp_path):
    n = 3000
    shuffled = shuffle_to_zarr(sorted_table(n), tmp_path / "s", seed=1, memory_bytes=20_000)
    y = shuffled.read(0, n).y
    for name in NAMES:
        positions = np.flatnonzero(y == name)
        # Mean of n/3 of the positions: standard deviation n/sqrt(12) * sqrt(2/3 / (n/3)).
        assert abs(positions.mean() - n / 2) < 4 * n / np.sqrt(12) * np.sqrt(2 / n)


class Counting(MemorySource):
    """A source that remembers the largest range read from it."""

    largest = 0

    def read(self, start, stop):
        rows = super().read(start, stop)
        self.largest = max(self.largest, rows.nbytes)
        return rows


@pytest.mark.parametrize("n", [20_000, 80_000])
def test_memory_does_not_grow_with_the_rows(tmp_path, n, monkeypatch):
    memory = 1 << 20
    largest_bucket = 0
    fromfile = np.fromfile

    def watched(path, dtype):
        nonlocal largest_bucket
        records = fromfile(path, dtype)
        largest_bucket = max(largest_bucket, records.nbytes)
        return records

    monkeypatch.setattr(np, "fromfile", watched)
    X = Counting(np.zeros((n, 16), np.float32))
    shuffle_to_zarr(Table(X), tmp_path / "s", seed=0, chunk_rows=1000, memory_bytes=memory)
    assert X.largest <= memory / 16
    assert 6 * largest_bucket <= memory


def test_the_store_describes_itself(tmp_path):
    table = shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=5, chunk_rows=64)
    group = zarr.open_group(str(tmp_path / "s"), mode="r")
    assert group.attrs["seed"] == 5
    assert group.metadata.zarr_format == 3
    assert table.X.chunk_rows == table.y.chunk_rows == 64
    for name in ("X", "y", "sample_weight"):
        assert type(group[name].compressors[-1]).__name__ == "Crc32cCodec"
    assert len(group["X"].compressors) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_object_stores_are_written_too():
    table = shuffle_to_zarr(sorted_table(), "memory://staging/s", seed=2)
    np.testing.assert_array_equal(table.read(0, 300).y, sorted_table().y.array[order(300, 2)])


class Breaking(MemorySource):
    """A source that fails after some rows."""

    def __init__(self, array, error):
        super().__init__(array)
        self.chunk_rows = 10
        self.error = error

    def read(self, start, stop):
        if start >= 100:
            raise self.error
        return super().read(start, stop)


@pytest.mark.parametrize("place", ["local", "memory://staging/broken"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x")])
def test_an_interrupted_shuffle_leaves_nothing(tmp_path, place, error):
    destination = tmp_path / "s" if place == "local" else place
    table = Table(Breaking(np.zeros((300, 4)), error))
    with pytest.raises(type(error)):
        shuffle_to_zarr(table, destination, seed=0, memory_bytes=4000)
    assert list(tmp_path.iterdir()) == []
    assert not store.filesystem_of(destination)[0].exists(str(destination))


def test_what_was_there_survives_a_failed_overwrite(tmp_path):
    shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    broken = Table(Breaking(np.zeros((300, 4)), RuntimeError("x")))
    with pytest.raises(RuntimeError):
        shuffle_to_zarr(broken, tmp_path / "s", seed=0, memory_bytes=4000, overwrite=True)
    assert zarr.open_group(str(tmp_path / "s"), mode="r")["X"].shape == (300, 3)


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    (tmp_path / ".s.partial" / "data").mkdir(parents=True)
    shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_existing_destinations_are_kept_unless_told(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match=r"exists already.*overwrite=True"):
        shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0, overwrite=True)
    assert (tmp_path / "s" / "zarr.json").exists()


def test_a_store_is_not_shuffled_onto_itself(tmp_path):
    table = shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    with pytest.raises(InputError, match="is where X is read from"):
        shuffle_to_zarr(table, tmp_path / "s", seed=1, overwrite=True)


def test_too_little_space_is_said_before_writing(tmp_path, monkeypatch):
    usage = type(store.shutil.disk_usage(tmp_path))(10, 5, 5)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"needs \d+ bytes of disk .* and 5 are free"):
        shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers, "_stored", full)
    with pytest.raises(StorageError, match=r"disk is full: .* bytes are free"):
        shuffle_to_zarr(sorted_table(), tmp_path / "s", seed=0)
    assert list(tmp_path.iterdir()) == []

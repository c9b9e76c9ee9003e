"""Stored rows that vanish or change while they are in use are errors, wherever and whenever."""

import os
import pickle
import shutil

import fsspec
import numpy as np
import pytest
import zarr

from daskalt import Checkpoints, MLPClassifier, MLPRegressor, StochasticAltMin
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, SlicedSource, ZarrSource
from daskalt.data.staging import copy_to_scratch
from daskalt.data.table import Table
from daskalt.data.watch import Watch
from daskalt.data.writers import shuffle_to_zarr
from daskalt.errors import DaskaltError, InputError, MissingChunksWarning, StorageError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def ours(place):
    table = Table(MemorySource(X), MemorySource(Y, "y"))
    shuffle_to_zarr(table, place, seed=0, chunk_rows=20)


def foreign(place, zarr_format=3):
    group = zarr.create_group(str(place), zarr_format=zarr_format)
    group.create_array("X", data=X, chunks=(20, 3), compressors=None)
    group.create_array("y", data=Y, chunks=(20,), config={"write_empty_chunks": True})


def foreign_2(place):
    foreign(place, 2)


MAKERS = [ours, foreign_2, foreign]


def chunks(place):
    files = sorted(path for path in (place / "X").rglob("*") if path.is_file())
    return [path for path in files if path.name not in ("zarr.json", ".zarray", ".zattrs")]


# ---------------------------------------------------------------------------------- harm


def delete(place):
    shutil.rmtree(place)


def delete_a_chunk(place):
    chunks(place)[5].unlink()


def truncate(place):
    os.truncate(chunks(place)[5], 7)


def replace(place, values):
    zarr.open_array(place / "X", mode="r+")[100:120] = values


def overwrite(place):
    replace(place, X[100:120] + 1)


def overwrite_with_nan(place):
    replace(place, np.nan)


def overwrite_in_place(place):
    """As long as before, and without a checksum that would tell."""
    chunk = chunks(place)[5]
    chunk.write_bytes(chunk.read_bytes()[::-1])


def reshape(place):
    shutil.rmtree(place / "X")
    options = {"zarr_format": 2} if (place / ".zgroup").exists() else {}
    rows = np.ascontiguousarray(X.reshape(100, 6))
    zarr.create_array(str(place / "X"), data=rows, chunks=(10, 6), compressors=None, **options)


def empty(place):
    place.rename(place.with_name("elsewhere"))
    place.mkdir()


HARMS = [
    *(delete, delete_a_chunk, truncate, overwrite, overwrite_with_nan, overwrite_in_place),
    *(reshape, empty),
]


class HarmedAt(StochasticAltMin):
    """Does harm when a pass begins."""

    harm = None  # number of the pass, function, its argument

    def renew(self, state):
        if HarmedAt.harm is not None:
            passes, function, place = HarmedAt.harm
            HarmedAt.harm = (passes - 1, function, place) if passes else None
            if not passes:
                function(place)
        return super().renew(state)


@pytest.fixture(autouse=True)
def no_harm():
    yield
    HarmedAt.harm = None


@pytest.fixture
def never_kept(monkeypatch):
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)


def network(cls=MLPClassifier, **options):
    options = {"max_iter": 6, "batch_size": 50, "tol": 0, "random_state": 0} | options
    return cls((4,), solver=HarmedAt(), **options)


def harmed_fit(place, function, passes=2, harmed=None, **options):
    """The error that a fit ends with whose store comes to harm after some passes."""
    HarmedAt.harm = (passes, function, place if harmed is None else harmed)
    with pytest.raises(DaskaltError) as caught:
        network(**options).fit(str(place))
    return caught.value


@pytest.mark.parametrize("function", HARMS)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_store_harmed_between_passes_is_never_trained_on(tmp_path, never_kept, maker, function):
    maker(tmp_path / "rows")
    error = harmed_fit(tmp_path / "rows", function)
    assert isinstance(error, StorageError | InputError)
    assert str(tmp_path / "rows") in str(error)


@pytest.mark.parametrize("function", HARMS)
@pytest.mark.parametrize("maker", MAKERS)
def test_rows_kept_in_memory_are_no_excuse(tmp_path, maker, function):
    """Others decode them from the store later on: another worker, a fit that is resumed."""
    maker(tmp_path / "rows")
    error = harmed_fit(tmp_path / "rows", function)
    assert isinstance(error, StorageError)
    assert str(tmp_path / "rows") in str(error)


@pytest.mark.parametrize("read", [3, 5, 7])
@pytest.mark.parametrize("function", HARMS)
def test_a_store_harmed_within_a_pass(tmp_path, never_kept, monkeypatch, function, read):
    foreign(tmp_path / "rows")
    harm_at(monkeypatch, read, lambda: function(tmp_path / "rows"))
    with pytest.raises((StorageError, InputError), match=str(tmp_path / "rows")):
        network().fit(str(tmp_path / "rows"))


def harm_at(monkeypatch, number, harm):
    """Do harm before the read of X of that number; in a pass it is the first of three arrays."""
    decode, count = ZarrSource.decode, iter(range(1, 10_000))

    def harmed(self, start, stop):
        if self.name == "X" and next(count) == number:
            harm()
        return decode(self, start, stop)

    monkeypatch.setattr(ZarrSource, "decode", harmed)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_store_that_is_away_for_one_read_only(tmp_path, never_kept, monkeypatch, maker):
    """The read itself notices: nothing is to be seen before or after it."""
    maker(tmp_path / "rows")
    count = iter(range(10_000))
    lose(monkeypatch, lambda key: key.startswith("X/") and next(count) == 25)
    with pytest.raises(StorageError, match=r"X: chunk \S+ of .*/rows/X is missing.* rows \d+ to"):
        network().fit(str(tmp_path / "rows"))


def lose(monkeypatch, lost):
    """Let reads of chunks find nothing where ``lost`` says so of their key."""
    store = zarr.storage.LocalStore

    def is_lost(key):
        return key.rpartition("/")[2] not in ("zarr.json", ".zarray", ".zattrs") and lost(key)

    async def get(self, key, *args, **kwargs):
        return None if is_lost(key) else await whole(self, key, *args, **kwargs)

    def get_sync(self, key, *args, **kwargs):
        return None if is_lost(key) else whole_sync(self, key, *args, **kwargs)

    whole, whole_sync = store.get, getattr(store, "get_sync", None)
    monkeypatch.setattr(store, "get", get)
    if whole_sync is not None:  # newer versions of Zarr can be told to read by it
        monkeypatch.setattr(store, "get_sync", get_sync)


def test_the_last_pass_is_compared_too(tmp_path):
    foreign(tmp_path / "rows")
    error = harmed_fit(tmp_path / "rows", overwrite, passes=5)
    assert "chunk c/5/0 was written again" in str(error)


def test_what_an_untouched_store_gives_is_as_before(tmp_path):
    foreign(tmp_path / "rows")
    shutil.copytree(tmp_path / "rows", tmp_path / "copy")
    a, b = (network().fit(str(tmp_path / name)) for name in ("rows", "copy"))
    np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])


# ------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (delete, "it is gone"),
        (delete_a_chunk, "chunk c/5/0 is gone"),
        (overwrite, "chunk c/5/0 was written again"),
        (reshape, r"its metadata changed \(chunk_grid, shape\)"),
    ],
)
def test_the_change_is_told(tmp_path, function, told):
    foreign(tmp_path / "rows")
    table = opened(tmp_path / "rows")
    watch = Watch(table)
    watch.check()
    function(tmp_path / "rows")
    with pytest.raises(StorageError, match=rf"X: the store .*/rows/X changed .*: {told}"):
        watch.check()


def opened(place):
    table = Table(ZarrSource(place, "X"), ZarrSource(place, "y", "y"))
    for source in table.present.values():
        learn_chunks(source, warn=True)
    return table


def test_many_chunks_are_counted_and_all_changes_told(tmp_path):
    foreign(tmp_path / "rows")
    watch = Watch(opened(tmp_path / "rows"))
    for chunk in chunks(tmp_path / "rows")[:7]:
        chunk.unlink()
    os.utime(chunks(tmp_path / "rows")[0])
    with pytest.raises(StorageError, match=r"7 chunks are gone \(c/0/0, .*\.\.\.\); chunk c/7/0 "):
        watch.check()


def test_attributes_and_unfinished_files_are_no_change(tmp_path):
    foreign(tmp_path / "rows")
    watch = Watch(opened(tmp_path / "rows"))
    zarr.open_array(tmp_path / "rows" / "X", mode="r+").attrs["note"] = "mine"
    (tmp_path / "rows" / "X" / "c" / "0" / "0.partial").write_bytes(b"half")
    watch.check()


def test_only_the_rows_in_use_are_compared(tmp_path):
    foreign(tmp_path / "rows")
    source = ZarrSource(tmp_path / "rows", "X")
    table = Table(SlicedSource(source, 0, 90))
    learn_chunks(table.X, warn=True)
    watch = Watch(table)
    overwrite(tmp_path / "rows")
    watch.check()
    os.utime(chunks(tmp_path / "rows")[4])
    with pytest.raises(StorageError, match="chunk c/4/0 was written again"):
        watch.check()


def test_slices_of_one_array_are_learnt_together(tmp_path):
    foreign(tmp_path / "rows")
    source = ZarrSource(tmp_path / "rows", "X")
    parts = [Table(SlicedSource(source, 0, 50)), Table(SlicedSource(source, 150, 200))]
    for part in parts:
        learn_chunks(part.X, warn=True)
    watch = Watch(*parts)
    os.utime(chunks(tmp_path / "rows")[0])
    with pytest.raises(StorageError, match="chunk c/0/0 was written again"):
        watch.check()


def test_gaps_that_are_filled_are_a_change(tmp_path):
    foreign(tmp_path / "rows")
    chunk = chunks(tmp_path / "rows")[5]
    chunk.rename(tmp_path / "aside")
    with pytest.warns(MissingChunksWarning):
        watch = Watch(opened(tmp_path / "rows"))
    watch.check()
    (tmp_path / "aside").rename(chunk)
    with pytest.raises(StorageError, match="chunk c/5/0 was added"):
        watch.check()


def test_rows_in_memory_and_temporary_copies_are_left_out(tmp_path, monkeypatch):
    table = Table(MemorySource(X), MemorySource(Y, "y"))
    copy = copy_to_scratch(table, tmp_path, None)
    looked = []
    monkeypatch.setattr("daskalt.data.readers.take_trace", lambda *_: looked.append(1))
    Watch(table, copy).check()
    in_memory = zarr.create_array(zarr.storage.MemoryStore(), data=X, chunks=(20, 3))
    Watch(Table(ZarrSource(in_memory))).check()
    assert not looked


@pytest.mark.parametrize("change", ["gone", "written again", "added"])
def test_object_stores_are_compared_by_one_listing(change):
    place = f"memory://watch-{change[:4]}"
    files = fsspec.filesystem("memory")
    zarr.create_array(place, data=X, chunks=(20, 3), compressors=None, overwrite=True)
    chunk = f"/watch-{change[:4]}/c/5/0"
    content = files.cat_file(chunk)
    if change == "added":
        files.rm(chunk)
    table = Table(ZarrSource(place))
    learn_chunks(table.X, warn=False)
    watch = Watch(table)
    watch.check()
    if change == "gone":
        files.rm(chunk)
    else:
        files.pipe_file(chunk, content)
    with pytest.raises(StorageError, match=f"memory://.*chunk c/5/0 (is|was) {change}"):
        watch.check()


def test_a_zip_file_written_again_is_noticed(tmp_path):
    def write(rows):
        with zarr.storage.ZipStore(tmp_path / "rows.zip", mode="w") as store:
            zarr.create_array(store, data=rows, chunks=(20, 3))

    write(X)
    store = zarr.storage.ZipStore(tmp_path / "rows.zip")
    table = Table(ZarrSource(zarr.open_array(store, mode="r")))
    learn_chunks(table.X, warn=True)
    np.testing.assert_array_equal(table.read(0, 200).X, X)
    watch = Watch(table)
    watch.check()
    write(X + 1)
    with pytest.raises(StorageError, match="its file was written again"):
        watch.check()


def test_a_store_out_of_reach_is_said(tmp_path, monkeypatch):
    foreign(tmp_path / "rows")
    watch = Watch(opened(tmp_path / "rows"))
    monkeypatch.setattr(os, "stat", lambda *_, **__: 1 // 0)
    with pytest.raises(StorageError, match=r"X: looking through the chunks of .*/X failed: Zero"):
        watch.check()


# ---------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize(("maker", "key"), [(foreign_2, "{}.0"), (foreign, "c/{}/0")])
def test_known_gaps_are_read_and_others_are_not(tmp_path, never_kept, maker, key):
    maker(tmp_path / "rows")
    array = tmp_path / "rows" / "X"
    (array / key.format(2)).unlink()
    source = ZarrSource(array, name="X")
    with pytest.warns(MissingChunksWarning, match=f"chunk {key.format(2)}"):
        learn_chunks(source, warn=True)
    readers = source, pickle.loads(pickle.dumps(source))
    for reader in readers:
        assert not reader.read(40, 60).any()
        np.testing.assert_array_equal(reader.read(60, 200), X[60:])
    (array / key.format(7)).unlink()
    for reader in readers:
        with pytest.raises(StorageError, match=rf"X: chunk {key.format(7)} of .* rows 0 to 200"):
            reader.read(0, 200)
        assert not reader.read(40, 60).any()


def test_before_it_is_learnt_what_is_missing_zarr_reads_as_the_fill_value(tmp_path, never_kept):
    foreign(tmp_path / "rows")
    chunks(tmp_path / "rows")[2].unlink()
    assert not ZarrSource(tmp_path / "rows", "X").read(40, 60).any()


def test_what_is_known_of_a_large_sparse_array_travels_light(tmp_path):
    array = zarr.create_array(str(tmp_path / "a"), shape=(40_000, 1), chunks=(2, 1), dtype="f4")
    array[:2] = 1
    source = ZarrSource(tmp_path / "a")
    before = len(pickle.dumps(source))
    learn_chunks(source, warn=False)
    assert len(pickle.dumps(source)) < before + 500


def test_a_lost_shard_is_named(tmp_path, never_kept):
    zarr.create_array(str(tmp_path / "a"), data=X, chunks=(10, 3), shards=(50, 3))
    source = ZarrSource(tmp_path / "a")
    learn_chunks(source, warn=True)
    (tmp_path / "a" / "c" / "1" / "0").unlink()
    with pytest.raises(StorageError, match=r"chunk c/1/0 of .* is missing"):
        source.read(60, 70)


def test_a_shard_lost_once_its_index_is_read_is_named(tmp_path, never_kept, monkeypatch):
    zarr.create_array(str(tmp_path / "a"), data=X, chunks=(10, 3), shards=(50, 3))
    source = ZarrSource(tmp_path / "a")
    learn_chunks(source, warn=True)
    np.testing.assert_array_equal(source.read(60, 70), X[60:70])
    count = iter(range(10_000))
    lose(monkeypatch, lambda key: next(count) > 0)
    with pytest.raises(StorageError, match=r"chunk c/1/0 of .* is missing"):
        source.read(60, 70)


def test_a_chunk_lost_from_an_object_store_is_named(never_kept):
    zarr.create_array("memory://watch-lost", data=X, chunks=(20, 3), overwrite=True)
    source = ZarrSource("memory://watch-lost")
    learn_chunks(source, warn=True)
    fsspec.filesystem("memory").rm("/watch-lost/c/3/0")
    with pytest.raises(StorageError, match=r"chunk c/3/0 of memory://.* is missing"):
        source.read(0, 200)


def test_an_array_replaced_before_another_process_opens_it_is_refused(tmp_path, never_kept):
    foreign(tmp_path / "rows")
    sent = pickle.dumps(ZarrSource(tmp_path / "rows", "X"))
    reshape(tmp_path / "rows")
    elsewhere = pickle.loads(sent)
    elsewhere._token += "of another process"
    with pytest.raises(StorageError, match=r"X: .*/rows/X was replaced .*\(200, 3\).*\(100, 6\)"):
        elsewhere.read(0, 20)


# ----------------------------------------------------------------------------------- NaN


@pytest.mark.parametrize("member", ["X", "y", "sample_weight"])
def test_nan_that_comes_later_is_named_with_its_row(tmp_path, never_kept, monkeypatch, member):
    group = zarr.create_group(str(tmp_path / "rows"))
    for name, values in {"X": X, "y": X[:, 0], "sample_weight": np.ones(200, "f4")}.items():
        group.create_array(name, data=values, chunks=(20, *values.shape[1:]))

    def spoil():
        zarr.open_array(tmp_path / "rows" / member, mode="r+")[107] = np.nan

    harm_at(monkeypatch, 4, spoil)
    with pytest.raises(InputError) as caught:
        network(MLPRegressor).fit(str(tmp_path / "rows"))
    error = caught.value
    assert f"Input {member} contains NaN or infinity: nan at row 107, column 0" in str(error)
    assert f"{tmp_path}/rows/{member} changed" in str(error)


# ------------------------------------------------------------------ checkpoints, held-out rows


@pytest.mark.parametrize("steps", [None, 1])
def test_no_checkpoint_is_of_changed_rows(tmp_path, steps):
    """Once the store is restored, the fit resumes to the bits of one without harm."""
    foreign(tmp_path / "rows")
    expected = network().fit(str(tmp_path / "rows")).coefs_
    place = Checkpoints(str(tmp_path / "points"), every_steps=steps)
    chunk = chunks(tmp_path / "rows")[5]
    shutil.copy2(chunk, tmp_path / "aside")
    error = harmed_fit(tmp_path / "rows", overwrite, checkpoint=place)
    assert "was written again" in str(error)
    shutil.copy2(tmp_path / "aside", chunk)
    model = network(checkpoint=place).fit(str(tmp_path / "rows"), resume=True)
    for ours_, theirs in zip(model.coefs_, expected, strict=True):
        np.testing.assert_array_equal(ours_, theirs)


def test_held_out_rows_are_watched_too(tmp_path):
    foreign(tmp_path / "rows")
    foreign(tmp_path / "held")
    HarmedAt.harm = (2, overwrite, tmp_path / "held")
    with pytest.raises(StorageError, match=r"/held/X changed .*chunk c/5/0 was written again"):
        network().fit(str(tmp_path / "rows"), eval_set=str(tmp_path / "held"))


def test_rows_that_change_while_they_are_copied_are_refused(tmp_path, never_kept, monkeypatch):
    foreign(tmp_path / "rows")
    harm_at(monkeypatch, 1, lambda: overwrite(tmp_path / "rows"))
    with pytest.raises(StorageError, match=r"/rows/X changed .*chunk c/5/0 was written again"):
        network(shuffle="global", scratch=str(tmp_path)).fit(str(tmp_path / "rows"))


@pytest.mark.parametrize("function", [delete, delete_a_chunk, empty])
def test_a_store_lost_while_predicting_gives_no_predictions(
    tmp_path, never_kept, monkeypatch, function
):
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 20)
    foreign(tmp_path / "rows")
    model = network().fit(str(tmp_path / "rows"))
    harm_at(monkeypatch, 3, lambda: function(tmp_path / "rows"))
    with pytest.raises(StorageError, match=r"chunk.* of .*/rows/X (is|are) missing"):
        model.predict(str(tmp_path / "rows"))


@pytest.mark.parametrize("function", [delete, overwrite])
def test_on_workers_too(tmp_path, never_kept, cluster, function):
    foreign(tmp_path / "rows")
    cluster(2)
    error = harmed_fit(tmp_path / "rows", function)
    assert isinstance(error, StorageError)
    assert str(tmp_path / "rows") in str(error)

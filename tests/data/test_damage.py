"""A chunk that is lost, truncated or altered is an error that names it, in every kind of store."""

import json
import pickle
import shutil
from pathlib import Path

import dask.array as da
import fsspec
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from daskalt import MLPClassifier
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, SlicedSource, StackedSource, ZarrSource
from daskalt.data.staging import copy_to_scratch, stage
from daskalt.data.table import Table
from daskalt.data.writers import shuffle_to_zarr
from daskalt.errors import InputError, MissingChunksWarning, StorageError
from daskalt.ingest.ingest import ingest
from daskalt.storage.chunks import refuse_code
from daskalt.storage.variables import ZStore

ROWS = np.arange(120, dtype=np.float32).reshape(40, 3)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


DAMAGES = [cut, flip]


def foreign(place, dtype=np.float32, version=3, empty=True, rows=ROWS, **options):
    """An array that another program wrote."""
    checks = {
        2: {"compressors": numcodecs.Zlib()},  # Zlib ends in a checksum of its own
        3: {"compressors": [ZstdCodec(), Crc32cCodec()]},
    }
    array = zarr.create_array(
        str(place),
        shape=rows.shape,
        dtype=dtype,
        chunks=(10, *rows.shape[1:]),
        zarr_format=version,
        config={"write_empty_chunks": empty},
        **(checks[version] | options),
    )
    array[:] = rows
    return ZarrSource(str(place))


def ingested(tmp_path):
    np.save(tmp_path / "X.npy", ROWS)
    table = ingest(tmp_path / "X.npy", tmp_path / "ours.zarr", chunk_rows=10, shuffle=False)
    return table.X


def copied(tmp_path, monkeypatch):
    monkeypatch.setattr("daskalt.data.writers.good_rows", lambda *_: 10)
    return copy_to_scratch(Table(MemorySource(ROWS)), tmp_path, None).X


def staged(tmp_path, monkeypatch):
    monkeypatch.setattr("daskalt.data.staging.good_rows", lambda *_: 10)
    return stage({"X": da.from_array(ROWS, chunks=(20, 3)) + 0}, tmp_path)["X"]


@pytest.fixture(params=["ingested", "copied", "staged"])
def ours(request, tmp_path, monkeypatch):
    """A source that daskalt wrote, in four chunks, read from disk each time."""
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)
    if request.param == "ingested":
        return ingested(tmp_path)
    return globals()[request.param](tmp_path, monkeypatch)


def file_of(source, key):
    return Path(source.store) / source.path / key


# ---------------------------------------------------------------------- cut and altered


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("version", "key"), [(2, "2.0"), (3, "c/2/0")])
def test_a_damaged_chunk_of_a_foreign_array_is_named(tmp_path, damage, version, key):
    source = foreign(tmp_path / "a", version=version)
    damage(tmp_path / "a" / key)
    with pytest.raises(StorageError, match=rf"X: rows 0 to 40 of .*/a .*\(chunk {key}\)"):
        source.read(0, 40)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_of_our_own_is_named(ours, damage):
    np.testing.assert_array_equal(ours.read(5, 35), ROWS[5:35])
    damage(file_of(ours, "c/2/0"))
    with pytest.raises(StorageError, match=r"X: rows 5 to 35 of .*/X .*\(chunk c/2/0\)"):
        ours.read(5, 35)
    np.testing.assert_array_equal(ours.read(0, 20), ROWS[:20])


def test_all_damaged_chunks_are_counted(ours):
    for key in ("c/1/0", "c/3/0"):
        cut(file_of(ours, key))
    with pytest.raises(StorageError, match=r"\(2 chunks: c/1/0, c/3/0\)"):
        ours.read(0, 40)


def test_a_damaged_shard_is_named(tmp_path):
    source = foreign(tmp_path / "a", shards=(20, 3))
    cut(tmp_path / "a" / "c" / "1" / "0")
    with pytest.raises(StorageError, match=r"\(chunk c/1/0\)"):
        source.read(0, 40)


# ------------------------------------------------------------------------------- missing


def test_a_missing_chunk_of_our_own_is_an_error(ours):
    file_of(ours, "c/2/0").unlink()
    with pytest.raises(StorageError, match=r"chunk c/2/0 of .*/X is missing.* rows 15 to 40"):
        ours.read(15, 40)
    np.testing.assert_array_equal(ours.read(0, 20), ROWS[:20])


def test_chunks_of_zeros_are_written_and_found(tmp_path, monkeypatch):
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)
    zeros = Table(MemorySource(np.zeros((40, 3))))
    source = copy_to_scratch(zeros, tmp_path, None).X
    np.testing.assert_array_equal(source.read(0, 40), 0)
    assert pickle.loads(pickle.dumps(source)).read(0, 40).shape == (40, 3)


def test_zeros_staged_by_other_processes_are_written_too(tmp_path, processes):
    source = stage({"X": da.zeros((40, 3), chunks=(20, 3))}, tmp_path)["X"]
    np.testing.assert_array_equal(source.read(0, 40), 0)


def test_a_chunk_lost_between_passes_is_an_error(tmp_path, monkeypatch):
    """Not of the first pass alone: the array is larger than what is kept in memory."""
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)
    source = ingested(tmp_path)
    y = np.arange(40) % 2
    lost = []

    read = ZarrSource.decode

    def decode(self, start, stop):
        lost.append(start)
        if len(lost) == 12:
            file_of(source, "c/2/0").unlink()
        return read(self, start, stop)

    monkeypatch.setattr(ZarrSource, "decode", decode)
    model = MLPClassifier((3,), max_iter=20, random_state=0, tol=0)
    with pytest.raises(StorageError, match=r"chunk c/2/0 (of .* is missing|is gone)"):
        model.fit(source, y)
    assert len(lost) >= 12


def test_a_missing_chunk_on_an_object_store_is_an_error(monkeypatch):
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 0)
    place = "memory://damage-ours.zarr"
    table = Table(MemorySource(ROWS))
    source = shuffle_to_zarr(table, place, seed=0, chunk_rows=10, overwrite=True).X
    assert source.read(0, 40).shape == (40, 3)
    fsspec.filesystem("memory").rm("/damage-ours.zarr/X/c/3/0")
    with pytest.raises(StorageError, match=r"chunk c/3/0 of memory://.*/X is missing"):
        source.read(0, 40)


@pytest.mark.parametrize(("version", "key"), [(2, "2.0"), (3, "c/2/0")])
def test_a_fit_warns_of_missing_chunks_of_foreign_arrays(tmp_path, version, key):
    source = foreign(tmp_path / "a", version=version, fill_value=7)
    y = np.arange(40) % 2
    model = MLPClassifier((3,), max_iter=1, random_state=0)
    model.fit(source, y)  # warnings are errors here: whole arrays give none
    (tmp_path / "a" / key).unlink()
    with pytest.warns(MissingChunksWarning, match=rf"X: .*/a lacks chunk {key}.*value 7") as caught:
        model.fit(ZarrSource(tmp_path / "a"), y)
    assert len(caught) == 1
    with pytest.warns(MissingChunksWarning, match=rf"lacks chunk {key}"):
        model.predict(ZarrSource(tmp_path / "a"))


def test_a_missing_shard_and_missing_targets_are_warned_of(tmp_path):
    foreign(tmp_path / "X", shards=(20, 3))
    foreign(tmp_path / "y", rows=np.arange(40) % 2, dtype="i8")
    (tmp_path / "X" / "c" / "1" / "0").unlink()
    shutil.rmtree(tmp_path / "y" / "c")
    with pytest.warns(MissingChunksWarning) as caught:
        MLPClassifier((3,), max_iter=1, random_state=0).fit(
            ZarrSource(tmp_path / "X"), np.arange(40) % 2
        )
    assert [str(each.message).count("chunk c/1/0") for each in caught] == [1]
    with pytest.warns(MissingChunksWarning, match="4 chunks: c/0, c/1, c/2, c/3"):
        learn_chunks(ZarrSource(tmp_path / "y", name="y"), warn=True)


def test_ingesting_warns_too_for_the_copy_will_be_whole(tmp_path):
    foreign(tmp_path / "group" / "X")
    zarr.create_group(str(tmp_path / "group"))
    (tmp_path / "group" / "X" / "c" / "2" / "0").unlink()
    with pytest.warns(MissingChunksWarning, match="chunk c/2/0"):
        table = ingest(tmp_path / "group", tmp_path / "ours.zarr")
    learn_chunks(table.X, warn=True)


def test_only_the_rows_that_are_used_count(tmp_path):
    source = foreign(tmp_path / "a")
    (tmp_path / "a" / "c" / "2" / "0").unlink()
    learn_chunks(SlicedSource(source, 0, 20), warn=True)
    with pytest.warns(MissingChunksWarning):
        learn_chunks(
            StackedSource([SlicedSource(source, 15, 21), MemorySource(ROWS)], "X"), warn=True
        )


def test_missing_chunks_on_an_object_store_are_warned_of():
    place = "memory://damage-foreign.zarr"
    source = foreign(place, overwrite=True)
    learn_chunks(source, warn=True)
    fsspec.filesystem("memory").rm("/damage-foreign.zarr/c/3/0")
    with pytest.warns(MissingChunksWarning, match="chunk c/3/0"):
        learn_chunks(source, warn=True)


# -------------------------------------------------------------------------------------- z


@pytest.fixture
def z(tmp_path):
    store = ZStore(str(tmp_path / "z"), 40, ("z1", "z2"), (3, 2), 10, "float32", kept=True)
    store.create()
    for start in range(0, 40, 10):
        store.write(3, start, [ROWS[start : start + 10], ROWS[start : start + 10, :2]])
    return store


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_of_z_is_named(z, tmp_path, damage):
    np.testing.assert_array_equal(z.read(3, 5, 35)[1], ROWS[5:35, :2])
    damage(tmp_path / "z" / "odd" / "z2" / "c" / "2" / "0")
    with pytest.raises(
        StorageError, match=r"z2, rows 5 to 35 of generation 3 in .*/z .*\(chunk c/2/0\)"
    ):
        z.read(3, 5, 35)


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (20, 30), (25, 27)])
def test_a_missing_chunk_of_z_is_an_error(z, tmp_path, start, stop):
    (tmp_path / "z" / "odd" / "z1" / "c" / "2" / "0").unlink()
    with pytest.raises(
        StorageError, match=rf"z1, rows {start} to {stop} of generation 3 .*chunk c/2/0 of odd/z1"
    ):
        z.read(3, start, stop)
    np.testing.assert_array_equal(z.read(3, 0, 20)[0], ROWS[:20])


def test_z_that_is_not_a_number_is_not_taken_for_lost(z):
    z.write(3, 10, [np.full((10, 3), np.nan, np.float32), np.zeros((10, 2), np.float32)])
    assert np.isnan(z.read(3, 0, 40)[0][10:20]).all()


def test_unfinished_files_are_swept_and_nothing_else(z, tmp_path):
    folder = tmp_path / "z" / "odd" / "z1" / "c" / "1"
    orphan = folder / f"0.{'0a' * 16}.partial"
    mine = folder / "0.notes.partial"
    for path in (orphan, mine):
        path.write_bytes(b"half")
    z.sweep()
    assert not orphan.exists()
    assert mine.exists()
    np.testing.assert_array_equal(z.read(3, 0, 40)[0], ROWS)


def test_sweeping_knows_what_zarr_leaves(z, tmp_path, monkeypatch):
    """A process that dies between writing a chunk and renaming it, played by the last step."""

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            z.write(3, 0, [ROWS[:10], ROWS[:10, :2]])
    left = list((tmp_path / "z").rglob("*.partial"))
    assert len(left) == 1
    z.sweep()
    assert not list((tmp_path / "z").rglob("*.partial"))


# ----------------------------------------------------------------------------------- code


class Bomb:
    """Runs code when unpickled: leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["filter", "compressor"])
def test_arrays_that_unpickle_are_refused_before_a_chunk_is_read(tmp_path, monkeypatch, place):
    # Old releases of numcodecs have no such guard, new ones can be told to drop it.
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    text, unsafe = {"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}
    (tmp_path / "y").mkdir()
    document = {
        "zarr_format": 2,
        "shape": [4],
        "chunks": [4],
        "dtype": "|O",
        "fill_value": "",
        "order": "C",
        "filters": [text, unsafe] if place == "filter" else [text],
        "compressor": unsafe if place == "compressor" else None,
    }
    (tmp_path / "y" / ".zarray").write_text(json.dumps(document))
    (tmp_path / "y" / "0").write_bytes(pickle.dumps([Bomb(tmp_path / "hit")]))
    for value in (tmp_path / "y", str(tmp_path / "y")):
        with pytest.raises(InputError, match=r"y: .*encoded by pickle.*can run any code"):
            ZarrSource(value, name="y")
        with pytest.raises(InputError, match="can run any code"):
            MLPClassifier((2,)).fit(np.ones((4, 2)), value)
    array = zarr.open_array(str(tmp_path / "y"), mode="r")
    with pytest.raises(InputError, match="can run any code"):
        ZarrSource(array, name="y")
    assert not (tmp_path / "hit").exists()
    with pytest.raises(Exception):  # noqa: B017, PT011  - and so it goes without the check
        array[:]
    assert (tmp_path / "hit").exists()


def test_zarr_itself_refuses_numbers_that_unpickle(tmp_path):
    foreign(tmp_path / "a", version=2)
    document = json.loads((tmp_path / "a" / ".zarray").read_text())
    document["filters"] = [{"id": "pickle", "protocol": 5}]
    (tmp_path / "a" / ".zarray").write_text(json.dumps(document))
    with pytest.raises(StorageError, match="pickle"):
        ZarrSource(tmp_path / "a")


def test_a_codec_of_format_3_that_unpickles_is_refused(tmp_path, monkeypatch):
    array = foreign(tmp_path / "a", shards=(20, 3)).array
    refuse_code(array, "X")
    inner = array.metadata.codecs[0].codecs[-1]
    monkeypatch.setattr(type(inner), "codec_name", "numcodecs.pickle", raising=False)
    with pytest.raises(InputError, match=r"encoded by numcodecs\.pickle"):
        refuse_code(array, "X")

"""A fingerprint distinguishes rows by their content, not by where they are stored."""

import json
import os
import shutil

import fsspec
import numpy as np
import pytest
import zarr

from daskalt.data.fingerprint import checksum, fingerprint
from daskalt.data.readers import MemorySource, SlicedSource, StackedSource, ZarrSource
from daskalt.data.table import Table
from daskalt.data.traces import trace_of_object
from daskalt.data.writers import shuffle_to_zarr
from daskalt.errors import StorageError

ROWS = np.arange(120, dtype=np.float32).reshape(40, 3)


def ours(place, rows=ROWS, **options):
    table = Table(MemorySource(rows))
    return shuffle_to_zarr(table, place, seed=0, chunk_rows=10, overwrite=True, **options).X


def foreign(place, rows=ROWS, **options):
    zarr.create_array(str(place), data=rows, chunks=(10, 3), overwrite=True, **options)
    return ZarrSource(place)


def in_memory(rows=ROWS):
    return ZarrSource(zarr.create_array(zarr.storage.MemoryStore(), data=rows, chunks=(10, 3)))


def altered():
    rows = ROWS.copy()
    rows[17, 1] += 1
    return rows


def test_it_is_a_record_for_json(tmp_path):
    for source in (MemorySource(ROWS), ours(tmp_path / "a"), foreign(tmp_path / "b"), in_memory()):
        record = fingerprint(source)
        assert json.loads(json.dumps(record)) == record
        assert (record["shape"], record["dtype"]) == ([40, 3], "float32")
        assert record["chunk_rows"] == source.chunk_rows
        assert int(record["content"], 16) >= 0
        assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize("make", [MemorySource, in_memory], ids=["array", "store"])
def test_in_memory_content_counts_and_nothing_else(make):
    assert fingerprint(make(ROWS)) == fingerprint(make(ROWS.copy()))
    assert fingerprint(make(ROWS)) != fingerprint(make(altered()))
    assert fingerprint(MemorySource(ROWS)) != fingerprint(MemorySource(ROWS.astype("f8")))


def test_long_arrays_in_memory_are_read_in_parts(monkeypatch):
    monkeypatch.setattr("daskalt.data.fingerprint._BLOCK_BYTES", 100)
    swapped = ROWS[::-1]
    assert fingerprint(MemorySource(ROWS)) == fingerprint(MemorySource(ROWS.copy()))
    assert fingerprint(MemorySource(ROWS)) != fingerprint(MemorySource(swapped))
    words = np.array(["a", "bc"] * 50)
    assert fingerprint(MemorySource(words)) != fingerprint(MemorySource(words[::-1]))


@pytest.mark.parametrize("kind", ["local", "object store"])
def test_our_own_arrays_follow_content_and_not_times(tmp_path, kind):
    first, second = (
        (tmp_path / "a", tmp_path / "b") if kind == "local" else ("memory://fa", "memory://fb")
    )
    before = fingerprint(ours(first))
    assert fingerprint(ours(second)) == before
    assert fingerprint(ours(first)) == before
    assert fingerprint(ours(first, altered())) != before


def test_the_same_on_disk_and_on_an_object_store(tmp_path):
    assert fingerprint(ours(tmp_path / "a")) == fingerprint(ours("memory://fingerprint-c"))


def test_our_own_arrays_moved_and_touched_stay_the_same(tmp_path):
    source = ours(tmp_path / "a")
    before = fingerprint(source)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b" / "X" / "c" / "0" / "0", (1, 1))
    assert fingerprint(ZarrSource(tmp_path / "b", "X", "other name")) == before


def test_chunks_that_are_gone_cut_or_swapped_are_noticed(tmp_path):
    before = fingerprint(ours(tmp_path / "a"))
    folder = tmp_path / "a" / "X" / "c"
    for damage in (
        lambda: (folder / "2" / "0").unlink(),
        lambda: os.truncate(folder / "2" / "0", 50),
        lambda: os.truncate(folder / "2" / "0", 2),
        lambda: ((folder / "2").rename(folder / "x"), (folder / "1").rename(folder / "2")),
    ):
        source = ours(tmp_path / "a")
        damage()
        assert fingerprint(source) != before


@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"shards": (20, 3)}], ids=str)
def test_foreign_arrays_follow_sizes_and_times(tmp_path, options):
    source = foreign(tmp_path / "a", **options)
    before = fingerprint(source)
    assert fingerprint(ZarrSource(tmp_path / "a")) == before
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps times
    assert fingerprint(ZarrSource(tmp_path / "b")) == before
    chunk = sorted(p for p in (tmp_path / "b").rglob("*") if p.is_file() and "zarr" not in p.name)
    status = chunk[-1].stat()
    os.utime(chunk[-1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(ZarrSource(tmp_path / "b")) != before
    chunk[0].unlink()
    assert fingerprint(ZarrSource(tmp_path / "b")) != before


def test_attributes_and_unfinished_files_do_not_count_but_the_fill_value_does(tmp_path):
    source = foreign(tmp_path / "a")
    before = fingerprint(source)
    zarr.open_array(tmp_path / "a", mode="r+").attrs["note"] = "mine"
    (tmp_path / "a" / "c" / "0" / f"0.{'0' * 32}.partial").write_bytes(b"half")
    assert fingerprint(ZarrSource(tmp_path / "a")) == before
    document = json.loads((tmp_path / "a" / "zarr.json").read_text())
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(document | {"fill_value": 5.0}))
    assert fingerprint(ZarrSource(tmp_path / "a")) != before


def test_foreign_arrays_on_an_object_store(tmp_path):
    place = "memory://fingerprint-foreign"
    before = fingerprint(foreign(place))
    assert fingerprint(ZarrSource(place)) == before
    files = fsspec.filesystem("memory")
    chunk = "/fingerprint-foreign/c/1/0"
    files.pipe_file(chunk, files.cat_file(chunk) + b"0")
    longer = fingerprint(ZarrSource(place))
    assert longer != before
    files.rm(chunk)
    assert fingerprint(ZarrSource(place)) not in (before, longer)


def test_tags_of_content_count_before_times():
    tagged = {"size": 3, "ETag": "abc", "LastModified": "today"}
    assert trace_of_object(tagged) == trace_of_object(tagged | {"LastModified": "tomorrow"})
    assert trace_of_object(tagged) != trace_of_object(tagged | {"ETag": "abd"})
    untagged = {"size": 3, "LastModified": "today"}
    assert trace_of_object(untagged) != trace_of_object(untagged | {"LastModified": "tomorrow"})


def test_in_other_stores_content_counts(tmp_path):
    def zipped(name, rows):
        with zarr.storage.ZipStore(tmp_path / name, mode="w") as store:
            zarr.create_array(store, data=rows, chunks=(10, 3))
        return ZarrSource(zarr.open_array(zarr.storage.ZipStore(tmp_path / name), mode="r"))

    before = fingerprint(zipped("a.zip", ROWS))
    assert fingerprint(zipped("b.zip", ROWS)) == before
    assert fingerprint(zipped("c.zip", altered())) != before


def test_slices_and_stacks_count_their_bounds(tmp_path):
    a, b = ours(tmp_path / "a"), MemorySource(ROWS)
    prints = [
        fingerprint(source)["content"]
        for source in (
            a,
            SlicedSource(a, 0, 20),
            SlicedSource(a, 20, 40),
            SlicedSource(b, 0, 20),
            StackedSource([a, b], "X"),
            StackedSource([b, a], "X"),
            StackedSource([SlicedSource(b, 0, 20), SlicedSource(b, 20, 40)], "X"),
            StackedSource([SlicedSource(b, 0, 10), SlicedSource(b, 10, 40)], "X"),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(SlicedSource(a, 0, 20)) == fingerprint(SlicedSource(a, 0, 20))
    assert fingerprint(StackedSource([a, b], "X")) == fingerprint(StackedSource([a, b], "X"))


def test_a_store_that_cannot_be_looked_through_is_a_storage_error(tmp_path, monkeypatch):
    source = foreign(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda *_, **__: 1 // 0)
    with pytest.raises(StorageError, match=r"X: looking through the chunks of .*/a failed: ZeroD"):
        fingerprint(source)


def test_checksum_is_of_content():
    assert checksum(ROWS) == checksum(ROWS.copy()) != checksum(ROWS + 1)

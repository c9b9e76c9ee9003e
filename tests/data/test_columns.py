"""Separate columns are read as one array, whatever the chunks of each."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from daskalt.data import columns as module
from daskalt.data.columns import ColumnsSource, lazy_beside
from daskalt.data.fingerprint import fingerprint
from daskalt.data.readers import MemorySource, SlicedSource, ZarrSource

RNG = np.random.default_rng(0)
PARTS = {
    "a": RNG.random(50, dtype=np.float32),
    "b": RNG.integers(-9, 9, 50).astype("int16"),
    "c": RNG.random((50, 2)),
}
ROWS = np.column_stack(list(PARTS.values()))


def stored(chunks):
    """The parts in Zarr, each in chunks of some rows."""
    group = zarr.create_group(zarr.storage.MemoryStore())
    for (name, part), rows in zip(PARTS.items(), chunks, strict=True):
        array = group.create_array(
            name, shape=part.shape, dtype=part.dtype, chunks=(rows, *part.shape[1:])
        )
        array[:] = part
    return [ZarrSource(group[name], name=f"X {name!r}") for name in PARTS]


@pytest.fixture(params=["kept", "read"])
def few(request, monkeypatch):
    """Columns that stay decoded, and columns that are read from their chunks."""
    if request.param == "read":
        monkeypatch.setattr(module, "KEPT_BYTES", 0)


@given(
    chunks=st.tuples(*[st.integers(1, 60)] * 3),
    bounds=st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted),
    rows=st.lists(st.integers(0, 49), min_size=1, max_size=20),
    limit=st.sampled_from([0, 64 << 20]),
)
def test_rows_are_those_of_the_columns_side_by_side(chunks, bounds, rows, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT_BYTES", limit)
        source = ColumnsSource(stored(chunks))
        assert source.shape == ROWS.shape
        assert source.dtype == ROWS.dtype
        assert source.kept == (limit > 0)
        np.testing.assert_array_equal(source.read(*bounds), ROWS[slice(*bounds)])
        np.testing.assert_array_equal(source.read_rows(np.array(rows)), ROWS[rows])
        assert source.read(*bounds).flags.c_contiguous


def test_parts_of_sliced_columns_are_read_from_their_own_rows(few):
    sources = [SlicedSource(source, 7, 40) for source in stored((8, 16, 50))]
    source = ColumnsSource(sources)
    np.testing.assert_array_equal(source.read(3, 20), ROWS[10:27])
    np.testing.assert_array_equal(SlicedSource(source, 2, 9).read(1, 6), ROWS[10:15])
    assert (source.chunk_rows, source.offset) == (50, 7)


def test_columns_travel(few):
    source = pickle.loads(pickle.dumps(ColumnsSource(stored((8, 16, 50)), "X", list("abcd"))))
    np.testing.assert_array_equal(source.read(0, 50), ROWS)
    assert source.columns == list("abcd")


def test_what_was_decoded_is_not_used_for_rows_that_were_written_since(tmp_path):
    group = zarr.create_group(str(tmp_path / "rows.zarr"))
    written = [group.create_array(name, data=np.zeros(20), chunks=(8,)) for name in "ab"]
    sources = [ZarrSource(str(tmp_path / "rows.zarr"), name) for name in "ab"]
    source = ColumnsSource([sources[0], SlicedSource(sources[1], 0, 20)])
    assert not source.read(0, 20).any()
    for array, stored, expected in zip(written, sources, (20, 40), strict=True):
        array[:] = 1
        stored.learn(0, 20)
        assert source.read(0, 20).sum() == expected


def test_no_column_is_held_whole(monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    sources = stored((8, 16, 4))
    seen = []
    decode = ZarrSource.decode
    monkeypatch.setattr(
        ZarrSource, "decode", lambda self, a, b: seen.append(b - a) or decode(self, a, b)
    )
    source = ColumnsSource(sources)
    assert source.chunk_rows == 16
    for start in range(0, 50, 16):
        source.read(start, min(start + 16, 50))
    assert max(seen) == 16
    assert sum(seen) == 3 * 50


def test_columns_in_memory_are_in_memory():
    source = ColumnsSource([MemorySource(part) for part in PARTS.values()])
    assert source.in_memory
    np.testing.assert_array_equal(source.read_rows(np.array([4, 1])), ROWS[[4, 1]])


def test_fingerprints_tell_columns_from_each_other():
    prints = [fingerprint(ColumnsSource(stored((8, 16, 50))[::step])) for step in (1, 1, -1)]
    assert prints[0] == prints[1] != prints[2]


@given(st.tuples(*[st.integers(1, 60)] * 3))
def test_lazy_columns_are_those_side_by_side(chunks):
    arrays = [
        da.from_array(part, chunks=(rows, *part.shape[1:]))
        for part, rows in zip(PARTS.values(), chunks, strict=True)
    ]
    beside = lazy_beside(arrays)
    assert beside.dtype == ROWS.dtype
    assert beside.shape == ROWS.shape
    assert beside.numblocks[1] == 1
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(beside.compute(), ROWS)

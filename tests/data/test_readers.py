"""Sources read the rows they say, survive pickling, and name what they cannot read."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from daskalt.data.readers import MemorySource, SlicedSource, StackedSource, ZarrSource
from daskalt.errors import InputError, StorageError

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.fixture
def stored(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=ROWS, chunks=(6, 2))
    return ZarrSource(array, name="X")


@given(cuts=st.lists(st.integers(0, 20), max_size=5), a=st.integers(0, 20), b=st.integers(0, 20))
def test_a_stack_reads_as_its_pieces_joined(cuts, a, b):
    edges = [0, *sorted(cuts), 20]
    pieces = [MemorySource(ROWS[i:j], "X") for i, j in pairwise(edges)]
    stack = StackedSource(pieces, "X")
    start, stop = sorted((a, b))
    np.testing.assert_array_equal(stack.read(start, stop), ROWS[start:stop])
    rows = np.random.default_rng(a).permutation(20)[:b]
    np.testing.assert_array_equal(stack.read_rows(rows), ROWS[rows])


@given(a=st.integers(0, 20), b=st.integers(0, 20))
def test_a_slice_numbers_its_rows_from_zero(a, b):
    start, stop = sorted((a, b))
    part = SlicedSource(MemorySource(ROWS, "X"), start, stop)
    np.testing.assert_array_equal(part.read(0, len(part)), ROWS[start:stop])
    np.testing.assert_array_equal(part.read(0, 99), ROWS[start:stop])
    np.testing.assert_array_equal(part.read_rows(np.arange(len(part))), ROWS[start:stop])


def test_a_zarr_source_reads_whole_rows_over_column_chunks(stored):
    block = stored.read(4, 15)
    np.testing.assert_array_equal(block, ROWS[4:15])
    assert block.flags.c_contiguous
    assert (stored.chunk_rows, stored.row_bytes, stored.nbytes) == (6, 12, 240)
    assert not stored.in_memory


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "read anew"])
@pytest.mark.parametrize("bounds", [(0, 20), (5, 17)], ids=["all", "a slice"])
def test_single_rows_of_a_store_come_in_any_order(stored, monkeypatch, kept, bounds):
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", 1 << 20 if kept else 0)
    source = SlicedSource(stored, *bounds)
    rows = np.random.default_rng(0).integers(0, len(source), 30)
    assert source.kept == kept
    for wanted in (rows, rows[:1], rows[:0], rows.astype(np.uint32)):
        np.testing.assert_array_equal(source.read_rows(wanted), ROWS[slice(*bounds)][wanted])


def test_few_rows_of_a_large_store_are_kept(stored, monkeypatch):
    monkeypatch.setattr("daskalt.data.readers.KEPT_BYTES", stored.nbytes - 1)
    part = SlicedSource(stored, 5, 17)
    assert part.kept
    assert not stored.kept
    np.testing.assert_array_equal(part.read(2, 9), ROWS[7:14])
    np.testing.assert_array_equal(part.read_rows(np.array([11, 0])), ROWS[[16, 5]])


def test_shards_are_what_is_cheap_to_read(tmp_path):
    zarr.create_array(str(tmp_path / "s"), shape=(40, 3), chunks=(5, 3), shards=(20, 3), dtype="f4")
    assert ZarrSource(tmp_path / "s").chunk_rows == 20


def test_a_zarr_source_pickles_as_an_address(tmp_path):
    big = zarr.create_array(str(tmp_path / "big"), data=np.ones((10_000, 8)), chunks=(1000, 8))
    text = pickle.dumps(ZarrSource(big))
    assert len(text) < 1000
    np.testing.assert_array_equal(pickle.loads(text).read(0, 3), np.ones((3, 8)))


def test_an_array_is_opened_once_in_a_process(stored, monkeypatch):
    copies = [pickle.loads(pickle.dumps(stored)) for _ in range(3)]
    opened = [copy.array for copy in copies]
    assert all(array is opened[0] for array in opened)


def test_a_store_in_memory_is_read_too():
    array = zarr.create_array(zarr.storage.MemoryStore(), data=ROWS, chunks=(6, 3))
    np.testing.assert_array_equal(ZarrSource(array).read(3, 9), ROWS[3:9])


def test_foreign_byte_order_comes_out_native(tmp_path):
    zarr.create_array(str(tmp_path / "a"), data=ROWS.astype(">f4"), chunks=(6, 3))
    source = ZarrSource(tmp_path / "a")
    assert source.dtype == np.float32
    assert source.read(0, 5).dtype.isnative
    np.testing.assert_array_equal(source.read(0, 5), ROWS[:5])


def test_text_comes_out_at_fixed_width(tmp_path):
    words = np.array(["a", "ünï", "longer"], dtype=np.dtypes.StringDType())
    zarr.create_array(str(tmp_path / "y"), data=words, chunks=(2,))
    source = ZarrSource(tmp_path / "y", name="y")
    assert source.read(0, 3).dtype == "<U6"
    assert source.read(0, 2).tolist() == ["a", "ünï"]
    assert source.read(0, 0).shape == (0,)


def test_a_missing_array_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"X: no readable Zarr array at .*nowhere"):
        ZarrSource(tmp_path / "nowhere")


def test_a_damaged_chunk_is_named(stored, tmp_path):
    (tmp_path / "a.zarr" / "c" / "1" / "0").write_bytes(b"short")
    with pytest.raises(StorageError, match=r"X: rows 6 to 12 of .*a\.zarr .*chunk c/1/0"):
        stored.read(7, 9)
    np.testing.assert_array_equal(stored.read(0, 6), ROWS[:6])


def test_pieces_of_different_width_do_not_stack():
    pieces = [MemorySource(np.ones((2, 3)), "X"), MemorySource(np.ones((2, 4)), "X")]
    with pytest.raises(InputError, match="differ in their columns"):
        StackedSource(pieces, "X")


def test_a_slice_outside_its_source_is_an_error():
    with pytest.raises(InputError, match="rows 0 to 20, not 3 to 21"):
        SlicedSource(MemorySource(ROWS, "X"), 3, 21)


@pytest.mark.parametrize(("compressors", "copies"), [("auto", 2), (None, 1)])
def test_bytes_of_reading_counted_by_hand(tmp_path, compressors, copies):
    """20 rows of 16 bytes in chunks of 10 are two chunks, or three where the cut is elsewhere."""
    rows = np.zeros((100, 4), np.float32)
    place = str(tmp_path / "x.zarr")
    zarr.create_array(place, data=rows, chunks=(10, 4), compressors=compressors)
    stored = ZarrSource(place)
    for source in (stored, SlicedSource(stored, 5, 95)):
        assert source.reading_bytes(20, 1) == 16 * (20 + copies * 20)
        assert source.reading_bytes(20, 1, spare=1) == 16 * (20 + copies * 30)
        assert source.reading_bytes(20, 1, single=True) == 16 * max(20, copies * 20)
        with zarr.config.set({"async.concurrency": 1}):
            assert source.reading_bytes(20, 2) == 16 * (40 + copies * 20)
    assert MemorySource(rows).reading_bytes(20, 8, spare=1) == 0
    mixed = StackedSource([MemorySource(rows), stored], "X")
    assert mixed.reading_bytes(20, 1) == 16 * 20 + stored.reading_bytes(20, 1)

"""A Dask array is read in place only when its rows are exactly stored rows."""

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.data.graphs import read_through
from daskalt.data.readers import ZarrSource

ROWS = np.random.default_rng(0).random((40, 40), dtype=np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "g.zarr"
    zarr.create_group(str(path)).create_array("X", data=ROWS, chunks=(10, 40))
    return path


@pytest.fixture(scope="module")
def array(store):
    return zarr.open_array(str(store), path="X", mode="r")


STRAIGHT = {
    "path": lambda store, array: da.from_zarr(str(store), component="X"),
    "array": lambda store, array: da.from_zarr(array),
    "other chunks": lambda store, array: da.from_zarr(array, chunks=(15, 40)),
    "from_array": lambda store, array: da.from_array(array, chunks=(20, 40)),
    "inline": lambda store, array: da.from_array(array, inline_array=True),
    "locked": lambda store, array: da.from_array(array, lock=True),
    "optimised": lambda store, array: dask.optimize(da.from_zarr(array))[0],
    "rows": lambda store, array: da.from_zarr(array)[5:33],
    "rows of rows": lambda store, array: da.from_zarr(array)[5:33][3:20],
    "rejoined": lambda store, array: da.concatenate([(x := da.from_zarr(array))[:20], x[20:]]),
}
COMPUTED = {
    "every other row": lambda x: x[::2],
    "backwards": lambda x: x[::-1],
    "some columns": lambda x: x[:, :30],
    "shifted columns": lambda x: x[:, 1:],
    "transposed": lambda x: x.rechunk((40, 40)).T,
    "picked": lambda x: x[[3, 1, 2]],
    "arithmetic": lambda x: x + 1,
    "cast": lambda x: x.astype(np.float64),
    "mapped": lambda x: x.map_blocks(lambda block: block[::-1]),
    "repeated": lambda x: da.concatenate([x, x]),
    "swapped": lambda x: da.concatenate([x[20:], x[:20]]),
    "with a gap": lambda x: da.concatenate([x[:10], x[20:]]),
    "shuffled": lambda x: da.random.default_rng(0).permutation(x),
    "rolled": lambda x: da.roll(x, 3, axis=0),
    "sorted by mask": lambda x: da.where(x > 0.5, x, 0),
}


@pytest.mark.parametrize("make", STRAIGHT.values(), ids=STRAIGHT)
def test_stored_rows_are_read_where_they_lie(store, array, make):
    x = make(store, array)
    source = read_through(x, "X")
    assert isinstance(getattr(source, "source", source), ZarrSource)
    np.testing.assert_array_equal(source.read(0, len(source)), x.compute(scheduler="sync"))


def test_local_paths_are_read_by_the_local_store(store):
    assert read_through(da.from_zarr(str(store), component="X"), "X").location == f"{store}/X"


@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("stored", [True, False])
def test_anything_computed_is_not_taken_for_stored_rows(array, change, stored):
    x = change(da.from_zarr(array) if stored else da.from_array(ROWS, chunks=(10, 40)))
    source = read_through(x, "X")
    if stored:
        assert source is None
    elif source is not None:  # blocks in memory may be rearranged without computing
        np.testing.assert_array_equal(source.read(0, len(source)), x.compute(scheduler="sync"))


@given(
    cuts=st.lists(st.integers(1, 39), max_size=4, unique=True),
    index=st.slices(40),
    columns=st.slices(40),
)
@settings(max_examples=50, deadline=None)
def test_no_slice_is_ever_misread(array, cuts, index, columns):
    edges = [0, *sorted(cuts), 40]
    x = da.from_zarr(array, chunks=(tuple(np.diff(edges).tolist()), (40,)))[index, columns]
    source = read_through(x, "X")
    if source is not None:
        np.testing.assert_array_equal(source.read(0, len(source)), ROWS[index, columns])


def test_blocks_in_memory_are_taken_as_they_are():
    x = da.from_array(ROWS, chunks=(13, 40))
    for array in (x, (x + 1).persist(scheduler="sync"), da.from_array(ROWS)):
        source = read_through(array, "X")
        assert source.in_memory
        np.testing.assert_array_equal(source.read(0, 40), array.compute(scheduler="sync"))


def test_recognising_reads_nothing(array, monkeypatch):
    x = da.from_zarr(array)
    y = x + 1
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda *_: pytest.fail("data was read"))
    assert read_through(x, "X") is not None
    assert read_through(y, "X") is None


class TestXarray:
    """xarray's lazy wrappers are looked through as long as they change nothing."""

    @pytest.fixture(autouse=True)
    def dataset(self, tmp_path):
        self.xarray = pytest.importorskip("xarray")
        self.path = str(tmp_path / "x.zarr")
        data = self.xarray.Dataset({"X": (("sample", "feature"), ROWS)})
        data.to_zarr(self.path, consolidated=False)
        self.data = data

    def open(self, **options):
        return self.xarray.open_zarr(self.path, consolidated=False, **options)["X"]

    def test_plain_variables_are_read_where_they_lie(self):
        for part in (self.open(), self.open()[4:30]):
            source = read_through(part.data, "X")
            np.testing.assert_array_equal(source.read(0, len(source)), part.values)

    def test_lazy_ranges_of_rows_are_read_where_they_lie(self):
        part = self.open(chunks=None)[2:36][2:28]
        source = read_through(part.chunk().data, "X")
        assert isinstance(source.source, ZarrSource)
        np.testing.assert_array_equal(source.read(0, len(source)), ROWS[4:30])

    @pytest.mark.parametrize("index", [np.s_[::2], np.s_[[3, 1]], np.s_[:, 1:], np.s_[::-1]])
    def test_other_lazy_selections_are_not(self, index):
        assert read_through(self.open(chunks=None)[index].chunk().data, "X") is None

    @pytest.mark.parametrize("rows", [slice(None), slice(3, 29)])
    def test_rows_of_maps_are_read_where_they_lie(self, rows):
        maps = ROWS.reshape(40, 8, 5)
        data = self.xarray.Dataset({"maps": (("time", "lat", "lon"), maps)}).chunk({"time": 10})
        data.to_zarr(self.path, mode="w", consolidated=False)
        stored = self.xarray.open_zarr(self.path, consolidated=False)["maps"][rows]
        source = read_through(stored.stack(feature=("lat", "lon")).data, "X")
        assert source is not None
        assert not source.in_memory
        np.testing.assert_array_equal(source.read(0, len(source)), ROWS[rows])
        some = np.array([5, 0, 12, 5])
        np.testing.assert_array_equal(source.read_rows(some), ROWS[rows][some])
        assert read_through(stored.stack(feature=("lon", "lat")).data, "X") is None

    def test_rows_of_maps_in_memory_are_taken_as_they_are(self):
        maps = da.from_array(ROWS.reshape(40, 8, 5), chunks=(15, 8, 5))
        source = read_through(maps.reshape(40, 40), "X")
        assert source.in_memory
        np.testing.assert_array_equal(source.read(0, 40), ROWS)
        assert read_through(maps.reshape(320, 5), "X") is None

    def test_decoded_variables_are_not(self):
        self.data["X"].encoding = {"scale_factor": 0.5, "dtype": "i2", "_FillValue": -9}
        self.data.to_zarr(self.path, mode="w", consolidated=False)
        assert read_through(self.open().data, "X") is None

"""Data of every kind becomes sources, or an error that says what to do."""

import gc
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.data.readers import MemorySource, ZarrSource
from daskalt.data.sources import as_source, as_table
from daskalt.errors import InputError, InputTypeError, StorageError

ROWS = np.random.default_rng(0).random((30, 4), dtype=np.float32)
LABELS = np.arange(30) % 3


@pytest.fixture
def group(tmp_path):
    path = str(tmp_path / "g.zarr")
    group = zarr.create_group(path)
    group.create_array("X", data=ROWS, chunks=(8, 4))
    group.create_array("y", data=LABELS, chunks=(8,))
    group.create_array("sample_weight", data=np.ones(30), chunks=(8,))
    return path


def everything(source):
    return source.read(0, len(source))


# ----------------------------------------------------------------------------- accepted


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float16", "float32", "float64"])
def test_numpy_arrays_keep_their_type(dtype):
    X = (ROWS * 9).astype(dtype)
    source = as_source(X, "X")
    assert source.array is X
    assert everything(source).dtype == dtype


def test_lists_and_objects_of_numbers_become_numbers():
    assert as_source([[1, 2], [3, 4]], "X").dtype.kind == "i"
    source = as_source(ROWS.astype(object), "X")
    assert source.dtype == np.float64
    np.testing.assert_array_equal(everything(source), ROWS)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [(["a", "b"], "U"), ([True, False], "b"), ([1, 2], "i"), ([1, 0.5], "f")],
)
def test_labels_held_as_objects_get_their_type(labels, kind):
    source = as_source(np.array(labels, dtype=object), "y")
    assert source.dtype.kind == kind
    assert everything(source).tolist() == labels


def test_zarr_comes_in_any_wrapping(group):
    for value in (group, f"file://{group}", f"{group}/X", zarr.open(group, mode="r")["X"]):
        source = as_source(value, "X")
        assert isinstance(source, ZarrSource)
        np.testing.assert_array_equal(everything(source), ROWS)
    np.testing.assert_array_equal(everything(as_source(group, "y")), LABELS)


def test_urls_of_other_file_systems_are_read():
    zarr.create_group("memory://sources/g").create_array("X", data=ROWS, chunks=(8, 4))
    source = as_source("memory://sources/g", "X")
    np.testing.assert_array_equal(everything(pickle.loads(pickle.dumps(source))), ROWS)


def test_a_group_brings_its_targets_and_weights(group):
    table = as_table(group)
    np.testing.assert_array_equal(table.read(3, 9).y, LABELS[3:9])
    np.testing.assert_array_equal(table.read(3, 9).weight, np.ones(6))
    assert as_table(group, LABELS).weight is None


def test_one_number_weighs_every_row():
    table = as_table(ROWS, LABELS, 2.5)
    np.testing.assert_array_equal(table.read(0, 3).weight, [2.5, 2.5, 2.5])
    assert len(as_source(2.0, "sample_weight", rows=30)) == 30


class TestFrames:
    @pytest.fixture(autouse=True)
    def frame(self):
        self.pandas = pytest.importorskip("pandas")
        self.frame = self.pandas.DataFrame(ROWS.astype(float), columns=list("abcd"))
        self.frame["label"] = np.array(["u", "v", "w"])[LABELS]

    def test_pandas(self):
        table = as_table(self.frame[list("abcd")], self.frame["label"])
        assert table.X.columns == list("abcd")
        np.testing.assert_array_equal(table.read(0, 30).X, ROWS.astype(float))
        assert table.read(0, 3).y.tolist() == ["u", "v", "w"]

    def test_dask(self):
        frame = pytest.importorskip("dask.dataframe").from_pandas(self.frame, npartitions=3)
        table = as_table(frame[list("abcd")], frame["label"])
        assert table.X.columns == list("abcd")
        np.testing.assert_array_equal(table.read(0, 30).X, ROWS.astype(float))
        assert table.read(0, 3).y.tolist() == ["u", "v", "w"]

    def test_columns_that_are_no_numbers_are_named(self):
        with pytest.raises(InputError, match="label"):
            as_source(self.frame, "X")
        self.frame["label"] = self.frame["label"].astype("category")
        with pytest.raises(InputError, match=r"label \(category\)"):
            as_source(self.frame, "X")
        frame = pytest.importorskip("dask.dataframe").from_pandas(self.frame, npartitions=3)
        with pytest.raises(InputError, match="label"):
            as_source(frame, "X")


def test_xarray_in_memory_on_dask_and_lazy(tmp_path):
    xarray = pytest.importorskip("xarray")
    data = xarray.DataArray(ROWS, dims=("sample", "feature"), name="X")
    assert isinstance(as_source(data, "X"), MemorySource)
    data.to_dataset().to_zarr(str(tmp_path / "x"), consolidated=False)
    for chunks in ({}, None):
        part = xarray.open_zarr(str(tmp_path / "x"), consolidated=False, chunks=chunks)["X"]
        source = as_source(part, "X")
        assert isinstance(source, ZarrSource)
        np.testing.assert_array_equal(everything(source), ROWS)
    np.testing.assert_array_equal(everything(as_source(data.to_dataset(), "X")), ROWS)
    for value in (data.to_dataset(), data.variable):
        with pytest.raises(InputError, match=r"y is an xarray .*Give a DataArray"):
            as_source(value, "y")


# ----------------------------------------------------------------------------- staged


@given(
    x=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    y=st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
@settings(max_examples=15, deadline=None)
def test_what_is_staged_does_not_depend_on_the_chunks(x, y):
    n = sum(x)
    rows = np.arange(2.0 * n).reshape(n, 2)
    y_chunks = tuple(np.diff([0, *[c for c in np.cumsum(y).tolist() if c < n], n]).tolist())
    X = da.from_array(rows, chunks=(tuple(x), (2,))) + 1
    table = as_table(X, da.arange(n, chunks=(y_chunks,)) * 2)
    np.testing.assert_array_equal(table.read(0, n).X, rows + 1)
    np.testing.assert_array_equal(table.read(0, n).y, np.arange(n) * 2)
    assert table.X.chunk_rows == table.y.chunk_rows == n


def test_work_that_arrays_share_is_done_once(tmp_path):
    calls = []

    def load(block):
        calls.append(len(block))
        return block + 1

    both = da.from_array(ROWS, chunks=(10, 4)).map_blocks(load, meta=np.empty((0, 0), "f4"))
    calls.clear()  # Dask tries the function on an empty block
    as_table(both[:, :3].rechunk({1: -1}), both[:, 3], scratch=tmp_path)
    assert sum(calls) == 30


def test_staging_uses_scratch_and_clears_it_up(tmp_path):
    source = as_source(da.from_array(ROWS, chunks=(7, 4)) * 2, "X", scratch=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(everything(copy), ROWS * 2)
    del copy
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_staging_that_fails_leaves_nothing(tmp_path):
    def fail(block):
        raise RuntimeError("no")

    X = da.from_array(ROWS, chunks=(7, 4)).map_blocks(fail, meta=np.empty((0, 0), "f4"))
    with pytest.raises(RuntimeError, match="no"):
        as_source(X, "X", scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_staging_never_holds_the_whole_array(tmp_path):
    """Blocks are written and dropped: no task sees more rows than two blocks."""
    seen = []

    class Watch(dask.callbacks.Callback):
        def _posttask(self, key, result, *_):
            seen.append(getattr(result, "nbytes", 0))

    X = da.zeros((64_000, 16), chunks=(1000, 16)) + 1
    with Watch():
        as_source(X, "X", scratch=tmp_path)
    assert max(seen) <= 2 * 4096 * 16 * 8


def test_labels_that_are_mixed_objects_are_refused_while_staging():
    y = da.from_array(np.array(["a", None, "b"], dtype=object), chunks=2)
    with pytest.raises(InputError, match="not text"):
        as_source(y, "y")


# ----------------------------------------------------------------------------- refused


def dask_rows():
    return da.from_array(ROWS, chunks=(10, 4))


BAD_FEATURES = {
    "1-d": (lambda: ROWS[0], r"Expected 2D array, got 1D array instead.*Reshape your data"),
    "0-d": (lambda: 3.0, r"Expected 2D array, got scalar array instead.*Reshape your data"),
    "3-d": (lambda: ROWS[None], r"dim 3.*reshape\(len\(X\), -1\)"),
    "dask 1-d": (lambda: dask_rows()[:, 0], "Expected 2D array, got 1D array instead"),
    "no rows": (lambda: ROWS[:0], r"Found array with 0 sample\(s\)"),
    "no columns": (
        lambda: ROWS[:3, :0],
        r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required",
    ),
    "complex": (lambda: ROWS * 1j, "Complex data not supported"),
    "text": (lambda: [["1", "2"]], "Convert your data to numeric values"),
    "numbers as text objects": (
        lambda: np.array([["1", 2]], object),
        "entries of type str.*row 0, column 0",
    ),
    "dictionaries": (lambda: np.array([[{}, 2]], object), r"argument must be .* string.* number"),
    "dates": (lambda: np.zeros((2, 2), "M8[s]"), "no number"),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], "rows of equal length"),
    "masked": (lambda: np.ma.masked_less(ROWS, 0.5), "masked"),
    "sparse": (lambda: scipy.sparse.csr_matrix(ROWS), r"X is sparse .*X\.toarray\(\)"),
    "sparse array": (lambda: scipy.sparse.coo_array(ROWS), r"X is sparse .*X\.toarray\(\)"),
    "unknown chunks": (lambda: dask_rows()[dask_rows()[:, 0] > 0], "compute_chunk_sizes"),
    "chunks across columns": (lambda: da.ones((9, 4), chunks=(3, 2)), r"X\.rechunk\(\{1: -1\}\)"),
    "a file of another kind": (lambda: "table.csv", "daskalt ingest"),
}


@pytest.mark.parametrize(("make", "message"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_bad_features_are_refused(make, message):
    with pytest.raises(InputError, match="(?s)" + message):
        as_source(make(), "X")


def test_wrong_entries_are_type_errors_too():
    with pytest.raises(InputTypeError):
        as_source(np.array([[{}]], object), "X")
    assert issubclass(InputTypeError, TypeError)
    assert issubclass(InputTypeError, ValueError)


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        (np.ones((3, 2, 2)), "y", "y should be a 1d array"),
        (np.array([1, "a", None], object), "y", "Unknown label type"),
        (np.ones((3, 2)), "sample_weight", "Sample weights must be 1D array or scalar"),
        (["a", "b"], "sample_weight", "sample_weight"),
    ],
)
def test_bad_targets_and_weights_are_refused(value, name, message):
    with pytest.raises(InputError, match=message):
        as_source(value, name)


def test_unequal_rows_are_refused_before_anything_is_computed():
    X = dask_rows().map_blocks(lambda block: pytest.fail("computed"), meta=np.empty((0, 0), "f4"))
    with pytest.raises(InputError, match=r"inconsistent numbers of samples: \[30, 29\]"):
        as_table(X, LABELS[:-1])
    with pytest.raises(InputError, match="inconsistent"):
        as_source(X, "X", rows=7)


@pytest.mark.parametrize("place", ["nowhere.zarr", "memory://nowhere", "unknown://x", ""])
def test_missing_stores_are_storage_errors(tmp_path, place):
    location = place if "://" in place else tmp_path / place
    with pytest.raises(StorageError, match="X: no readable Zarr array or group"):
        as_source(location, "X")


def test_a_group_without_the_array_lists_what_it_has(group):
    root = zarr.open(group, mode="a")
    del root["y"]
    with pytest.raises(InputError, match=r"no array called 'y'; it has \['X', 'sample_weight'\]"):
        as_source(group, "y")

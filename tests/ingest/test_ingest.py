"""Files of every kind end up in the store row for row, or nowhere."""

import errno
import os
import sys

import numpy as np
import pytest
import zarr

from daskalt.errors import InputError, StorageError
from daskalt.ingest import frames
from daskalt.ingest.files import is_frame
from daskalt.ingest.ingest import ingest
from daskalt.ingest.spool import Spool
from daskalt.runs.account import account
from daskalt.storage.locks import locked

RNG = np.random.default_rng(0)
N = 90
X = RNG.integers(0, 255, (N, 3))
Y = RNG.integers(0, 3, N)
ORDER = np.argsort(np.random.default_rng(0).random(N), kind="stable")


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(X, columns=list("abc"))
    frame["label"] = np.array(["x", "yy", "01"])[Y]
    frame["w"] = RNG.random(N)
    return frame


def write(frame, folder, kind, parts=2):
    folder.mkdir()
    edges = np.linspace(0, len(frame), parts + 1).astype(int)
    for i in range(parts):
        part = frame[edges[i] : edges[i + 1]]
        path = str(folder / f"part-{i}.{kind}")
        part.to_csv(path, index=False) if kind == "csv" else part.to_parquet(path)
    return folder


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch", [30, 2_000_000])
def test_frames_arrive_row_for_row(tmp_path, frame, kind, shuffle, batch, monkeypatch):
    monkeypatch.setattr(frames, "BATCH_VALUES", batch)
    folder = write(frame, tmp_path / "in", kind, parts=12)
    table = ingest(
        folder, tmp_path / "out", target="label", weight="w", shuffle=shuffle, chunk_rows=20
    )
    order = ORDER if shuffle else np.arange(N)
    block = table.read(0, N)
    np.testing.assert_array_equal(block.X, X[order])
    np.testing.assert_array_equal(block.y, frame["label"].to_numpy(str)[order])
    np.testing.assert_allclose(block.weight, frame["w"].to_numpy()[order])
    assert table.X.columns == ["a", "b", "c"]
    assert table.X.dtype == (np.uint8 if kind == "csv" else np.int64)
    attributes = zarr.open_group(str(tmp_path / "out"), mode="r").attrs
    assert attributes["target"] == "label"
    assert attributes["source"][1].endswith(f"part-1.{kind}")


def test_labels_become_text_where_any_is(tmp_path, frame, monkeypatch):
    """Batches of digits before the first word keep their leading zeros."""
    monkeypatch.setattr(frames, "BATCH_VALUES", 40)
    frame["label"] = ["01"] * (N - 1) + ["other"]
    folder = write(frame, tmp_path / "in", "csv")
    table = ingest(folder, tmp_path / "out", target="label", features=["a"], shuffle=False)
    assert table.read(0, N).y.tolist() == frame["label"].tolist()
    assert table.X.shape == (N, 1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([-1, 300], "int16"),
        ([0, 70_000], "int32"),
        ([0, 3_000_000_000], "uint32"),
        ([0, 127], "int8"),
        ([0, 128], "uint8"),
        ([True, False], "int8"),
        ([1.0, 2.0], "int8"),
        ([2**53 + 1, 2**53], "int64"),
        ([0.5, 1.5], "float32"),
        ([1.6e9, 1.6e9 + 0.5], "float64"),
    ],
)
def test_csv_features_take_the_smallest_type_that_serves(tmp_path, values, dtype):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": values}).to_csv(tmp_path / "in.csv", index=False)
    assert ingest(tmp_path / "in.csv", tmp_path / "out").X.dtype == dtype
    assert ingest(tmp_path / "in.csv", tmp_path / "b", dtype="float64").X.dtype == np.float64


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_integers_beside_categories_are_no_pictures(tmp_path, kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0, 200], "b": ["x", "y"]})
    path = tmp_path / f"in.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    table = ingest(path, tmp_path / "out", shuffle=False)
    assert table.X.dtype == (np.int16 if kind == "csv" else np.int64)
    assert table.read(0, 2).X.tolist() == [[0, 1, 0], [200, 0, 1]]


def test_several_targets_make_columns(tmp_path, frame):
    folder = write(frame, tmp_path / "in", "parquet")
    table = ingest(folder, tmp_path / "out", target=["a", "w"], features=["b", "c"], shuffle=False)
    np.testing.assert_allclose(table.read(0, N).y, frame[["a", "w"]].to_numpy())


def test_numpy_files_go_in_pairs_by_number(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(12):
        np.save(folder / f"X_{i}.npy", X[i * 5 : i * 5 + 5].reshape(5, 1, 3))
        np.save(folder / f"y_{i}.npy", Y[i * 5 : i * 5 + 5])
    table = ingest(folder, tmp_path / "out", shuffle=False)
    np.testing.assert_array_equal(table.read(0, 60).X, X[:60])
    np.testing.assert_array_equal(table.read(0, 60).y, Y[:60])
    (folder / "y_7.npy").unlink()
    with pytest.raises(InputError, match=r"X_7\.npy and y_7\.npy must both be there"):
        ingest(folder, tmp_path / "out2")
    np.save(folder / "z.npy", Y)
    with pytest.raises(InputError, match=r"z\.npy is called neither"):
        ingest(folder, tmp_path / "out2")


def test_one_numpy_file_with_its_targets(tmp_path):
    np.save(tmp_path / "images.npy", X)
    np.save(tmp_path / "labels.npy", Y)
    table = ingest(
        tmp_path / "images.npy", tmp_path / "out", target=str(tmp_path / "labels.npy"), seed=0
    )
    np.testing.assert_array_equal(table.read(0, N).X, X[ORDER])
    np.testing.assert_array_equal(table.read(0, N).y, Y[ORDER])


def test_npz_and_zarr_by_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=X, t=Y)
    with pytest.raises(InputError, match=r"no array 'X'; it has \['images', 't'\]"):
        ingest(tmp_path / "a.npz", tmp_path / "out")
    ingest(tmp_path / "a.npz", tmp_path / "out", features="images", target="t")
    table = ingest(tmp_path / "out", tmp_path / "again", shuffle=False)
    np.testing.assert_array_equal(table.read(0, N).X, X[ORDER])
    np.testing.assert_array_equal(table.read(0, N).y, Y[ORDER])
    with pytest.raises(InputError, match="is where X is read from"):
        ingest(tmp_path / "out", tmp_path / "out", overwrite=True)
    with pytest.raises(StorageError, match="no readable Zarr group"):
        ingest(tmp_path / "out" / "X", tmp_path / "x")


CSV = {
    "empty": ("", "no csv file as expected: it is empty. Write a line of names"),
    "header only": ("a,b\n", "no rows below its header"),
    "a line too long": ("a,b\n1,2\n1,2,3\n", "no csv file as expected: row 1 .* has more fields"),
    "a line too short": ("a,b\n1,2\n1\n", "fewer fields than the header"),
    "no line whole": ("a,b", "no csv file as expected"),
    "two columns of a name": ("a,b,a\n1,2,3\n", "several columns called 'a'"),
    "semicolons": ("a;b\n1;2\n", "separated by semicolons"),
    "not finite": ("a,b\n1,2\n3,-inf\n", "column 'b' holds -inf at row 1"),
    "too large": ("a,b\n1,2\n3,1e999\n", "column 'b' holds inf at row 1"),
    "a column empty": ("a,b\n1,\n3,NA\n", "no value at all in 'b'.*exclude='b'"),
    "all lines too long": ("a,b\n1,2,3\n", "more fields than the header"),
    "not a number": ("a,b\n1,2\n3,x\n", "column 'b' .* no number"),
}


@pytest.mark.parametrize(("text", "message"), CSV.values(), ids=CSV)
def test_bad_csv_is_refused_and_nothing_written(tmp_path, text, message):
    pytest.importorskip("pandas")
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        ingest(tmp_path / "in.csv", tmp_path / "out", categorical="error")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("a.parquet", InputError), ("a.npy", InputError), ("a.npz", StorageError)],
)
def test_files_that_are_not_what_they_say(tmp_path, name, error):
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(error, match=name):
        ingest(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_must_be_there_and_different(tmp_path, frame):
    folder = write(frame, tmp_path / "in", "csv")
    with pytest.raises(InputError, match="has no column 'zzz'"):
        ingest(folder, tmp_path / "out", target="zzz")
    with pytest.raises(InputError, match="features names 'a', which is the target"):
        ingest(folder, tmp_path / "out", target="a", features=["a", "b"])
    frame.drop(columns="c").to_csv(folder / "part-9.csv", index=False)
    with pytest.raises(InputError, match=r"part-9\.csv lacks columns \['c'\]"):
        ingest(folder, tmp_path / "out", target="label")


@pytest.mark.parametrize("name", ["a.svm", "a.libsvm", "a.svmlight.gz"])
def test_svmlight_is_refused_with_the_way_around_it(tmp_path, name):
    (tmp_path / name).write_text("1 1:0.5\n")
    with pytest.raises(InputError, match=r"svmlight format.*load_svmlight_file"):
        ingest(tmp_path / name, tmp_path / "out")


def test_inputs_must_exist_and_be_of_one_kind(tmp_path):
    with pytest.raises(StorageError, match="no CSV, Parquet"):
        ingest(tmp_path / "*.csv", tmp_path / "out")
    (tmp_path / "a.csv").write_text("a\n1\n")
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(InputError, match="several kinds: csv, npy"):
        ingest(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        ingest(tmp_path / "a.csv", tmp_path / "b.npy")


def test_what_is_put_aside_lies_beside_the_store_and_goes(tmp_path, frame, monkeypatch):
    """Also where nothing more fits there, or an earlier run left its own."""
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / ".out.aside").mkdir()
    (tmp_path / ".out.aside" / "parsed").write_text("of before")
    seen = []

    def full(self, batch):
        seen.append(self.path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "append", full)
    with pytest.raises(StorageError, match="disk is full"):
        ingest(tmp_path / "a.csv", tmp_path / "out", target="label")
    assert seen == [tmp_path / ".out.aside" / "parsed"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_extra_that_reads_files_is_named(tmp_path, frame, monkeypatch):
    frame.to_csv(tmp_path / "a.csv", index=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'daskalt\[dataframe\]'"):
        ingest(tmp_path / "a.csv", tmp_path / "out", target="label")


# ------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false"), ("TRUE", "FALSE")])
def test_truth_values_are_classes(tmp_path, words):
    truth = RNG.random(N) < 0.4
    lines = [f"{i},{words[0] if each else words[1]}" for i, each in enumerate(truth)]
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *lines]) + "\n")
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target="y", shuffle=False)
    found = table.read(0, N).y
    assert found.dtype == bool
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("missing", ["median", "drop"])
def test_classes_that_float64_does_not_tell_apart(tmp_path, kind, missing):
    pandas = pytest.importorskip("pandas")
    first = 2**53
    frame = pandas.DataFrame({"a": [1.0, None, 2, 3, 4], "y": [first + i for i in (0, 5, 1, 2, 2)]})
    path = tmp_path / f"a.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    table = ingest(path, tmp_path / "a", target="y", missing=missing)
    kept = frame.dropna() if missing == "drop" else frame
    counts = kept["y"].value_counts().sort_index()
    lines = list(account("a", table))
    shown = ", ".join(f"{value} ({count})" for value, count in counts.items())
    assert f"target y: {len(counts)} classes: {shown}" in lines


def test_what_is_told_of_several_targets_and_odd_characters(tmp_path):
    rows = "".join(f'{i % 3},{i % 2},"x\ny{i % 2}",{i}\n' for i in range(6))
    (tmp_path / "a.csv").write_text('a,b,"c\td",e\n' + rows)
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target=["a", "b"])
    lines = list(account("a", table))
    assert "target a: number (int64) from 0 to 2" in lines
    assert "target b: number (int64) from 0 to 1" in lines
    assert any(r"c\td" in line and r"x\ny0 (3), x\ny1 (3)" in line for line in lines)
    assert all("\n" not in line and "\t" not in line for line in lines)


# ------------------------------------------------------------------------------- its place


def test_nobody_else_ingests_to_the_same_place(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with (
        locked(str(tmp_path / "deep" / "out")),
        pytest.raises(InputError, match=rf"process {os.getpid()} .* is at work in .*out"),
    ):
        ingest(tmp_path / "a.csv", tmp_path / "deep" / "out")
    ingest(tmp_path / "a.csv", tmp_path / "deep" / "out")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failed_ingest_leaves_no_folders(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\ninf\n")
    with pytest.raises(InputError, match="holds inf"):
        ingest(tmp_path / "a.csv", tmp_path / "deep" / "er" / "x.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    (tmp_path / "deep").mkdir()
    with pytest.raises(InputError, match="holds inf"):
        ingest(tmp_path / "a.csv", tmp_path / "deep" / "er" / "x.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "deep"]


# ------------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding=encoding)
    with pytest.raises(InputError, match=r"encoded in UTF-16 or UTF-32.*in UTF-8"):
        ingest(tmp_path / "a.csv", tmp_path / "a")


@pytest.mark.parametrize("place", [0, 1, 40, 99])
def test_a_row_with_too_few_fields_is_told_by_its_number(tmp_path, place, monkeypatch):
    monkeypatch.setattr(frames, "BLOCK_BYTES", 64)
    monkeypatch.setattr(frames, "HEADER_BYTES", 64)
    rows = [f"{i},{i}" for i in range(100)]
    rows[place] = "1"
    (tmp_path / "a.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    with pytest.raises(InputError, match=rf"a\.csv .*: row {place} .* fewer fields .* 1 and not 2"):
        ingest(tmp_path / "a.csv", tmp_path / "a")


@pytest.mark.parametrize("header", ["0,0,1", ",,"])
def test_a_file_without_a_header_is_suspected(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n")
    with pytest.raises(InputError, match=r"several columns called .*no header: write names there"):
        ingest(tmp_path / "a.csv", tmp_path / "a")


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV.gz", "a.tab"])
def test_tabs_are_refused_with_the_way_around_them(tmp_path, name):
    (tmp_path / name).write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match=r"tabs are not read.*sep='\\t'"):
        ingest(tmp_path / name, tmp_path / "a")
    assert is_frame(tmp_path / name)


def test_negative_weights_are_refused_where_they_count(tmp_path):
    (tmp_path / "a.csv").write_text("a,w\n,-3\n1,1\n2,-1\n")
    with pytest.raises(InputError, match=r"column 'w' holds -1 at row 2 .*0 or more"):
        ingest(tmp_path / "a.csv", tmp_path / "a", weight="w", missing="drop")
    (tmp_path / "a.csv").write_text("a,w\n,-3\n1,1\n2,0\n")
    table = ingest(tmp_path / "a.csv", tmp_path / "a", weight="w", missing="drop", shuffle=False)
    assert table.read(0, 2).weight.tolist() == [1, 0]
    np.savez(tmp_path / "a.npz", X=X, sample_weight=np.where(np.arange(N) == 7, -2.5, 1))
    with pytest.raises(InputError, match=r"a\.npz: the weight of row 7 .* is -2\.5"):
        ingest(tmp_path / "a.npz", tmp_path / "b")

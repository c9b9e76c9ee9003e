"""Raw columns are encoded as by pandas and scikit-learn, whatever the batches."""

import bz2
import gzip
import json
import lzma

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

import daskalt
from daskalt.data.recipe import find_recipe
from daskalt.errors import InputError, StorageError
from daskalt.ingest import encoding, frames, medians
from daskalt.ingest.encoding import Encoder
from daskalt.ingest.frames import FrameFiles
from daskalt.ingest.ingest import ingest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

WORDS = ["red", "Köln, Rhein", 'a "quote"', "two\nlines", " spaced ", "x=y", "007", "NaNcy"]


def naive(frame, numbers, texts, fitted=None):
    """Features as scikit-learn makes them, columns in the frame's order; and what was learnt."""
    if fitted is None:
        fitted = {
            name: SimpleImputer(strategy="median").fit(frame[[name]].astype(float).to_numpy())
            for name in numbers
        } | {
            name: OneHotEncoder(handle_unknown="ignore").fit(objects(frame, name)) for name in texts
        }
    parts = []
    for name in frame.columns:
        if name in numbers:
            parts.append(fitted[name].transform(frame[[name]].astype(float).to_numpy()))
        elif name in texts:
            parts.append(fitted[name].transform(objects(frame, name)).toarray())
    return np.hstack(parts), fitted


def objects(frame, name):
    values = [None if pd.isna(value) else value for value in frame[name]]
    return np.array(values, object)[:, None]


def random_frame(rng, rows, words=WORDS):
    frame = pd.DataFrame(
        {
            "count": rng.integers(-5, 200, rows).astype(object),
            "where": rng.choice(words, rows).astype(object),
            "size": rng.normal(10, 3, rows).round(3),
            "big": rng.integers(-(10**12), 10**12, rows).astype(object),
            "sort": rng.choice(words[:3], rows).astype(object),
            "flag": (rng.random(rows) < 0.5).astype(object),
        }
    )
    for name in ("count", "where", "size", "flag"):
        frame.loc[rng.random(rows) < 0.2, name] = None
    frame["label"] = rng.choice(["01", "1", "no"], rows)
    return frame


NUMBERS, TEXTS = ["count", "size", "big", "flag"], ["where", "sort"]


def read(table):
    block = table.read(0, table.n_rows)
    return block.X.astype(float), block.y


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), block=st.sampled_from([700, 1500, 1 << 20]))
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_features_are_those_of_scikit_learn(tmp_path_factory, kind, seed, block):
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(seed)
    frame = random_frame(rng, int(rng.integers(30, 90)))
    train, test = frame[: len(frame) // 2], frame[len(frame) // 2 :].copy()
    test.loc[test.index[:3], "where"] = "never met"
    write = {"csv": lambda f, p: f.to_csv(p, index=False), "parquet": pd.DataFrame.to_parquet}[kind]
    typed = {"count": "Int64", "big": "int64", "flag": "boolean"}
    for name, part in (("train", train), ("test", test)):
        write(part.astype(typed), folder / f"{name}.{kind}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "BLOCK_BYTES", block)
        patch.setattr(frames, "BATCH_VALUES", block // 50)
        table = ingest(folder / f"train.{kind}", folder / "a", target="label", shuffle=False)
        later = ingest(folder / f"test.{kind}", folder / "b", recipe=folder / "a", shuffle=False)
    wanted, fitted = naive(train.drop(columns="label"), NUMBERS, TEXTS)
    X, y = read(table)
    close(X, wanted)
    assert y.tolist() == train["label"].tolist()
    X, y = read(later)
    close(X, naive(test.drop(columns="label"), NUMBERS, TEXTS, fitted)[0])
    assert y.tolist() == test["label"].tolist()
    assert table.X.columns == later.X.columns
    names = fitted["where"].get_feature_names_out(["where"])
    assert [n for n in table.X.columns if n.startswith("where=")] == [
        "where=nan" if name == "where_None" else name.replace("where_", "where=", 1)
        for name in names
    ]


def test_rows_with_gaps_are_dropped_as_by_pandas(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "BLOCK_BYTES", 600)
    frame = random_frame(np.random.default_rng(0), 120)
    frame.loc[[3, 50], "label"] = None
    frame["weight"] = np.arange(120.0)
    frame.loc[7, "weight"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = {"target": "label", "weight": "weight", "missing": "drop"}
    table = ingest(tmp_path / "a.csv", tmp_path / "a", shuffle=False, **options)
    kept = frame.dropna()
    block = table.read(0, table.n_rows)
    close(block.X.astype(float), naive(kept.drop(columns=["label", "weight"]), NUMBERS, TEXTS)[0])
    assert block.y.tolist() == kept["label"].tolist()
    assert block.weight.tolist() == kept["weight"].tolist()
    recipe = zarr.open_group(tmp_path / "a", mode="r").attrs["recipe"]
    assert recipe["left_out"] == 120 - len(kept)
    shuffled = ingest(tmp_path / "a.csv", tmp_path / "b", seed=4, **options)
    order = np.argsort(np.random.default_rng(4).random(len(kept)), kind="stable")
    np.testing.assert_array_equal(shuffled.read(0, len(kept)).X, block.X[order])


GAPS = {
    "feature, error": ("a,b,y\n1,2,u\n,3,v\n", {"missing": "error"}, "row 1 .* 'a'.*missing="),
    "text, error": ("a,b,y\n1,r,u\n2,,v\n", {"missing": "error"}, "row 1 .* column 'b'"),
    "target": ("a,b,y\n1,2,u\n2,3,\n", {}, "row 1 .* no value in column 'y'.*missing='drop'"),
    "weight": ("a,b,y\n1,2,u\n2,,v\n", {"weight": "b"}, "row 1 .* no value in column 'b'"),
    "all dropped": ("a,b,y\n1,,u\n2,,v\n", {"missing": "drop"}, "All 2 rows were left out"),
    "text as numbers": ("a,b,y\n1,2,u\n2,q,v\n", {"categorical": "error"}, "'b' holds 'q' at row"),
    "text as weights": ("a,b,y\n1,2,u\n2,q,v\n", {"weight": "b"}, "'b' holds 'q' at row 1"),
    "equal names": ("a,a=r,y\nr,2,u\ns,3,v\n", {}, "would be called 'a=r'"),
    "narrow type": ("a,y\n1,u\n300,v\n", {"dtype": "uint8"}, "cannot hold the features"),
    "fractions as integers": ("a,y\n1,u\n.5,v\n", {"dtype": "int32"}, "cannot hold the features"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), GAPS.values(), ids=GAPS)
def test_what_cannot_be_used_is_named(tmp_path, text, options, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        ingest(tmp_path / "a.csv", tmp_path / "a", target="y", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_text_that_takes_too_many_values_is_named_with_the_cure(tmp_path):
    frame = pd.DataFrame(
        {"id": [f"u{i}" for i in range(30)], "words": [f"w{i}" for i in range(30)]}
    )
    frame["x"] = frame["y"] = 1
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"'id', 'words' takes more than 20.*exclude='id,words'"):
        ingest(tmp_path / "a.csv", tmp_path / "a", target="y", max_categories=20)
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target="y", max_categories=30)
    assert table.X.shape == (30, 61)
    assert table.X.dtype == np.int8


SPELLINGS = {
    "spaces": ([" 1", "2 ", "\t3"], [1, 2, 3]),
    "signs": (["+1", "-2", "+.5"], [1, -2, 0.5]),
    "exponents": (["1e3", "1E-1", "2"], [1000, 0.1, 2]),
    "points": (["1.", ".5", "-0"], [1, 0.5, 0]),
    "gaps": (["1", "NA", "null", "3", " ", "5"], [1, 3, 3, 3, 3, 5]),
    "large": (["9007199254740993", "1"], [9007199254740993, 1]),
    "truth": (["True", "FALSE", "true"], [1, 0, 1]),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("cells", "values"), SPELLINGS.values(), ids=SPELLINGS)
def test_numbers_however_they_are_written(tmp_path, cells, values, first, monkeypatch):
    """Also where they come after rows that look otherwise, whose types do not settle anything."""
    monkeypatch.setattr(frames, "BLOCK_BYTES", 64)
    plain = [] if first else [str(int(values[0]))] * 60
    if cells[0] == "True":
        plain = ["True"] * len(plain)
    lines = ["a,b", *(f"{cell},1" for cell in [*plain, *cells])]
    (tmp_path / "a.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
    table = ingest(tmp_path / "a.csv", tmp_path / "a")
    # The median is of all rows; plain ones outweigh it.
    wanted = values if first or "NA" not in cells else [1, 1, 1, 3, 1, 5]
    found = table.read(0, table.n_rows).X[len(plain) :, 0]
    np.testing.assert_array_equal(found, np.array(wanted).astype(found.dtype))
    if cells[0].startswith("9007"):
        assert found.tolist() == values


@pytest.mark.parametrize("late", ["x", "0x1F", "1_000", "True"])
def test_a_column_that_turns_out_to_be_text_is_text_from_its_first_row(tmp_path, late, monkeypatch):
    monkeypatch.setattr(frames, "BLOCK_BYTES", 64)
    cells = ["01", "1", " 1"] * 20 + [late]
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{cell},{cell}\n" for cell in cells))
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target="y", shuffle=False)
    assert table.X.columns == [f"a={text}" for text in sorted(set(cells))]
    assert table.read(0, 61).y.tolist() == cells


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", None)],
)
def test_packed_files(tmp_path, suffix, pack):
    text = random_frame(np.random.default_rng(0), 50).to_csv(index=False).encode()
    (tmp_path / "a.csv").write_bytes(text)
    if pack is None:
        pa = pytest.importorskip("pyarrow")
        with pa.output_stream(tmp_path / "a.csv.zst", compression="zstd") as out:
            out.write(text)
    else:
        (tmp_path / f"a.csv.{suffix}").write_bytes(pack(text))
    plain = ingest(tmp_path / "a.csv", tmp_path / "a", target="label")
    packed = ingest(tmp_path / f"a.csv.{suffix}", tmp_path / "b", target="label")
    np.testing.assert_array_equal(plain.read(0, 50).X, packed.read(0, 50).X)
    whole = (tmp_path / f"a.csv.{suffix}").read_bytes()
    (tmp_path / f"a.csv.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((StorageError, InputError), match=rf"a\.csv\.{suffix}"):
        ingest(tmp_path / f"a.csv.{suffix}", tmp_path / "c", target="label")


def test_text_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes("a,y\nKöln,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv is no csv file as expected.*UTF-8"):
        ingest(tmp_path / "a.csv", tmp_path / "a", target="y")


def test_parquet_types(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from decimal import Decimal

    import pyarrow.parquet

    columns = {
        "decimal": pa.array([Decimal("1.5"), None, Decimal("3.5")]),
        "category": pa.array(["b", "a", "b"]).dictionary_encode(),
        "small": pa.array([1, 2, 3], pa.uint8()),
        "half": pa.array(np.array([0.5, 1, 2], np.float16)),
        "large": pa.array(["u", "u", None], pa.large_string()),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = ingest(tmp_path / "a.parquet", tmp_path / "a")
    found = dict(zip(table.X.columns, table.read(0, 3).X.T.tolist(), strict=True))
    assert found == {
        "decimal": [1.5, 2.5, 3.5],
        "category=a": [0, 1, 0],
        "category=b": [1, 0, 1],
        "small": [1, 2, 3],
        "half": [0.5, 1, 2],
        "large=u": [1, 1, 0],
        "large=nan": [0, 0, 1],
    }
    for name, wrong in (
        ("day", pa.array([0, 1, 2], pa.date32())),
        ("list", pa.array([[1], [2], [3]])),
    ):
        pyarrow.parquet.write_table(pa.table({**columns, name: wrong}), tmp_path / "b.parquet")
        with pytest.raises(InputError, match=f"column '{name}' is of type .*exclude='{name}'"):
            ingest(tmp_path / "b.parquet", tmp_path / "b")
        ingest(tmp_path / "b.parquet", tmp_path / f"{name}.zarr", exclude=name)


CHOICES = {
    "a pattern": ({"features": "p*"}, ["p1", "p2"]),
    "patterns and names": ({"features": ["a,b", "p?"]}, ["a", "b", "p1", "p2"]),
    "an exact name that looks like a list": ({"features": "c,d"}, ["c,d"]),
    "an exact name that looks like a pattern": ({"features": "q*"}, ["q*"]),
    "left out": ({"exclude": ["p*", "c,d", "q*"]}, ["a", "b", "qq"]),
    "both": ({"features": "p*", "exclude": "p1"}, ["p2"]),
    "all but the target": ({"features": "*", "ident": "a"}, ["b", "c,d", "p1", "p2", "q*", "qq"]),
}


CLASHES = [
    ({"ident": "y"}, "ident names 'y', which is the target"),
    ({"exclude": "y"}, "exclude names 'y', which is the target"),
    ({"features": ["a", "y"]}, "features names 'y', which is the target"),
    ({"features": "a,b,a"}, "features names 'a' twice"),
    ({"target": ["a", "b", "a"]}, "target names 'a' twice"),
    ({"weight": "a", "ident": "a"}, "ident names 'a', which is the weight"),
    ({"exclude": "*"}, "No column of .* is left to be a feature"),
]


@pytest.mark.parametrize(("options", "names"), CHOICES.values(), ids=CHOICES)
def test_columns_by_names_and_patterns(tmp_path, options, names):
    frame = pd.DataFrame([[1] * 8], columns=["a", "b", "c,d", "p1", "p2", "q*", "qq", "y"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target="y", **options)
    assert table.X.columns == names
    with pytest.raises(InputError, match=r"has no column 'pp\*'"):
        ingest(tmp_path / "a.csv", tmp_path / "b", target="y", exclude="pp*")
    with pytest.raises(InputError, match="Did you mean 'p1'"):
        ingest(tmp_path / "a.csv", tmp_path / "b", target="y", features="P1")
    for clash, message in CLASHES:
        with pytest.raises(InputError, match=message):
            ingest(tmp_path / "a.csv", tmp_path / "b", **({"target": "y"} | clash))
    assert ingest(tmp_path / "a.csv", tmp_path / "b", target="qq", exclude="q*").X.shape == (1, 6)


# ------------------------------------------------------------------------------- medians


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    most=st.integers(1, 60),
)
def test_medians_of_a_uniform_sample_whatever_the_batches(seed, sizes, most):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(sum(sizes), 3))
    rows[rng.random(rows.shape) < 0.3] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medians, "SAMPLE_BYTES", 8 * 3 * most)
        sample = medians.RowSample(3)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        sample.add(part)
    chosen = np.argsort(np.random.default_rng(0).random(len(rows)))[:most]
    wanted = pd.DataFrame(rows[chosen]).median().to_numpy()
    np.testing.assert_array_equal(sample.medians(), wanted)
    assert sample.exact == (len(rows) <= most)


# ------------------------------------------------------------------------------- the recipe


@pytest.fixture
def churn(tmp_path):
    frame = random_frame(np.random.default_rng(3), 200)
    frame.to_csv(tmp_path / "a.csv", index=False)
    ingest(tmp_path / "a.csv", tmp_path / "a.zarr", target="label")
    return frame, str(tmp_path / "a.zarr")


def test_a_model_keeps_the_recipe_of_its_store(churn, tmp_path):
    frame, place = churn
    recipe = zarr.open_group(place, mode="r").attrs["recipe"]
    model = daskalt.MLPClassifier((4,), max_iter=1, random_state=0)
    for rows in (place, zarr.open_group(place, mode="r")):
        assert model.fit(rows).recipe_ == recipe
    daskalt.save(model, tmp_path / "model")
    assert daskalt.load(tmp_path / "model").recipe_ == recipe
    again = ingest(tmp_path / "a.csv", tmp_path / "b.zarr", recipe=tmp_path / "model", seed=0)
    X = again.read(0, 200).X
    np.testing.assert_array_equal(X, zarr.open_array(place, path="X")[:])
    stored = tmp_path / "model" / "model.json"
    stored.write_bytes(stored.read_bytes().replace(b"count", b"mount", 1))
    with pytest.raises(StorageError, match=r"model is damaged .* not the one that was written"):
        ingest(tmp_path / "a.csv", tmp_path / "d.zarr", recipe=tmp_path / "model")
    copy = ingest(place, tmp_path / "c.zarr", seed=1)
    assert model.fit(copy).recipe_ == recipe
    assert list(model.feature_names_in_) == copy.X.columns
    model.fit(X.astype(float), frame["label"])
    assert not hasattr(model, "recipe_")


def test_recipes_that_are_not_there_or_damaged(churn, tmp_path):
    _, place = churn
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    ingest(tmp_path / "x.npy", tmp_path / "x.zarr")
    for wrong in ("x.zarr", "nothing"):
        with pytest.raises(InputError, match="there is no recipe"):
            ingest(tmp_path / "a.csv", tmp_path / "b", recipe=tmp_path / wrong)
    with pytest.raises(InputError, match="cannot be given beside recipe"):
        ingest(tmp_path / "a.csv", tmp_path / "b", recipe=place, features="count")
    with pytest.raises(InputError, match="only columns of CSV and Parquet"):
        ingest(tmp_path / "x.npy", tmp_path / "b", exclude="a")
    (tmp_path / "short.csv").write_text("count,label\n1,no\n")
    with pytest.raises(InputError, match="lacks 5 columns that training had"):
        ingest(tmp_path / "short.csv", tmp_path / "b", recipe=place)
    group = zarr.open_group(place, mode="a")
    whole = group.attrs["recipe"]
    for damage in ({"columns": []}, {"version": 9}, {"columns": [{"name": 1}]}, {"more": 1}):
        group.attrs["recipe"] = json.loads(json.dumps(whole)) | damage
        with pytest.raises(StorageError, match=r"recipe of .* is damaged"):
            ingest(tmp_path / "a.csv", tmp_path / "b", recipe=place)
        with pytest.raises(StorageError, match=r"recipe of .* is damaged"):
            daskalt.MLPClassifier((4,), max_iter=1).fit(place)


def test_unknown_categories_and_later_gaps_as_asked_for(churn, tmp_path):
    frame, place = churn
    new = frame[:5].copy()
    new.loc[2, "sort"] = "new"
    new.to_csv(tmp_path / "new.csv", index=False)
    options = {"recipe": place, "shuffle": False}
    table = ingest(tmp_path / "new.csv", tmp_path / "b", **options)
    sort = [n.startswith("sort=") for n in table.X.columns]
    assert table.read(0, 5).X[:, sort].sum(axis=1).tolist() == [1, 1, 0, 1, 1]
    with pytest.raises(InputError, match=r"column 'sort' holds 'new' at row 2"):
        ingest(tmp_path / "new.csv", tmp_path / "c", unknown="error", **options)
    new.loc[1, "sort"] = None
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(InputError, match=r"row . .* no value in column"):
        ingest(tmp_path / "new.csv", tmp_path / "c", missing="error", **options)
    kept = ingest(tmp_path / "new.csv", tmp_path / "d", missing="drop", **options)
    assert kept.n_rows == len(new.dropna())
    new["size"] = "big"
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(InputError, match="column 'size' holds 'big' at row 0"):
        ingest(tmp_path / "new.csv", tmp_path / "e", **options)


def test_categories_of_rows_that_are_dropped_are_not_unknown(tmp_path):
    """Training data suit the recipe that was learnt of them; other rows are still told."""
    options = {"missing": "drop", "unknown": "error", "shuffle": False}
    (tmp_path / "a.csv").write_text("a,b\nx,1\nonly here,\ny,2\n")
    table = ingest(tmp_path / "a.csv", tmp_path / "a", **options)
    assert table.X.columns == ["a=x", "a=y", "b"]
    assert table.read(0, 2).X.tolist() == [[1, 0, 1], [0, 1, 2]]
    again = ingest(tmp_path / "a.csv", tmp_path / "b", recipe=tmp_path / "a", shuffle=False)
    np.testing.assert_array_equal(again.read(0, 2).X, table.read(0, 2).X)
    (tmp_path / "b.csv").write_text("a,b\nx,1\nonly here,\nonly here,2\n")
    with pytest.raises(InputError, match=r"column 'a' holds 'only here' at row 2"):
        ingest(tmp_path / "b.csv", tmp_path / "c", recipe=tmp_path / "a", shuffle=False)


def test_blocks_are_small_however_many_categories_there_are(tmp_path, monkeypatch):
    """A batch of a file is cut by the width of what it becomes, and no row changes by that."""
    rng = np.random.default_rng(0)
    texts = [f"t{i}" for i in range(100)]
    frame = pd.DataFrame({name: rng.choice(texts, 500) for name in "ab"} | {"c": range(500)})
    frame.to_parquet(tmp_path / "a.parquet")
    wanted, _ = naive(frame, ["c"], ["a", "b"])
    sizes = []
    encode = encoding.Encoder.block

    def noted(self, batch, layout):
        block = encode(self, batch, layout)
        sizes.append(block.X.nbytes)
        return block

    monkeypatch.setattr(encoding, "ENCODED_BYTES", 50_000)
    monkeypatch.setattr(encoding.Encoder, "block", noted)
    table = ingest(tmp_path / "a.parquet", tmp_path / "a", shuffle=False)
    close(read(table)[0], wanted)
    assert max(sizes) <= 50_000
    frame.loc[430, "b"] = "new"
    frame.to_parquet(tmp_path / "b.parquet")
    options = {"recipe": tmp_path / "a", "unknown": "error"}
    with pytest.raises(InputError, match=r"column 'b' holds 'new' at row 430"):
        ingest(tmp_path / "b.parquet", tmp_path / "b", **options)


CODES = {
    "codes": (["01", "1", "001"], True),
    "signed": (["-07", "1", "2"], True),
    "with spaces": ([" 07", "1", "2"], True),
    "fractions": (["0.5", "-0.5", "0"], False),
    "zeros": (["0", "-0", "0e3"], False),
}


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(("cells", "text"), CODES.values(), ids=CODES)
def test_leading_zeros_make_text(tmp_path, cells, text, late, monkeypatch):
    """Also where words in another column come late, and all is read again."""
    monkeypatch.setattr(frames, "BLOCK_BYTES", 64)
    lines = [*(f"{cell},{cell},1" for cell in cells * 20), f"{cells[0]},{cells[0]},x"]
    (tmp_path / "a.csv").write_text("\n".join(["a,y,b", *lines[: None if late else -1]]) + "\n")
    table = ingest(tmp_path / "a.csv", tmp_path / "a", target="y")
    encoded = [name for name in table.X.columns if name.startswith("a=")]
    assert encoded == ([f"a={cell}" for cell in sorted(cells)] if text else [])
    assert (table.y.dtype.kind in "UT") == text
    if text:
        assert set(table.read(0, table.n_rows).y) == set(cells)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("turned", [True, False])
def test_truth_values_and_zeros_and_ones_are_one(tmp_path, kind, turned):
    """A recipe that was learnt of the one takes the other; not where it knows more numbers."""
    truths, numbers = [[True], [False], [True]], [[1], [0], [1]]
    first, then = (truths, numbers) if turned else (numbers, truths)
    for name, values in (("a", first), ("b", then)):
        frame = pd.DataFrame(values, columns=["x"])
        path = tmp_path / f"{name}.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    ingest(tmp_path / f"a.{kind}", tmp_path / "a")
    options = {"recipe": tmp_path / "a", "shuffle": False}
    table = ingest(tmp_path / f"b.{kind}", tmp_path / "b", **options)
    assert table.read(0, 3).X.tolist() == numbers
    recipe = find_recipe(tmp_path / "a")
    files = FrameFiles([str(tmp_path / f"b.{kind}")], kind)
    found = [Encoder(recipe).features(b, np.dtype(float)).tolist() for b in files.batches(["x"])]
    assert found == [numbers]


def test_truth_values_are_not_taken_for_other_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n7\n")
    (tmp_path / "b.csv").write_text("x\nTrue\nFalse\n")
    ingest(tmp_path / "a.csv", tmp_path / "a")
    with pytest.raises(InputError, match="column 'x' holds 'True' at row 0"):
        ingest(tmp_path / "b.csv", tmp_path / "b", recipe=tmp_path / "a")
    files = FrameFiles([str(tmp_path / "b.csv")], "csv")
    with pytest.raises(InputError, match="column 'x' holds 'True' at row 0"):
        Encoder(find_recipe(tmp_path / "a")).features(next(files.batches(["x"])), np.dtype(float))

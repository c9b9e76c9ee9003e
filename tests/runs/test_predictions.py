"""A line out for each row in, in order, whatever the files and the formats."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr

import daskalt
from daskalt.ingest import frames
from daskalt.ingest.ingest import ingest
from daskalt.runs import cli

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

ROWS = 120


def raw(seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "name": [f"{i:03d}" for i in range(ROWS)],
            "city": rng.choice(["Oslo", "Rome, Italy", 'the "old" town'], ROWS),
            "size": rng.normal(5, 2, ROWS).round(2),
            "count": rng.integers(0, 50, ROWS),
        }
    )
    frame.loc[rng.random(ROWS) < 0.1, "size"] = None
    frame.loc[rng.random(ROWS) < 0.1, "city"] = None
    frame["kind, really"] = np.where(frame["count"] > 25, 'a "b", c', "d")
    return frame


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A model trained on a store, and that store in the order of the frame."""
    monkeypatch.chdir(tmp_path)
    frame = raw()
    frame.to_csv("train.csv", index=False)
    options = {"target": "kind, really", "ident": "name"}
    ingest("train.csv", "train.zarr", **options)
    ingest("train.csv", "ordered.zarr", shuffle=False, **options)
    model = daskalt.MLPClassifier((8,), max_iter=3, random_state=0).fit("train.zarr")
    daskalt.save(model, "model")
    return frame, model


def write(frame, kind, parts=3):
    """The rows over several files, columns in another order, without the target."""
    frame = frame[["count", "city", "name", "size"]]
    for i, rows in enumerate(np.array_split(np.arange(len(frame)), parts)):
        part, path = frame.iloc[rows], f"new-{i}.{kind}"
        part.to_csv(path, index=False) if kind == "csv" else part.to_parquet(path, index=False)
    return f"new-*.{kind}"


def predict(*words):
    assert cli.main(["predict", "model", *words]) == 0


def refused(capsys, *words):
    capsys.readouterr()
    assert cli.main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("kind", "block"), list(product(["csv", "parquet"], [400, 1 << 20])))
def test_files_are_predicted_for_as_their_store_is(trained, kind, block, monkeypatch):
    frame, model = trained
    monkeypatch.setattr(frames, "BLOCK_BYTES", block)
    monkeypatch.setattr(frames, "BATCH_VALUES", block // 10)
    pattern = write(frame, kind)
    labels, proba = model.predict("ordered.zarr"), model.predict_proba("ordered.zarr")
    for suffix in ("csv", "parquet", "npy", "zarr"):
        predict(pattern, "--proba", "--output", f"p.{suffix}")
    target = "kind, really"
    shares = [f"probability_{label}" for label in model.classes_]
    for table in (pd.read_csv("p.csv", dtype={"name": str}), pd.read_parquet("p.parquet")):
        assert list(table) == ["name", target, *shares]
        assert table["name"].tolist() == frame["name"].tolist()
        assert table[target].tolist() == labels.tolist()
        # Products over other blocks of rows may round otherwise.
        np.testing.assert_allclose(table[shares].to_numpy(np.float32), proba, rtol=1e-6)
    np.testing.assert_allclose(np.load("p.npy"), proba, rtol=1e-6)
    group = zarr.open_group("p.zarr", mode="r")
    assert group["id"][:].tolist() == frame["name"].tolist()
    assert group["y"][:].tolist() == labels.tolist()
    np.testing.assert_allclose(group["probability"][:], proba, rtol=1e-6)


def test_rows_are_called_by_their_number_or_as_they_stand_in_the_file(trained, capsys):
    frame, model = trained
    frame["odd"] = ["NA", "", " 7", "1e3", *map(str, range(4, ROWS))]
    frame.drop(columns="name").to_csv("new.csv", index=False)
    labels = model.predict("ordered.zarr").tolist()
    predict("new.csv", "--output", "p.csv")
    table = pd.read_csv("p.csv")
    assert table["row"].tolist() == list(range(ROWS))
    assert table["kind, really"].tolist() == labels
    predict("new.csv", "--id", "odd", "--output", "p.csv", "--overwrite")
    table = pd.read_csv("p.csv", dtype=str, keep_default_na=False)
    assert table["odd"].tolist() == frame["odd"].tolist()
    assert table["kind, really"].tolist() == labels
    capsys.readouterr()
    predict("new.csv")
    assert capsys.readouterr().out.splitlines()[0] == 'row,"kind, really"'
    assert "has no column 'nmae'" in refused(capsys, "predict", "model", "new.csv", "--id", "nmae")


def test_gaps_and_new_categories_at_predict(trained, capsys):
    frame, _ = trained
    frame.loc[5, "city"] = "Bergen"
    frame.to_csv("new.csv", index=False)
    first = int(frame[["size", "city"]].isna().any(axis=1).idxmax())
    predict("new.csv", "--output", "filled.csv")
    frame.fillna({"size": frame["size"].median()}).to_csv("by-hand.csv", index=False)
    predict("by-hand.csv", "--output", "by-hand-filled.csv")
    assert pd.read_csv("filled.csv").equals(pd.read_csv("by-hand-filled.csv"))
    words = ("predict", "model", "new.csv", "--output", "p.csv")
    error = refused(capsys, *words, "--unknown", "error")
    assert "column 'city' holds 'Bergen' at row 5" in error
    assert "--unknown own" in error
    error = refused(capsys, *words, "--missing", "error")
    assert f"row {first} (counted from 0) has no value in column" in error
    assert "--missing median" in error
    frame.to_csv("cut.csv", index=False, columns=["count", "name"])
    error = refused(capsys, "predict", "model", "cut.csv")
    assert "lacks 2 columns that training had: ['city', 'size']" in error
    assert "Add them to the file" in error
    frame["size"] = "large"
    frame.to_csv("new.csv", index=False)
    assert "column 'size' holds 'large' at row 0" in refused(capsys, *words)
    assert not list(Path().glob("p.csv")) + list(Path().glob(".p.csv*"))


@pytest.mark.parametrize("missing", ["drop", "error"])
def test_medians_are_learnt_however_training_treated_gaps(trained, missing, capsys):
    frame, _ = trained
    whole = frame.dropna() if missing == "error" else frame
    whole.to_csv("other.csv", index=False)
    ingest("other.csv", "other.zarr", target="kind, really", missing=missing, exclude="name")
    model = daskalt.MLPClassifier((4,), max_iter=1, random_state=0).fit("other.zarr")
    daskalt.save(model, "model")
    frame.to_csv("new.csv", index=False)
    assert "--missing median" in refused(capsys, "predict", "model", "new.csv")
    predict("new.csv", "--missing", "median", "--output", "p.csv")
    assert len(pd.read_csv("p.csv")) == ROWS
    fills = {c["name"]: c["fill"] for c in model.recipe_["columns"]}
    kept = frame.dropna()
    assert fills == {
        "city": None, "size": kept["size"].median(), "count": kept["count"].median()
    }  # fmt: skip


def test_evaluate_takes_files(trained, capsys):
    frame, model = trained
    frame.sample(frac=1, random_state=0).to_csv("test.csv", index=False)
    capsys.readouterr()
    assert cli.main(["evaluate", "model", "test.csv"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == ROWS
    assert found["accuracy"] == pytest.approx(model.score("ordered.zarr"))
    frame.rename(columns={"kind, really": "way"}).to_csv("other.csv", index=False)
    assert "--target" in refused(capsys, "evaluate", "model", "other.csv")
    assert cli.main(["evaluate", "model", "other.csv", "--target", "way"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(found)


def test_several_targets_and_regression(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = raw()[["count", "name"]].assign(a=np.arange(ROWS) / 7, b=1.0)
    frame["count"] = frame["count"].astype(float)
    frame.to_csv("a.csv", index=False)
    ingest("a.csv", "a.zarr", target=["a", "b"], exclude="name", shuffle=False)
    model = daskalt.MLPRegressor((4,), max_iter=1, random_state=0).fit("a.zarr")
    daskalt.save(model, "model")
    predict("a.csv", "--output", "p.csv")
    table = pd.read_csv("p.csv", dtype={"a": np.float32, "b": np.float32})
    np.testing.assert_array_equal(table[["a", "b"]].to_numpy(), model.predict("a.zarr"))
    predict("a.zarr", "--output", "q.csv")
    assert pd.read_csv("q.csv").equals(pd.read_csv("p.csv"))


def test_a_model_without_a_recipe_takes_columns_of_numbers_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = raw()[["count", "size"]].fillna(1.0)
    y = (frame["count"] > 25).astype(int).rename("many")
    model = daskalt.MLPClassifier((4,), max_iter=1, random_state=0).fit(frame, y)
    daskalt.save(model, "model")
    frame[["size", "count"]].assign(more="text").to_csv("new.csv", index=False)
    predict("new.csv", "--output", "p.csv")
    assert pd.read_csv("p.csv")["many"].tolist() == model.predict(frame).tolist()
    frame.loc[4, "size"] = None
    frame.to_csv("new.csv", index=False)
    assert "row 4 (counted from 0) has no value" in refused(capsys, "predict", "model", "new.csv")
    daskalt.save(model.fit(frame.fillna(0).to_numpy(), y), "model")
    assert "knows no names of columns" in refused(capsys, "predict", "model", "new.csv")


def test_options_of_files_are_refused_for_stores(trained, capsys):
    error = refused(capsys, "predict", "model", "ordered.zarr", "--id", "name")
    assert "is for CSV and Parquet files" in error
    capsys.readouterr()
    predict("ordered.zarr")
    assert capsys.readouterr().out.splitlines()[0] == 'row,"kind, really"'


def test_ingest_says_what_became_of_every_column(trained, capsys):
    frame, _ = trained
    words = ["ingest", "train.csv", "b.zarr", "--target", "kind, really", "--id", "name"]
    capsys.readouterr()
    assert cli.main([*words, "--exclude", "c*", "--overwrite"]) == 0
    out = capsys.readouterr().out
    counts = frame["kind, really"].value_counts()
    assert f"""2 classes: a "b", c ({counts['a "b", c']}), d ({counts["d"]})""" in out
    low, high, median = (f(frame["size"]) for f in (np.nanmin, np.nanmax, np.nanmedian))
    gaps = int(frame["size"].isna().sum())
    assert f"from {low:g} to {high:g}; {gaps} missing, filled with {median:g}" in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("excluded")] == [
        "city",
        "count",
    ]
    assert "id of the row" in out


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet", ".zarr"])
def test_no_rows_have_no_predictions(trained, suffix):
    pd.read_csv("train.csv", nrows=0, dtype=str).to_csv("none.csv", index=False)
    place = f"none{suffix}"
    predict("none.csv", "--output", place, "--overwrite")
    if suffix == ".npy":
        assert np.load(place).shape == (0,)
    elif suffix == ".zarr":
        assert zarr.open_group(place)["y"].shape == (0,)
    else:
        frame = (pd.read_csv if suffix == ".csv" else pd.read_parquet)(place)
        assert len(frame) == 0
        assert "kind, really" in frame


def test_nothing_is_printed_before_the_first_rows_will_do(trained, capsys):
    rows = pd.read_csv("train.csv", dtype=str, nrows=3)
    rows.iloc[0, rows.columns.get_loc("city")] = "never seen"
    rows.to_csv("odd.csv", index=False)
    capsys.readouterr()
    assert cli.main(["predict", "model", "odd.csv", "--unknown", "error"]) == 2
    assert capsys.readouterr().out == ""


def test_the_column_that_rows_are_called_by_stays_a_feature(trained):
    """What marks a missing value is one in the feature, and stands as it is in the output."""
    frame, model = trained
    frame.fillna({"city": "NA"}).to_csv("new.csv", index=False)
    predict("new.csv", "--id", "city", "--proba", "--output", "p.npy")
    np.testing.assert_array_equal(np.load("p.npy"), model.predict_proba("ordered.zarr"))
    predict("new.csv", "--id", "city", "--output", "p.csv")
    table = pd.read_csv("p.csv", keep_default_na=False)
    assert table["city"].tolist() == frame["city"].fillna("NA").tolist()


def test_a_target_that_is_a_feature_is_named(trained, capsys):
    frame, _ = trained
    frame.to_csv("test.csv", index=False)
    error = refused(capsys, "evaluate", "model", "test.csv", "--target", "count")
    assert "target names 'count', which is a feature of the recipe" in error

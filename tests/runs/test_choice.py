"""The estimator that targets suggest."""

import numpy as np
import pandas as pd
import pytest
import zarr

from daskalt.errors import ConfigError
from daskalt.ingest.ingest import ingest
from daskalt.runs.choice import choose_estimator
from daskalt.runs.origins import DataConfig

CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"
N = 200
NUMBERS = [
    (np.arange(N) % 2, CLASSIFIER),
    (np.arange(N) % 2 * 2.0 - 1, CLASSIFIER),  # whole, though of floats
    (np.arange(N) % 40, CLASSIFIER),
    (np.arange(N) % 41, REGRESSOR),  # fewer than five rows each
    (np.arange(N), REGRESSOR),
    (np.arange(N) % 2 + 0.5, REGRESSOR),
    (np.arange(N) % 2 == 0, CLASSIFIER),
]
TEXT = np.array(["no", "yes"])[np.arange(N) % 2]


def chosen(**data):
    return choose_estimator(DataConfig(**data))[0]


@pytest.mark.parametrize(("y", "expected"), [*NUMBERS, (TEXT, CLASSIFIER)])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_of_a_column(tmp_path, y, expected, kind):
    place = str(tmp_path / f"rows.{kind}")
    frame = pd.DataFrame({"a": np.ones(N), "y": y})
    frame.to_csv(place, index=False) if kind == "csv" else frame.to_parquet(place)
    assert chosen(train=place, target="y") == expected


@pytest.mark.parametrize(("y", "expected"), NUMBERS)
def test_of_a_stored_array(tmp_path, y, expected):
    place = str(tmp_path / "rows.zarr")
    zarr.save_group(place, X=np.ones((N, 2)), y=y)
    assert chosen(train=place) == expected


def test_of_stored_text(tmp_path):
    group = zarr.create_group(tmp_path / "rows.zarr")
    group.create_array("X", data=np.ones((N, 2)))
    group.create_array("y", data=TEXT.astype(np.dtypes.StringDType()))
    assert chosen(train=str(tmp_path / "rows.zarr")) == CLASSIFIER


def test_of_several_columns(tmp_path):
    frame = pd.DataFrame({"a": np.ones(N), "p": np.arange(N) % 2, "q": np.arange(N) % 3})
    place = str(tmp_path / "rows.csv")
    frame.to_csv(place, index=False)
    assert chosen(train=place, target=("p", "q")) == REGRESSOR
    frame.assign(q=0).to_csv(place, index=False)
    assert chosen(train=place, target=("p", "q")) == CLASSIFIER


def test_missing_targets_say_nothing(tmp_path):
    y = np.where(np.arange(N) % 5, np.arange(N) % 3, np.nan)
    place = str(tmp_path / "rows.csv")
    pd.DataFrame({"a": np.ones(N), "y": y}).to_csv(place, index=False)
    assert chosen(train=place, target="y") == CLASSIFIER


def as_csv(place, **targets):
    pd.DataFrame({"a": np.ones(N), **targets}).to_csv(place, index=False)
    return str(place)


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (np.array([f"{k:04}" for k in range(1, N + 1)], object), "is text"),  # no numbers
        (np.array([k % 3 > 0 for k in range(N)], object), "is true or false"),
        (np.array([k % 3 for k in range(N)], object), "is whole numbers, 3 different"),
        (np.array([k + 0.5 for k in range(N)], object), "has fractions"),
    ],
)
def test_targets_are_judged_as_ingest_reads_them(tmp_path, y, reason, gap):
    y = np.where(np.arange(N) == 7, None, y) if gap else y
    place = as_csv(tmp_path / "rows.csv", y=y)
    name, words = choose_estimator(DataConfig(train=place, target="y"))
    assert words.startswith(reason)
    ingest(place, tmp_path / "rows.zarr", target="y", missing="drop" if gap else None)
    stored = zarr.open_group(tmp_path / "rows.zarr")["y"]
    assert (stored.dtype.kind == "f") == (name == REGRESSOR)


def test_rows_that_lack_one_of_several_targets_say_nothing(tmp_path):
    p, q = np.arange(N) % 2.0, np.arange(N) % 2.0
    p[3], q[5] = np.nan, np.nan
    place = as_csv(tmp_path / "rows.csv", p=p, q=q)
    assert chosen(train=place, target=("p", "q")) == CLASSIFIER
    p[4], q[5] = 0.5, 0.5
    p[5], q[4] = np.nan, np.nan  # nor do halves beside a gap
    place = as_csv(tmp_path / "rows.csv", p=p, q=q)
    assert chosen(train=place, target=("p", "q")) == CLASSIFIER


def test_a_file_without_rows_is_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text("a,y\n")
    with pytest.raises(ConfigError, match="no rows below its header"):
        chosen(train=str(tmp_path / "rows.csv"), target="y")


def test_few_rows(tmp_path):
    place = str(tmp_path / "rows.zarr")
    zarr.save_group(place, X=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))
    assert chosen(train=place) == CLASSIFIER


@pytest.mark.parametrize(("name", "expected"), [("wine", CLASSIFIER), ("diabetes", REGRESSOR)])
def test_of_a_bundled_data_set(name, expected):
    assert chosen(dataset=name) == expected

"""Arrays with names: the same model from every container, and predictions with the rows' labels."""

import inspect
import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import sklearn
import xarray as xr
import zarr
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from daskalt import MLPClassifier, MLPRegressor, load, save
from daskalt.data.choosing import Named
from daskalt.data.sources import as_table
from daskalt.data.staging import staged_bytes
from daskalt.errors import InputError

RNG = np.random.default_rng(0)
ROWS = 240
X = RNG.standard_normal((ROWS, 3)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
W = RNG.uniform(0.5, 2, ROWS)
TIMES = pd.date_range("2020-01-01", periods=ROWS)
NAMES = ["dew", "rain", "wind"]  # in the order in which a group is listed
MODEL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}


def classifier(**options):
    return MLPClassifier(**(MODEL | options))


def regressor(**options):
    return MLPRegressor(**(MODEL | options))


def dataset():
    """One variable for each feature, and the rest."""
    columns = {name: ("time", X[:, k]) for k, name in enumerate(NAMES)}
    places = {"place": ("time", np.arange(ROWS))}
    return xr.Dataset(columns | {"label": ("time", Y)}, coords={"time": TIMES, **places})


def matrix():
    """All features in one variable."""
    return xr.Dataset(
        {"features": (("time", "feature"), X), "label": ("time", Y)},
        coords={"time": TIMES, "feature": NAMES},
    )


def weighted(rows):
    """With weights under a name of their own."""
    return rows.assign(w=("time", W))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Zarr groups with the rows, by plain Zarr and by xarray in both formats."""
    root = tmp_path_factory.mktemp("places")
    flat = zarr.create_group(str(root / "flat.zarr"))
    chunks = (16, 50, 7, 240, 100)
    for (name, values), rows in zip(weighted(dataset()).items(), chunks, strict=True):
        flat.create_array(name, data=values.values, chunks=(rows,))
    square = zarr.create_group(str(root / "square.zarr"))
    for name, values in weighted(matrix()).items():
        square.create_array(name, data=values.values, chunks=(64, *values.shape[1:]))
    for version in (2, 3):
        place = root / f"xarray{version}.zarr"
        weighted(dataset()).chunk({"time": 70}).to_zarr(
            place, zarr_format=version, consolidated=False
        )
    place = root / "matrix.zarr"
    weighted(matrix()).chunk({"time": 70}).to_zarr(place, zarr_format=2, consolidated=False)
    return {place.name: str(place) for place in root.iterdir()}


def opened(place, **options):
    return xr.open_zarr(place, consolidated=False, **options)


@pytest.fixture(scope="module")
def expected():
    return classifier(early_stopping=True).fit(X, Y, W)


def assert_same_model(model, expected):
    for pair in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(*pair)
    for pair in zip(model.intercepts_, expected.intercepts_, strict=True):
        np.testing.assert_array_equal(*pair)


FORMS = {
    "variables in Zarr": lambda at: at["flat.zarr"],
    "a group": lambda at: zarr.open_group(at["flat.zarr"], mode="r"),
    "a matrix in Zarr": lambda at: at["square.zarr"],
    "xarray's Zarr": lambda at: at["xarray3.zarr"],
    "xarray's Zarr of format 2": lambda at: at["xarray2.zarr"],
    "a Dataset": lambda at: weighted(dataset()),
    "a Dataset on Dask": lambda at: weighted(dataset()).chunk({"time": 33}),
    "a computed Dataset": lambda at: weighted(dataset()).chunk({"time": 33}) * 1,
    "open_zarr": lambda at: opened(at["xarray3.zarr"]),
    "open_zarr without Dask": lambda at: opened(at["xarray3.zarr"], chunks=None),
    "a Dataset of a matrix": lambda at: weighted(matrix()),
    "a stored matrix": lambda at: opened(at["matrix.zarr"]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("named", [True, False])
def test_the_same_rows_give_the_same_bits(form, named, places, expected):
    rows = form(places)
    names = {"y": "label", "sample_weight": "w"}
    if named:
        has_matrix = "features" in rows if not isinstance(rows, str) else "square" in rows
        names["X"] = "features" if has_matrix else NAMES
    model = classifier(early_stopping=True).fit(rows, **names)
    assert_same_model(model, expected)
    assert model.score(rows) == pytest.approx(expected.score(X, Y, W))
    np.testing.assert_array_equal(model.predict(rows), expected.predict(X))


@pytest.mark.parametrize("lazy", [False, True])
def test_data_arrays_give_the_same_bits(lazy, expected):
    rows = weighted(matrix()).chunk({"time": 50}) if lazy else weighted(matrix())
    model = classifier(early_stopping=True).fit(rows["features"], rows["label"], rows["w"])
    assert_same_model(model, expected)
    assert model.feature_names_in_.tolist() == NAMES


def test_names_are_those_of_the_variables(places):
    for rows in (places["flat.zarr"], weighted(dataset()), weighted(matrix())):
        model = classifier().fit(rows, y="label", sample_weight="w")
        assert model.feature_names_in_.tolist() == NAMES
        assert model.target_name_ == "label"
    assert model.members_ == {"X": "features", "y": "label", "sample_weight": "w"}
    for attribute in ("members_", "target_name_", "feature_names_in_"):
        assert not hasattr(model.fit(X, Y), attribute)


def test_order_and_choice_of_features_are_the_users(places):
    model = classifier().fit(places["flat.zarr"], X=["wind", "dew"], y="label")
    assert_same_model(model, classifier().fit(X[:, [2, 0]], Y))
    assert model.score(dataset()) == classifier().fit(X[:, [2, 0]], Y).score(X[:, [2, 0]], Y)
    one = classifier().fit(dataset(), X="rain", y="label")
    assert_same_model(one, classifier().fit(X[:, [1]], Y))


def test_variables_of_several_columns_stand_beside_others(places):
    both = matrix().assign(height=("time", W))
    model = classifier().fit(both, X=["height", "features"], y="label")
    assert_same_model(model, classifier().fit(np.column_stack([W, X]), Y))
    expected = ["height", *(f"features_{name}" for name in NAMES)]
    assert model.feature_names_in_.tolist() == expected
    stored = classifier().fit(places["square.zarr"], X=["w", "features"], y="label")
    assert_same_model(stored, model)
    assert stored.feature_names_in_.tolist() == ["w", "features_0", "features_1", "features_2"]


def test_coordinates_are_features_only_when_named(places):
    with_place = dataset().drop_vars("time")
    model = classifier().fit(with_place, X=[*NAMES, "place"], y="label")
    assert_same_model(model, classifier().fit(np.column_stack([X, np.arange(ROWS)]), Y))
    named = classifier().fit(places["xarray3.zarr"], X=[*NAMES, "place"], y="label")
    assert_same_model(named, model)


def test_what_a_group_says_are_coordinates_are_no_features(tmp_path):
    group = zarr.create_group(str(tmp_path / "rows.zarr"))
    group.create_array("a", data=X[:, 0], dimension_names=["t"]).attrs["coordinates"] = "lat lon"
    group.create_array("t", data=np.arange(ROWS), dimension_names=["t"]).attrs["bounds"] = "edges"
    group.create_array("y", data=Y)
    for name in ("lat", "lon", "edges"):
        group.create_array(name, data=W, dimension_names=["t"])
    group.create_array("height", data=W)
    group.attrs["coordinates"] = "height"
    model = classifier().fit(str(tmp_path / "rows.zarr"))
    assert model.members_ == {"X": ["a"], "y": "y"}
    assert_same_model(model, classifier().fit(X[:, [0]], Y))
    model = classifier().fit(str(tmp_path / "rows.zarr"), X=["a", "height", "t"])
    assert_same_model(model, classifier().fit(np.column_stack([X[:, 0], W, np.arange(ROWS)]), Y))


def test_every_method_takes_names(places):
    square, names = places["square.zarr"], {"X": "features", "y": "label"}
    model, plain = classifier(), classifier()
    assert model.plan(square, **names).rows == plain.plan(X, Y).rows
    model.partial_fit(square, **names, classes=[0, 1]).partial_fit(square)
    assert_same_model(model, plain.partial_fit(X, Y, [0, 1]).partial_fit(X, Y))
    other = classifier().fit(X, Y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        expected = getattr(other, method)(X)
        np.testing.assert_array_equal(getattr(other, method)(square, X="features"), expected)
    assert other.score(square, **names) == other.score(X, Y)
    numbers = regressor().partial_fit(square, **names)
    assert_same_model(numbers, regressor().partial_fit(X, Y))
    assert numbers.score(square) == pytest.approx(numbers.score(X, Y), abs=1e-6)


def test_other_rows_have_the_names_of_the_fit(places):
    model = classifier(early_stopping=True)
    model.fit(places["square.zarr"], X="features", y="label", eval_set=places["square.zarr"])
    plain = classifier(early_stopping=True).fit(X, Y, eval_set=(X, Y))
    assert model.history_[-1]["validation_loss"] == plain.history_[-1]["validation_loss"]
    for pair in ((matrix(), "label"), (matrix()["features"], Y), matrix()):
        again = classifier(early_stopping=True)
        again.fit(places["square.zarr"], X="features", y="label", eval_set=pair)
        assert again.history_[-1]["validation_loss"] == plain.history_[-1]["validation_loss"]


def test_names_outlive_saving(places, tmp_path):
    save(classifier().fit(dataset(), y="label"), tmp_path / "model")
    model = load(tmp_path / "model")
    assert model.members_ == {"X": NAMES, "y": "label"}
    assert model.score(places["flat.zarr"]) == model.score(dataset())


def test_names_stay_with_rows_that_were_opened_before(places):
    table = as_table(Named(places["square.zarr"], "features"), "label", "w")
    model = classifier().fit(table.rows_slice(0, 200))
    assert model.members_ == {"X": "features", "y": "label", "sample_weight": "w"}
    assert_same_model(model, classifier().fit(X[:200], Y[:200], W[:200]))
    expected = model.score(X, Y, W)
    assert model.score(places["square.zarr"]) == pytest.approx(expected)


def test_names_of_columns_find_the_variables():
    frame = pd.DataFrame(X, columns=NAMES)
    model = classifier().fit(frame, pd.Series(Y, name="kind"))
    result = model.predict(dataset().assign(another=("time", W)))
    np.testing.assert_array_equal(result, model.predict(frame))
    assert result.name == "kind"


def test_several_targets_are_a_list_of_names(places):
    T = np.column_stack([X[:, 2], W])
    plain = regressor().fit(X[:, :2], T)
    lazy = weighted(dataset()).chunk({"time": 50}) * 1
    for rows in (weighted(dataset()), places["flat.zarr"], lazy):
        model = regressor().fit(rows, X=NAMES[:2], y=["wind", "w"])
        assert_same_model(model, plain)
        assert model.score(rows) == pytest.approx(plain.score(X[:, :2], T), abs=1e-6)
    with pytest.raises(InputError, match=r"y: .* no variable called 'w', as the fit had"):
        model.score(dataset())
    result = model.predict(dataset())
    assert result.dims == ("time", "output")
    assert result["output"].values.tolist() == ["wind", "w"]


def test_signatures_are_those_of_scikit_learn(places):
    for method in ("fit", "score", "partial_fit"):
        parameters = inspect.signature(getattr(MLPClassifier(), method)).parameters
        assert list(parameters)[:2] == ["X", "y"]
        assert "sample_weight" in parameters
    assert list(inspect.signature(MLPClassifier().predict).parameters) == ["X"]
    fitted = classifier().fit(places["flat.zarr"], X=NAMES, y="label")
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy.score(places["flat.zarr"]) == fitted.score(dataset())


def test_metadata_are_routed_to_methods_that_take_names():
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"alpha": [1e-4]}, cv=2).fit(X, Y, sample_weight=W)
    assert_same_model(search.best_estimator_, classifier().fit(X, Y, W))
    pipe = make_pipeline(FunctionTransformer(), classifier())
    assert_same_model(pipe.fit(X, Y)[-1], classifier().fit(X=X, y=Y))


def test_names_go_with_arrays_from_elsewhere(places):
    expected = classifier().fit(X, Y, W)
    for rows in (places["flat.zarr"], dataset(), opened(places["xarray3.zarr"])):
        for target in (Y, matrix()["label"], da.from_array(Y), f"{places['square.zarr']}/label"):
            assert_same_model(classifier().fit(rows, target, W, X=NAMES), expected)


def test_text_is_a_name_before_it_is_a_path(places, monkeypatch):
    place = places["square.zarr"]
    monkeypatch.chdir(place)
    np.testing.assert_array_equal(as_table(place, "label", "w").read(0, 9).y, Y[:9])
    np.testing.assert_array_equal(as_table(X, "label").read(0, 9).y, Y[:9])
    for path in (f"{place}/label", "./label", "../square.zarr/label"):
        np.testing.assert_array_equal(as_table(place, path, "w").read(0, 9).y, Y[:9])


ITSELF = {
    "a Dataset": lambda at: (dataset(), lambda rows: rows["label"]),
    "a Dataset's values": lambda at: (dataset(), lambda rows: rows["label"].values),
    "a Dataset's other name": lambda at: (dataset(), lambda rows: rows["label"].rename("other")),
    "a Dataset's Series": lambda at: (dataset(), lambda rows: rows["label"].to_series()),
    "a copy": lambda at: (dataset(), lambda rows: rows["label"].copy(deep=True)),
    "Dask": lambda at: (dataset().chunk({"time": 50}) * 1, lambda rows: rows["label"]),
    "a Dask array": lambda at: (dataset().chunk({"time": 50}) * 1, lambda rows: rows["label"].data),
    "open_zarr": lambda at: (opened(at["xarray3.zarr"]), lambda rows: rows["label"]),
    "lazy": lambda at: (opened(at["xarray3.zarr"], chunks=None), lambda rows: rows["label"]),
    "opened twice": lambda at: (
        opened(at["xarray3.zarr"]),
        lambda rows: opened(at["xarray3.zarr"], chunks=None)["label"],
    ),
    "a path beside a Dataset": lambda at: (
        opened(at["xarray3.zarr"]),
        lambda rows: at["xarray3.zarr"] + "/label",
    ),
    "paths": lambda at: (at["flat.zarr"], lambda rows: rows + "/label"),
    "a file system": lambda at: (in_file_system(), lambda rows: rows + "/label"),
    "another path": lambda at: (at["flat.zarr"], lambda rows: f"file://{rows}/label"),
    "a group": lambda at: (zarr.open_group(at["flat.zarr"], mode="r"), lambda rows: rows["label"]),
    "a group in memory": lambda at: (group_in_memory(), lambda rows: rows["label"]),
    "Dask of a group": lambda at: (
        at["flat.zarr"],
        lambda rows: da.from_zarr(zarr.open_array(rows + "/label", mode="r")),
    ),
    "a matrix": lambda at: (at["square.zarr"], lambda rows: rows + "/label"),
}


def group_in_memory():
    return filled(zarr.create_group(zarr.storage.MemoryStore()))


def in_file_system():
    place = "memory://test-containers/rows.zarr"
    filled(zarr.create_group(place, overwrite=True))
    return place


def filled(group):
    for name, values in dataset().items():
        group.create_array(name, data=values.values)
    return group


@pytest.mark.parametrize("form", ITSELF.values(), ids=ITSELF)
def test_targets_and_weights_of_the_container_itself_are_no_features(form, places):
    rows, label = form(places)
    names = zarr.open_group(rows, mode="r") if isinstance(rows, str) else rows
    w = {"sample_weight": "w"} if "w" in names else {}
    model = classifier().fit(rows, label(rows), **w)
    assert_same_model(model, classifier().fit(X, Y, W if w else None))
    assert model.members_["y"] == model.target_name_ == "label"
    assert model.score(rows) == model.score(rows, label(rows))


def test_every_method_knows_arrays_of_the_container_itself():
    rows = weighted(dataset())
    expected = classifier().fit(X, Y, W)
    assert_same_model(classifier().fit(rows, rows["label"], rows["w"]), expected)
    assert classifier().plan(rows, rows["label"], rows["w"]).rows == ROWS
    model = classifier().partial_fit(rows, rows["label"], [0, 1], rows["w"])
    assert_same_model(model, classifier().partial_fit(X, Y, [0, 1], W))
    with pytest.raises(InputError, match="name 'label' twice"):
        classifier().fit(rows, rows["label"], X=["dew", "label"])


@pytest.mark.parametrize("change", ["sum", "cast", "frame", "stored", "columns"])
def test_targets_called_as_a_feature_have_to_be_named(change, places):
    rows = dataset()
    label = {
        "sum": lambda: rows["label"] + 1,
        "cast": lambda: (rows["label"].chunk({"time": 50}) * 1).astype(float),
        "frame": lambda: rows[["label"]].to_dataframe()[["label"]],
        "stored": lambda: places["square.zarr"] + "/label",
        "columns": lambda: rows[["label"]].to_dataarray().T,
    }[change]()
    with pytest.raises(InputError, match=r"y is called 'label'.*y=\"label\".*X=\[\.\.\.\]"):
        classifier().fit(rows, label)
    with pytest.raises(InputError, match="sample_weight is called 'label'"):
        classifier().fit(rows, Y.copy(), label)


# ------------------------------------------------------------------- where rows are read


@pytest.mark.parametrize("chunks", [{}, None])
def test_variables_as_stored_are_read_where_they_lie(chunks, places):
    for place in ("xarray3.zarr", "matrix.zarr"):
        rows = opened(places[place], chunks=chunks)
        table = as_table(rows, "label", "w")
        assert staged_bytes(table) == 0
        assert not table.in_memory
        part = as_table(rows.isel(time=slice(20, 99)), "label", "w")
        assert staged_bytes(part) == 0
        np.testing.assert_array_equal(part.read(3, 30).X, X[23:50])


def test_computed_variables_are_staged_once(places):
    rows = opened(places["xarray3.zarr"])
    table = as_table(rows.assign(dew=rows["dew"] * 2), "label", "w")
    assert staged_bytes(table) == table.X.nbytes
    np.testing.assert_array_equal(table.read(0, ROWS).X, X * np.float32([2, 1, 1]))


def test_lazy_rows_are_staged_in_pieces(tmp_path):
    """Variables that xarray decodes are chunked along the rows, never read whole."""
    packed = xr.Dataset({"a": ("t", np.arange(20_000) / 2)}).chunk({"t": 1000})
    packed["a"].encoding = {"scale_factor": 0.5, "dtype": "i4", "_FillValue": -1}
    packed.to_zarr(tmp_path / "packed.zarr", consolidated=False)
    rows = opened(tmp_path / "packed.zarr", chunks=None)
    from daskalt.data.labelled import values_of

    assert values_of(rows["a"], "X").chunks == ((1000,) * 20,)
    table = as_table(rows.assign(y=("t", np.arange(20_000) % 2)))
    np.testing.assert_array_equal(table.X.read(7, 900), np.arange(7, 900)[:, None] / 2)


def test_opening_computes_nothing(places, no_compute):
    model = classifier().fit(X, Y)
    with no_compute():
        for rows in (opened(places["xarray3.zarr"]) * 1, opened(places["xarray3.zarr"])):
            table = as_table(rows, "label", "w", lazy=True)
            assert table.X.shape == X.shape
            model.predict(rows, X=NAMES)


def test_chunks_of_columns_are_blocks_of_rows(tmp_path, monkeypatch):
    """Many rows are read in blocks, which give the bits of a matrix in chunks of the longest."""
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 1 << 10)
    monkeypatch.setattr("daskalt.data.table.good_rows", lambda *_: 40)
    matrix, columns = (zarr.create_group(str(tmp_path / name)) for name in ("matrix", "columns"))
    matrix.create_array("X", data=X, chunks=(40, 3))
    for k, rows in enumerate((40, 16, 8)):
        columns.create_array(NAMES[k], data=X[:, k], chunks=(rows,))
    for group in (matrix, columns):
        group.create_array("y", data=Y, chunks=(60,))
    expected = classifier().fit(str(tmp_path / "matrix"))
    assert_same_model(classifier().fit(str(tmp_path / "columns")), expected)


@pytest.mark.parametrize("form", ["variables in Zarr", "a Dataset", "a computed Dataset"])
def test_a_cluster_gives_the_same_bits(form, places, expected, cluster):
    cluster(2)
    model = classifier(early_stopping=True)
    model.fit(FORMS[form](places), X=NAMES, y="label", sample_weight="w")
    assert_same_model(model, expected)


def test_a_finished_fit_is_found_again(places, tmp_path):
    names = {"X": NAMES, "y": "label"}
    model = classifier(checkpoint=str(tmp_path / "points")).fit(places["flat.zarr"], **names)
    again = classifier(checkpoint=str(tmp_path / "points"))
    again.fit(places["flat.zarr"], **names, resume=True)
    assert_same_model(again, model)
    with pytest.raises(InputError, match="X"):
        again.fit(places["flat.zarr"], X=NAMES[::-1], y="label", resume=True)


def test_labels_in_other_units_are_the_same():
    rows = matrix()
    label = rows["label"].assign_coords(time=TIMES.as_unit("s"))
    assert_same_model(classifier().fit(rows["features"], label), classifier().fit(X, Y))


# ------------------------------------------------------------------- predictions


def test_a_data_array_comes_out_where_one_went_in():
    rows = matrix()["features"].assign_coords(
        place=("time", np.arange(ROWS)), run=7, depth=("feature", [1, 2, 3])
    )
    model = classifier().fit(rows, matrix()["label"])
    result = model.predict(rows)
    assert isinstance(result, xr.DataArray)
    assert (result.name, result.dims, result.attrs) == ("label", ("time",), {})
    assert set(result.coords) == {"time", "place", "run"}
    xr.testing.assert_equal(result["time"], rows["time"])
    np.testing.assert_array_equal(result.values, model.predict(X_frame()))
    proba = model.predict_proba(rows)
    assert proba.dims == ("time", "class")
    assert proba["class"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(proba.values, model.predict_proba(X_frame()))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(rows)), proba, rtol=1e-5)
    assert isinstance(model.predict(X_frame()), np.ndarray)


def X_frame():
    return pd.DataFrame(X, columns=NAMES)


@pytest.mark.parametrize("form", ["Dask", "Dataset on Dask", "lazy", "lazy Dataset"])
def test_predictions_of_lazy_rows_are_lazy(form, places, no_compute):
    rows = {
        "Dask": lambda: matrix().chunk({"time": 50})["features"],
        "Dataset on Dask": lambda: dataset().chunk({"time": 50})[NAMES],
        "lazy": lambda: opened(places["matrix.zarr"], chunks=None)["features"],
        "lazy Dataset": lambda: opened(places["xarray3.zarr"], chunks=None)[NAMES],
    }[form]()
    model = classifier().fit(X_frame(), Y)
    with no_compute():
        results = model.predict(rows), model.predict_proba(rows)
    for result in results:
        assert isinstance(result.data, da.Array)
        assert result.name == "prediction"
        np.testing.assert_array_equal(result["time"], TIMES)
    np.testing.assert_array_equal(results[0], model.predict(X_frame()))
    np.testing.assert_allclose(results[1], model.predict_proba(X_frame()), rtol=1e-5)


def test_indexes_of_several_levels_are_kept():
    maps = xr.DataArray(
        X.reshape(24, 10, 3),
        dims=("lat", "lon", "feature"),
        coords={"lat": np.arange(24), "lon": np.arange(10)},
    )
    rows = maps.stack(sample=("lat", "lon")).transpose("sample", "feature")
    labels = xr.DataArray(Y.reshape(24, 10), dims=("lat", "lon"), coords=maps.drop_vars([]).coords)
    labels = labels.stack(sample=("lat", "lon"))
    model = classifier().fit(rows, labels)
    assert_same_model(model, classifier().fit(X, Y))
    back = model.predict(rows).unstack("sample")
    np.testing.assert_array_equal(back, model.predict(X).reshape(24, 10))


def test_scores_of_predictions_can_be_drawn_on_the_map():
    """Several outputs are a second dimension."""
    model = regressor().fit(X, np.column_stack([W, Y]))
    result = model.predict(matrix()["features"].drop_vars("feature"))
    assert result.dims == ("time", "output")
    assert "output" not in result.coords


def test_names_that_are_taken_give_way():
    rows = dataset().rename(label="class")
    model = classifier().fit(rows, y="class")
    proba = model.predict_proba(rows)
    assert (proba.name, proba.dims) == ("probability", ("time", "class"))
    assert proba.to_dataset()["class"].values.tolist() == [0, 1]
    assert model.predict(rows).name == "class"
    rows = dataset().set_coords("label")
    result = classifier().fit(rows, y="label").predict(rows)
    assert result.name == "prediction"
    xr.testing.assert_equal(result.to_dataset()["label"], rows["label"])
    both = rows.rename(place="prediction")
    assert classifier().fit(both, y="label").predict(both).name == "prediction_"


@pytest.mark.parametrize("taken", ["dimension", "coordinate"])
def test_second_dimensions_have_names_of_their_own(taken):
    def renamed(name):
        return dataset().rename({"time" if taken == "dimension" else "place": name})

    rows = renamed("class")
    proba = classifier().fit(rows, X=NAMES, y="label").predict_proba(rows)
    assert proba.dims == (next(iter(rows.dims)), "label")
    assert proba["label"].values.tolist() == [0, 1]
    assert proba["class"].dims == rows["class"].dims
    rows = renamed("output")
    result = regressor().fit(rows, X=NAMES[:2], y=["label", "wind"]).predict(rows)
    assert result.dims == (next(iter(rows.dims)), "target")
    assert result["target"].values.tolist() == ["label", "wind"]


def test_rows_that_nobody_has_named_go_with_any():
    rows, label = matrix()["features"].drop_vars("feature"), xr.DataArray(Y)
    for pair in ((rows, label), (xr.DataArray(X), dataset()["label"])):
        assert_same_model(classifier().fit(*pair), classifier().fit(X, Y))


def test_lists_of_names_are_lists_of_any_kind():
    model = regressor().fit(dataset(), X=pd.Index(NAMES[:2]), y=np.array(["wind", "label"]))
    assert_same_model(model, regressor().fit(X[:, :2], np.column_stack([X[:, 2], Y])))
    assert model.members_ == {"X": NAMES[:2], "y": ["wind", "label"]}


def test_labels_are_no_names():
    """Not even where there is one of them, or some are names too."""
    text = np.array(["dew", "wet"])[Y]
    model = classifier().fit(dataset(), text, X=NAMES)
    assert_same_model(model, classifier().fit(X, text))
    assert model.score(dataset().isel(time=[0]), ["wet"]) == float(
        model.predict(X_frame())[0] == "wet"
    )


# ------------------------------------------------------------------- what cannot be used


def fitting(rows, y="label", **names):
    return lambda: classifier().fit(rows(), y=y, **names)


def with_variable(dims, values):
    return lambda: dataset().assign(odd=(dims, values))


REFUSED = {
    "no such feature": (
        fitting(dataset, X=["dew", "rian"]),
        r"X: the xarray Dataset has no variable called 'rian'; it has .*Did you mean 'rain'",
    ),
    "no such target": (
        fitting(dataset, y="labels"),
        r"y: the xarray Dataset has no variable called 'labels'.*Did you mean 'label'",
    ),
    "no target": (fitting(dataset, y=None), r"requires y to be passed.*y=\"label\""),
    "a feature twice": (fitting(dataset, X=["dew", "dew"]), "name 'dew' twice"),
    "a feature as target": (fitting(dataset, X=["dew", "label"]), "name 'label' twice"),
    "features of two kinds": (fitting(dataset, X=3), "must be the name of an array"),
    "names in an array": (lambda: classifier().fit(X, X="dew", y=Y), "type ndarray.*Give X once"),
    "a scalar": (with_variable((), 3.0), r"'odd' .* is a single value.*X=\['dew', 'rain'"),
    "text": (with_variable("time", np.full(ROWS, "a")), "'odd' .* is no number but of dtype <U1"),
    "dates": (with_variable("time", TIMES), "'odd' .* is no number but of dtype datetime64"),
    "another dimension": (with_variable("lat", np.ones(ROWS)), "'odd' .* lies along 'lat'"),
    "another dimension first by name": (
        lambda: dataset().assign(a=("lat", np.ones(4))),
        r"'a' .* lies along 'lat', the others along 'time'.*X=\['dew', 'rain'",
    ),
    "maps": (
        with_variable(("time", "lat", "lon"), np.ones((ROWS, 2, 2))),
        r'\.stack\(feature=\("lat", "lon"\)\)',
    ),
    "maps alone": (
        lambda: classifier().fit(
            dataset().assign(m=(("time", "a", "b"), np.ones((ROWS, 2, 2)))), X="m", y="label"
        ),
        r"'m' .* has 3 dimensions",
    ),
    "rows last": (
        with_variable(("lat", "time"), np.ones((2, ROWS))),
        r'rows last.*\.transpose\("time", \.\.\.\)',
    ),
    "a target along columns": (
        lambda: classifier().fit(matrix().transpose("feature", "time"), y="label"),
        r'X\.transpose\("time", \.\.\.\)',
    ),
    "rows last of a DataArray": (
        lambda: classifier().fit(matrix()["features"].T, Y),
        r'\[3, 240\].*X\.transpose\("time", \.\.\.\)',
    ),
    "maps in a DataArray": (
        lambda: classifier().fit(xr.DataArray(np.ones((4, 3, 2)), dims=list("abc")), [0, 1] * 2),
        r'dim 3.*X\.stack\(feature=\("b", "c"\)\).*X\.stack\(sample=\("a", "b"\)\)',
    ),
    "a single column": (
        lambda: classifier().fit(dataset()["dew"], dataset()["label"]),
        "Expected 2D array, got 1D array.*expand_dims",
    ),
    "chunks across features": (
        lambda: classifier().fit(matrix()["features"].chunk({"feature": 1}), Y),
        r'across the dimension \'feature\' \(3 blocks\).*X\.chunk\(\{"feature": -1\}\)',
    ),
    "other rows": (
        lambda: classifier().fit(
            matrix()["features"], matrix()["label"].assign_coords(time=TIMES[::-1])
        ),
        r"other labels along 'time'.*xarray\.align",
    ),
    "other weights": (
        lambda: classifier().fit(
            dataset(), "label", weighted(matrix())["w"].assign_coords(time=TIMES[::-1])
        ),
        "X and sample_weight have other labels",
    ),
    "names that are no text": (
        fitting(lambda: dataset().rename(dew=2020)),
        r"names are no text: \[2020\].*\.rename\(\{2020: '2020'\}\)",
    ),
    "a number for a feature": (
        fitting(dataset, X=[1, "dew"]),
        r"all text; got a list with 1.*rename",
    ),
    "a number for a target": (
        fitting(lambda: dataset().rename(label=2020), y=2020),
        r'y=2020: only text.*\.rename\(\{2020: "2020"\}\)',
    ),
    "no such target of several": (
        lambda: regressor().fit(dataset(), y=["dew", "zz"]),
        r"y: the xarray Dataset has no variable called 'zz'; it has",
    ),
    "no such targets at all": (
        lambda: regressor().fit(dataset(), y=np.array(["yy", "zz"])),
        r"y: the xarray Dataset has no variable called 'yy', 'zz'; it has",
    ),
    "an array for names": (fitting(dataset, X=X), r"got <ndarray>\. Give"),
    "two features of one name": (
        fitting(lambda: matrix().assign(features_dew=("time", W)), X=["features", "features_dew"]),
        "Expected unique column names, got 'features_dew' more than once",
    ),
    "two columns of one name": (
        lambda: classifier().fit(matrix()["features"].assign_coords(feature=list("aab")), Y),
        "Expected unique column names, got 'a' more than once",
    ),
    "a target along another dimension": (
        lambda: classifier().fit(matrix()["features"], xr.DataArray(Y, dims="zz")),
        r"of X lie along 'time', those of y along 'zz'.*y\.rename\(\{\"zz\": \"time\"\}\)",
    ),
    "a target of the Dataset along another dimension": (
        lambda: classifier().fit(dataset(), dataset()["label"].rename(time="zz")),
        r"those of y along 'zz'",
    ),
    "a target of the Dataset with other labels": (
        lambda: classifier().fit(dataset(), dataset()["label"].assign_coords(time=TIMES[::-1])),
        r"other labels along 'time'",
    ),
    "weights along another dimension": (
        lambda: classifier().fit(dataset(), "label", xr.DataArray(W, dims="zz")),
        "those of sample_weight along 'zz'",
    ),
    "a Dataset as target": (lambda: classifier().fit(X, dataset()), "y is an xarray Dataset"),
}
for key, (made, words) in list(REFUSED.items()):
    if key in ("a scalar", "text", "dates", "maps", "rows last") or key.startswith("another"):
        REFUSED[key] = (fitting(made), words)


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_said_with_its_cure(use, message):
    with pytest.raises(InputError, match="(?s)" + message):
        use()


def test_predictions_refuse_what_fits_do():
    model = classifier().fit(X, Y)
    for rows, message in (
        (matrix()["features"].chunk({"feature": 1}), r"X\.chunk\(\{\"feature\": -1\}\)"),
        (matrix()["features"].T, "X has 240 features"),
        (xr.DataArray(np.ones((4, 3, 2)), dims=list("abc")), r"X\.stack\(feature="),
        (xr.DataArray(da.ones((4, 3, 2)), dims=list("abc")), r"X\.stack\(feature="),
    ):
        with pytest.raises(InputError, match=message):
            model.predict(rows)


def test_maps_in_zarr_are_refused(tmp_path):
    group = zarr.create_group(str(tmp_path / "maps.zarr"))
    group.create_array("maps", data=np.ones((ROWS, 2, 2)))
    group.create_array("y", data=Y)
    for names in ({}, {"X": "maps"}):
        with pytest.raises(InputError, match=r"'maps' .* has 3 dimensions.*xarray.*\.stack"):
            classifier().fit(str(tmp_path / "maps.zarr"), **names)


def test_stores_without_the_names_of_the_fit_say_what_they_have(places):
    model = classifier().fit(places["flat.zarr"], X=NAMES, y="label")
    for use in (model.predict, model.score):
        with pytest.raises(
            InputError, match=r"no array called 'dew', 'rain', 'wind', as the fit had; it has \['fe"
        ):
            use(places["square.zarr"])
    assert model.predict(places["square.zarr"], X="features").shape == (ROWS,)
    with pytest.raises(InputError, match="no variable called 'label', as the fit had"):
        model.score(dataset().drop_vars("label"))


def test_containers_have_to_be_named_where_the_fit_had_no_names(places):
    model = classifier().fit(np.column_stack([X, Y]), Y)  # as many columns as there are variables
    for rows in (dataset(), places["square.zarr"]):
        for use in (model.predict, lambda rows: model.score(rows, "label")):
            with pytest.raises(InputError, match=r"the fit had no names.*which of the"):
                use(rows)
    result = model.predict(dataset(), X=[*NAMES, "label"])
    np.testing.assert_array_equal(result, model.predict(np.column_stack([X, Y])))
    with pytest.raises(InputError, match=r"eval_set: X: the fit had no names.*eval_set=\(rows"):
        classifier().fit(X, Y, eval_set=dataset())
    framed = classifier().fit(X_frame(), Y)
    with pytest.raises(InputError, match="no variable called 'rain', as the fit had"):
        framed.predict(dataset().drop_vars("rain"))


def test_rows_to_watch_say_what_can_be_given_there(places):
    flat, square = places["flat.zarr"], places["square.zarr"]
    names = {"X": "features", "y": "label"}
    with pytest.raises(InputError, match=r'called \'features\'.*eval_set=\("rows.zarr/X"'):
        classifier().fit(square, **names, eval_set=(flat, "label"))
    with pytest.raises(InputError, match=r'called \'wrong\'.*eval_set=\(rows, "label"\)'):
        classifier().fit(square, **names, eval_set=(square, "wrong"))
    pair = (f"{square}/features", f"{square}/label")
    model = classifier(early_stopping=True).fit(flat, X=NAMES, y="label", eval_set=pair)
    assert_same_model(model, classifier(early_stopping=True).fit(X, Y, eval_set=(X, Y)))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ({"scale_factor": 0.5, "dtype": "i2", "_FillValue": -1}, "scale_factor=0.5"),
        ({"add_offset": 3.0, "dtype": "f4"}, r"add_offset=3\.0"),
        ({"_FillValue": -9, "dtype": "i4"}, "missing values as -9"),
        ({"_FillValue": 1e20}, r"missing values as 1e\+20"),
    ],
)
def test_packed_numbers_are_never_taken_for_real(version, encoding, message, tmp_path):
    rows = xr.Dataset(
        {"a": ("time", np.arange(20.0)), "b": ("time", np.arange(20.0)), "y": ("time", [0, 1] * 10)}
    )
    rows["b"].encoding = encoding
    place = str(tmp_path / "packed.zarr")
    rows.to_zarr(place, zarr_format=version, consolidated=False)
    for X in ({"X": ["a", "b"]}, {}):
        with pytest.raises(InputError, match=rf"array 'b' .*{message}.*xarray\.open_zarr"):
            classifier().fit(place, **X)
    with pytest.raises(InputError, match=message):
        classifier().fit(place, X="a", y="b")
    with pytest.raises(InputError, match=message):
        classifier().fit(np.ones((20, 1)), f"{place}/b")
    assert classifier().fit(place, X=["a"]).n_features_in_ == 1  # NaN marks what is missing
    decoded = classifier().fit(opened(place), X=["a", "b"])
    plain = classifier().fit(np.column_stack([np.arange(20.0)] * 2), [0, 1] * 10)
    assert_same_model(decoded, plain)


def test_labels_may_be_text(tmp_path):
    text = np.array(["dry", "wet"])[Y]
    rows = dataset().assign(label=("time", text))
    rows.to_zarr(tmp_path / "text.zarr", consolidated=False, zarr_format=2)
    for form in (rows, rows.chunk({"time": 50}), opened(tmp_path / "text.zarr")):
        model = classifier().fit(form, X=NAMES, y="label")
        assert model.classes_.tolist() == ["dry", "wet"]
        assert model.predict_proba(form)["class"].values.tolist() == ["dry", "wet"]
        assert model.score(form) == classifier().fit(X, text).score(X, text)


def test_grids_named_x_and_y_are_no_targets():
    """The coordinates y and X of a map are not the arrays y and X of a table."""
    rows = xr.Dataset({"dew": ("y", X[:, 0]), "label": ("y", Y)}, coords={"y": np.arange(ROWS)})
    with pytest.raises(InputError, match="requires y"):
        classifier().fit(rows)
    assert classifier().fit(rows, y="label").feature_names_in_.tolist() == ["dew"]

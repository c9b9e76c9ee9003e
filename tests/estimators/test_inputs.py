"""Every argument is used as given, or is an error that names it, before any work."""

import decimal

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr

from daskalt import (
    ADMM,
    BatchAltMin,
    GradientDescent,
    MLPClassifier,
    MLPRegressor,
    StochasticAltMin,
    load,
    save,
)
from daskalt.errors import InputError, PlanError, StorageError
from daskalt.ingest.ingest import ingest
from daskalt.runs import cli

ROWS = 60
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, 4)).astype(np.float32)
Y = np.arange(ROWS) % 3
T = X[:, 0].astype(np.float64)
NAMES = np.array(["ant", "bee", "wasp"])[Y]
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
FRAME = pd.DataFrame(X, columns=list("abcd"))


def classifier(**options):
    return MLPClassifier(
        **({"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0} | options)
    )


def regressor(**options):
    return MLPRegressor(
        **({"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0} | options)
    )


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(X, Y)


@pytest.fixture(scope="module")
def shares():
    return regressor(loss="cross_entropy", output_activation="logistic").fit(X, (T > 0) * 1.0)


def masked(array, row=3):
    array = np.ma.masked_array(array, mask=np.zeros(np.shape(array), bool))
    array[row] = np.ma.masked
    return array


def lazy(array):
    return da.from_array(array, chunks=(20, *np.shape(array)[1:]))


def objects(*entries):
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def with_entry(entry):
    array = X.astype(object)
    array[7, 3] = entry
    return array


def nullable(kind, missing=True):
    return FRAME.assign(b=pd.array([None if missing else 1, *[1] * (ROWS - 1)], dtype=kind))


# ------------------------------------------------------------------- features

BAD_X = {
    "masked": (masked(X), "X is masked, first at row 3, column 0.*fill"),
    "masked Dask": (lazy(masked(X, 43)), "X is masked, first at row 43, column 0"),
    "computed masks": (da.ma.masked_greater(lazy(X), 9.0 * 0) + 0, "X is masked, first at row"),
    "nullable with NA": (nullable("Int64"), "X contains NaN: <NA> at row 0, column 1"),
    "nullable float with NA": (nullable("Float64"), "X contains NaN: <NA> at row 0, column 1"),
    "nullable Dask": (dd.from_pandas(nullable("Int64"), npartitions=2), "X of dtype object"),
    "None": (None, "X is None"),
    "None entry": (with_entry(None), "X contains NaN: None at row 7, column 3"),
    "NaN": (np.where(X[7, 3] == X, np.nan, X), "X contains NaN.*nan at row 7, column 3"),
    "text entry": (with_entry("x"), "entries of type str, the first 'x' at row 7, column 3"),
    "list with text": ([[1, 2, 3, "x"]] * ROWS, "first 'x' at row 0, column 3"),
    "Decimals": (with_entry(decimal.Decimal(1)), r"Decimal\('1'\) at row 7, column 3"),
    "large integers": (with_entry(10**400), "X holds integers that float64 cannot"),
    "longdouble": (X.astype(np.longdouble), "X has dtype float128"),
    "datetime": (X.astype("M8[s]"), r"X has dtype datetime64\[s\].*Convert it"),
    "timedelta": (X.astype("m8[s]"), r"X has dtype timedelta64\[s\]"),
    "datetime Dask": (lazy(X.astype("M8[s]")), r"X has dtype datetime64\[s\]"),
    "datetime column": (FRAME.assign(b=pd.Timestamp("2020")), r"columns of X: b \(datetime64"),
    "categories": (FRAME.assign(b=pd.Categorical(NAMES)), r"columns of X: b \(category\)"),
    "a categorical": (pd.Categorical(NAMES), "Expected 2D array, got 1D array"),
    "StringDType": (X.astype(str).astype(np.dtypes.StringDType()), "X has entries of type str"),
    "ragged": ([[1.0] * 4] * (ROWS - 1) + [[1.0]], "X is no array.*rows of equal length"),
    "0-d": (np.array(3.0), "Expected 2D array, got scalar array"),
    "a dict": ({"a": 1}, "X is of type dict"),
    "names of two types": (pd.DataFrame(X, columns=["a", 1, "b", 2]), "Feature names"),
    "names given twice": (pd.DataFrame(X, columns=list("aabc")), "Expected unique column"),
    "no rows": (X[:0], r"0 sample\(s\)"),
    "no rows of a Dask array": (lazy(X)[:0], r"0 sample\(s\)"),
    "sparse": (scipy.sparse.csr_array(X), "X is sparse.*toarray"),
    "a zip file": ("nowhere.zip", "read as zip::nowhere.zip"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_X.values(), ids=BAD_X)
def test_features_that_cannot_be_used_are_named_wherever_they_come_in(bad, message, fitted):
    def compute(predictions):
        return predictions.compute() if isinstance(predictions, da.Array) else predictions

    kind = StorageError if isinstance(bad, str) else InputError
    uses = (
        lambda: classifier().fit(bad, Y),
        lambda: classifier().fit(X, Y).partial_fit(bad, Y),
        lambda: compute(fitted.predict(bad)),
        lambda: compute(fitted.predict_proba(bad)),
        lambda: fitted.score(bad, Y),
        lambda: classifier().fit(X, Y, eval_set=(bad, Y)),
    )
    for use in uses:
        with pytest.raises(kind, match=f"(?s){message}"):
            use()


GOOD_X = {
    "big-endian": X.astype(">f4"),
    "Fortran order": np.asfortranarray(X),
    "every other row": np.repeat(X, 2, axis=0)[::2],
    "no entry masked": np.ma.masked_array(X, mask=False),
    "lists": X.tolist(),
    "a frame with names in levels": pd.DataFrame(
        X, columns=pd.MultiIndex.from_product([["u", "v"], [1, 2]])
    ),
    "objects": X.astype(object),
}


@pytest.mark.parametrize("rows", GOOD_X.values(), ids=GOOD_X)
def test_rows_in_memory_of_any_layout_give_one_model(rows, fitted):
    expected = fitted.predict_proba(X)
    np.testing.assert_array_equal(fitted.predict_proba(rows), expected)
    model = classifier().fit(rows, Y)
    assert model.predict_proba(X) == pytest.approx(expected, abs=1e-3)


def test_nullable_columns_with_nothing_missing_are_numbers():
    whole = classifier().fit(nullable("Int64", missing=False), Y)
    plain = classifier().fit(nullable("Int64", missing=False).astype(np.float64), Y)
    np.testing.assert_array_equal(whole.coefs_[0], plain.coefs_[0])


def test_what_a_fit_reads_is_not_changed_and_not_copied(monkeypatch):
    from daskalt.data import opening

    seen = []
    monkeypatch.setattr(opening, "check_block", lambda block, *_: seen.append(block.X))
    classifier().fit(X, Y)
    assert np.shares_memory(seen[0], X)


EMPTY = {
    "first": lambda: da.concatenate([lazy(X)[:0], lazy(X) + 0]),
    "between": lambda: lazy(X).rechunk(((20, 0, 40), 4)),
    "of unknown sizes": lambda: lazy(X)[lazy(X)[:, 0] > X[20:, 0].max()],
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_chunks_without_rows_are_predicted(make, method, fitted):
    rows = make()
    expected = np.asarray(rows.compute())
    found = getattr(fitted, method)(rows).compute()
    assert found.dtype == getattr(fitted, method)(X).dtype
    np.testing.assert_array_equal(found, getattr(fitted, method)(X)[: len(expected)][: len(found)])
    assert len(found) == len(expected)


def test_chunks_without_rows_are_trained_on():
    model = classifier(shuffle=False).fit(lazy(X).rechunk(((20, 0, 40), 4)) + 0, Y)
    plain = classifier(shuffle=False).fit(lazy(X) + 0, Y)
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_masked_dask_arrays_with_nothing_masked_are_plain(fitted):
    rows = da.ma.masked_greater(lazy(X), 99.0)
    np.testing.assert_array_equal(fitted.predict(rows).compute(), fitted.predict(X))
    classifier().fit(rows, Y)


def test_names_of_dask_columns_are_compared():
    model = classifier().fit(FRAME, Y)
    other = dd.from_pandas(FRAME[["b", "a", "c", "d"]], npartitions=2)
    with pytest.raises(InputError, match=r"feature names should match.*order the columns"):
        model.predict(other)


def test_lazy_nan_is_named_by_its_row_in_the_data(fitted):
    rows = lazy(np.where(np.arange(ROWS)[:, None] == 43, np.nan, X))
    with pytest.raises(InputError, match=r"row 43, column 0 \(block of rows 40 to 60\)"):
        fitted.predict(rows).compute()


# ------------------------------------------------------------------- targets

BAD_Y = {
    "masked": (masked(Y), "y is masked, first at row 3.*fill"),
    "masked Dask": (lazy(masked(Y, 43)), "y is masked, first at row 43"),
    "None": (None, "requires y to be passed, but the target y is None"),
    "None entry": (objects(None, *[0] * (ROWS - 1)), "y has no value at row 0"),
    "missing text": (pd.Series([None, *NAMES[1:]]), "y has no value at row 0"),
    "missing category": (pd.Series([None, *NAMES[1:]], dtype="category"), "no value at row 0"),
    "nullable with NA": (pd.array([None, *[True] * (ROWS - 1)], dtype="boolean"), "no value at"),
    "text and numbers": (objects(*["a", 1] * (ROWS // 2)), "entries of type int and str"),
    "a list of both": (["a", 1] * (ROWS // 2), "entries of type int and str"),
    "Decimals": (objects(*map(decimal.Decimal, Y.tolist())), "y has entries of type Decimal"),
    "large integers": (objects(*[10**30, 1] * (ROWS // 2)), "y holds integers of more than 64"),
    "datetime": (Y.astype("M8[s]"), "y has dtype datetime64"),
    "timedelta": (Y.astype("m8[s]"), "y has dtype timedelta64"),
    "longdouble": (Y.astype(np.longdouble), "y has dtype float128"),
    "sparse": (scipy.sparse.csr_array(np.eye(3)[Y]), r"y is sparse.*y\.toarray"),
    "0-d": (np.array(1), "y should be a 1d array"),
    "ragged": ([[1, 0], [1]] * (ROWS // 2), "y is no array"),
    "NaN": (np.where(np.arange(ROWS) == 3, np.nan, Y), "y contains NaN.*row 3"),
    "infinity": (Y + np.inf, "y contains NaN or infinity: inf at row 0"),
}


@pytest.mark.parametrize("kind", [classifier, regressor])
@pytest.mark.parametrize(("bad", "message"), BAD_Y.values(), ids=BAD_Y)
def test_targets_that_cannot_be_used_are_named_wherever_they_come_in(bad, message, kind):
    model = kind().fit(X, Y)
    for use in (
        lambda: kind().fit(X, bad),
        lambda: model.partial_fit(X, bad),
        lambda: model.score(X, bad),
        lambda: kind().fit(X, Y, eval_set=(X, bad)),
    ):
        with pytest.raises(InputError, match=f"(?s){message}"):
            use()


GOOD_Y = {
    "StringDType": NAMES.astype(np.dtypes.StringDType()),
    "list": NAMES.tolist(),
    "categorical": pd.Categorical(NAMES),
    "category": pd.Series(NAMES, dtype="category"),
    "string": pd.Series(NAMES, dtype="string"),
    "objects": NAMES.astype(object),
    "Dask StringDType": da.from_array(NAMES.astype(np.dtypes.StringDType()), chunks=20),
    "Dask category": dd.from_pandas(pd.Series(NAMES, dtype="category"), npartitions=2),
}


@pytest.mark.parametrize("labels", GOOD_Y.values(), ids=GOOD_Y)
def test_text_of_any_kind_is_labels(labels):
    model = classifier(shuffle=False).fit(X, labels)
    assert model.classes_.tolist() == ["ant", "bee", "wasp"]
    assert model.score(X, labels) == classifier(shuffle=False).fit(X, NAMES).score(X, NAMES)


@pytest.mark.parametrize("form", [np.asarray, lazy])
def test_targets_of_another_kind_than_the_fit_had(form, fitted):
    two = np.stack([Y == 0, Y == 1], axis=1).astype(int)
    numbers = regressor().fit(X, T)
    for use in (
        lambda: fitted.score(form(X) + 0, two),
        lambda: classifier().fit(X, Y).partial_fit(form(X) + 0, two),
        lambda: classifier().fit(X, Y, eval_set=(form(X) + 0, two)),
        lambda: numbers.score(form(X) + 0, NAMES),
        lambda: regressor().fit(X, T).partial_fit(form(X) + 0, NAMES),
        lambda: regressor().fit(X, T, eval_set=(form(X) + 0, NAMES)),
        lambda: regressor().fit(X, T).partial_fit(form(X) + 0, two),
    ):
        with pytest.raises(InputError, match=r"y must|y does not suit"):
            use()


def test_indicators_are_checked_before_any_work(monkeypatch):
    monkeypatch.setattr("daskalt.estimators.perceptron.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(InputError, match="y must be a matrix of 0 and 1"):
        classifier().fit(X, np.stack([Y, Y], axis=1))


@pytest.mark.parametrize("targets", [T, 1.5 * (T > 0), np.stack([T > 0, T], axis=1)])
@pytest.mark.parametrize("form", [np.asarray, lazy])
def test_a_cross_entropy_takes_numbers_from_0_to_1(form, targets, monkeypatch):
    monkeypatch.setattr("daskalt.estimators.perceptron.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(
        InputError, match=r"y must be from 0 to 1 for loss='cross_entropy'.*Scale y"
    ):
        regressor(loss="cross_entropy", output_activation="logistic").fit(form(X), targets)


def test_later_targets_of_a_cross_entropy_are_from_0_to_1_too(shares, tmp_path):
    save(shares, tmp_path / "model")
    good = (T > 0) * 1.0
    anew = regressor(loss="cross_entropy", output_activation="logistic")
    for use in (
        lambda: anew.fit(X, good, eval_set=(X, T)),
        lambda: anew.fit(X, good).partial_fit(X, T),
        lambda: load(tmp_path / "model").partial_fit(X, T),
        lambda: shares.score(lazy(X) + 0, T),
    ):
        with pytest.raises(InputError, match="y must be from 0 to 1"):
            use()


# ------------------------------------------------------------------- row weights

BAD_WEIGHTS = {
    "text": (["a"] * ROWS, "sample_weight has entries of type str"),
    "a name": ("balanced", "sample_weight: no readable Zarr"),
    "too few": (np.ones(ROWS - 1), "inconsistent numbers of samples"),
    "two columns": (np.ones((ROWS, 2)), "Sample weights must be 1D array"),
    "None entries": ([None] * ROWS, "sample_weight contains NaN: None at row 0"),
    "NaN": (float("nan"), "sample_weight contains NaN"),
    "negative": (-np.ones(ROWS), "sample_weight is negative"),
    "a negative number": (-1.0, "sample_weight is negative"),
    "masked": (masked(np.ones(ROWS)), "sample_weight is masked, first at row 3"),
    "masked Dask": (lazy(masked(np.ones(ROWS))), "sample_weight is masked"),
    "complex": (1j * np.ones(ROWS), "Complex data not supported: sample_weight"),
    "datetime": (np.ones(ROWS).astype("M8[s]"), "sample_weight has dtype datetime64"),
    "zero": (np.zeros(ROWS), "sample_weight is zero in every row"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_that_cannot_be_used_are_named_wherever_they_come_in(bad, message, fitted):
    kind = StorageError if "readable" in message else InputError
    for use in (
        lambda: classifier().fit(X, Y, bad),
        lambda: regressor().fit(X, T, bad),
        lambda: classifier().partial_fit(X, Y, [0, 1, 2], bad),
        lambda: classifier().fit(X, Y, eval_set=(X, Y, bad)),
        lambda: fitted.score(X, Y, bad),
    ):
        with pytest.raises(kind, match=message):
            use()


@pytest.mark.parametrize("kind", [classifier, regressor])
def test_weights_in_memory_are_those_in_zarr(kind, store):
    """They are of double precision whatever X is: rounded they would sum to something else."""
    weight = 0.1 + RNG.random(ROWS)
    assert (weight != weight.astype(np.float32)).any()
    path = store(X, Y.astype(float), weight=weight, chunk_rows=ROWS)
    options = {"solver": "lbfgs", "alpha": 0.1, "max_iter": 4}
    stored, held = kind(**options).fit(path), kind(**options).fit(X, Y.astype(float), weight)
    for a, b in zip(
        stored.coefs_ + stored.intercepts_, held.coefs_ + held.intercepts_, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert stored._fitted.problem.penalty == held._fitted.problem.penalty


def test_rows_are_judged_by_their_own_weights(fitted):
    weight = np.arange(ROWS, dtype=float)
    right = fitted.predict(X) == Y
    assert fitted.score(X, Y, weight) == pytest.approx(weight[right].sum() / weight.sum())
    assert fitted.score(X, lazy(Y)) == pytest.approx(right.mean())


# ------------------------------------------------------------------- parameters

BAD_PARAMETERS = [
    ({"random_state": "abc"}, "random_state"),
    ({"random_state": -1}, "random_state"),
    ({"random_state": 1.5}, "random_state"),
    ({"random_state": 2**32}, "random_state"),
    ({"random_state": np.random.default_rng(0)}, "random_state"),
    ({"hidden_layer_sizes": (10**30,)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": [[1], [1, 2]]}, "hidden_layer_sizes"),
    ({"max_iter": 10**30}, "max_iter"),
    ({"batch_size": 10**30}, "batch_size"),
    ({"alpha": 10**400}, "alpha"),
    ({"verbose": "yes"}, "verbose"),
    ({"verbose": None}, "verbose"),
    ({"output_activation": ["identity"]}, "output_activation"),
    ({"output_activation": pd.NA}, "output_activation"),
    ({"scratch": 5}, "scratch"),
    ({"checkpoint": 5}, "checkpoint"),
    ({"solver": ADMM(beta=10**30)}, "beta of ADMM"),
    ({"solver": ADMM(store=5)}, "store of ADMM"),
    ({"solver": BatchAltMin(store=[])}, "store of BatchAltMin"),
    ({"solver": BatchAltMin(mu=[[1], [1, 2]])}, "mu of BatchAltMin"),
    ({"solver": StochasticAltMin(mu=[[1], [1, 2]])}, "mu of StochasticAltMin"),
]


@pytest.mark.parametrize(("options", "name"), BAD_PARAMETERS)
def test_wrong_parameters_are_named(options, name, no_compute):
    for use in (
        lambda model: model.fit(lazy(X) + 0, lazy(Y) + 0),
        lambda model: model.partial_fit(lazy(X) + 0, lazy(Y) + 0, [0, 1, 2]),
        lambda model: model.plan(lazy(X) + 0, lazy(Y) + 0),
    ):
        with no_compute(), pytest.raises(InputError, match=f"parameter {name}.* must be .*; got"):
            use(classifier(**options))


@pytest.mark.parametrize("sizes", [(2**31 - 1,), (10**6, 10**6, 10**6)])
def test_networks_that_no_memory_holds_are_refused_before_they_are_made(sizes):
    model = classifier(hidden_layer_sizes=sizes, memory_limit="2GB")
    for use in (lambda: model.fit(X, Y), lambda: model.partial_fit(X, Y, [0, 1, 2])):
        with pytest.raises(PlanError, match="smaller hidden_layer_sizes"):
            use()


def test_numbers_of_numpy_are_numbers():
    solver = GradientDescent(blas_threads=np.int64(1), tasks=np.int64(2))
    classifier(solver=solver, max_iter=np.int64(1), random_state=np.int64(3)).fit(X, Y)


@pytest.mark.parametrize("weights", [{0: None}, {0: "a"}, {0: 1j}, {0: np.nan}, {0: -1}])
def test_class_weights_are_numbers(weights):
    with pytest.raises(InputError, match="class_weight must hold finite numbers of zero or more"):
        classifier(class_weight=weights).fit(X, Y)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 1, 2, None], "classes has no value at row 3"),
        ([0, 1, 2, np.nan], "classes contains NaN"),
        ([0, 1, "2"], "classes has entries of type int and str"),
        ([[0, 1], [1, 2]], r"classes must be a list of labels; its shape is \(2, 2\)"),
        ("abc", "classes must be a list of labels"),
        (np.ma.masked_equal([0, 1, 2], 2), "classes is masked"),
    ],
)
def test_classes_are_labels(classes, message):
    for use in (
        lambda: classifier().partial_fit(X, Y, classes),
        lambda: classifier().plan(X, Y, classes=classes),
    ):
        with pytest.raises(InputError, match=message):
            use()


@pytest.mark.parametrize(
    ("eval_set", "message"),
    [
        ((), "eval_set must be .*; it has 0 members"),
        ([], "eval_set must hold one pair"),
        ([()], "eval_set must be .*; it has 0 members"),
        ((X, Y, None, None), "it has 4 members"),
        ((None, Y), "eval_set: X is None"),
        ((X,), "eval_set: MLPClassifier requires y"),
        ({"X": X}, "eval_set: X is of type dict"),
        ((X, Y[:-1]), "eval_set: Found input variables with inconsistent"),
        ((X[:, :3], Y), "eval_set: X has 3 features"),
    ],
)
def test_the_eval_set_is_named(eval_set, message):
    with pytest.raises(InputError, match=message):
        classifier().fit(X, Y, eval_set=eval_set)


def test_a_missing_eval_set_is_a_storage_error():
    with pytest.raises(StorageError, match="eval_set: X: no readable Zarr"):
        classifier().fit(X, Y, eval_set="nowhere")


@pytest.mark.parametrize("resume", ["yes", 1, []])
def test_resume_is_a_choice(resume, tmp_path):
    with pytest.raises(InputError, match="resume must be True, False or None"):
        classifier(checkpoint=tmp_path).fit(X, Y, resume=resume)


def test_parameters_of_a_solver_that_is_only_named():
    with pytest.raises(InputError, match=r"'altmin' is a name.*StochasticAltMin\(damping=3\)"):
        classifier().set_params(solver__damping=3)
    with pytest.raises(InputError, match=r"GradientDescent\(tasks=2\)"):
        classifier(solver=StochasticAltMin()).set_params(solver="adam", solver__tasks=2)
    model = classifier().set_params(solver=StochasticAltMin(), solver__damping=3)
    assert model.solver.damping == 3


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("altmin", "adam", r"StochasticAltMin .* GradientDescent\(Adam\) now"),
        ("adam", "sgd", r"GradientDescent\(Adam\) .* GradientDescent\(SGD\) now"),
        ("gd", "lbfgs", r"SteepestDescent\(Armijo\) .* LBFGS\(StrongWolfe\) now"),
        ("batch-altmin", "admm", "BatchAltMin .* ADMM now"),
    ],
)
def test_another_solver_does_not_go_on_from_the_state_of_one(before, after, message, tmp_path):
    model = classifier(solver=before).partial_fit(X, Y, [0, 1, 2])
    save(model, tmp_path / "model")
    for each in (model, load(tmp_path / "model")):
        with pytest.raises(InputError, match=message):
            each.set_params(solver=after).partial_fit(X, Y)
    model.set_params(solver=before).partial_fit(X, Y)


def test_parameters_of_a_solver_may_change_between_calls():
    model = classifier(solver=StochasticAltMin()).partial_fit(X, Y, [0, 1, 2])
    assert model.set_params(solver__damping=2).partial_fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize("client", ["tcp://localhost:1", 5])
def test_a_client_is_a_client(client):
    for use in (classifier().fit, classifier().plan):
        with pytest.raises(InputError, match=r"client must be a distributed\.Client"):
            use(X, Y, client=client)


def test_asynchronous_clients_are_refused(fitted, store):
    import asyncio

    from distributed import Client, LocalCluster

    path = store(X, Y)

    async def use():
        async with (
            LocalCluster(
                n_workers=1,
                processes=False,
                dashboard_address="127.0.0.1:0",  # None is a port that others may hold
                asynchronous=True,
            ) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            for call in (
                lambda: classifier().fit(path, client=client),
                lambda: classifier().fit(X, Y),
                lambda: classifier().partial_fit(X, Y, [0, 1, 2]),
                lambda: classifier().plan(path, classes=[0, 1, 2]),
                lambda: fitted.score(path),
            ):
                with pytest.raises(InputError, match=r"asynchronous.*Use a synchronous one"):
                    call()

    with dask.config.set(scheduler="threads"):  # which the client sets, and leaves behind
        asyncio.run(use())


def test_a_closed_client_is_refused(cluster):
    from distributed import Client

    with Client(cluster(1).cluster, set_as_default=False) as client:
        pass
    with pytest.raises(InputError, match="client is closed"):
        classifier().fit(X, Y, client=client)


# ------------------------------------------------------------------- the order of the rows


@pytest.fixture
def model_place(tmp_path):
    model = classifier().fit(FRAME, NAMES)
    save(model, tmp_path / "model")
    return model, str(tmp_path / "model")


def lines(place, *arguments):
    assert cli.main(["predict", place, *arguments, "--output", "out.csv", "--overwrite"]) == 0
    with open("out.csv") as file:
        return [line.rstrip().split(",")[1] for line in file][1:]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("new.csv", index=False)
    FRAME.assign(kind=NAMES).to_csv("known.csv", index=False)
    FRAME.to_parquet("new.parquet")
    np.save("new.npy", X)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("file", ["new.csv", "new.parquet", "new.npy"])
def test_predictions_are_in_the_order_of_the_file(file, model_place):
    model, place = model_place
    assert cli.main(["ingest", file, "new.zarr"]) == 0
    assert lines(place, "new.zarr") == model.predict(FRAME).tolist()


@pytest.mark.usefixtures("table")
def test_rows_without_a_target_are_never_shuffled():
    ingest("new.csv", "new.zarr", shuffle=True)
    group = zarr.open_group("new.zarr", mode="r")
    assert group.attrs["seed"] is None
    assert group.attrs["shuffled"] is False
    np.testing.assert_array_equal(group["X"][:], X)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("member", ["", "/X"])
def test_rows_that_were_shuffled_are_not_predicted_for_unasked(member, model_place, capsys):
    model, place = model_place
    ingest("known.csv", "known.zarr", target="kind")
    ingest("known.zarr", "again.zarr", shuffle=False)
    for store in ("known.zarr", "again.zarr"):
        assert cli.main(["predict", place, store + member]) == 2
        assert "daskalt ingest --no-shuffle, or pass --stored-order" in capsys.readouterr().err
        rows = pd.DataFrame(zarr.open_group(store, mode="r")["X"][:], columns=list("abcd"))
        found = lines(place, store + member, "--stored-order")
        assert found == model.predict(rows).tolist() != model.predict(FRAME).tolist()
    assert cli.main(["evaluate", place, "known.zarr"]) == 0  # whose result knows no order


@pytest.mark.usefixtures("table")
def test_rows_with_a_target_in_their_own_order_are_predicted_for(model_place):
    model, place = model_place
    ingest("known.csv", "known.zarr", target="kind", shuffle=False)
    assert lines(place, "known.zarr") == model.predict(FRAME).tolist()


@pytest.mark.usefixtures("table")
def test_groups_of_before_say_by_their_seed_that_they_are_shuffled(model_place, capsys):
    _, place = model_place
    ingest("known.csv", "known.zarr", target="kind")
    group = zarr.open_group("known.zarr", mode="a")
    del group.attrs["shuffled"]
    assert cli.main(["predict", place, "known.zarr"]) == 2
    assert "were shuffled" in capsys.readouterr().err


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("inputs", 5),
        ("inputs", []),
        ("destination", None),
        ("target", 5),
        ("target", [1]),
        ("features", 5),
        ("weight", ["a"]),
        ("dtype", "text"),
        ("dtype", "M8[s]"),
        ("shuffle", "no"),
        ("seed", "a"),
        ("seed", 1.5),
        ("chunk_rows", 1.5),
        ("memory_bytes", None),
        ("memory_bytes", 0),
        ("overwrite", "no"),
    ],
)
def test_what_ingest_cannot_use_is_named(name, bad):
    with pytest.raises(InputError, match=f"{name} must be .*; got"):
        ingest(**{"inputs": "new.csv", "destination": "new.zarr"} | {name: bad})


@pytest.mark.parametrize("folder", [None, 5, b"model"])
def test_the_folder_of_a_model_is_a_path(folder, fitted):
    for use in (lambda: save(fitted, folder), lambda: load(folder)):
        with pytest.raises(InputError, match="folder must be the path of a folder; got"):
            use()


# ------------------------------------------------------------------- zip files


def test_a_zip_file_is_read_by_its_url(tmp_path, monkeypatch, capsys, fitted):
    monkeypatch.chdir(tmp_path)
    with zarr.storage.ZipStore("z.zip", mode="w") as zipped:
        group = zarr.create_group(store=zipped)
        for name, array in (("X", X), ("y", Y)):
            group.create_array(name, data=array, chunks=array.shape)
    save(fitted, "model")
    with pytest.raises(StorageError, match=r"read as zip::z\.zip"):
        classifier().fit("z.zip")
    zipped, here = classifier().fit("zip::z.zip"), classifier().fit(X, Y)
    for ours, theirs in zip(zipped.coefs_, here.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert zipped.score("zip::z.zip") == here.score(X, Y)
    assert cli.main(["evaluate", "model", "zip::z.zip"]) == 0
    assert f'"accuracy": {fitted.score(X, Y):.4f}'[:-1] in capsys.readouterr().out

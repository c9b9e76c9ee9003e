"""Saved models: the same bits after a round trip, no pickle, nothing but daskalt's own classes."""

import copy
import hashlib
import json

import numpy as np
import pytest
import zarr
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import daskalt
from daskalt import LBFGS, GradientDescent, MLPClassifier, MLPRegressor, StochasticAltMin
from daskalt.data.opening import open_table
from daskalt.data.passes import all_blocks
from daskalt.errors import InputError, StorageError
from daskalt.network.scoring import score_table
from daskalt.rules import Adam, StepDecay, StrongWolfe
from daskalt.storage.sealed import seal, unseal

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 5))
SUM = X[:, 0] - X[:, 1]


def classifier(**parameters):
    return MLPClassifier(
        **({"hidden_layer_sizes": (6,), "max_iter": 2, "random_state": 0} | parameters)
    )


CASES = {
    "binary": (classifier(), X, (SUM > 0).astype(int)),
    "classes": (classifier(activation="tanh"), X, np.digitize(SUM, [-1, 1])),
    "text": (
        classifier(),
        X.astype(np.float32),
        np.array(["no", "perhaps", "yes"])[np.digitize(SUM, [-1, 1])],
    ),
    "text objects": (classifier(), X, np.array(["no", "yes"], object)[(SUM > 0).astype(int)]),
    "booleans": (classifier(), X, SUM > 0),
    "multilabel": (classifier(), X, np.stack([SUM > 0, X[:, 2] > 0], axis=1).astype(int)),
    "squared": (classifier(loss="squared"), X, np.digitize(SUM, [-1, 1])),
    "weights": (classifier(class_weight={0: 1.0, 1: 2.0}), X, (SUM > 0).astype(int)),
    "uint8": (classifier(), np.clip(X * 40 + 128, 0, 255).astype(np.uint8), SUM > 0),
    "no hidden layer": (classifier(hidden_layer_sizes=()), X, SUM > 0),
    "solver": (classifier(solver=StochasticAltMin(damping=2.0, mu=(1.0, 0.5))), X, SUM > 0),
    "rule": (
        classifier(solver=GradientDescent(Adam(0.01, beta_1=0.8), schedule=StepDecay(2))),
        X,
        SUM > 0,
    ),
    "line search": (classifier(solver=LBFGS(line_search=StrongWolfe(curvature=0.5))), X, SUM > 0),
    "hinge": (classifier(loss="hinge", solver="sgd"), X, np.digitize(SUM, [-1, 1])),
    "random state": (classifier(random_state=np.random.RandomState(3)), X, SUM > 0),
    "regression": (MLPRegressor((6,), max_iter=2, random_state=0), X, 100 + 30 * SUM),
    "huber": (MLPRegressor((6,), max_iter=2, random_state=0, loss="huber"), X, 100 + 30 * SUM),
    "two targets": (
        MLPRegressor((6, 4), max_iter=2, random_state=0),
        X,
        np.stack([SUM, X[:, 2]], axis=1),
    ),
}


@pytest.fixture(params=CASES, scope="module")
def saved(request, tmp_path_factory):
    estimator, X, y = CASES[request.param]
    estimator.fit(X, y)
    folder = tmp_path_factory.mktemp("models") / "model"
    daskalt.save(estimator, folder)
    return estimator, folder, X, y


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif isinstance(a, np.random.RandomState):
        same(a.get_state(legacy=False), b.get_state(legacy=False))
    elif isinstance(a, BaseEstimator):
        same(a.get_params(), b.get_params())
    else:
        assert a == b


def test_round_trip_keeps_parameters_attributes_and_predictions(saved):
    estimator, folder, X, _ = saved
    loaded = daskalt.load(folder)
    assert type(loaded) is type(estimator)
    same(estimator.get_params(deep=False), loaded.get_params(deep=False))
    public = {name for name in vars(estimator) if name.endswith("_")}
    assert public == {name for name in vars(loaded) if name.endswith("_")}
    for name in public:
        same(getattr(estimator, name), getattr(loaded, name))
    same(estimator.predict(X), loaded.predict(X))
    if hasattr(estimator, "predict_proba"):
        same(estimator.predict_proba(X), loaded.predict_proba(X))


def test_scores_stored_rows_as_before(saved, tmp_path):
    estimator, folder, X, y = saved
    rows = _stored(tmp_path, X, y)
    loaded = daskalt.load(folder)
    assert loaded.score(*rows) == estimator.score(*rows)
    same(tuple(loaded._score(*rows, None)), tuple(estimator._score(*rows, None)))


def _stored(folder, X, y):
    if y.dtype.kind in "OU":
        y = y.astype(np.dtypes.StringDType())
    group = zarr.create_group(folder / "rows.zarr")
    return group.create_array("X", data=X, chunks=(50, 5)), group.create_array("y", data=y)


def test_warm_start_continues_as_without_saving(saved):
    estimator, folder, X, y = saved
    models = [copy.deepcopy(estimator), daskalt.load(folder)]
    for model in models:
        model.set_params(warm_start=True, random_state=1).fit(X, y)
    same(models[0].coefs_, models[1].coefs_)


def test_partial_fit_continues_from_the_saved_weights(saved):
    estimator, folder, X, y = saved
    loaded = daskalt.load(folder).set_params(batch_size=len(X))
    loaded.partial_fit(X, y)
    assert loaded.n_iter_ == estimator.n_iter_ + 1
    # One step takes all rows, so the loss that the pass met is that of the saved weights.
    table = open_table(estimator, X, y, None, reset=False)
    fitted = estimator._fitted
    score = score_table(fitted.problem, fitted.state, table, all_blocks(table))
    assert loaded.history_[-1]["loss"] == pytest.approx(score.mean_loss, rel=1e-5)


@pytest.mark.parametrize("scale", ["auto", "standard"])
def test_limits_are_kept_and_models_from_before_there_were_any_have_none(scale, tmp_path):
    model = classifier(scale=scale).fit(X, SUM > 0)
    daskalt.save(model, tmp_path / "model")
    far = X * 1e3
    same(daskalt.load(tmp_path / "model").feature_limits_, model.feature_limits_)
    same(daskalt.load(tmp_path / "model").predict_proba(far), model.predict_proba(far))
    document = unseal((tmp_path / "model" / "model.json").read_bytes())
    del document["fitted"]["reach"]
    (tmp_path / "model" / "model.json").write_bytes(seal(document))
    older = daskalt.load(tmp_path / "model")
    assert older.feature_limits_ is None
    np.testing.assert_allclose(
        older.predict_proba(far), model.to_sklearn().predict_proba(far), atol=1e-6
    )


def test_files_hold_no_pickle(saved):
    _, folder, _, _ = saved
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.npz"]
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "biufU" for name in file)
    json.loads((folder / "model.json").read_text())


@pytest.fixture
def fitted():
    return classifier().fit(X, SUM > 0)


def test_replaces_an_older_model_but_nothing_else(fitted, tmp_path):
    daskalt.save(fitted, tmp_path / "model")
    fitted.partial_fit(X, SUM > 0)
    daskalt.save(fitted, str(tmp_path / "model"))
    same(fitted.coefs_, daskalt.load(tmp_path / "model").coefs_)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not replaced"):
        daskalt.save(fitted, tmp_path / "other")
    with pytest.raises(InputError, match="not replaced"):
        daskalt.save(fitted, tmp_path / "other" / "notes.txt")


def test_a_failed_save_leaves_the_older_model(fitted, tmp_path, monkeypatch):
    daskalt.save(fitted, tmp_path / "model")
    coefs = fitted.coefs_

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    fitted.partial_fit(X, SUM > 0)
    with pytest.raises(StorageError, match="disk is full"):
        daskalt.save(fitted, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    same(coefs, daskalt.load(tmp_path / "model").coefs_)


def test_save_refuses_what_it_cannot_write(fitted, tmp_path):
    with pytest.raises(InputError, match="save takes a fitted MLPClassifier or MLPRegressor"):
        daskalt.save(object(), tmp_path / "model")
    with pytest.raises(NotFittedError):
        daskalt.save(MLPClassifier(), tmp_path / "model")
    fitted.scratch = object()
    with pytest.raises(InputError, match=r"parameters\.scratch is of type object"):
        daskalt.save(fitted, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def edit(folder, change):
    """Change a model as one who knows how it is sealed could."""
    document = json.loads((folder / "model.json").read_text())["record"]
    change(document)
    document["weights"] = hashlib.blake2b((folder / "weights.npz").read_bytes()).hexdigest()
    (folder / "model.json").write_bytes(seal(document))


def test_every_flipped_bit_of_a_model_is_found(tmp_path):
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    daskalt.save(MLPClassifier((2,), max_iter=1, random_state=0).fit(X, y), tmp_path / "model")
    for name in ("model.json", "weights.npz"):
        path = tmp_path / "model" / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 3):
            flipped = whole[place] ^ 1 << place % 8
            path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
            with pytest.raises(StorageError):
                daskalt.load(tmp_path / "model")
        path.write_bytes(whole)
    daskalt.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "no model at"),
        (lambda f: (f / "weights.npz").unlink(), "damaged"),
        (lambda f: (f / "model.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.json").write_text("[]"), "damaged"),
        (lambda f: (f / "weights.npz").write_bytes(b""), "damaged"),
        (
            lambda f: (f / "weights.npz").write_bytes((f / "weights.npz").read_bytes()[:99]),
            "damaged",
        ),
        (lambda f: edit(f, lambda d: d.update(format=99)), "format 99"),
        (
            lambda f: (f / "model.json").write_text(
                '{"format": 2, "versions": {"daskalt": "0.0.9"}, "class": "", "digest": ""}'
            ),
            r"format 2, written by daskalt 0\.0\.9",
        ),
        (lambda f: edit(f, lambda d: d.update({"class": "Popen"})), "damaged"),
        (lambda f: edit(f, lambda d: d["attributes"].update(__class__=1)), "no fitted attribute"),
        (lambda f: edit(f, lambda d: d["attributes"].update(predict=1)), "no fitted attribute"),
        (lambda f: edit(f, lambda d: d["parameters"].update(extra=1)), "damaged"),
        (lambda f: edit(f, lambda d: d["fitted"].update(targets="dict")), "damaged"),
        (lambda f: edit(f, lambda d: d["fitted"].update(widths=[5, 7, 1])), "not of shapes"),
        (
            lambda f: edit(f, lambda d: d["parameters"].update(solver={"<object>": ["eval", {}]})),
            "damaged",
        ),
    ],
)
def test_load_says_what_is_wrong(fitted, tmp_path, damage, message):
    daskalt.save(fitted, tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(StorageError, match=message):
        daskalt.load(tmp_path / "model")


def test_load_never_unpickles(fitted, tmp_path):
    folder = tmp_path / "model"
    daskalt.save(fitted, folder)
    with np.load(folder / "weights.npz") as file:
        arrays = dict(file)
    name = next(iter(arrays))
    arrays[name] = np.array([object], dtype=object)
    np.savez(folder / "weights.npz", **arrays)
    edit(folder, lambda document: None)
    with pytest.raises(StorageError, match="allow_pickle"):
        daskalt.load(folder)

"""Any data, any parameters: a fit ends with finite numbers or with an error that says why."""

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import DataConversionWarning

from daskalt import MLPClassifier, MLPRegressor
from daskalt.errors import (
    DaskaltError,
    DivergenceWarning,
    MissingChunksWarning,
    ObjectiveWarning,
    RefusalWarning,
    UnshuffledWarning,
)
from daskalt.functions.activations import ACTIVATIONS
from daskalt.solvers import SOLVERS

DTYPES = ("uint8", "int64", "float32", "float64", "bool", "float16")
SCALES = (0.0, 1e-320, 1e-200, 1e-40, 1e-30, 1e-3, 1.0, 1e4, 1e18, 1e30, 1e38, 1e200, 1e308)
LABELS = ("ints", "negative", "strings", "bools", "floats", "one class", "one row", "multilabel")
WEIGHTS = ("uniform", "some zero", "all zero", "tiny", "huge", "mixed", "one row")

# Warnings of ours, each of which says what to do.
OURS = (
    DivergenceWarning,
    MissingChunksWarning,
    ObjectiveWarning,
    RefusalWarning,
    UnshuffledWarning,
)


def numbers(rng, shape, dtype, scale, offset):
    """Random numbers of a type, of this scale about a multiple of it, clipped to its range."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    with np.errstate(all="ignore"):
        values = (rng.standard_normal(shape) + offset) * scale
        limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        values = np.nan_to_num(values)
        if dtype.kind in "iu":
            # The largest int64 is no float64; half of it is large enough.
            return np.clip(values, limits.min // 2, limits.max // 2).astype(dtype)
        return np.clip(values, limits.min, limits.max).astype(dtype)


def labels(rng, rows, kind):
    """Random targets of a classifier."""
    if kind == "multilabel":
        return rng.integers(0, 2, (rows, 3))
    if kind == "one class":
        return np.full(rows, 4)
    if kind == "one row":
        return np.arange(rows) == rows // 2
    codes = rng.integers(0, 3, rows)
    if kind == "bools":
        return codes > 0
    return {
        "ints": codes * 10,
        "negative": (codes - 2).astype(np.int8),
        "floats": codes.astype(np.float32) - 1,
        "strings": np.array(["ant", "bee", "caterpillar"])[codes],
    }[kind]


def row_weights(rng, rows, kind):
    """Random weights, or None."""
    if kind is None:
        return None
    weight = rng.random(rows) + 0.1
    if kind == "some zero":
        weight[rng.random(rows) < 0.5] = 0
    if kind == "mixed":
        weight = 10.0 ** rng.integers(-30, 30, rows)
    if kind == "one row":
        weight[1:] = 0
    return weight * {"all zero": 0.0, "tiny": 1e-300, "huge": 1e300}.get(kind, 1.0)


@dataclass
class Case:
    """Data and parameters, small enough to read."""

    rows: int
    columns: int
    dtype: str
    scale: float
    offset: float
    flat: str  # which columns or rows are all the same
    target: Any  # kind of labels, or type, scale and columns of the numbers
    weight: str | None
    place: str
    chunks: tuple[int, int]
    seed: int
    options: dict = field(default_factory=dict)

    @property
    def classifies(self):
        return isinstance(self.target, str)

    def data(self):
        rng = np.random.default_rng(self.seed)
        X = numbers(rng, (self.rows, self.columns), self.dtype, self.scale, self.offset)
        if self.flat == "column":
            X[:, 0] = X[0, 0]
        elif self.flat == "rows":
            X[:] = X[0]
        elif self.flat == "wild column":  # one column of another scale
            X[:, 0] = numbers(rng, self.rows, self.dtype, 1e300, 0)
        if self.classifies:
            y = labels(rng, self.rows, self.target)
        else:
            dtype, scale, columns = self.target
            shape = (self.rows, columns) if columns else self.rows
            y = numbers(rng, shape, dtype, scale, self.offset)
        return X, y, row_weights(rng, self.rows, self.weight)

    def placed(self, folder):
        """The data where the fit is to find it: in memory, in Zarr, in a Dask graph."""
        X, y, weight = self.data()
        rows, columns = self.chunks
        if self.place == "memory":
            return X, y, weight
        if self.place == "pandas":
            X = pd.DataFrame(X, columns=[f"f{k}" for k in range(self.columns)])
            return X, pd.DataFrame(y) if y.ndim == 2 else pd.Series(y), weight
        if self.place in ("dask", "dask graph"):
            parts = [
                a if a is None else da.from_array(a, chunks=(rows, columns)[: a.ndim])
                for a in (X, y, weight)
            ]
            if self.place == "dask graph":
                parts[0] = parts[0].map_blocks(np.array)
            return tuple(parts)
        group = zarr.create_group(str(Path(folder) / "data.zarr"))
        for name, array in (("X", X), ("y", y), ("sample_weight", weight)):
            if array is None:
                continue
            if array.dtype.kind == "U":
                array = array.astype(np.dtypes.StringDType())
            chunks = (rows, columns)[: array.ndim]
            group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)[:] = array
        if self.place == "path":
            return str(Path(folder) / "data.zarr"), None, None
        return group["X"], group["y"], group.get("sample_weight")


common = {
    "rows": st.integers(1, 60),
    "columns": st.integers(1, 12),
    "dtype": st.sampled_from(DTYPES),
    "scale": st.one_of(st.just(1.0), st.sampled_from(SCALES)),
    "offset": st.sampled_from((0.0, 0.0, 1.0, 1e6)),
    "flat": st.sampled_from(("none", "none", "column", "rows", "wild column")),
    "weight": st.one_of(st.none(), st.sampled_from(WEIGHTS)),
    "place": st.sampled_from(("memory", "pandas", "path", "zarr", "dask", "dask graph")),
    "chunks": st.tuples(st.sampled_from((1, 2, 7, 16, 64)), st.sampled_from((2, *[12] * 9))),
    "seed": st.integers(0, 9),
}
parameters = {
    "hidden_layer_sizes": st.sampled_from(((), (), (1,), (7, 3))),
    "activation": st.sampled_from(tuple(ACTIVATIONS)),
    "solver": st.sampled_from(tuple(SOLVERS)),
    "alpha": st.sampled_from((0.0, 1e-4, 1.0, 1e6)),
    "batch_size": st.sampled_from(("auto", 1, 3, 1000)),
    "max_iter": st.integers(1, 3),
    "shuffle": st.sampled_from((True, False, "global")),
    "early_stopping": st.sampled_from((False, False, True)),
    "scale": st.sampled_from(("auto", "auto", "standard", "none")),
    "random_state": st.just(0),
}
classifications = st.builds(
    Case,
    **common,
    target=st.sampled_from(LABELS),
    options=st.fixed_dictionaries(
        parameters
        | {
            "loss": st.sampled_from(("auto", "auto", "squared", "hinge")),
            "output_activation": st.sampled_from((*["auto"] * 6, "softmax", "tanh")),
            "class_weight": st.sampled_from((None, None, "balanced")),
        }
    ),
)
regressions = st.builds(
    Case,
    **common,
    target=st.tuples(
        st.sampled_from(("float64", "float32", "int64", "bool")),
        st.one_of(st.just(1.0), st.sampled_from(SCALES)),
        st.sampled_from((0, 0, 1, 2)),
    ),
    options=st.fixed_dictionaries(
        parameters
        | {
            "loss": st.sampled_from(("auto", "auto", "auto", "absolute", "huber", "cross_entropy")),
            "output_activation": st.sampled_from((*["auto"] * 6, "logistic", "relu", "softplus")),
        }
    ),
)


def assert_finite_or_refused(case):
    """Fit and predict as the case says."""
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set(scheduler="synchronous"),
        warnings.catch_warnings(),
    ):
        for kind in OURS:
            warnings.simplefilter("ignore", kind)
        # scikit-learn's own warning about input that it then refuses or uses.
        warnings.simplefilter("ignore", DataConversionWarning)
        warnings.filterwarnings("ignore", "overflow encountered in cast", module="sklearn")
        warnings.filterwarnings("ignore", "invalid value encountered in reduce", module="numpy")
        X, y, weight = case.placed(folder)
        model = (MLPClassifier if case.classifies else MLPRegressor)(**case.options)
        error = refusal(model, X, y, weight)
        if error is None:
            assert_sound(model, case, X)
        else:
            assert str(error)
            scikit_learns = type(error) is ValueError and case.place in ("memory", "pandas")
            assert isinstance(error, DaskaltError) or scikit_learns


def refusal(model, X, y, weight):
    """Fit; return the error with which data or parameters are refused, or None."""
    try:
        model.fit(X, y, weight)
    except (DaskaltError, ValueError) as error:
        return error
    return None


def assert_sound(model, case, X):
    for weights in (*model.coefs_, *model.intercepts_):
        assert np.isfinite(weights).all()
    predicted = np.asarray(model.predict(X))
    _, y, _ = case.data()
    column = y.ndim == 2 and y.shape[1] == 1
    assert predicted.shape == y.shape or (column and predicted.shape == y[:, 0].shape)
    if not case.classifies:
        assert np.isfinite(predicted).all()
    elif case.target != "multilabel":
        assert np.isin(predicted, model.classes_).all()
        assert np.isin(model.classes_, y).all()
    if case.classifies and case.options["loss"] != "hinge":
        p = np.asarray(model.predict_proba(X))
        assert np.isfinite(p).all()
        assert (p >= 0).all()
        assert (p <= 1).all()


fast = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@fast
@given(classifications)
def test_a_classifier_is_finite_or_says_why_not(case):
    assert_finite_or_refused(case)


@fast
@given(regressions)
def test_a_regressor_is_finite_or_says_why_not(case):
    assert_finite_or_refused(case)

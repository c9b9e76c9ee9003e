"""Predictions of a fitted network: for arrays in memory, and lazily for stored ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from daskalt.activations import ACTIVATIONS
from daskalt.data.checks import check_array, refuse_masked, refuse_sparse
from daskalt.data.finite import check_finite
from daskalt.data.opening import check_names, open_features
from daskalt.data.sources import check_columns, first_row, is_dask_frame
from daskalt.data.targets import MultilabelTargets, Targets
from daskalt.errors import InputError
from daskalt.losses import Loss

__all__ = ["Predictor", "predict_stored"]

BLOCK_ROWS = 4096  # rows whose activations are in memory at a time


@dataclass(frozen=True)
class Predictor:
    """A fitted network in the user's own units, small enough to send anywhere."""

    coefs: tuple[np.ndarray, ...]
    intercepts: tuple[np.ndarray, ...]
    activation: str
    loss: Loss
    targets: Targets

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """Return the network's outputs, through the link of the loss, block by block."""
        phi = ACTIVATIONS[self.activation]
        results = np.empty((len(X), len(self.intercepts[-1])), self.coefs[0].dtype)
        for start in range(0, len(X), BLOCK_ROWS):
            a = np.ascontiguousarray(X[start : start + BLOCK_ROWS], dtype=results.dtype)
            for coef, intercept in zip(self.coefs[:-1], self.intercepts[:-1], strict=True):
                a = a @ coef
                a += intercept
                phi.apply(a)
            z = a @ self.coefs[-1]
            z += self.intercepts[-1]
            results[start : start + BLOCK_ROWS] = self.loss.link(z)
        return results

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return labels or numbers."""
        return self.targets.decode(self.outputs(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, one column a class."""
        p = self.outputs(X)
        if self.loss.link_name not in ("softmax", "logistic"):
            p = np.clip(p, 0, 1)  # a squared loss may reach beyond the targets
        if isinstance(self.targets, MultilabelTargets):
            return p
        if p.shape[1] == 1:
            return np.concatenate([1 - p, p], axis=1)
        if self.loss.link_name != "softmax":  # units that know nothing of each other
            p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(p.dtype).tiny)
        return p


def predict_stored(estimator: Any, X: Any, function: Callable) -> Any:
    """Return predictions for rows that are not in memory: lazy for Dask, else an array."""
    example = function(np.zeros((1, estimator.n_features_in_), estimator.coefs_[0].dtype))
    if isinstance(getattr(X, "data", None), da.Array):  # an xarray.DataArray
        X = X.data
    if is_dask_frame(X):
        check_columns(X, "X")
        check_names(estimator, list(X.columns) if X.ndim == 2 else None)
        X = X.to_dask_array()  # its lengths perhaps unknown
    if isinstance(X, da.Array):
        _check_lazy(estimator, X)
        return _lazy(X, function, example)
    source = open_features(estimator, X)
    result = np.empty((len(source), *example.shape[1:]), example.dtype)
    for start in range(0, len(source), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(source))
        rows = source.read(start, stop)
        check_finite(rows, "X", start, stop)
        result[start:stop] = function(rows)
    return result


def _check_lazy(estimator: Any, X: da.Array) -> None:
    """Raise InputError where a Dask array, whose rows may be unknown in number, will not do."""
    refuse_sparse(X._meta, "X")
    check_array(X, "X")
    if X.shape[1] != estimator.n_features_in_:
        raise InputError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input. Give the columns that the fit had."
        )
    if X.numblocks[1] > 1:
        raise InputError(
            "X is chunked across columns: every block needs all features of its rows. Use "
            "X.rechunk({1: -1})."
        )


def _lazy(X: da.Array, function: Callable, example: np.ndarray) -> da.Array:
    columns = example.shape[1:]
    return da.map_blocks(
        _call,
        X,
        delayed(function, traverse=False),
        dtype=example.dtype,
        meta=example[:0],
        chunks=(X.chunks[0], *((n,) for n in columns)),
        drop_axis=() if columns else 1,
    )


def _call(X: np.ndarray, function: Callable, block_info: Any = None) -> np.ndarray:
    start = first_row(block_info)
    refuse_masked(X, "X", start)
    check_finite(X, "X", start, start + len(X))
    return function(np.asarray(X))

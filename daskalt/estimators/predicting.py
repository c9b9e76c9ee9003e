"""Predictions of a fitted network: for arrays in memory, and lazily for stored ones."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from dask.system import CPU_COUNT

from daskalt.compute.graph import holds_a_worker
from daskalt.compute.threads import blas_threads
from daskalt.data.checks import check_array, refuse_masked, refuse_sparse
from daskalt.data.containers import Columns
from daskalt.data.finite import check_finite
from daskalt.data.labelled import as_labelled, is_data_array
from daskalt.data.opening import check_names, features_of, open_features
from daskalt.data.scaling import Scaling
from daskalt.data.sources import as_lazy, first_row
from daskalt.data.table import Table
from daskalt.data.targets import MultilabelTargets, Targets
from daskalt.errors import InputError
from daskalt.network.network import Network

__all__ = ["Predictor", "predict_stored"]

BLOCK_ROWS = 4096  # rows whose activations are in memory at a time, at most
CACHE_BYTES = 2 << 20  # of a layer's
SHARED_FLOPS = 50e6  # below this much work one thread is as fast as several


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads of this process that predict, one for each core."""
    return ThreadPoolExecutor(CPU_COUNT, thread_name_prefix="daskalt-predict")


os.register_at_fork(after_in_child=_threads.cache_clear)  # the threads stay in the parent


@dataclass(frozen=True)
class Predictor:
    """A fitted network in the user's own units, small enough to send anywhere.

    Features are clipped to the ``limits`` of the fit. Where the scaling could not be folded into
    the weights, rows are scaled first, which clips them too. Work is divided among the cores,
    unless this runs in a task, which is a part of divided work already.
    """

    coefs: tuple[np.ndarray, ...]
    intercepts: tuple[np.ndarray, ...]
    network: Network
    targets: Targets
    scaling: Scaling | None = None
    limits: np.ndarray | None = None
    shares: bool = True

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """Return the network's outputs, through the link of the loss."""
        return self._filled(X, self.network.loss.link)

    def _filled(self, X: np.ndarray, link: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return a link of the last layer, block by block.

        Rows are taken in blocks whose activations stay in cache, by one thread of this process for
        each core, with one BLAS thread each: no bit depends on their number.
        """
        results = np.empty((len(X), self.network.n_outputs), self.coefs[0].dtype)
        widest = max(self.network.units)
        size = int(np.clip(CACHE_BYTES // (widest * results.itemsize), 128, BLOCK_ROWS))

        def fill(start: int) -> None:
            part = X[start : start + size]
            a = self._inputs(part)
            results[start : start + size] = link(
                self.network.outputs(self.coefs, self.intercepts, a)
            )

        starts = range(0, len(X), size)
        work = len(X) * self.network.flops
        with blas_threads():
            if self.shares and work > SHARED_FLOPS and len(starts) > 1 and not holds_a_worker():
                list(_threads().map(fill, starts))
            else:
                for start in starts:
                    fill(start)
        return results

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        """The inputs of the network for some rows."""
        dtype = self.coefs[0].dtype
        if self.scaling is not None:
            return self.scaling.apply(X, dtype)[:, :-1]
        X = np.ascontiguousarray(X, dtype)
        return X if self.limits is None else np.clip(X, *self.limits.astype(dtype))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return labels or numbers."""
        return self.targets.decode(self.outputs(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, one column a class."""
        p = self.outputs(X)
        if not self.network.loss.link.probabilities:
            p = np.clip(p, 0, 1)  # a squared loss may reach beyond the targets
        if isinstance(self.targets, MultilabelTargets):
            return p
        if p.shape[1] == 1:
            return np.concatenate([1 - p, p], axis=1)
        if not self.network.loss.link.normalised:  # independent units
            p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(p.dtype).tiny)
        return p

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the scores that decide on a label: of two by the sign, of several the largest."""
        if self.network.loss.link.halves_at_zero:
            z = self._filled(X, np.asarray)
        else:  # a squared loss on targets of 0 and 1
            z = self.outputs(X) - self.coefs[0].dtype.type(0.5)
        if isinstance(self.targets, MultilabelTargets) or z.shape[1] > 2:
            return z
        return z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]


def predict_stored(estimator: Any, X: Any, predictor: Predictor, method: str) -> Any:
    """Return predictions for rows that are not in memory: lazy for lazy ones, else an array.

    Those for xarray's rows have the same labels.
    """
    X = features_of(estimator, X)
    like = X.first if isinstance(X, Columns) else X
    values = _predictions(estimator, X, predictor, method)
    if not is_data_array(like):
        return values
    dims, labels = ("class", "label"), getattr(estimator, "classes_", None)
    names = ["probability" if method == "predict_proba" else "prediction"]
    if method == "predict":
        targets = getattr(estimator, "members_", {}).get("y")
        dims, labels = ("output", "target"), targets if isinstance(targets, list) else None
    names = [getattr(estimator, "target_name_", "prediction"), *names]
    return as_labelled(values, like, names=names, dims=dims, labels=labels)


def _predictions(estimator: Any, X: Any, predictor: Predictor, method: str) -> Any:
    function = getattr(predictor, method)
    example = function(np.zeros((1, estimator.n_features_in_), estimator.coefs_[0].dtype))
    lazy = as_lazy(X)
    if lazy is not None:
        array, names = lazy
        check_names(estimator, names)
        _check_lazy(estimator, array)
        return _lazy(array, getattr(replace(predictor, shares=False), method), example)
    source = open_features(estimator, X)
    result = np.empty((len(source), *example.shape[1:]), example.dtype)
    for start, stop in Table(source).block_bounds():
        rows = source.read(start, stop)
        check_finite(rows, "X", start, stop)
        result[start:stop] = function(rows)
    return result


def _check_lazy(estimator: Any, X: da.Array) -> None:
    """Raise InputError where a Dask array, whose number of rows may be unknown, cannot be used."""
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

"""What a user hands over, opened as a table: arrays in memory, or rows where they are stored."""

from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils.validation import (
    _check_sample_weight,
    column_or_1d,
    validate_data,
)

from daskalt.data.finite import check_block
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, Source
from daskalt.data.sources import as_source, as_table
from daskalt.data.table import Table
from daskalt.errors import InputError

__all__ = ["is_stored", "open_features", "open_table"]


def is_stored(value: Any) -> bool:
    """Say whether ``value`` is read piece by piece rather than held as one array in memory."""
    if isinstance(value, str | PathLike | Source | Table):
        return True
    module = type(value).__module__.split(".")[0]
    return module in ("dask", "dask_expr", "xarray", "zarr")


def open_table(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool, lazy: bool = False
) -> Table:
    """Return the rows to train on or to score, checked as far as that reads no block.

    Sets ``n_features_in_`` and ``feature_names_in_`` of the estimator if ``reset``, and else
    compares with them. If ``reset``, also warns of missing chunks, whose rows Zarr makes up. With
    ``lazy`` nothing is computed or copied.
    """
    if isinstance(X, Table):
        table = X
    elif is_stored(X) or is_stored(y):
        table = as_table(X, y, sample_weight, scratch=estimator.scratch, lazy=lazy)
        if table.y is None:
            raise InputError(
                f"{type(estimator).__name__} needs targets, but y is None: give y, or X as the "
                "path of a Zarr group that holds arrays X and y."
            )
        # A Dask array over NumPy: its blocks are not checked as they are read.
        if table.in_memory and not lazy:
            check_block(table.read(0, table.n_rows), 0, table.n_rows)
    else:
        X, y = validate_data(
            estimator,
            X,
            y,
            reset=reset,
            multi_output=True,
            y_numeric=is_regressor(estimator),
            order="C",
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight,
                X,
                dtype=np.result_type(X.dtype, np.float32),
                ensure_non_negative=True,
            )
        weight = None if sample_weight is None else MemorySource(sample_weight, "sample_weight")
        return Table(MemorySource(X, "X"), MemorySource(y, "y"), weight)
    _check_features(estimator, X, table.X, reset)
    for source in table.present.values():
        learn_chunks(source, warn=reset)
    return table


def open_features(estimator: Any, X: Any) -> Source:
    """Return the features to predict for, with as many columns as the fit had."""
    source = as_source(X, "X", scratch=estimator.scratch)
    _check_features(estimator, X, source, reset=False)
    learn_chunks(source, warn=False)
    return source


def _check_features(estimator: Any, X: Any, source: Source, reset: bool) -> None:
    columns, names = source.shape[1], source.columns
    if reset:
        estimator.n_features_in_ = columns
        vars(estimator).pop("feature_names_in_", None)
        if names is not None and all(isinstance(name, str) for name in names):
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        return
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None and names is not None and list(names) != list(known):
        raise InputError(
            "The feature names should match those that were passed during fit: X has "
            f"{list(names)[:10]}, the fit had {list(known)[:10]}. Select and order the columns."
        )
    if columns != estimator.n_features_in_:
        raise InputError(
            f"X has {columns} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )

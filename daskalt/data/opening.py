"""Data as given, opened as a table: arrays in memory, or rows where they are stored."""

from collections import Counter
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d, validate_data

from daskalt.data.choosing import Named, choose_features
from daskalt.data.containers import Columns
from daskalt.data.finite import check_block, check_finite
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, Source
from daskalt.data.recipe import recipe_of_rows
from daskalt.data.sources import as_source, as_table
from daskalt.data.table import Block, Table
from daskalt.errors import InputError, InputTypeError

__all__ = [
    "check_names",
    "features_in_memory",
    "features_of",
    "is_stored",
    "open_features",
    "open_table",
]


def is_stored(value: Any) -> bool:
    """Say whether ``value`` is read piece by piece rather than held as one array in memory."""
    if isinstance(value, str | PathLike | Source | Table | Named | Columns):
        return True
    module = type(value).__module__.split(".")[0]
    return module in ("dask", "dask_expr", "xarray", "zarr")


def open_table(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool, lazy: bool = False
) -> Table:
    """Return the rows to train on or to score, checked as far as that reads no stored block.

    Rows in memory are checked whole. Sets ``n_features_in_``, ``feature_names_in_``, ``recipe_``,
    ``members_`` and ``target_name_`` of the estimator if ``reset``, and else follows them. If
    ``reset``, also warns of missing chunks, which Zarr reads as the fill value. With ``lazy``
    nothing is computed or copied.
    """
    table = X if isinstance(X, Table) else _as_table(estimator, X, y, sample_weight, reset, lazy)
    if table.y is None:
        raise InputError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None: give "
            "y, or X as a Zarr group or xarray Dataset that has an array called y, or name one of "
            'its arrays, as in y="label".'
        )
    if reset:
        _remember(estimator, table.members or {}, y)
    if table.in_memory:
        table = _in_order(table, warn=reset)
        if not (lazy and is_stored(X)):
            _check_rows(table)
    _check_features(estimator, X, table.X, reset)
    for source in table.present.values():
        learn_chunks(source, warn=True)
    return table


def features_of(estimator: Any, X: Any) -> Any:
    """Return the array of features that a user means, by the names in the fit."""
    if isinstance(X, Table):
        return X.X
    return choose_features(X, getattr(estimator, "members_", {}), _names_of_fit(estimator))


def open_features(estimator: Any, X: Any) -> Source:
    """Return the features to predict for, with as many columns as the fit had."""
    X = features_of(estimator, X)
    source = as_source(X, "X", scratch=estimator.scratch)
    _check_features(estimator, X, source, reset=False)
    learn_chunks(source, warn=True)
    return source


def features_in_memory(estimator: Any, X: Any) -> np.ndarray:
    """Return the features to predict for, as they are in memory, all checked."""
    source = open_features(estimator, X)
    rows = source.array if isinstance(source, MemorySource) else source.read(0, len(source))
    check_finite(rows, "X", 0, len(rows))
    return rows


def _as_table(estimator: Any, X: Any, y: Any, sample_weight: Any, reset: bool, lazy: bool) -> Table:
    fit, columns = None, None
    if not reset:
        fit, columns = getattr(estimator, "members_", {}), _names_of_fit(estimator)
    return as_table(
        X, y, sample_weight, scratch=estimator.scratch, lazy=lazy, fit=fit, columns=columns
    )


def _names_of_fit(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else list(names)


def _remember(estimator: Any, members: dict[str, Any], y: Any) -> None:
    """Set ``members_`` and ``target_name_`` where the arrays of this fit have names."""
    for name in ("members_", "target_name_"):
        vars(estimator).pop(name, None)
    if members:
        estimator.members_ = members
    target = members.get("y")
    if target is None and hasattr(y, "to_numpy") and not hasattr(y, "columns"):
        target = getattr(y, "name", None)  # of a Series or a DataArray
    if isinstance(target, str):
        estimator.target_name_ = target


# ------------------------------------------------------------------------------- in memory


def _in_order(table: Table, *, warn: bool) -> Table:
    """The same rows, one after the other in memory, and y flat if it is one column."""
    y = table.y
    if isinstance(y, MemorySource) and y.shape[1:] == (1,):
        y = MemorySource(column_or_1d(y.array, warn=warn), y.name)
    return replace(table, X=_contiguous(table.X), y=y)


def _contiguous(source: Source) -> Source:
    # Each pass reads single rows: they are laid side by side once.
    if not isinstance(source, MemorySource):
        return source
    array = np.ascontiguousarray(source.array, dtype=source.dtype)
    return source if array is source.array else MemorySource(array, source.name, source.columns)


def _check_rows(table: Table) -> None:
    sources = (table.X, table.y, table.weight)
    if all(source is None or isinstance(source, MemorySource) for source in sources):
        arrays = (None if source is None else source.array for source in sources)  # type: ignore
        check_block(Block(*arrays), 0, table.n_rows)  # type: ignore[arg-type]
        return
    for start, stop in table.block_bounds():
        check_block(table.read(start, stop), start, stop)


# ------------------------------------------------------------------------------- columns


def _check_features(estimator: Any, X: Any, source: Source, reset: bool) -> None:
    if reset:
        vars(estimator).pop("recipe_", None)
    if not is_stored(X):
        _check_features_in_memory(estimator, X, reset)
        return
    columns, names = source.shape[1], source.columns
    if reset:
        estimator.n_features_in_ = columns
        vars(estimator).pop("feature_names_in_", None)
        recipe = recipe_of_rows(source)
        if recipe is not None:
            estimator.recipe_ = recipe
        if names is not None and all(isinstance(name, str) for name in names):
            _refuse_namesakes(names)
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        return
    check_names(estimator, names)
    if columns != estimator.n_features_in_:
        raise InputError(
            f"X has {columns} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input. Give the columns that the fit had."
        )


def _refuse_namesakes(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"X: Expected unique column names, got {', '.join(map(repr, twice[:10]))} more than "
            "once. Rename them."
        )


def _check_features_in_memory(estimator: Any, X: Any, reset: bool) -> None:
    try:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    except TypeError as error:  # names of several types
        raise InputTypeError(f"X: {error}") from error
    except ValueError as error:
        if reset:
            raise InputError(f"X: {error}. Rename them.") from error
        cure = "Give the columns that the fit had, in that order."
        raise InputError(f"{error} {cure}") from error


def check_names(estimator: Any, names: list[str] | None) -> None:
    """Raise InputError where columns have other names than those of the fit."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None and names is not None and list(names) != list(known):
        raise InputError(
            "The feature names should match those that were passed during fit: X has "
            f"{list(names)[:10]}, the fit had {list(known)[:10]}. Select and order the columns."
        )

"""xarray's arrays and data sets: their rows and names, and predictions with their labels."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np

from daskalt.data.checks import kind_of
from daskalt.data.table import good_rows
from daskalt.errors import InputError

__all__ = [
    "as_labelled",
    "check_aligned",
    "check_dimensions",
    "feature_names",
    "is_data_array",
    "is_dataset",
    "is_lazy",
    "transposition",
    "values_of",
]


def is_data_array(value: Any) -> bool:
    """Say whether ``value`` is an xarray DataArray."""
    return _is(value, "DataArray")


def is_dataset(value: Any) -> bool:
    """Say whether ``value`` is an xarray Dataset."""
    return _is(value, "Dataset")


def _is(value: Any, kind: str) -> bool:
    return any(
        base.__name__ == kind and base.__module__.startswith("xarray.")
        for base in type(value).__mro__
    )


def is_lazy(array: Any) -> bool:
    """Say whether the values of a DataArray are still to be read or computed."""
    return array.chunks is not None or not getattr(array.variable, "_in_memory", True)


def values_of(array: Any, name: str) -> np.ndarray | da.Array:
    """The values of a DataArray as they are in memory, or as a Dask array with whole rows.

    Raises
    ------
    InputError
        When a block holds a part of a row.
    """
    if array.ndim and is_lazy(array) and array.chunks is None:  # .data would read all of it
        array = array.chunk({array.dims[0]: _stored_rows(array)})
    if array.ndim == 2 and array.chunks is not None and len(array.chunks[1]) > 1:
        raise InputError(
            f"{name} has chunks across the dimension {array.dims[1]!r} ({len(array.chunks[1])} "
            "blocks), and a block must hold whole rows. Call "
            f'{name}.chunk({{"{array.dims[1]}": -1}}) first.'
        )
    return array.data


def check_dimensions(array: Any, name: str) -> None:
    """Raise InputError unless a DataArray has one dimension of rows and one of columns."""
    kind = kind_of(name)
    if array.ndim > 2:
        first, *others = array.dims
        listed = ", ".join(f'"{dim}"' for dim in others)
        raise InputError(
            f"Found array with dim {array.ndim}, while dim <= 2 is required: {name} has the "
            f"dimensions {array.dims}. If the rows are along {first!r}, lay the rest side by "
            f"side: {name}.stack(feature=({listed})); if they are along several, make one of "
            f'those first, as in {name}.stack(sample=("{first}", "{others[0]}")), and bring it '
            f'to the front: .transpose("sample", ...).'
        )
    if kind == "X" and array.ndim == 1:
        raise InputError(
            f"Expected 2D array, got 1D array instead: {name} has only the dimension "
            f"{array.dims[0]!r}. If it is a single feature, make it a column: "
            f'{name}.expand_dims("feature", axis=1).'
        )


def _stored_rows(array: Any) -> int:
    """Rows of the stored chunks of a DataArray, as far as these are known."""
    chunks = array.encoding.get("preferred_chunks") or {}
    row_bytes = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    return int(chunks.get(array.dims[0]) or good_rows(array.shape[0], row_bytes))


def feature_names(array: Any) -> list[str] | None:
    """The text by which the columns of a DataArray are labelled, if they are."""
    labels = array.coords.get(array.dims[1]) if array.ndim == 2 else None
    if labels is None:
        return None
    names = labels.values.tolist()
    return names if all(isinstance(name, str) for name in names) else None


# ------------------------------------------------------------------------------- alignment


def check_aligned(arrays: Mapping[str, Any]) -> None:
    """Raise InputError where DataArrays, named by their keys, are not of the same rows.

    That is where their rows lie along different dimensions that have names, or where as many rows
    of one dimension have different labels.
    """
    labelled = [(name, array) for name, array in arrays.items() if is_data_array(array)]
    for name, array in labelled[1:]:
        _check_pair(*labelled[0], name, array)


def _check_pair(first: str, X: Any, name: str, y: Any) -> None:
    if not X.ndim or not y.ndim:
        return
    rows, others = X.dims[0], y.dims[0]
    if rows != others and (others in X.dims or rows in y.dims):
        turned, dim = (first, others) if others in X.dims else (name, rows)
        raise InputError(
            f"Rows are the first dimension: of {first} that is {rows!r}, of {name} {others!r}. "
            f'Call {turned}.transpose("{dim}", ...) first.'
        )
    if rows != others and not _is_made_up(rows) and not _is_made_up(others):
        raise InputError(
            f"The rows of {first} lie along {rows!r}, those of {name} along {others!r}, so they "
            f"are not known to be the same ones. If they are, call "
            f'{name}.rename({{"{others}": "{rows}"}}) first.'
        )
    if rows != others or rows not in X.indexes or rows not in y.indexes:
        return
    if len(X) == len(y) and not np.all(X.indexes[rows] == y.indexes[rows]):
        raise InputError(
            f"{first} and {name} have other labels along {rows!r}, so their rows are not the same "
            f'ones. Align them first: {first}, {name} = xarray.align({first}, {name}, join="inner"'
            f"), or drop the labels: {name}.drop_vars({rows!r})."
        )


def _is_made_up(dim: Any) -> bool:
    """Whether a dimension has a default name of xarray."""
    return re.fullmatch(r"dim_\d+", str(dim)) is not None


def transposition(X: Any) -> str:
    """What to do if the rows of X are not its first dimension; "" if that cannot be."""
    if not is_data_array(X) or X.ndim != 2:
        return ""
    rows, features = X.dims
    return (
        f" Rows are the first dimension of X, {rows!r}: if they lie along {features!r}, call "
        f'X.transpose("{features}", ...) first.'
    )


# ------------------------------------------------------------------------------- predictions


def as_labelled(
    values: Any,
    like: Any,
    *,
    names: Sequence[str],
    dims: Sequence[str],
    labels: Sequence | np.ndarray | None = None,
) -> Any:
    """Predictions as a DataArray with the first dimension of another, and its coordinates.

    Parameters
    ----------
    values : ndarray or dask.array.Array of shape (rows,) or (rows, n)
        The predictions.
    like : xarray.DataArray
        The rows predicted for.
    names, dims : sequence of str
        Names for the predictions, and for their second dimension if they have one: of each the
        first that nothing else has along the rows.
    labels : sequence, optional
        Coordinate along that.
    """
    import xarray

    rows = like.dims[0]
    coords = like.coords.to_dataset()
    coords = coords.drop_vars([key for key, c in coords.coords.items() if not {*c.dims} <= {rows}])
    taken = {rows, *coords.coords}
    dim = _free(dims, taken)
    name = _free(names, taken | {dim} if values.ndim == 2 else taken)
    result = xarray.DataArray(values, coords.coords, (rows, dim)[: values.ndim], name)
    if values.ndim == 2 and labels is not None:
        result = result.assign_coords({dim: np.asarray(labels)})
    return result


def _free(names: Sequence[str], taken: set[Any]) -> str:
    """The first of some names that is not taken, or else one made of the last."""
    underlined = (names[-1] + "_" * count for count in itertools.count(1))
    return next(name for name in itertools.chain(names, underlined) if name not in taken)

"""Data of any kind as sources of rows: checked first, copied only where necessary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

from daskalt.compute.graph import scheduler_of_here
from daskalt.data.checks import check_array, kind_of, refuse_masked, refuse_sparse
from daskalt.data.choosing import choose_arrays, choose_features
from daskalt.data.columns import ColumnsSource, beside, lazy_beside
from daskalt.data.containers import Columns, member, open_store, refuse_packed
from daskalt.data.graphs import read_through
from daskalt.data.labelled import (
    check_aligned,
    check_dimensions,
    feature_names,
    is_data_array,
    is_lazy,
    transposition,
    values_of,
)
from daskalt.data.memory import check_columns, column_names, from_memory, is_dask_frame
from daskalt.data.readers import MemorySource, Source, ZarrSource
from daskalt.data.staging import promise, stage
from daskalt.data.table import Table, check_rows
from daskalt.errors import InputError

__all__ = [
    "MemorySource",
    "Source",
    "ZarrSource",
    "as_lazy",
    "as_source",
    "as_table",
    "first_row",
]


def as_source(
    value: Any, name: str, *, scratch: str | Path | None = None, rows: int | None = None
) -> Source:
    """The rows of ``value`` as a source.

    Parameters
    ----------
    value : array-like
        NumPy array, list, pandas or Dask DataFrame or Series, Dask array, xarray DataArray,
        ``zarr.Array``, or the path or fsspec URL of a Zarr array, or of a group with a member
        called "y" or "sample_weight" as ``name`` has it. Features may also be a Zarr group or an
        xarray Dataset, as `choose_arrays` takes them. A Dask array that only reads stored rows is
        not copied: its rows are read where they are stored. Any other is computed once, to Zarr.
    name : str
        The argument, for messages. "y..." and "sample_weight..." are targets and weights,
        everything else is features.
    scratch : str or Path, optional
        Folder or URL for such copies; a temporary folder by default.
    rows : int, optional
        Rows that there must be. A single number as sample weight is repeated this often.

    Raises
    ------
    InputError
        When type, shape or number of rows is wrong.
    StorageError
        When a store is missing or unreadable.
    """
    if rows is not None and kind_of(name) == "sample_weight" and np.isscalar(value):
        value = np.full(rows, value)
    if kind_of(name) == "X":
        value = choose_features(value)
    ready = _prepare(value, name)
    if rows is not None:
        check_rows({name: ready, "the rest of the data": np.empty((rows, 0))})
    return _staged({name: ready}, column_names(value), scratch)[name]


def as_table(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    scratch: str | Path | None = None,
    lazy: bool = False,
    fit: Mapping[str, Any] | None = None,
    columns: list[str] | None = None,
) -> Table:
    """Features, targets and weights as an aligned table.

    Everything is checked before anything is copied, and Dask arrays that must be copied are
    computed together. Takes what ``as_source`` takes. Where ``X`` is a Zarr group or an xarray
    Dataset, the others may be names of arrays in it, and what is not given has the names of the
    fit, ``fit`` and ``columns``: see `choose_arrays`.

    With ``lazy`` nothing is computed or copied; sources that would be have no rows to read yet.

    Raises
    ------
    InputError
        When type, shape or number of rows is wrong.
    StorageError
        When a store is missing or unreadable.
    """
    if lazy:
        _refuse_unknown_rows(X, y, sample_weight)
    X, y, sample_weight, members = choose_arrays(X, y, sample_weight, fit, columns)
    ready = {"X": _prepare(X, "X")}
    if y is not None:
        ready["y"] = _prepare(y, "y")
    if sample_weight is not None:
        if np.isscalar(sample_weight) and not isinstance(sample_weight, str):
            sample_weight = np.full(ready["X"].shape[0], sample_weight)
        ready["sample_weight"] = _prepare(sample_weight, "sample_weight")
    first = {"X": X.first if isinstance(X, Columns) else X}
    check_aligned(first | {"y": y, "sample_weight": sample_weight})
    try:
        check_rows(ready)
    except InputError as error:
        raise InputError(f"{error}{transposition(X)}") from None
    sources = _staged(ready, column_names(X), scratch, lazy)
    return Table(
        sources["X"], sources.get("y"), sources.get("sample_weight"), members=members or None
    )


def _staged(
    ready: Mapping[str, Source | da.Array],
    columns: list[str] | None,
    scratch: str | Path | None,
    lazy: bool = False,
) -> dict[str, Source]:
    waiting = {name: array for name, array in ready.items() if isinstance(array, da.Array)}
    stored = {name: source for name, source in ready.items() if isinstance(source, Source)}
    if not waiting:
        return stored
    return stored | (
        promise(waiting, columns) if lazy else stage(waiting, scratch, columns=columns)
    )


def _refuse_unknown_rows(*values: Any) -> None:
    for name, value in zip(("X", "y", "sample_weight"), values, strict=True):
        if is_dask_frame(value):
            raise InputError(
                f"{name} is a Dask DataFrame, whose number of rows is known only once it is "
                f"computed: plan for {name}.to_dask_array(lengths=True)."
            )


def _prepare(value: Any, name: str) -> Source | da.Array:
    """A checked source, or a checked Dask array that has to be staged."""
    if isinstance(value, Source):
        check_array(value, name)
        return value
    if isinstance(value, Columns):
        return _side_by_side(value, name)
    if isinstance(value, str | Path):
        value = open_store(value, name)
    if isinstance(value, zarr.Group):
        value = _member(value, name)
    if isinstance(value, zarr.Array):
        check_array(value, name)
        return ZarrSource(value, name=name)
    columns = column_names(value)
    if is_data_array(value):
        check_dimensions(value, name)
        value = values_of(value, name)
    elif type(value).__module__.startswith("xarray."):
        raise InputError(f"{name} is an xarray {type(value).__name__}. Give a DataArray of it.")
    refuse_sparse(value, name)
    if is_dask_frame(value):
        value = _frame_to_dask(value, name)
    if isinstance(value, da.Array):
        return _from_dask(value, name, columns)
    return from_memory(value, name, columns)


def _side_by_side(value: Columns, name: str) -> Source | da.Array:
    """Arrays of a container as the columns of one, read where they are stored if all can be."""
    columns = value.columns
    parts = {f"{name} {key!r}": part for key, part in value.parts.items()}
    if isinstance(value.first, zarr.Array):
        stored = [ZarrSource(part, name=key) for key, part in parts.items()]
        return ColumnsSource(stored, name, columns)
    if not any(map(is_lazy, parts.values())):
        arrays = [np.asarray(values_of(part, key)) for key, part in parts.items()]
        return from_memory(beside(*arrays), name, columns)
    lazy = _lazy_columns(value, name)
    sources = [read_through(array, key) for key, array in lazy.items()]
    found = [source for source in sources if source is not None]
    if len(found) < len(sources):
        return _from_dask(lazy_beside(list(lazy.values())), name, columns)
    if all(source.in_memory for source in found):
        rows = beside(*(source.read(0, len(source)) for source in found))
        return from_memory(rows, name, columns)
    return ColumnsSource(found, name, columns)


def _lazy_columns(value: Columns, name: str) -> dict[str, da.Array]:
    parts = {f"{name} {key!r}": part for key, part in value.parts.items()}
    return {key: _plain(_as_dask(values_of(part, key)), key) for key, part in parts.items()}


def as_lazy(X: Any) -> tuple[da.Array, list[str] | None] | None:
    """Features that are lazy as a Dask array, with the names of the columns; None for others.

    The rows of a Dask DataFrame may be unknown in number.
    """
    if is_dask_frame(X):
        check_columns(X, "X")
        return X.to_dask_array(), list(X.columns) if X.ndim == 2 else None
    if isinstance(X, Columns) and not isinstance(X.first, zarr.Array):
        if any(map(is_lazy, X.parts.values())):
            return lazy_beside(list(_lazy_columns(X, "X").values())), X.columns
    elif is_data_array(X) and is_lazy(X):
        check_dimensions(X, "X")
        return _as_dask(values_of(X, "X")), feature_names(X)
    return (X, None) if isinstance(X, da.Array) else None


def _as_dask(array: np.ndarray | da.Array) -> da.Array:
    return array if isinstance(array, da.Array) else da.from_array(array, name=False)


# ------------------------------------------------------------------------------- Zarr


def _member(group: zarr.Group, name: str) -> zarr.Array:
    wanted = kind_of(name)
    for key in (name, wanted):
        array = member(group, key)
        if isinstance(array, zarr.Array):
            refuse_packed(array, f"{name}: the array {key!r} of the Zarr group {group.store_path}")
            return array
    raise InputError(
        f"{name}: the Zarr group {group.store_path} has no array called {wanted!r}; it has "
        f"{sorted(group.array_keys())}. Give the path of the array itself."
    )


# ------------------------------------------------------------------------------- Dask


def _from_dask(array: da.Array, name: str, columns: list[str] | None = None) -> Source | da.Array:
    refuse_sparse(array._meta, name)
    if any(np.isnan(size) for size in array.shape):
        raise InputError(
            f"{name} is a Dask array of unknown chunk sizes (shape {array.shape}). "
            f"Call {name}.compute_chunk_sizes() first."
        )
    check_array(array, name)
    array = _plain(array, name)
    if array.ndim == 2 and array.numblocks[1] > 1:
        raise InputError(
            f"{name} has chunks across columns ({array.numblocks[1]} blocks), and a block must "
            f"hold whole rows. Call {name}.rechunk({{1: -1}}) first."
        )
    source = read_through(array, name)
    if isinstance(source, MemorySource):
        return from_memory(source.array, name, columns)
    if source is None or array.dtype.kind == "O":  # staging holds objects to be text
        return array
    source.columns = columns or source.columns
    return source


def _plain(array: da.Array, name: str) -> da.Array:
    """The array without masks; computing it raises if they hide anything."""
    if not isinstance(array._meta, np.ma.MaskedArray):
        return array
    plain = np.empty((0,) * array.ndim, array.dtype)
    return da.map_blocks(_unmasked, array, name, dtype=array.dtype, meta=plain)


def _unmasked(block: np.ndarray, name: str, block_info: Any = None) -> np.ndarray:
    refuse_masked(block, name, first_row(block_info))
    return np.ma.getdata(block)


def first_row(block_info: Any) -> int:
    """Where a block of ``map_blocks`` begins in its array; 0 where that is not known."""
    start = block_info[0]["array-location"][0][0] if block_info else 0
    return 0 if np.isnan(start) else int(start)


def _frame_to_dask(frame: Any, name: str) -> da.Array:
    check_columns(frame, name)
    if frame.ndim == 1 and getattr(frame.dtype, "kind", "O") not in "biuf":
        frame = frame.astype(object)
    lengths = frame.map_partitions(len).compute(scheduler=scheduler_of_here())
    return frame.to_dask_array(lengths=list(lengths))

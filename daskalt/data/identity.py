"""Whether arrays are one and the same, decided without reading what is stored."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

from daskalt.data.graphs import read_through
from daskalt.data.labelled import feature_names, is_data_array, is_lazy, values_of
from daskalt.data.readers import ZarrSource

__all__ = ["is_same", "names_of", "place_of", "stored_at"]


def place_of(stored: zarr.Array | zarr.Group) -> str:
    """Return where an array or group is stored, however its path was written."""
    store = stored.store
    if isinstance(store, zarr.storage.LocalStore):
        return str((Path(store.root) / stored.path).resolve())
    if not isinstance(store, zarr.storage.FsspecStore):
        return str(stored.store_path).rstrip("/")
    system, place = getattr(store.fs, "sync_fs", store.fs), f"{store.path}/{stored.path}"
    if "file" in system.protocol:
        return str(Path(place).resolve())
    return f"{hash(system)} {place.rstrip('/')}"


def stored_at(array: Any) -> str | None:
    """Return the place of the Zarr array whose values an array has as they are, if there is one."""
    if isinstance(array, zarr.Array):
        return place_of(array)
    if is_data_array(array):
        return stored_at(values_of(array, "y")) if array.ndim and is_lazy(array) else None
    source = read_through(array, "y") if isinstance(array, da.Array) and array.ndim else None
    return place_of(source.array) if isinstance(source, ZarrSource) else None


def is_same(array: Any, variable: Any) -> bool:
    """Say whether an array shares the values of an xarray variable."""
    mine, others = _held(array), variable._data
    if isinstance(mine, da.Array) and isinstance(others, da.Array):
        return mine.name == others.name
    if isinstance(mine, np.ndarray) and isinstance(others, np.ndarray):
        return _layout(mine) == _layout(others)
    return mine is others


def _held(array: Any) -> Any:
    return array.variable._data if is_data_array(array) else array


def _layout(array: np.ndarray) -> tuple:
    """Address, shape, strides and type of the values of an array in memory."""
    facts = array.__array_interface__
    return facts["data"][0], array.shape, array.strides, array.dtype


def names_of(array: Any) -> list[str]:
    """Return the names of an array and of its columns, if they have any."""
    if isinstance(array, zarr.Array):
        return [place_of(array).rpartition("/")[2]]
    if isinstance(array, da.Array):
        return []  # its name is that of a task
    labels = feature_names(array) if is_data_array(array) else getattr(array, "columns", None)
    names = [getattr(array, "name", None), *(() if labels is None else labels)]
    return [name for name in names if isinstance(name, str)]

"""Temporary copies in Zarr: of tables, and of Dask arrays, which each pass would recompute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from daskalt.compute.graph import scheduler_of_here
from daskalt.data.decoded import KEPT_BYTES
from daskalt.data.readers import Source, StoredSource, ZarrSource
from daskalt.data.table import Table, good_rows
from daskalt.data.writers import MEMORY_BYTES, as_stored, table_layout, write_blocks
from daskalt.errors import InputError
from daskalt.storage.groups import PatientArray, new_group
from daskalt.storage.scratch import TemporaryStore
from daskalt.storage.store import storage_errors

__all__ = [
    "Promised",
    "copy_to_scratch",
    "promise",
    "promised_copy",
    "stage",
    "staged_bytes",
]


def stage(
    arrays: Mapping[str, da.Array],
    scratch: str | Path | None = None,
    *,
    columns: list[str] | None = None,
) -> dict[str, ZarrSource]:
    """Write Dask arrays of equal rows to one temporary Zarr group, and return its arrays.

    All are computed together by the active scheduler, block by block, so that work they share is
    done once and nothing is gathered. Chunks follow from the shape of the first array, not from
    the Dask chunks. The group is removed when the returned sources are.

    Parameters
    ----------
    arrays : mapping of str to dask.array.Array
        Arrays of known shape, with one block across the columns.
    scratch : str, Path or None
        Folder or URL for the copies, which all workers can reach; None for the system's
        temporary folder.
    columns : list of str, optional
        Names of the columns of ``X``.
    """
    first = next(iter(arrays.values()))
    rows = good_rows(first.shape[0], _dask_row_bytes(first))
    store = TemporaryStore(scratch)
    with new_group(store.location) as group:
        targets = []
        for name, array in arrays.items():
            attributes = {"columns": columns} if columns and name == "X" else None
            target = group.create(name, array.shape, array.dtype, rows, attributes)
            targets.append(PatientArray(target))
        blocks = [_whole_chunks(array, rows) for array in arrays.values()]
        with storage_errors(store.location):
            here = scheduler_of_here()
            da.store(blocks, targets, lock=False, scheduler=here)  # type: ignore[arg-type]
    sources = {name: ZarrSource(store.location, name, name) for name in arrays}
    for source in sources.values():
        source.keeper = store
    return sources


class Promised(StoredSource):
    """Rows that are still to be computed or copied, as they will be in Zarr."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype, chunk_rows: int) -> None:
        self.name = name
        self.shape = tuple(map(int, shape))
        self.dtype = np.dtype(dtype)
        self.chunk_rows = min(chunk_rows, max(1, self.shape[0]))

    @property
    def kept(self) -> bool:
        """Whether the copy will stay decoded, being small."""
        return self.dtype.kind not in "OT" and self.nbytes <= KEPT_BYTES

    def read(self, start: int, stop: int) -> np.ndarray:
        """Raise: there are no rows yet."""
        raise InputError(f"{self.name} is not computed yet.")


def promise(arrays: Mapping[str, Any], columns: list[str] | None = None) -> dict[str, Source]:
    """Return the sources that `stage` or `copy_to_scratch` would make, without rows."""
    first = next(iter(arrays.values()))
    rows = good_rows(first.shape[0], _dask_row_bytes(first))
    promised: dict[str, Source] = {
        name: Promised(name, array.shape, array.dtype, rows) for name, array in arrays.items()
    }
    if columns and "X" in promised:
        promised["X"].columns = columns
    return promised


def promised_copy(table: Table) -> Table:
    """Return the table that `copy_to_scratch` would make, without its rows."""
    promised = promise(table.present, table.X.columns)
    return as_stored(promised)


def _dask_row_bytes(array: Any) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def _whole_chunks(array: da.Array, rows: int) -> da.Array:
    """``array`` in blocks that own whole Zarr chunks: a shared chunk would lose rows silently."""
    block = max(1, max(array.chunks[0]) // rows) * rows
    array = array.rechunk({0: block})
    return da.map_blocks(_text, array, dtype=array.dtype) if array.dtype.kind == "O" else array


def _text(block: np.ndarray) -> np.ndarray:
    if set(map(type, block.ravel())) - {str, np.str_}:
        raise InputError("y holds objects that are not text. Convert it, e.g. y.astype(str).")
    return block


def copy_to_scratch(table: Table, scratch: str | Path | None, seed: int | None) -> Table:
    """Return a temporary copy of a table in Zarr, shuffled unless ``seed`` is None.

    The copy is removed when the returned table's sources are.
    """
    store = TemporaryStore(scratch)
    layout, blocks = table_layout(table, store.location, MEMORY_BYTES)
    copy = write_blocks(blocks, layout, store.location, seed=seed)
    for source in copy.present.values():
        source.keeper = store
    return copy


def staged_bytes(table: Table) -> int:
    """Return the bytes of the table's arrays that are temporary copies."""
    copies = [
        source
        for source in table.present.values()
        if getattr(source, "keeper", None) is not None or isinstance(source, Promised)
    ]
    return sum(source.nbytes for source in copies)

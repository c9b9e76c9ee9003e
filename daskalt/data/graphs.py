"""Dask arrays that are only views of stored rows, read where they are stored, not staged."""

import operator
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import zarr
from dask.array import chunk
from dask.array.core import getter, getter_inline, getter_nofancy

from daskalt.data.columns import ColumnsSource
from daskalt.data.readers import MemorySource, SlicedSource, Source, StackedSource, ZarrSource

__all__ = ["read_through"]

GETTERS = (getter, getter_inline, getter_nofancy)
SLICERS = (operator.getitem, chunk.getitem)


class Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a stored array, or each of them flattened."""

    storage: Any
    start: int
    stop: int
    flat: bool = False

    @property
    def columns(self) -> tuple[int, ...]:
        """The shape of a row."""
        shape = tuple(self.storage.shape[1:])
        return (prod(shape),) if self.flat else shape


def read_through(array: da.Array, name: str) -> Source | None:
    """The source whose rows are those of ``array``, or None where anything is computed.

    Recognised are arrays straight from ``da.from_zarr`` or ``da.from_array``, or of variables that
    xarray leaves as they are stored; their contiguous ranges of rows; rows flattened, as xarray's
    ``stack`` does; and blocks that are in memory already (``persist`` on threads). Every block is
    checked to be exactly the rows it should be; anything else, however harmless, gives None.
    """
    if any(count != 1 for count in array.numblocks[1:]):
        return None
    try:
        graph = dict(array.__dask_graph__())
        pieces = [_piece(graph, _first_key(array, i)) for i in range(array.numblocks[0])]
    except Exception:  # a graph of a kind this code does not know: staging always works
        return None
    found = [piece for piece in pieces if piece is not None]
    if len(found) < len(pieces) or not _fit(found, array):
        return None
    source = _memory(found, name) or _stored(found, name)
    return source if source is not None and source.dtype == array.dtype else None


def _first_key(array: da.Array, row_block: int) -> tuple:
    return (array.name, row_block, *(0 for _ in array.shape[1:]))


def _piece(graph: dict, key: Any) -> Piece | None:
    """The rows that the task under ``key`` reads, if it does nothing else."""
    task = _value(graph, graph[key])
    if isinstance(task, np.ndarray):
        return Piece(task, 0, len(task))
    if getattr(task, "func", None) in GETTERS:
        # What follows, a lock and whether to convert, changes nothing for the storage known here.
        storage, index = (_value(graph, argument) for argument in task.args[:2])
        return _rows_of(_unwrap_xarray(storage), index)
    if getattr(task, "func", None) in SLICERS:
        return _rows_of(_piece(graph, task.args[0].key), _value(graph, task.args[1]))
    if getattr(getattr(task, "func", None), "method", None) == "reshape":  # a methodcaller
        return _flat(_piece(graph, task.args[0].key), _value(graph, task.args[1]))
    return None


def _flat(piece: Piece | None, shape: Any) -> Piece | None:
    """The same rows with their columns in one dimension, if that shape is wanted."""
    if piece is None or tuple(shape) != (piece.stop - piece.start, prod(piece.columns)):
        return None
    return piece._replace(flat=True)


def _rows_of(piece: Piece | None, index: Any) -> Piece | None:
    """The rows of ``piece`` that ``index`` picks, when it picks a range of whole rows."""
    if piece is None:
        return None
    index = index if isinstance(index, tuple) else (index,)
    columns = piece.columns
    if len(index) != 1 + len(columns) or not all(map(_whole, index[1:], columns)):
        return None
    if not isinstance(index[0], slice):
        return None
    start, stop, step = index[0].indices(piece.stop - piece.start)
    if step != 1 or stop < start:
        return None
    return piece._replace(start=piece.start + start, stop=piece.start + stop)


def _unwrap_xarray(storage: Any) -> Piece | None:
    """The rows under xarray's lazy wrappers, if these do not change a row."""
    if not type(storage).__module__.startswith("xarray."):
        return Piece(storage, 0, storage.shape[0])
    kind = type(storage).__name__
    if kind == "ZarrArrayWrapper":
        return _unwrap_xarray(storage._array)
    if kind == "LazilyIndexedArray":
        return _rows_of(_unwrap_xarray(storage.array), storage.key.tuple)
    if kind in ("ImplicitToExplicitIndexingAdapter", "CopyOnWriteArray", "MemoryCachedArray"):
        return _unwrap_xarray(storage.array)
    return None


def _value(graph: dict, item: Any) -> Any:
    """``item`` with references followed to what they stand for."""
    for _ in range(1000):
        if hasattr(item, "target"):  # Alias
            item = graph[getattr(item.target, "key", item.target)]
        elif type(item).__name__ == "TaskRef":
            item = graph[item.key]
        elif type(item).__name__ == "DataNode":
            item = item.value
        elif isinstance(item, tuple) and isinstance(item[0], str) and item in graph:
            item = graph[item]  # a bare key, as concatenate leaves them
        else:
            return item
    raise RecursionError("references in a circle")


def _whole(index: Any, size: int) -> bool:
    return isinstance(index, slice) and index.indices(size) == (0, size, 1)


def _fit(pieces: list[Piece], array: da.Array) -> bool:
    """Whether each piece has the rows and columns of its block."""
    return all(
        piece.stop - piece.start == rows and piece.columns == array.shape[1:]
        for piece, rows in zip(pieces, array.chunks[0], strict=True)
    )


def _memory(pieces: list[Piece], name: str) -> Source | None:
    if not all(type(piece.storage) in (np.ndarray, np.memmap) for piece in pieces):
        return None
    whole = _one_range(pieces)
    if whole is not None:
        return _rows_in_memory(whole, name)
    return StackedSource([_rows_in_memory(piece, name) for piece in pieces], name)


def _rows_in_memory(piece: Piece, name: str) -> MemorySource:
    rows = piece.storage[piece.start : piece.stop]
    return MemorySource(rows.reshape(len(rows), *piece.columns), name)


def _stored(pieces: list[Piece], name: str) -> Source | None:
    whole = _one_range(pieces)
    if whole is None or not isinstance(whole.storage, zarr.Array):
        return None
    source: Source = ZarrSource(whole.storage, name=name)
    if source.shape[0] != whole.storage.shape[0]:  # resized since Dask opened it
        return None
    if whole.flat:
        source = ColumnsSource([source], name)
    if (whole.start, whole.stop) == (0, len(source)):
        return source
    return SlicedSource(source, whole.start, whole.stop)


def _one_range(pieces: list[Piece]) -> Piece | None:
    """The contiguous rows of one storage that the pieces make up, if they do."""
    storage, flat = pieces[0].storage, pieces[0].flat
    if any(piece.storage is not storage or piece.flat != flat for piece in pieces):
        return None
    if any(a.stop != b.start for a, b in pairwise(pieces)):
        return None
    return Piece(storage, pieces[0].start, pieces[-1].stop, flat)

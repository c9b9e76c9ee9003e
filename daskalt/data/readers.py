"""Rows of one array, wherever it lies: in memory, in a Zarr store, or in several pieces."""

import threading
import uuid
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from daskalt.data.chunks import (
    WHOLE,
    broken_chunks,
    check_seal,
    chunks_of_rows,
    is_whole,
    missing_chunks,
    named,
    refuse_code,
)
from daskalt.data.retries import patiently
from daskalt.errors import DaskaltError, InputError, StorageError

__all__ = ["MemorySource", "SlicedSource", "Source", "StackedSource", "ZarrSource"]


class Source(ABC):
    """Rows of a one- or two-dimensional array, read a range at a time.

    Attributes
    ----------
    name : str
        What messages call the array: ``"X"``, ``"y"``.
    shape : tuple of int
        Rows, then columns where there are any.
    dtype : numpy.dtype
        Type of the rows as stored, in native byte order. Text of varying width is
        ``numpy.dtypes.StringDType`` here, and is read as fixed-width text.
    chunk_rows : int or None
        Rows that are cheap to read together; None when any range is.
    offset : int
        Rows of the store that lie before row 0: chunk boundaries are where
        ``(row + offset) % chunk_rows == 0``.
    columns : list of str or None
        Names of the columns, where the data has them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk_rows: int | None = None
    offset: int = 0
    keeper: Any = None  # holds a temporary copy in place while this source is in use
    columns: list[str] | None = None

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` as a C-contiguous array of the stored type."""

    @property
    def in_memory(self) -> bool:
        """Whether the rows are in the memory of this process."""
        return False

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows at the indices ``rows``, in that order; each chunk is read once."""
        rows = rows.astype(np.int64)
        owner = (rows + self.offset) // (self.chunk_rows or max(1, len(self)))
        order = np.argsort(owner, kind="stable")
        parts = []
        for members in np.split(rows[order], np.flatnonzero(np.diff(owner[order])) + 1):
            first, last = (int(members.min()), int(members.max())) if len(members) else (0, -1)
            parts.append(self.read(first, last + 1)[members - first])
        read = np.concatenate(parts)
        result = np.empty_like(read)
        result[order] = read
        return result

    @property
    def kept(self) -> bool:
        """Whether rows once read from storage stay in the memory of the process."""
        return False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (16 a value for text of varying width, the size of its handle)."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype})"


def native(dtype: Any) -> np.dtype:
    """``dtype`` in the byte order of this machine."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def _contiguous(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "T":
        # Fixed-width text sorts and compares faster than StringDType, and scikit-learn knows it.
        width = int(np.strings.str_len(rows).max()) if rows.size else 1
        dtype = np.dtype(f"U{max(width, 1)}")
    return np.ascontiguousarray(rows, dtype=dtype)


class MemorySource(Source):
    """Rows of a NumPy array."""

    def __init__(
        self, array: np.ndarray, name: str = "X", columns: list[str] | None = None
    ) -> None:
        self.array = array
        self.name = name
        self.columns = columns
        self.shape = array.shape
        self.dtype = native(array.dtype)

    @property
    def in_memory(self) -> bool:
        return True

    def read(self, start: int, stop: int) -> np.ndarray:
        return _contiguous(self.array[start:stop], self.dtype)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return _contiguous(self.array[rows], self.dtype)


class ZarrSource(Source):
    """Rows of a Zarr array, opened once in each process; pickles as an address.

    Parameters
    ----------
    store : str, Path, zarr store or zarr.Array
        Where the store is: a path, an fsspec URL, or an open store. A zarr.Array is read at its
        address; only one held in memory travels with its data.
    path : str
        Path of the array within the store.
    name : str
        What messages call the array.

    Raises
    ------
    StorageError
        When the store or the array cannot be opened, or rows cannot be read. Damaged chunks are
        named. So are missing ones in arrays that daskalt wrote; in others, where empty chunks may
        have been left out, Zarr reads them as the fill value.
    InputError
        When reading the array could run code.
    """

    def __init__(self, store: Any, path: str = "", name: str = "X") -> None:
        self.name = name
        array = store if isinstance(store, zarr.Array) else None
        if array is not None:
            refuse_code(array, name)
            store, path = array.store, array.path
        self.store = _address(store)
        self.path = path.strip("/")
        self._kept = array if isinstance(self.store, zarr.storage.MemoryStore) else None
        self._token = uuid.uuid4().hex
        self.keeper: Any = None  # lives as long as a temporary store is needed
        array = self.array
        self.shape = tuple(array.shape)
        self.dtype = native(array.dtype)
        rows = (array.shards or array.chunks)[:1]
        self.chunk_rows = int(rows[0]) if rows else None
        self.columns = _names(array)
        self.whole = is_whole(array)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"keeper": None}

    @property
    def location(self) -> str:
        """Store and array path, for messages."""
        where = self.store if isinstance(self.store, str) else str(self.store)
        return f"{where}/{self.path}" if self.path else where

    @property
    def array(self) -> zarr.Array:
        """The open array of this process."""
        if self._kept is not None:
            return self._kept
        return _OPEN_ARRAYS.get(self._token, self._open)

    def _open(self) -> zarr.Array:
        what = f"{self.name}: opening the Zarr array at {self.location}"
        try:
            array = patiently(what, zarr.open_array, self.store, path=self.path, mode="r")
            check_seal(array)
        except DaskaltError:
            raise
        except Exception as error:
            raise StorageError(
                f"{self.name}: no readable Zarr array at {self.location} ({error}). "
                "Check the path, and that every machine that trains can reach it."
            ) from error
        refuse_code(array, self.name)
        return array

    @property
    def kept(self) -> bool:
        return self.nbytes <= KEPT_BYTES

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.kept:
            return _decoded(self).read(start, stop)
        return self.decode(start, stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return _decoded(self).read_rows(rows) if self.kept else super().read_rows(rows)

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` from the store itself."""
        what = f"{self.name}: reading rows {start} to {stop} of {self.location}"
        array = self.array
        try:
            rows = np.asarray(patiently(what, array.__getitem__, slice(start, stop)))
        except (MemoryError, DaskaltError):
            raise
        except Exception as error:
            raise StorageError(
                f"{self.name}: rows {start} to {stop} of {self.location} cannot be read "
                f"({self._culprits(start, stop)}): {type(error).__name__}: {error}. "
                "The store is damaged or out of reach; write it again or restore it."
            ) from error
        if self.whole:
            self._refuse_missing(start, stop)
        return _contiguous(rows, self.dtype)

    def _culprits(self, start: int, stop: int) -> str:
        keys = broken_chunks(self.array, start, stop)
        return named(keys or [key for key, _ in chunks_of_rows(self.array, start, stop)])

    def _refuse_missing(self, start: int, stop: int) -> None:
        # After the read, which would otherwise have time to meet a chunk just removed.
        what = f"{self.name}: looking for the chunks of {self.location}"
        lost = patiently(what, missing_chunks, self.array, start, stop)
        if lost:
            raise StorageError(
                f"{self.name}: {named(lost)} of {self.location} is missing, which holds some of "
                f"rows {start} to {stop}. The store is damaged; write it again or restore it. (If "
                f"it is a copy by a tool that leaves empty chunks out, remove the attribute "
                f"{WHOLE!r} from the array.)"
            )


def _names(array: zarr.Array) -> list[str] | None:
    names = array.attrs.asdict().get("columns")
    return [str(name) for name in names] if isinstance(names, list) else None


class _Decoded:
    """Few rows of a Zarr array, decoded chunk by chunk as they are asked for."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.size = source.nbytes
        self.rows = np.empty(source.shape, source.dtype)
        self.chunk = source.chunk_rows or max(1, len(source))
        self.piece = max(1, PIECE_BYTES // max(1, self.chunk * source.row_bytes))
        self.there = np.zeros(-(-len(source) // self.chunk), bool)
        self.lock = threading.Lock()

    def read(self, start: int, stop: int) -> np.ndarray:
        first, last = start // self.chunk, -(-stop // self.chunk)
        if not self.there[first:last].all():
            with self.lock:
                self._decode(first, last)
        return _contiguous(self.rows[start:stop], self.source.dtype)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        if len(rows):
            self.read(int(rows.min()), int(rows.max()) + 1)
        return _contiguous(self.rows[rows], self.source.dtype)

    def _decode(self, first: int, last: int) -> None:
        """Decode those of some chunks that are not there, a piece at a time."""
        missing = np.flatnonzero(~self.there[first:last]) + first
        if not len(missing):  # another thread was first
            return
        for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
            for piece in np.array_split(run, -(-len(run) // self.piece)):
                a, b = piece[0] * self.chunk, min((piece[-1] + 1) * self.chunk, len(self.rows))
                self.rows[a:b] = self.source.decode(int(a), int(b))
                self.there[piece] = True


class _Recent:
    """Objects of this process by token, the least recently used dropped first.

    A task unpickles its sources anew: what is dear to make lies here instead.
    """

    def __init__(self, limit: int, size: Callable[[Any], int]) -> None:
        self._limit = limit
        self._size = size
        self._items: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, token: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if token in self._items:
                self._items.move_to_end(token)
                return self._items[token]
        item = make()
        with self._lock:
            item = self._items.setdefault(token, item)
            while len(self._items) > 1 and sum(map(self._size, self._items.values())) > self._limit:
                self._items.popitem(last=False)
        return item


# Opening reads metadata, which is slow on object stores.
_OPEN_ARRAYS = _Recent(256, lambda array: 1)
# An array that fits in what a pass mixes in memory anyway is decoded once, not in every pass.
KEPT_BYTES = 64 << 20
PIECE_BYTES = 16 << 20  # of it that is decoded at once
_KEPT = _Recent(KEPT_BYTES, lambda decoded: decoded.size)


def _decoded(source: Any) -> _Decoded:
    """The rows of a source as this process keeps them."""
    return _KEPT.get(source._token, lambda: _Decoded(source))


def _address(store: Any) -> Any:
    """A path or URL where ``store`` has one that says everything, else the store itself."""
    if isinstance(store, str | Path):
        return str(store)
    if isinstance(store, zarr.storage.LocalStore):
        return str(store.root)
    # Dask opens local paths by way of fsspec, several times slower than Zarr's own local store.
    filesystem = getattr(getattr(store, "fs", None), "sync_fs", None)
    if "file" in np.atleast_1d(getattr(filesystem, "protocol", ())):
        return str(store.path)
    return store


class SlicedSource(Source):
    """Rows ``start`` to ``stop`` of another source, numbered from 0."""

    def __init__(self, source: Source, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(source):
            raise InputError(f"{source.name} has rows 0 to {len(source)}, not {start} to {stop}.")
        self.source = source
        self.start = start
        self.name = source.name
        self.shape = (stop - start, *source.shape[1:])
        self.dtype = source.dtype
        self.chunk_rows = source.chunk_rows
        self.columns = source.columns
        self.offset = 0 if self.chunk_rows is None else source.offset + start
        self._token = uuid.uuid4().hex

    @property
    def in_memory(self) -> bool:
        return self.source.in_memory

    @property
    def kept(self) -> bool:
        return self.source.kept or self._few

    @property
    def _few(self) -> bool:
        """Whether these rows can be kept, but not all of the source."""
        stored = isinstance(self.source, ZarrSource)
        return stored and not self.source.kept and self.nbytes <= KEPT_BYTES

    def read(self, start: int, stop: int) -> np.ndarray:
        # Clipped: a reader must not wander into the rows that the slice leaves out.
        start, stop = (min(row, len(self)) for row in (start, stop))
        return _decoded(self).read(start, stop) if self._few else self.decode(start, stop)

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` from the source."""
        return self.source.read(self.start + start, self.start + stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        if self._few:
            return _decoded(self).read_rows(rows)
        return self.source.read_rows(rows.astype(np.int64) + self.start)


class StackedSource(Source):
    """The rows of several sources, one after the other."""

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        if len({source.shape[1:] for source in sources}) != 1:
            shapes = ", ".join(str(source.shape) for source in sources[:5])
            raise InputError(f"{name}: the pieces differ in their columns: shapes {shapes}.")
        self.sources = tuple(sources)
        self.name = name
        self.starts = np.cumsum([0, *(len(source) for source in sources)]).tolist()
        self.shape = (self.starts[-1], *sources[0].shape[1:])
        self.dtype = native(np.result_type(*(source.dtype for source in sources)))

    def read(self, start: int, stop: int) -> np.ndarray:
        first = bisect_right(self.starts, start) - 1
        parts = []
        for begin, source in zip(self.starts[first:], self.sources[first:], strict=False):
            if begin >= stop:
                break
            parts.append(source.read(max(start - begin, 0), min(stop - begin, len(source))))
        return self._join(parts)

    @property
    def in_memory(self) -> bool:
        return all(source.in_memory for source in self.sources)

    @property
    def kept(self) -> bool:
        return all(source.in_memory or source.kept for source in self.sources)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.int64)
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        edges = np.searchsorted(owner[order], np.arange(len(self.sources) + 1)).tolist()
        parts = []
        for begin, source, (a, b) in zip(
            self.starts[:-1], self.sources, pairwise(edges), strict=True
        ):
            if a < b:
                parts.append(source.read_rows(rows[order[a:b]] - begin))
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return self._join(parts)[inverse]

    def _join(self, parts: list[np.ndarray]) -> np.ndarray:
        if not parts:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if len(parts) == 1:
            return _contiguous(parts[0], self.dtype)
        text = self.dtype.kind == "T"  # read as fixed-width text, whose common width NumPy finds
        return np.concatenate(parts, dtype=None if text else self.dtype)

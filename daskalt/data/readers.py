"""Rows of one array in a Zarr store, or in several pieces."""

import os
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from daskalt.data.decoded import KEPT_BYTES, decoded
from daskalt.data.recent import Recent
from daskalt.data.rows import MemorySource, Source, contiguous, native
from daskalt.data.traces import Trace, take_trace
from daskalt.errors import DaskaltError, InputError, StorageError
from daskalt.storage.chunks import (
    WHOLE,
    broken_chunks,
    check_metadata,
    full_key,
    is_whole,
    keys_of_rows,
    missing_chunks,
    named,
    refuse_code,
)
from daskalt.storage.guard import ChunkGone, Gaps, GuardedStore
from daskalt.storage.retries import patiently

__all__ = ["MemorySource", "SlicedSource", "Source", "StackedSource", "StoredSource", "ZarrSource"]


class StoredSource(Source):
    """Rows that are, or will be, in a Zarr array."""

    @property
    def compressed(self) -> bool:
        """Whether a chunk is held in memory both as stored and decoded."""
        return True

    def decoding_bytes(self, rows: int, threads: int, spare: int = 0) -> int:
        chunk = min(self.chunk_rows or 1, len(self))
        at_once = min(zarr.config.get("async.concurrency"), -(-rows // chunk) + spare)
        pool = min(32, (os.cpu_count() or 1) + 4)  # of Zarr, which all readers share
        copies = 2 if self.compressed else 1
        return copies * min(threads * at_once, pool) * chunk * self.row_bytes


class ZarrSource(StoredSource):
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
        named. So are missing ones in arrays that daskalt wrote, and after `learn` any that
        existed then; before it, Zarr reads missing chunks of other arrays, which may have been left
        out as empty, as the fill value.
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
        self._layout: tuple | None = None
        array = self.array
        self._layout = _layout(array)
        self.shape = tuple(array.shape)
        self.dtype = native(array.dtype)
        rows = (array.shards or array.chunks)[:1]
        self.chunk_rows = int(rows[0]) if rows else None
        self.columns = _names(array)
        self.whole = is_whole(array)
        # What `learn` found: traces in this process, gaps in every process.
        self.trace: Trace | None = None
        self.learnt = (0, 0)  # the rows
        self.gaps = Gaps(0, len(self)) if self.whole else None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"keeper": None, "trace": None}

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

    @property
    def compressed(self) -> bool:
        return bool(self.array.compressors)

    @property
    def lasting(self) -> bool:
        """Whether the rows are in a permanent store, neither a temporary copy nor memory."""
        return self._kept is None and self.keeper is None

    def learn(self, start: int, stop: int) -> Trace:
        """Return which chunks of some rows exist; from now on the loss of one is an error.

        Nothing opened or decoded before is used again. Rows learnt earlier are also looked at
        again.
        """
        if self.trace is not None:
            start, stop = min(start, self.learnt[0]), max(stop, self.learnt[1])
        size = self.chunk_rows or 1
        start, stop = start // size * size, min(-(-stop // size) * size, len(self))
        self._token = uuid.uuid4().hex
        trace = self.look(start, stop)
        if not self.whole:
            missing = trace.missing
            self.gaps = None if missing is None else Gaps.of(start, stop, missing)
        self.learnt, self.trace = (start, stop), trace
        return trace

    def look(self, start: int, stop: int) -> Trace:
        """Return what is known now of the chunks of some rows; none is read."""
        what = f"{self.name}: looking through the chunks of {self.location}"
        try:
            return patiently(what, take_trace, self.array, start, stop)
        except DaskaltError:
            raise
        except Exception as error:
            raise StorageError(f"{what} failed: {type(error).__name__}: {error}.") from error

    def _open(self) -> zarr.Array:
        return self._opened(self.store)

    def _open_guarded(self) -> zarr.Array:
        assert self.gaps is not None
        return self._opened(GuardedStore(self.array, self.gaps))

    def _opened(self, store: Any) -> zarr.Array:
        what = f"{self.name}: opening the Zarr array at {self.location}"
        try:
            array = patiently(what, zarr.open_array, store, path=self.path, mode="r")
            check_metadata(array)
        except DaskaltError:
            raise
        except Exception as error:
            raise StorageError(
                f"{self.name}: no readable Zarr array at {self.location} ({error}). "
                "Check the path, and that every machine that trains can reach it."
            ) from error
        refuse_code(array, self.name)
        if self._layout not in (None, _layout(array)):
            raise StorageError(
                f"{self.name}: the Zarr array at {self.location} was replaced while it was in use: "
                f"shape, type or chunks were {self._layout} and are {_layout(array)}. Train on a "
                "store that nothing writes to."
            )
        return array

    @property
    def kept(self) -> bool:
        return self.nbytes <= KEPT_BYTES

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.kept:
            return decoded(self).read(start, stop)
        return self.decode(start, stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return decoded(self).read_rows(rows) if self.kept else super().read_rows(rows)

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` from the store itself."""
        what = f"{self.name}: reading rows {start} to {stop} of {self.location}"
        array = self._reading(start, stop)
        try:
            rows = np.asarray(patiently(what, array.__getitem__, slice(start, stop)))
        except ChunkGone as gone:
            raise StorageError(self._lost(gone.key, start, stop)) from None
        except (MemoryError, DaskaltError):
            raise
        except Exception as error:
            raise StorageError(
                f"{self.name}: rows {start} to {stop} of {self.location} cannot be read "
                f"({self._culprits(start, stop)}): {type(error).__name__}: {error}. "
                "The store is damaged or out of reach; write it again or restore it."
            ) from error
        return contiguous(rows, self.dtype)

    def _reading(self, start: int, stop: int) -> zarr.Array:
        """The array to read some rows of: where gaps are known, one that notices others."""
        gaps = self.gaps
        if gaps is None or start < gaps.start or stop > gaps.stop:
            return self.array
        return _OPEN_ARRAYS.get(f"{self._token} guarded", self._open_guarded)

    def _culprits(self, start: int, stop: int) -> str:
        keys = broken_chunks(self.array, start, stop)
        return named(keys or list(keys_of_rows(self.array, start, stop)))

    def _lost(self, key: str, start: int, stop: int) -> str:
        """The message for missing chunks, when a read found one."""
        assert self.gaps is not None
        array, known = self.array, self.gaps.keys(self.array)
        lost: list[str] = []
        with suppress(Exception):  # the store may be out of reach by now
            lost = [
                k for k in missing_chunks(array, start, stop) if full_key(array, k) not in known
            ]
        keys = lost or [key.removeprefix(full_key(array, ""))]
        one = len(keys) == 1
        cure = "The store is damaged; write it again or restore it."
        if self.whole:
            cure += (
                " (If it is a copy by a tool that leaves empty chunks out, remove the attribute "
                f"{WHOLE!r} from the array.)"
            )
        else:
            cure = f"{'It was' if one else 'They were'} there at the start. {cure}"
        return (
            f"{self.name}: {named(keys)} of {self.location} {'is' if one else 'are'} missing, "
            f"{'which holds' if one else 'which hold'} some of rows {start} to {stop}. {cure}"
        )


def _layout(array: zarr.Array) -> tuple:
    """Shape, type and chunks of an array, which decide what its bytes mean."""
    return tuple(array.shape), str(array.dtype), tuple(array.chunks), array.shards


def _names(array: zarr.Array) -> list[str] | None:
    names = array.attrs.asdict().get("columns")
    return [str(name) for name in names] if isinstance(names, list) else None


# Opening reads metadata, which is slow on object stores.
_OPEN_ARRAYS = Recent(512, lambda array: 1)


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

    def decoding_bytes(self, rows: int, threads: int, spare: int = 0) -> int:
        return self.source.decoding_bytes(rows, threads, spare)

    @property
    def _few(self) -> bool:
        """Whether these rows can be kept decoded, but not all of the source."""
        stored = isinstance(self.source, ZarrSource)
        return stored and not self.source.kept and self.nbytes <= KEPT_BYTES

    def read(self, start: int, stop: int) -> np.ndarray:
        # Clipped: a reader must not wander into the rows that the slice leaves out.
        start, stop = (min(row, len(self)) for row in (start, stop))
        return decoded(self).read(start, stop) if self._few else self.decode(start, stop)

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` from the source."""
        return self.source.read(self.start + start, self.start + stop)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        if self._few:
            return decoded(self).read_rows(rows)
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

    def decoding_bytes(self, rows: int, threads: int, spare: int = 0) -> int:
        return max(part.reading_bytes(rows, threads, spare) for part in self.sources)

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
            return contiguous(parts[0], self.dtype)
        text = self.dtype.kind == "T"  # read as fixed-width text, whose common width NumPy finds
        return np.concatenate(parts, dtype=None if text else self.dtype)

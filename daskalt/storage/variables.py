"""Row variables z on disk: generation g is read while g + 1 is written.

A store is a Zarr group with two slots, for even and odd generations, each with one array a layer,
in chunks of whole blocks of rows with a checksum. A generation becomes valid with the fit's
checkpoint, which is written last; until then the one before it is complete. So a task that is run
again, or a process that dies, does no harm.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from fsspec.implementations.local import LocalFileSystem

from daskalt.errors import DaskaltError, InputError, StorageError
from daskalt.storage.chunks import (
    broken_chunks,
    check_metadata,
    chunks_of_rows,
    missing_chunks,
    named,
)
from daskalt.storage.groups import NewGroup, PatientArray
from daskalt.storage.retries import patiently
from daskalt.storage.scratch import temporary_place
from daskalt.storage.store import filesystem_of, remove, storage_errors

__all__ = ["ZStore"]

_SLOTS = ("even", "odd")
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.partial$")  # as Zarr names what it will rename
_OWNER = "daskalt_fit"  # attribute: the token of the fit that wrote it
_MARK = "daskalt_z"  # attribute of a group that may be replaced: its last complete generation


@dataclass(frozen=True)
class ZStore:
    """The place of the z of all rows; pickles as an address.

    Attributes
    ----------
    location : str
        Path or fsspec URL.
    rows : int
        Rows that have z.
    names : tuple of str
        Name of each array, such as "z1".
    widths : tuple of int
        Width of each array.
    chunk_rows : int
        Rows of a chunk: one block.
    dtype : str
        Type of z.
    kept : bool
        Whether the store outlives the fit.
    """

    location: str
    rows: int
    names: tuple[str, ...]
    widths: tuple[int, ...]
    chunk_rows: int
    dtype: str
    kept: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)

    @staticmethod
    def place(scratch: Any) -> str:
        """Return a new location under a folder or URL, by default the system's temporary one."""
        return temporary_place(scratch)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of both generations, which is whole chunks, checksums aside."""
        chunk = min(self.chunk_rows, self.rows)
        rows = -(-self.rows // chunk) * chunk
        return 2 * rows * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's variables, of one generation."""
        return sum(self.widths) * np.dtype(self.dtype).itemsize

    def create(self) -> ZStore:
        """Lay out the arrays, in place of an older store, and return the store.

        Raises
        ------
        InputError
            If something else is there, which is never removed.
        """
        filesystem, path = filesystem_of(self.location)
        if filesystem.exists(path) and not self._is_ours():
            raise InputError(
                f"store: {self.location} exists and is no store of z, so it is not replaced. Name "
                "another place, or remove it yourself."
            )
        with storage_errors(self.location):
            for name in (*_SLOTS, "zarr.json"):  # other things may have been put beside them
                remove(filesystem, f"{path}/{name}")
            zarr.create_group(self.location, attributes={_MARK: 0})
            group = NewGroup(self.location, Path(path))
            for slot in _SLOTS:
                for name, width in zip(self.names, self.widths, strict=True):
                    # So a lost chunk is NaN where it is read, and cheap to notice.
                    group.create(
                        f"{slot}/{name}",
                        (self.rows, width),
                        np.dtype(self.dtype),
                        self.chunk_rows,
                        fill_value=np.nan,
                    )
        return self

    def _is_ours(self) -> bool:
        try:
            return _MARK in zarr.open_group(self.location, mode="r").attrs
        except Exception:  # no group at all
            return False

    def read(self, generation: int, start: int, stop: int) -> list[np.ndarray]:
        """Return every array's part for some rows.

        Raises
        ------
        StorageError
            If a chunk is missing or damaged, or the store stays out of reach.
        """
        return [self._part(generation, name, start, stop) for name in self.names]

    def _part(self, generation: int, name: str, start: int, stop: int) -> np.ndarray:
        where = f"{name}, rows {start} to {stop} of generation {generation} in {self.location}"
        try:
            array = self._array(generation, name)
            part = np.asarray(patiently(f"Reading {where}", array.__getitem__, slice(start, stop)))
            lost = self._looks_lost(part, start) and missing_chunks(array, start, stop)
        except (MemoryError, DaskaltError):
            raise
        except Exception as error:
            broken = named(self._broken(generation, name, start, stop))
            raise StorageError(
                f"{where} cannot be read ({broken}): {type(error).__name__}: {error}. The store "
                "is damaged or out of reach: fit again with resume=False."
            ) from error
        if lost:
            raise StorageError(
                f"{where} cannot be read: {named(lost)} of {_SLOTS[generation % 2]}/{name} is "
                "missing. The store is damaged: fit again with resume=False."
            )
        return part

    def _looks_lost(self, part: np.ndarray, start: int) -> bool:
        """Whether a chunk begins with the fill value, as it may if training diverged, too."""
        firsts = np.arange(-(start % self.chunk_rows), len(part), self.chunk_rows).clip(min=0)
        return bool(np.isnan(part[firsts, 0]).any())

    def _broken(self, generation: int, name: str, start: int, stop: int) -> list[str]:
        try:
            array = self._array(generation, name)
        except Exception:  # the array itself
            return []
        keys = [key for key, _ in chunks_of_rows(array, start, stop)]
        return broken_chunks(array, start, stop) or keys

    def write(self, generation: int, start: int, parts: Sequence[np.ndarray]) -> None:
        """Write every array's part for a block, which is whole chunks.

        Raises
        ------
        StorageError
            If the disk is full or refuses.
        """
        with storage_errors(self.location):
            for name, values in zip(self.names, parts, strict=True):
                rows = slice(start, start + len(values))
                PatientArray(self._array(generation, name))[rows] = values

    def sweep(self) -> None:
        """Remove the unfinished files of processes that died while they wrote, if on local disk.

        No other process may write to the store meanwhile.
        """
        filesystem, path = filesystem_of(self.location)
        if not isinstance(filesystem, LocalFileSystem):
            return
        with storage_errors(self.location):
            for folder, _, names in os.walk(path):
                for name in filter(_UNFINISHED.search, names):
                    os.unlink(os.path.join(folder, name))

    def commit(self, generation: int) -> None:
        """Make a generation, now completely written, the valid one."""
        self.flush()
        with storage_errors(self.location):
            group = zarr.open_group(self.location, mode="r+")
            marks = {_MARK: generation, _OWNER: self.token}
            patiently(f"Writing {self.location}", group.update_attributes, marks)

    def flush(self) -> None:
        """Flush what was written to disk, so that it survives a loss of power."""
        if isinstance(filesystem_of(self.location)[0], LocalFileSystem):
            os.sync()

    @property
    def generation(self) -> int | None:
        """The valid generation; None if the store is gone."""
        try:
            return zarr.open_group(self.location, mode="r").attrs[_MARK]  # type: ignore[return-value]
        except Exception:
            return None

    @property
    def mark(self) -> tuple[int, str] | None:
        """The generation that counts, and the token of the fit that wrote it; None if gone."""
        try:
            attributes = zarr.open_group(self.location, mode="r").attrs
            return attributes[_MARK], attributes[_OWNER]  # type: ignore[return-value]
        except Exception:
            return None

    def arrays(self, generation: int) -> list[da.Array]:
        """Return all rows as Dask arrays."""
        return [da.from_zarr(self._array(generation, name)) for name in self.names]

    def remove(self) -> None:
        """Remove the store from disk."""
        with storage_errors(self.location):
            remove(*filesystem_of(self.location))

    def _array(self, generation: int, name: str) -> zarr.Array:
        path = f"{self.location}/{_SLOTS[generation % 2]}/{name}"
        return _opened(path, self.token)


@lru_cache(maxsize=256)
def _opened(path: str, token: str) -> zarr.Array:
    array = patiently(f"Opening {path}", zarr.open_array, path, mode="r+")
    try:
        check_metadata(array)
    except ValueError as error:
        raise StorageError(
            f"{path} cannot be used: {error}. Fit again with resume=False."
        ) from None
    # open_array takes a config too, and ignores it.
    return array.with_config({"write_empty_chunks": True})

"""Per-sample variables on disk: generation g is read while g + 1 is written.

A store is a Zarr group with two slots, for even and odd generations, each with one array a layer,
in chunks of whole blocks of rows with a checksum. What makes a generation count is the fit's
checkpoint, written last; until then the one before it is whole. So a task that is run again, or a
process that dies, does no harm.
"""

from __future__ import annotations

import os
import tempfile
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

from daskalt.data.store import NewGroup, filesystem_of, remove, storage_errors
from daskalt.errors import InputError, StorageError

__all__ = ["ZStore"]

_SLOTS = ("even", "odd")
_MARK = "daskalt_z"  # attribute of a group that may be replaced: its last whole generation


@dataclass(frozen=True)
class ZStore:
    """Where the z of all rows lie; pickles as an address.

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
        parent = str(tempfile.gettempdir() if scratch is None else scratch).rstrip("/")
        return f"{parent}/daskalt-z-{uuid.uuid4().hex[:12]}.zarr"

    @property
    def nbytes(self) -> int:
        """Bytes on disk of both generations, which is whole chunks, checksums aside."""
        chunk = min(self.chunk_rows, self.rows)
        rows = -(-self.rows // chunk) * chunk
        return 2 * rows * sum(self.widths) * np.dtype(self.dtype).itemsize

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
            remove(filesystem, path)
            zarr.create_group(self.location, attributes={_MARK: 0})
            group = NewGroup(self.location, Path(path))
            for slot in _SLOTS:
                for name, width in zip(self.names, self.widths, strict=True):
                    group.create(
                        f"{slot}/{name}", (self.rows, width), np.dtype(self.dtype), self.chunk_rows
                    )
        return self

    def _is_ours(self) -> bool:
        try:
            return _MARK in zarr.open_group(self.location, mode="r").attrs
        except Exception:  # no group at all
            return False

    def read(self, generation: int, start: int, stop: int) -> list[np.ndarray]:
        """Return every array's part for some rows."""
        parts = []
        for name in self.names:
            try:
                parts.append(np.asarray(self._array(generation, name)[start:stop]))
            except Exception as error:
                raise StorageError(
                    f"{name}, rows {start} to {stop} of generation {generation} in "
                    f"{self.location} cannot be read: {type(error).__name__}: {error}. The store "
                    "is damaged or out of reach: fit again without resume."
                ) from error
        return parts

    def write(self, generation: int, start: int, parts: Sequence[np.ndarray]) -> None:
        """Write every array's part for a block, which is whole chunks."""
        with storage_errors(self.location):
            for name, values in zip(self.names, parts, strict=True):
                self._array(generation, name)[start : start + len(values)] = values

    def commit(self, generation: int) -> None:
        """Make a generation, now written whole, the one that counts."""
        with storage_errors(self.location):
            if isinstance(filesystem_of(self.location)[0], LocalFileSystem):
                os.sync()  # a machine that loses power must not keep this mark and lose the rows
            zarr.open_group(self.location, mode="r+").update_attributes({_MARK: generation})

    @property
    def generation(self) -> int | None:
        """The generation that counts; None if the store is gone."""
        try:
            return zarr.open_group(self.location, mode="r").attrs[_MARK]  # type: ignore[return-value]
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
    return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})

"""Zarr groups that appear complete or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from fsspec.implementations.local import LocalFileSystem
from zarr.codecs import Crc32cCodec, ZstdCodec

from daskalt.storage.chunks import mark_whole
from daskalt.storage.folders import whole_folder
from daskalt.storage.retries import patiently
from daskalt.storage.store import refuse_existing, remove, storage_errors

__all__ = ["NewGroup", "PatientArray", "new_group"]


def _make_lock_of_zarr() -> None:
    """Create the lock that guards the start of Zarr's event loop.

    Zarr makes it at first use: two threads that open the first arrays of a process at once may get
    a lock each and start two loops, one of which never runs, and wait for it for ever.
    """
    with suppress(ImportError):
        from zarr.core.sync import _get_lock

        _get_lock()


_make_lock_of_zarr()


class NewGroup:
    """A Zarr group in the making.

    Attributes
    ----------
    root : str
        Path or URL where arrays are written for now.
    folder : Path
        Local folder for intermediate files, removed with the rest.
    """

    def __init__(self, root: str, folder: Path) -> None:
        self.root = root
        self.folder = folder

    def create(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        chunk_rows: int,
        attributes: dict | None = None,
        **options: Any,
    ) -> zarr.Array:
        """A new array in chunks of whole rows, each with a checksum, all of which will be written.

        Floats are not compressed: they hardly shrink, and decoding costs more than reading.
        ``options`` go to ``zarr.create_array``.
        """
        dtype = np.dtypes.StringDType() if dtype.kind in "OUT" else dtype
        checksum: list[Any] = [Crc32cCodec()]
        array = zarr.create_array(
            f"{self.root}/{name}",
            shape=shape,
            dtype=dtype,
            chunks=(min(chunk_rows, max(1, shape[0])), *(max(1, size) for size in shape[1:])),
            compressors=checksum if dtype.kind == "f" else [ZstdCodec(), *checksum],
            attributes=attributes or {},
            # Comparing with zeros costs more than it saves, and no lost chunk may look empty.
            config={"write_empty_chunks": True},
            **options,
        )
        return mark_whole(array)


@contextmanager
def new_group(
    destination: str | Path, *, attributes: dict | None = None, overwrite: bool = False
) -> Iterator[NewGroup]:
    """A group that exists at ``destination`` if the block succeeds, and leaves no trace if not.

    A local group is written beside its destination and renamed. On other file systems, where a
    rename is not one step, the metadata that make the arrays a group are written last.

    Parameters
    ----------
    destination : str or Path
        Path or fsspec URL of the group.
    attributes : dict, optional
        Attributes of the group.
    overwrite : bool
        Whether what is there now may be replaced.

    Raises
    ------
    InputError
        When something is at ``destination`` already.
    StorageError
        When the disk is full or refuses.
    """
    filesystem, path = refuse_existing(destination, overwrite)
    make = _new_local_group if isinstance(filesystem, LocalFileSystem) else _new_remote_group
    with storage_errors(destination), make(filesystem, path, str(destination)) as group:
        yield group
        zarr.create_group(group.root, attributes=attributes or {})


@contextmanager
def _new_local_group(filesystem: Any, path: str, destination: str) -> Iterator[NewGroup]:
    with whole_folder(path) as work:
        group = NewGroup(str(work), work / ".parts")
        group.folder.mkdir()
        yield group
        shutil.rmtree(group.folder)


@contextmanager
def _new_remote_group(filesystem: Any, path: str, destination: str) -> Iterator[NewGroup]:
    remove(filesystem, path)
    with tempfile.TemporaryDirectory(prefix="daskalt-") as folder:
        try:
            yield NewGroup(destination.rstrip("/"), Path(folder))
        except BaseException:
            remove(filesystem, path)
            raise


class PatientArray:
    """Writes whole chunks of a Zarr array, again after transient errors of storage."""

    def __init__(self, array: zarr.Array) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __setitem__(self, key: Any, values: np.ndarray) -> None:
        patiently(f"Writing to {self.array.store_path}", self.array.__setitem__, key, values)

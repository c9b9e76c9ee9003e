"""Zarr stores that appear whole or not at all."""

import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from fsspec.implementations.local import LocalFileSystem
from zarr.codecs import Crc32cCodec, ZstdCodec

from daskalt.data.chunks import seal
from daskalt.data.retries import patiently
from daskalt.errors import DaskaltError, InputError, StorageError

__all__ = [
    "NewGroup",
    "PatientArray",
    "TemporaryStore",
    "absolute",
    "check_space",
    "filesystem_of",
    "new_group",
    "refuse_existing",
    "remove",
    "storage_errors",
    "temporary_place",
]


def _make_lock_of_zarr() -> None:
    """Have the lock there that guards the start of Zarr's event loop.

    Zarr makes it at its first use: two threads that open the first arrays of a process at once may
    get a lock each, then two loops of which one never runs, and wait for it for ever.
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

        Floats are left uncompressed, for they hardly shrink and decoding costs more than reading.
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
            # Comparing with zeros costs more than it saves, and no lost chunk may pass for empty.
            config={"write_empty_chunks": True},
            **options,
        )
        return seal(array)


@contextmanager
def new_group(
    destination: str | Path, *, attributes: dict | None = None, overwrite: bool = False
) -> Iterator[NewGroup]:
    """A group that exists at ``destination`` once the block ends well, and leaves no trace if not.

    A local group is written beside its destination and renamed. On other file systems, where a
    rename is not one step, the metadata that make the arrays a group are written last.

    Parameters
    ----------
    destination : str or Path
        Path or fsspec URL of the group.
    attributes : dict, optional
        Attributes of the group.
    overwrite : bool
        Whether what lies there now may be replaced.

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


def refuse_existing(destination: str | Path, overwrite: bool) -> tuple[Any, str]:
    """The file system and path of a destination; InputError when it is taken."""
    filesystem, path = filesystem_of(destination)
    if not overwrite and filesystem.exists(path):
        raise InputError(
            f"{destination} exists already. Name another place or pass overwrite=True."
        )
    return filesystem, path


@contextmanager
def _new_local_group(filesystem: Any, path: str, destination: str) -> Iterator[NewGroup]:
    final = Path(path)
    work = final.with_name(f".{final.name}.partial")  # a rerun finds it and clears it away
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield NewGroup(str(work / "data"), work)
        if final.is_dir():
            final.rename(work / "replaced")
        else:
            final.unlink(missing_ok=True)
        (work / "data").rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _new_remote_group(filesystem: Any, path: str, destination: str) -> Iterator[NewGroup]:
    remove(filesystem, path)
    with tempfile.TemporaryDirectory(prefix="daskalt-") as folder:
        try:
            yield NewGroup(destination.rstrip("/"), Path(folder))
        except BaseException:
            remove(filesystem, path)
            raise


def remove(filesystem: Any, path: str) -> None:
    """Remove a file or folder, if it is there."""
    with suppress(FileNotFoundError):
        filesystem.rm(path, recursive=True)


def absolute(location: str) -> str:
    """Return a location that means the same in processes that run in another folder."""
    chain, link, last = location.rpartition("::")  # as in zip::store.zip
    return location if "://" in last else f"{chain}{link}{Path(last).expanduser().resolve()}"


def filesystem_of(location: str | Path) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path within it."""
    try:
        return fsspec.core.url_to_fs(str(location))
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"{location}: {error}. Install the fsspec package of this protocol, or check the URL."
        ) from error


@contextmanager
def storage_errors(destination: str | Path) -> Iterator[None]:
    """Turn the operating system's errors while writing into StorageError."""
    try:
        yield
    except DaskaltError:
        raise
    except Exception as error:
        if any(getattr(each, "errno", None) in _FULL for each in _chain(error)):
            raise StorageError(
                f"The disk is full: {destination} cannot be finished, {_free(destination)} bytes "
                "are free. Free some space or name a place with more."
            ) from error
        if not isinstance(error, OSError):
            raise
        raise StorageError(f"Writing {destination} failed: {error}.") from error


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those that it groups, and those that it was raised from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from _chain(member)
        error = error.__cause__ or error.__context__


class PatientArray:
    """Whole chunks of a Zarr array to write, tried again while storage is in passing trouble."""

    def __init__(self, array: zarr.Array) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __setitem__(self, key: Any, values: np.ndarray) -> None:
        patiently(f"Writing to {self.array.store_path}", self.array.__setitem__, key, values)


def check_space(folder: Path, needed: int, destination: str | Path) -> None:
    """Raise StorageError when fewer than ``needed`` bytes are free at ``folder``."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"Writing {destination} needs {needed} bytes of disk at {folder.parent}, and {free} "
            "are free. Free some space or name a place with more."
        )


def _free(destination: str | Path) -> int | str:
    path = Path(filesystem_of(destination)[1])
    existing = next((folder for folder in path.parents if folder.exists()), None)
    return shutil.disk_usage(existing).free if existing else "an unknown number of"


class TemporaryStore:
    """A place for a store, removed when nothing refers to this object any more.

    Parameters
    ----------
    scratch : str, Path or None
        Folder or URL under which the place is; None for the system's temporary folder.
    """

    def __init__(self, scratch: str | Path | None = None) -> None:
        self.location = temporary_place(scratch)
        filesystem, path = filesystem_of(self.location)
        weakref.finalize(self, _discard, filesystem, path, os.getpid())


def _discard(filesystem: Any, path: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the object, not the store
        with suppress(Exception):
            remove(filesystem, path)


def temporary_place(scratch: str | Path | None = None) -> str:
    """Return a new location for a store that is to be removed by this process.

    What processes of this host that are no more left in the same local folder is cleared away.

    Parameters
    ----------
    scratch : str, Path or None
        Folder or URL under which the place is; None for the system's temporary folder.
    """
    parent = str(tempfile.gettempdir() if scratch is None else scratch).rstrip("/")
    filesystem, folder = filesystem_of(parent)
    if isinstance(filesystem, LocalFileSystem):
        _clear_orphans(Path(folder))
    return f"{parent}/daskalt-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.zarr"


def _clear_orphans(folder: Path) -> None:
    # With what new_group makes beside its destination while it writes.
    ours = re.compile(rf"daskalt-{_host()}-(\d+)-[0-9a-f]{{12}}\.zarr")
    work = re.compile(rf"\.{ours.pattern}\.partial")
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = ours.fullmatch(entry.name) or work.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False) and _is_dead(int(match[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


@cache
def _host() -> str:
    """A name for where process ids mean what they mean here: containers have their own."""
    parts = [platform.node()]
    for read in (lambda: os.readlink("/proc/self/ns/pid"), Path("/etc/machine-id").read_text):
        with suppress(OSError):
            parts.append(read())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _is_dead(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no process id at all
        return False
    return False

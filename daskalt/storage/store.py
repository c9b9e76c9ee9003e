"""Paths and URLs, and the errors of writing there."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from daskalt.errors import DaskaltError, InputError, StorageError

__all__ = [
    "absolute",
    "check_space",
    "filesystem_of",
    "refuse_existing",
    "remove",
    "storage_errors",
]


def refuse_existing(destination: str | Path, overwrite: bool) -> tuple[Any, str]:
    """The file system and path of a destination; InputError when it is taken."""
    filesystem, path = filesystem_of(destination)
    if not overwrite and filesystem.exists(path):
        raise InputError(
            f"{destination} exists already. Name another place or pass overwrite=True."
        )
    return filesystem, path


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

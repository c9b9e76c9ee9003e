"""Files and folders that appear complete or not at all."""

import os
import posixpath
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from daskalt.errors import InputError
from daskalt.storage.store import filesystem_of, storage_errors

__all__ = ["check_replaceable", "whole_file", "whole_folder", "write_whole"]


def check_replaceable(folder: str | Path, marks: Sequence[str]) -> None:
    """Raise InputError if ``folder`` holds anything but an older result of daskalt.

    ``marks`` are files that every such result has: any other folder is never removed.
    """
    place = Path(folder)
    if place.is_dir():
        ours = not any(place.iterdir()) or all((place / mark).is_file() for mark in marks)
    else:
        ours = not place.exists()
    if not ours:
        raise InputError(
            f"{folder} exists and holds no {' and '.join(marks)}, so it is not replaced. "
            "Name another place, or remove it yourself."
        )


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling that becomes ``folder`` once the block ends well.

    What is at ``folder`` stays until then. The sibling has a fixed name, so that the next attempt
    removes what a killed process left.

    Raises
    ------
    StorageError
        If the disk is full or refuses.
    """
    final = Path(folder).resolve()
    work = final.with_name(_partial(final.name))
    old = final.with_name(f".{final.name}.replaced")
    with storage_errors(folder):
        if old.exists() and not final.exists():  # killed between the two renames
            old.rename(final)
        _clear(work, old)
        work.mkdir(parents=True)
    try:
        yield work
        with storage_errors(folder):
            if final.exists():
                final.rename(old)
            work.rename(final)
    finally:
        if old.exists() and not final.exists():
            old.rename(final)
        _clear(work, old)


def _clear(*places: Path) -> None:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # a file
            place.unlink()


@contextmanager
def whole_file(
    place: str | Path, mode: str = "wb", *, lasting: bool = False, **options: Any
) -> Iterator[Any]:
    """Yield a new file that is at ``place`` once the block ends well.

    What is there stays until then.

    Parameters
    ----------
    place : str or Path
        Path or fsspec URL; a Path is local.
    mode : str, default="wb"
        As of `open`; ``options`` too.
    lasting : bool
        Whether a local file is flushed to disk by then.
    """
    filesystem, path = _located(place)
    local = isinstance(filesystem, LocalFileSystem)
    folder, name = posixpath.split(path)
    work = posixpath.join(folder, _partial(name))
    try:
        with (open if local else filesystem.open)(work, mode, **options) as file:
            yield file
            if local and lasting:
                file.flush()
                os.fsync(file.fileno())
        (os.replace if local else filesystem.mv)(work, path)
    except BaseException:
        with suppress(Exception):
            filesystem.rm_file(work)
        raise
    if local and lasting:
        _keep_names(folder)


def _located(place: str | Path) -> tuple[Any, str]:
    if isinstance(place, Path):
        return LocalFileSystem(), str(place.absolute())
    return filesystem_of(place)


def _partial(name: str) -> str:
    return f".{name}.partial"


def _keep_names(folder: str) -> None:
    """Flush the names of a folder's files to disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in place of an older one, in one step.

    Raises
    ------
    StorageError
        If the disk is full or refuses; the older file stays.
    """
    with storage_errors(path), whole_file(path, "w", encoding="utf-8") as file:
        file.write(text)

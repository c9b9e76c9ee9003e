"""Folders and files that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daskalt.data.store import storage_errors
from daskalt.errors import InputError

__all__ = ["check_replaceable", "whole_folder", "write_whole"]


def check_replaceable(folder: str | Path, marks: Sequence[str]) -> None:
    """Raise InputError if ``folder`` holds anything but an older result of ours.

    ``marks`` are files that every such result has: a folder of something else is never removed.
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

    Whatever lies at ``folder`` stays until then. The sibling has a fixed name, so that the next
    attempt clears away what a killed process left.

    Raises
    ------
    StorageError
        If the disk is full or refuses.
    """
    final = Path(folder).resolve()
    work = final.with_name(f".{final.name}.partial")
    old = final.with_name(f".{final.name}.replaced")
    with storage_errors(folder):
        if old.exists() and not final.exists():  # killed between the two renames
            old.rename(final)
        for leftover in (work, old):
            shutil.rmtree(leftover, ignore_errors=True)
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
        for leftover in (work, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in place of an older one, in one step.

    Raises
    ------
    StorageError
        If the disk is full or refuses; the older file stays.
    """
    work = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        work.write_text(text, encoding="utf-8")
        os.replace(work, path)

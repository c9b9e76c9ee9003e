"""Temporary places: named after the process that made them, removed once it has ended."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import uuid
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from daskalt.storage.store import filesystem_of, remove

__all__ = ["TemporaryStore", "temporary_place"]


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

    Places that ended processes of this host left in the same local folder are removed.

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
    # Together with the temporary folder of new_group beside its destination.
    ours = re.compile(rf"daskalt-{_host()}-(\d+)-[0-9a-f]{{12}}\.zarr")
    work = re.compile(rf"\.{ours.pattern}\.partial")
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = ours.fullmatch(entry.name) or work.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False) and _is_dead(int(match[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


@cache
def _host() -> str:
    """The name of the namespace of process ids: containers have their own."""
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

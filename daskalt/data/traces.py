"""Traces of stored rows, taken without reading them: metadata, sizes and times of chunks."""

import os
from array import array as numbers
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.core.sync import sync

from daskalt.storage.chunks import (
    full_key,
    keys_of_rows,
    local_folder,
    stored_document,
    stored_keys,
)

__all__ = ["Trace", "changes_between", "found_objects", "take_trace", "trace_of_file"]

# Names in file systems of a tag of the content, and, where there is none, of the time of a change.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class Trace(NamedTuple):
    """What is known of the chunks of some rows, to be compared with a later trace.

    Attributes
    ----------
    document : dict or None
        The metadata as stored, without the attributes; None where there are none.
    archive : tuple or None
        Size and time of the file that holds the whole store, such as a zip file.
    marks : ndarray of shape (chunks, 2) or None
        Size of each chunk, -1 where it is missing, and a mark of its content: its time, or the
        digest of an object store's tags. None where the store cannot be listed.
    """

    document: dict[str, Any] | None
    archive: tuple[int, int] | None
    marks: np.ndarray | None

    @property
    def missing(self) -> np.ndarray | None:
        """Which chunks are not there."""
        return None if self.marks is None else self.marks[:, 0] < 0


def take_trace(array: zarr.Array, start: int, stop: int) -> Trace:
    """Return what is known of the chunks of some rows; reads the metadata, and no chunk.

    In a local folder that is a stat of each file, in an object store one listing. For stores that
    list only keys, the trace says which chunks exist; for those that list nothing, such as plain
    web servers, it has only the metadata.
    """
    document = stored_document(array)
    if document is not None:
        document = {key: value for key, value in document.items() if key != "attributes"}
    return Trace(document, _archive(array), _marks(array, start, stop))


def _archive(array: zarr.Array) -> tuple[int, int] | None:
    if not isinstance(array.store, zarr.storage.ZipStore):
        return None
    return trace_of_file(str(array.store.path))


def _marks(array: zarr.Array, start: int, stop: int) -> np.ndarray | None:
    keys = keys_of_rows(array, start, stop)
    folder = local_folder(array)
    if folder is not None:
        return _pairs(trace_of_file(f"{folder}/{key}") for key in keys)
    if isinstance(array.store, zarr.storage.FsspecStore):
        found = _objects_if_listed(array)
        return None if found is None else _pairs(_digest(found.get(key)) for key in keys)
    there = stored_keys(array)
    return None if there is None else _pairs((0, 0) if key in there else None for key in keys)


def _pairs(marks: Iterator[tuple[int, int] | None]) -> np.ndarray:
    flat = numbers("q")
    for mark in marks:
        flat.extend((-1, 0) if mark is None else mark)
    return np.array(flat, np.int64).reshape(-1, 2)


def trace_of_file(path: str) -> tuple[int, int] | None:
    """Return size and time of change of a file; None where it is not there."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


# ----------------------------------------------------------------------------- object stores


def found_objects(array: zarr.Array) -> dict[str, list[str]]:
    """Return size and tags, or else times, of the objects below an array, by their keys."""
    return sync(_found(array))


def _objects_if_listed(array: zarr.Array) -> dict[str, list[str]] | None:
    found = found_objects(array) if array.store.supports_listing else {}
    # A listing without even the metadata, which has just been read, proves nothing.
    return found if found.keys() & {"zarr.json", ".zarray"} else None


async def _found(array: Any) -> dict[str, Any]:
    root = full_key(array, "").strip("/")
    root = f"{array.store.path}/{root}".strip("/")
    files = array.store.fs
    files.invalidate_cache()  # some answer from a cached listing
    found = await files._find(root, detail=True)
    return {
        name.strip("/").removeprefix(f"{root}/"): trace_of_object(detail)
        for name, detail in found.items()
    }


def trace_of_object(detail: dict[str, Any]) -> list[str]:
    """Return the size of an object with the tags of its content, or else the times of a change."""
    tags = [str(detail[name]) for name in _TAGS if detail.get(name) is not None]
    times = [str(detail[name]) for name in _TIMES if detail.get(name) is not None]
    return [str(detail.get("size")), *(tags or times)]


def _digest(trace: list[str] | None) -> tuple[int, int] | None:
    return None if trace is None else (0, hash(tuple(trace)))  # never leaves the process


# --------------------------------------------------------------------------------- changes


def changes_between(array: zarr.Array, start: int, stop: int, old: Trace, new: Trace) -> str:
    """Return what changed between two traces of the same rows, in words; "" if nothing did."""
    if new.document is None and old.document is not None:
        return "it is gone"
    if new.document != old.document:
        fields = sorted(_changed_fields(old.document or {}, new.document or {}))
        return f"its metadata changed ({', '.join(fields)})"
    if new.archive != old.archive:
        return "its file was written again"
    if old.marks is None:
        return ""
    if new.marks is None:
        return "it can no longer be listed"
    return "; ".join(_changed_chunks(array, start, stop, old.marks, new.marks))


def _changed_fields(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    return (name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _changed_chunks(
    array: zarr.Array, start: int, stop: int, old: np.ndarray, new: np.ndarray
) -> Iterator[str]:
    was, now = old[:, 0] >= 0, new[:, 0] >= 0
    for which, what in (
        (was & ~now, "gone"),
        (was & now & (old != new).any(axis=1), "written again"),
        (~was & now, "added"),
    ):
        if which.any():
            pairs = zip(keys_of_rows(array, start, stop), which.tolist(), strict=True)
            yield _told([key for key, meant in pairs if meant], what)


def _told(keys: list[str], what: str) -> str:
    verb = "is gone" if what == "gone" else f"was {what}"
    if len(keys) == 1:
        return f"chunk {keys[0]} {verb}"
    shown = f"{', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
    return f"{len(keys)} chunks {'are gone' if what == 'gone' else f'were {what}'} ({shown})"

"""A cheap fingerprint of stored rows: does a resumed fit have the same rows?"""

import asyncio
import json
import os
import zlib
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import SuffixByteRequest
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from daskalt.data.columns import ColumnsSource
from daskalt.data.readers import SlicedSource, Source, StackedSource, ZarrSource
from daskalt.data.traces import found_objects, trace_of_file
from daskalt.errors import DaskaltError, StorageError
from daskalt.storage.chunks import full_key, keys_of_rows, local_folder, stored_document
from daskalt.storage.retries import patiently

__all__ = ["checksum", "fingerprint"]

_CHECKSUM_BYTES = 4
_AT_ONCE = 64  # requests to an object store
_BLOCK_BYTES = 64 << 20


def fingerprint(source: Source) -> dict[str, Any]:
    """Return the fingerprint of the rows of a source, as values that JSON can hold.

    It does not depend on where the rows are stored, and reads none where something cheaper will do.

    - Arrays in memory, and Zarr arrays in stores other than folders and fsspec's file systems (in
      memory, zip): the CRC-32 of their content, which reads them once. Notices everything.
    - Zarr arrays whose chunks end in a CRC-32C, as daskalt writes them: the CRC-32 of these
      checksums. Notices any change made through Zarr, and chunks that are gone; a copy elsewhere
      has the same fingerprint, a copy in other chunks has not. Damage to a chunk that leaves its
      checksum unchanged is noticed only when the chunk is read.
    - Other Zarr arrays: the CRC-32 of the keys and sizes of their chunks, with the tags that an
      object store gives to content, or else with the times of their last change. Notices any
      chunk written again, even with the same values; so a copy counts as other data unless it
      keeps the times. Content changed in place with size and time restored is not noticed.

    Parts and stacks of these also include their bounds. Attributes do not count.

    Returns
    -------
    dict
        ``shape``, ``dtype`` and ``chunk_rows`` of the source, and ``content``, 8 hex digits.

    Raises
    ------
    StorageError
        If the store cannot be listed or read.
    """
    return {
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "chunk_rows": source.chunk_rows,
        "content": f"{_content(source):08x}",
    }


def checksum(*arrays: np.ndarray | None) -> int:
    """Return the CRC-32 of some arrays' contents, one after another."""
    total = 0
    for array in arrays:
        if array is not None and array.dtype.kind in "OUT":
            total = zlib.crc32("\0".join(map(str, array.ravel().tolist())).encode(), total)
        elif array is not None:
            total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total


@singledispatch
def _content(source: Source) -> int:
    return _of_rows(source)


def _of_rows(source: Source) -> int:
    """CRC-32 of the rows, block by block."""
    total, rows = 0, max(1, _BLOCK_BYTES // max(1, source.row_bytes))
    for start in range(0, len(source), rows):
        block = source.read(start, min(start + rows, len(source)))
        total = zlib.crc32(checksum(block).to_bytes(4, "big"), total)
    return total


@_content.register
def _of_slice(source: SlicedSource) -> int:
    return _joined([fingerprint(source.source), source.start, len(source)])


@_content.register
def _of_stack(source: StackedSource) -> int:
    return _joined([fingerprint(part) for part in source.sources])


@_content.register
def _of_columns(source: ColumnsSource) -> int:
    return _joined([fingerprint(part) for part in source.sources])


@_content.register
def _of_zarr(source: ZarrSource) -> int:
    array = source.array
    if not isinstance(array.store, zarr.storage.LocalStore | zarr.storage.FsspecStore):
        return _of_rows(source)
    what = f"{source.name}: looking through the chunks of {source.location}"
    try:
        look = _checksums if _has_checksums(array) else _traces
        return _joined([patiently(what, _document, array), *patiently(what, look, array)])
    except DaskaltError:
        raise
    except Exception as error:
        raise StorageError(f"{what} failed: {type(error).__name__}: {error}.") from error


def _joined(parts: Iterable[Any]) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(json.dumps(part, sort_keys=True).encode(), total)
    return total


def _keys(array: zarr.Array) -> list[str]:
    return list(keys_of_rows(array, 0, array.shape[0]))


def _document(array: zarr.Array) -> dict[str, Any]:
    """The metadata as stored, without the attributes."""
    document = stored_document(array) or {}
    return {key: value for key, value in document.items() if key != "attributes"}


# ------------------------------------------------------------------------- stored checksums


def _has_checksums(array: zarr.Array) -> bool:
    """Whether each stored object ends in a checksum of its content; of a shard it is the index."""
    codecs: Any = getattr(array.metadata, "codecs", None)
    return bool(codecs) and isinstance(codecs[-1], Crc32cCodec)


def _checksums(array: zarr.Array) -> list[tuple[str, str | None]]:
    keys = _keys(array)
    folder = local_folder(array)
    if folder is not None:
        ends = [_end_of_file(f"{folder}/{key}") for key in keys]
    else:
        ends = sync(_ends(array, keys))
    return list(zip(keys, ends, strict=True))


def _end_of_file(path: str) -> str | None:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(file).st_size
        return os.pread(file, _CHECKSUM_BYTES, max(0, size - _CHECKSUM_BYTES)).hex()
    finally:
        os.close(file)


async def _ends(array: zarr.Array, keys: list[str]) -> list[str | None]:
    prototype, last = default_buffer_prototype(), SuffixByteRequest(_CHECKSUM_BYTES)
    room = asyncio.Semaphore(_AT_ONCE)

    async def end(key: str) -> str | None:
        async with room:
            content = await array.store.get(full_key(array, key), prototype, last)
        return None if content is None else content.to_bytes().hex()

    return await asyncio.gather(*map(end, keys))


# ---------------------------------------------------------------------------- sizes and times


def _traces(array: zarr.Array) -> list[tuple[str, Any]]:
    """Key and what is known of each chunk without reading it; None where it is not there."""
    keys = _keys(array)
    folder = local_folder(array)
    if folder is not None:
        return [(key, trace_of_file(f"{folder}/{key}")) for key in keys]
    known = found_objects(array)
    return [(key, known.get(key)) for key in keys]

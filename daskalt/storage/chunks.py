"""The stored objects behind rows of a Zarr array: their keys, which exist, which are broken.

A key is the path of a chunk below its array, such as ``c/3/0`` or ``3.0``. Where an array is
sharded, "chunk" means its shards: the objects in the store.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from daskalt.errors import InputError
from daskalt.storage.retries import patiently

__all__ = [
    "WHOLE",
    "broken_chunks",
    "check_metadata",
    "chunks_of_rows",
    "full_key",
    "is_whole",
    "keys_of_rows",
    "local_folder",
    "mark_whole",
    "missing_chunks",
    "named",
    "refuse_code",
    "stored_document",
    "stored_keys",
]

# Attribute of arrays every chunk of which was written, so that a missing one was lost. Its value is
# a digest of the rest of the array's metadata.
WHOLE = "daskalt_whole"

Region = tuple[slice, ...]


def is_whole(array: zarr.Array) -> bool:
    """Say whether a missing chunk was lost, rather than left out as empty."""
    return bool(array.metadata.attributes.get(WHOLE))


def mark_whole(array: zarr.Array) -> zarr.Array:
    """Return a new array, marked as one whose chunks will all be written, with a digest."""
    return array.update_attributes({WHOLE: _digest(stored_document(array) or {})})


def check_metadata(array: zarr.Array) -> None:
    """Raise ValueError if the metadata of a marked array are not those that were written."""
    mark = array.metadata.attributes.get(WHOLE)
    if mark is not None and mark != _digest(stored_document(array) or {}):
        raise ValueError("its metadata are damaged: they are not those that were written")


def stored_document(array: zarr.Array) -> dict[str, Any] | None:
    """Return the metadata as stored, not as this version of Zarr would write them; None if gone.

    In format 2 the attributes lie elsewhere.
    """
    name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    folder = local_folder(array)
    if folder is not None:  # many times faster than by way of Zarr's own thread
        content = _content_of_file(f"{folder}/{name}")
    else:
        stored = sync(array.store.get(full_key(array, name), default_buffer_prototype()))
        content = None if stored is None else stored.to_bytes()
    return None if content is None else json.loads(content)


def _content_of_file(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _digest(document: dict[str, Any]) -> str:
    attributes = {k: v for k, v in document.get("attributes", {}).items() if k != WHOLE}
    text = json.dumps(document | {"attributes": attributes}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def chunks_of_rows(array: zarr.Array, start: int, stop: int) -> Iterator[tuple[str, Region]]:
    """Yield the key of each chunk that holds some of the rows, and the region that it covers."""
    size = array.shards or array.chunks
    for place in _places(array, start, stop):
        region = tuple(slice(i * k, (i + 1) * k) for i, k in zip(place, size, strict=True))
        yield array.metadata.encode_chunk_key(place), region


def keys_of_rows(array: zarr.Array, start: int, stop: int) -> Iterator[str]:
    """Yield the key of each chunk that holds some of the rows."""
    return map(array.metadata.encode_chunk_key, _places(array, start, stop))


def _places(array: zarr.Array, start: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Positions in the grid of the chunks that hold some of the rows."""
    size = array.shards or array.chunks
    stop = min(stop, array.shape[0])
    grid = [range(start // size[0], -(-stop // size[0]))] if stop > start else [range(0)]
    grid += [range(-(-n // k)) for n, k in zip(array.shape[1:], size[1:], strict=True)]
    return product(*grid)


def missing_chunks(array: zarr.Array, start: int, stop: int) -> list[str]:
    """Return the keys of the chunks of some rows that are not in the store."""
    keys = list(keys_of_rows(array, start, stop))
    folder = local_folder(array)
    if folder is not None:
        return [key for key in keys if not os.path.exists(f"{folder}/{key}")]
    there = sync(_all_exist(array, keys))
    return [key for key, found in zip(keys, there, strict=True) if not found]


async def _all_exist(array: zarr.Array, keys: list[str]) -> list[bool]:
    return await asyncio.gather(*(array.store.exists(full_key(array, key)) for key in keys))


def broken_chunks(array: zarr.Array, start: int, stop: int) -> list[str]:
    """Return the keys of the chunks of some rows that cannot be read, each read by itself."""
    broken = []
    for key, region in chunks_of_rows(array, start, stop):
        try:
            array[region]
        except Exception:
            broken.append(key)
    return broken


def stored_keys(array: zarr.Array) -> set[str] | None:
    """Return the keys of all objects below an array, or None where the store cannot list them."""
    folder = local_folder(array)
    keys = set(_files(folder)) if folder is not None else _listed(array)
    # A listing without even the metadata, which has just been read, proves nothing.
    return keys if keys & {"zarr.json", ".zarray"} else None


def _files(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        below = os.path.relpath(place, folder).replace(os.sep, "/")
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def _listed(array: zarr.Array) -> set[str]:
    async def collect() -> list[str]:
        return [key async for key in array.store.list_prefix(prefix)]

    prefix = full_key(array, "")
    if not array.store.supports_listing:
        return set()
    try:
        keys = patiently(f"Listing {array.store_path}", lambda: sync(collect()))
    except Exception:  # plain web servers have no listing
        return set()
    return {key.removeprefix(prefix) for key in keys}


def full_key(array: zarr.Array, key: str) -> str:
    """Return the key within the store of what lies under ``key`` below the array."""
    return f"{array.path}/{key}" if array.path else key


def local_folder(array: zarr.Array) -> str | None:
    """Return the folder that holds an array on a local disk; None when it lies elsewhere."""
    store = array.store
    if not isinstance(store, zarr.storage.LocalStore):
        return None
    return str(Path(store.root) / array.path)


def named(keys: list[str]) -> str:
    """Return some keys for a message, "chunk c/3/0" or "12 chunks: c/3/0, c/4/0, c/5/0, ..."."""
    if len(keys) == 1:
        return f"chunk {keys[0]}"
    return f"{len(keys)} chunks: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"


def refuse_code(array: zarr.Array, name: str) -> None:
    """Raise InputError when decoding a chunk of the array could run code: codecs that unpickle."""
    for codec in _codecs(array.metadata):
        label = str(getattr(codec, "codec_id", "") or getattr(codec, "codec_name", ""))
        label = label or type(codec).__name__
        if "pickle" in label.lower():
            raise InputError(
                f"{name}: the Zarr array at {array.store_path} is encoded by {label}. "
                "Reading pickles can run any code, so it is refused: write the array again with "
                "plain numbers or text."
            )


def _codecs(metadata: Any) -> Iterator[Any]:
    """All codecs of an array in either format, those within shards too."""
    own = getattr(metadata, "codecs", None)
    if own is None:  # Zarr format 2
        own = [*(metadata.filters or ()), metadata.compressor]
    for codec in own:
        yield codec
        yield from _codecs(codec) if getattr(codec, "codecs", None) else ()

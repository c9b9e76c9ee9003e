"""Chunks that are not in a store, where that may be meant: they are warned of, not refused."""

import warnings
from collections.abc import Iterator

from daskalt.data.chunks import chunks_of_rows, named, stored_keys
from daskalt.data.readers import SlicedSource, Source, StackedSource, ZarrSource
from daskalt.data.retries import patiently
from daskalt.errors import MissingChunksWarning

__all__ = ["warn_of_gaps"]


def warn_of_gaps(source: Source) -> None:
    """Warn of chunks of stored rows that are read as the fill value because they are missing.

    Zarr leaves out chunks that hold nothing else unless told otherwise, so this need not be
    damage. Arrays that daskalt wrote are left out: there it is an error, when the chunk is read.

    Warns
    -----
    MissingChunksWarning
        Once for each array.
    """
    for array, start, stop in _stored(source):
        missing = [] if array.whole else _missing(array, start, stop)
        if missing:
            warnings.warn(_message(array, missing), MissingChunksWarning, stacklevel=2)


def _stored(source: Source) -> Iterator[tuple[ZarrSource, int, int]]:
    """The arrays in Zarr that a source reads, and which of their rows."""
    if isinstance(source, ZarrSource):
        yield source, 0, len(source)
    elif isinstance(source, SlicedSource) and isinstance(source.source, ZarrSource):
        yield source.source, source.start, source.start + len(source)
    elif isinstance(source, SlicedSource):  # its bounds are not rows of one array: all of it counts
        yield from _stored(source.source)
    elif isinstance(source, StackedSource):
        for part in source.sources:
            yield from _stored(part)


def _missing(source: ZarrSource, start: int, stop: int) -> list[str]:
    array = source.array
    there = patiently(f"Listing the chunks of {source.location}", stored_keys, array)
    if there is None:
        return []
    return [key for key, _ in chunks_of_rows(array, start, stop) if key not in there]


def _message(source: ZarrSource, missing: list[str]) -> str:
    fill = source.array.fill_value
    return (
        f"{source.name}: {source.location} lacks {named(missing)}, whose rows are read as the fill "
        f"value {fill}. That is right where empty chunks were left out when it was written. If "
        "they were lost, restore them or write the array again; with write_empty_chunks=True (in "
        "zarr, config={'write_empty_chunks': True}) the two can be told apart."
    )

"""Which chunks of stored rows exist when a fit begins, with one warning for missing ones."""

import warnings
from collections.abc import Iterator

from daskalt.data.columns import ColumnsSource
from daskalt.data.readers import SlicedSource, Source, StackedSource, ZarrSource
from daskalt.errors import MissingChunksWarning
from daskalt.storage.chunks import keys_of_rows, named

__all__ = ["learn_chunks", "stored_arrays"]


def learn_chunks(source: Source, *, warn: bool) -> None:
    """Learn which chunks of stored rows exist; from now on the loss of one is an error.

    By default Zarr leaves out chunks that hold nothing but the fill value, so a missing chunk need
    not be damage: its rows are read as the fill value. In arrays that daskalt wrote it is always an
    error, when the chunk is read.

    Parameters
    ----------
    source : Source
        Remembers what is known of its chunks. Temporary copies are left out.
    warn : bool
        Whether to warn of missing chunks.

    Warns
    -----
    MissingChunksWarning
        Once for each array.
    """
    for array, start, stop in stored_arrays(source):
        missing = _learn(array, start, stop)
        if warn and missing:
            warnings.warn(_message(array, missing), MissingChunksWarning, stacklevel=2)


def stored_arrays(source: Source) -> Iterator[tuple[ZarrSource, int, int]]:
    """Yield the Zarr arrays, temporary copies aside, that a source reads, and which rows."""
    if isinstance(source, ZarrSource):
        if source.keeper is None and source.lasting:
            yield source, 0, len(source)
    elif isinstance(source, SlicedSource) and isinstance(source.source, ZarrSource):
        for array, _, _ in stored_arrays(source.source):
            yield array, source.start, source.start + len(source)
    elif isinstance(source, SlicedSource):  # its bounds are not rows of one array: all of it counts
        yield from stored_arrays(source.source)
    elif isinstance(source, StackedSource | ColumnsSource):
        for part in source.sources:
            yield from stored_arrays(part)


def _learn(source: ZarrSource, start: int, stop: int) -> list[str]:
    """The keys of the missing chunks of some rows, where they may have been left out."""
    missing = source.learn(start, stop).missing
    if source.whole or missing is None or not missing.any():
        return []
    first, last, array = *source.learnt, source.array
    own = set(keys_of_rows(array, start, stop))
    pairs = zip(keys_of_rows(array, first, last), missing.tolist(), strict=True)
    return [key for key, gone in pairs if gone and key in own]


def _message(source: ZarrSource, missing: list[str]) -> str:
    fill = source.array.fill_value
    return (
        f"{source.name}: {source.location} lacks {named(missing)}, whose rows are read as the fill "
        f"value {fill}. That is right where empty chunks were left out when it was written. If "
        "they were lost, restore them or write the array again; with write_empty_chunks=True (in "
        "zarr, config={'write_empty_chunks': True}) the two can be told apart."
    )

"""A store that raises when a chunk is gone, where Zarr would return the fill value."""

import zlib
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import WrapperStore

from daskalt.storage.chunks import full_key, keys_of_rows

__all__ = ["ChunkGone", "Gaps", "GuardedStore"]

# Keys that may be absent: the metadata of either format.
_DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


class ChunkGone(Exception):
    """A chunk that should be in the store is not there."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Gaps(NamedTuple):
    """The chunks of some rows that never existed, as a bit for each chunk."""

    start: int
    stop: int
    bits: bytes = b""  # compressed; none where no chunk is missing

    @classmethod
    def of(cls, start: int, stop: int, missing: np.ndarray) -> "Gaps":
        """Return the gaps of some rows from a boolean for each of their chunks."""
        bits = zlib.compress(np.packbits(missing).tobytes()) if missing.any() else b""
        return cls(start, stop, bits)

    def keys(self, array: zarr.Array) -> frozenset[str]:
        """Return the keys within the store of the chunks that were never there."""
        if not self.bits:
            return frozenset()
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.bits), np.uint8))
        keys = keys_of_rows(array, self.start, self.stop)
        found = zip(keys, bits.tolist(), strict=False)  # bits come in eights
        return frozenset(full_key(array, key) for key, missing in found if missing)


class GuardedStore(WrapperStore):
    """The store of an array, whose chunks all exist but for known gaps.

    The read itself notices, so a chunk that is missing only for a moment is noticed too.

    Raises
    ------
    ChunkGone
        When a chunk is read that is not there and is no gap.
    """

    def __init__(self, array: zarr.Array, gaps: Gaps, store: Store | None = None) -> None:
        super().__init__(array.store if store is None else store)
        self._array = array
        self._gaps = gaps

    def with_read_only(self, read_only: bool = False) -> "GuardedStore":
        """Return the same over a store that may, or may not, be written to."""
        store = self._array.store.with_read_only(read_only)
        return GuardedStore(self._array, self._gaps, store)

    @cached_property
    def _known(self) -> frozenset[str]:
        return self._gaps.keys(self._array)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return the content under a key; None only for a gap, or metadata that are not there."""
        return self._checked(key, await super().get(key, *args, **kwargs))

    # Newer versions of Zarr forward these to the store inside, past `get`.

    if hasattr(WrapperStore, "get_sync"):

        def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
            """Return the same as `get` does."""
            inner: Any = super()
            return self._checked(key, inner.get_sync(key, *args, **kwargs))

    if hasattr(WrapperStore, "get_ranges"):

        async def get_ranges(self, key: str, *args: Any, **kwargs: Any) -> Any:
            """Yield parts of what is under a key, of which Zarr takes an absent one for a gap."""
            inner: Any = super()
            try:
                async for group in inner.get_ranges(key, *args, **kwargs):
                    yield group
            except (FileNotFoundError, BaseExceptionGroup) as error:
                if isinstance(error, FileNotFoundError) or error.subgroup(FileNotFoundError):
                    self._checked(key, None)
                raise

    def _checked(self, key: str, content: Any) -> Any:
        if content is None and key.rpartition("/")[2] not in _DOCUMENTS and key not in self._known:
            raise ChunkGone(key)
        return content

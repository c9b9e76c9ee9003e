"""Small arrays that a process decodes once rather than in every pass."""

import threading
from typing import Any

import numpy as np

from daskalt.data.recent import Recent
from daskalt.data.rows import contiguous

__all__ = ["KEPT_BYTES", "PIECE_BYTES", "decoded"]

KEPT_BYTES = 64 << 20  # what a pass mixes in memory anyway
PIECE_BYTES = 16 << 20  # of it that is decoded at once


class _Decoded:
    """Few rows of a Zarr array, decoded chunk by chunk as they are asked for."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.size = source.nbytes
        self.rows = np.empty(source.shape, source.dtype)
        self.chunk = source.chunk_rows or max(1, len(source))
        self.piece = max(1, PIECE_BYTES // max(1, self.chunk * source.row_bytes))
        self.there = np.zeros(-(-len(source) // self.chunk), bool)
        self.lock = threading.Lock()

    def read(self, start: int, stop: int) -> np.ndarray:
        first, last = start // self.chunk, -(-stop // self.chunk)
        if not self.there[first:last].all():
            with self.lock:
                self._decode(first, last)
        return contiguous(self.rows[start:stop], self.source.dtype)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        if len(rows):
            self.read(int(rows.min()), int(rows.max()) + 1)
        return contiguous(self.rows[rows], self.source.dtype)

    def _decode(self, first: int, last: int) -> None:
        """Decode the chunks that are not decoded yet, a piece at a time."""
        missing = np.flatnonzero(~self.there[first:last]) + first
        if not len(missing):  # another thread was first
            return
        for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
            for piece in np.array_split(run, -(-len(run) // self.piece)):
                a, b = piece[0] * self.chunk, min((piece[-1] + 1) * self.chunk, len(self.rows))
                self.rows[a:b] = self.source.decode(int(a), int(b))
                self.there[piece] = True


_KEPT = Recent(KEPT_BYTES, lambda decoded: decoded.size)


def decoded(source: Any) -> _Decoded:
    """Return the rows of a source as this process caches them."""
    return _KEPT.get(source._token, lambda: _Decoded(source))

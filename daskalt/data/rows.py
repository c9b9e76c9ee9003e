"""The interface of rows of one array, and the rows of an array in memory."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

__all__ = ["MemorySource", "Source", "contiguous", "native"]


class Source(ABC):
    """Rows of a one- or two-dimensional array, read a range at a time.

    Attributes
    ----------
    name : str
        Name of the array in messages: ``"X"``, ``"y"``.
    shape : tuple of int
        Rows, then columns where there are any.
    dtype : numpy.dtype
        Type of the rows as stored, in native byte order. Text of varying width is
        ``numpy.dtypes.StringDType`` here, and is read as fixed-width text.
    chunk_rows : int or None
        Rows that are cheap to read together; None when any range is.
    offset : int
        Rows of the store that lie before row 0: chunk boundaries are where
        ``(row + offset) % chunk_rows == 0``.
    columns : list of str or None
        Names of the columns, where the data has them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk_rows: int | None = None
    offset: int = 0
    keeper: Any = None  # holds a temporary copy in place while this source is in use
    columns: list[str] | None = None

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` as a C-contiguous array of the stored type."""

    @property
    def in_memory(self) -> bool:
        """Whether the rows are in the memory of this process."""
        return False

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows at the indices ``rows``, in that order; each chunk is read once."""
        rows = rows.astype(np.int64)
        owner = (rows + self.offset) // (self.chunk_rows or max(1, len(self)))
        order = np.argsort(owner, kind="stable")
        parts = []
        for members in np.split(rows[order], np.flatnonzero(np.diff(owner[order])) + 1):
            first, last = (int(members.min()), int(members.max())) if len(members) else (0, -1)
            parts.append(self.read(first, last + 1)[members - first])
        read = np.concatenate(parts)
        result = np.empty_like(read)
        result[order] = read
        return result

    @property
    def kept(self) -> bool:
        """Whether rows once read from storage stay in the memory of the process."""
        return False

    def decoding_bytes(self, rows: int, threads: int, spare: int = 0) -> int:
        """Return the bytes that reading rows takes in addition to the rows themselves.

        Parameters
        ----------
        rows : int
            Of one call.
        threads : int
            Calls at once.
        spare : int
            Chunks that a call may touch beside those that its rows fill.
        """
        return 0

    def reading_bytes(self, rows: int, threads: int, spare: int = 0, single: bool = False) -> int:
        """Return the bytes of rows that are being read, and of what they are decoded from.

        Where a ``single`` call reads all that a task holds, the memory for the result is taken only
        after the chunks are released.
        """
        if self.in_memory:
            return 0
        block, chunks = threads * rows * self.row_bytes, self.decoding_bytes(rows, threads, spare)
        return max(block, chunks) if single else block + chunks

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (16 a value for text of varying width, the size of its handle)."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype})"


def native(dtype: Any) -> np.dtype:
    """``dtype`` in the byte order of this machine."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def contiguous(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return rows in one piece and of a type; text of varying width as fixed-width text."""
    if dtype.kind == "T":
        # Fixed-width text sorts and compares faster than StringDType, and scikit-learn knows it.
        width = int(np.strings.str_len(rows).max()) if rows.size else 1
        dtype = np.dtype(f"U{max(width, 1)}")
    return np.ascontiguousarray(rows, dtype=dtype)


class MemorySource(Source):
    """Rows of a NumPy array."""

    def __init__(
        self, array: np.ndarray, name: str = "X", columns: list[str] | None = None
    ) -> None:
        self.array = array
        self.name = name
        self.columns = columns
        self.shape = array.shape
        self.dtype = native(array.dtype)

    @property
    def in_memory(self) -> bool:
        return True

    def read(self, start: int, stop: int) -> np.ndarray:
        return contiguous(self.array[start:stop], self.dtype)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return contiguous(self.array[rows], self.dtype)

"""Rows sorted by a key in bounded memory: scattered over files by key, each file sorted alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from daskalt.data.table import Block

__all__ = ["Buckets", "Parted"]


class Parted(NamedTuple):
    """Records of some rows, and the bounds of those of each file."""

    records: np.ndarray
    edges: np.ndarray


class Buckets:
    """Files of rows, bucket b of B holding the keys in [b / B, (b + 1) / B).

    Parameters
    ----------
    folder : Path
        Where the files go; made here.
    arrays : mapping
        Shape and type of a row of "X", "y" and "sample_weight".
    n_rows : int
        Rows to expect.
    memory_bytes : int
        Memory for one bucket with all its copies.
    """

    def __init__(
        self,
        folder: Path,
        arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]],
        n_rows: int,
        memory_bytes: int,
    ) -> None:
        self.names = list(arrays)
        fields = [(name, dtype, shape) for name, (shape, dtype) in arrays.items()]
        self.record = np.dtype([("key", np.float64, ()), *fields])
        self.nbytes = n_rows * self.record.itemsize
        # As read, sorted, as columns, joined to whole chunks, written; the rest is slack.
        self.count = max(1, -(-8 * self.nbytes // memory_bytes))
        self.folder = folder
        self.folder.mkdir()

    def parted(self, block: Block, keys: np.ndarray) -> Parted:
        """Return rows as records, those of one file together, in the order they come."""
        small = np.uint16 if self.count <= 1 << 16 else np.intp  # sorted by digits
        bucket = (keys * self.count).astype(small)
        order = np.argsort(bucket, kind="stable")
        records = np.empty(len(keys), self.record)
        records["key"] = keys
        for name, values in zip(("X", "y", "sample_weight"), block, strict=True):
            if values is not None:
                records[name] = values
        edges = np.searchsorted(bucket[order], np.arange(self.count + 1))
        return Parted(records.take(order), edges)  # faster than an index

    def append(self, parted: Parted) -> None:
        """Append rows to the files that they belong to."""
        records, edges = parted
        for number in np.flatnonzero(np.diff(edges)).tolist():
            # Opened anew each time: there may be more buckets than a process may hold open.
            with self._path(number).open("ab") as file:
                file.write(records[edges[number] : edges[number + 1]].view(np.uint8).data)

    def sorted_blocks(self) -> Iterator[Block]:
        """The rows of one bucket after another, by key, equal keys in the order they came."""
        for number in range(self.count):
            path = self._path(number)
            if path.exists():
                records = np.fromfile(path, self.record)
                path.unlink()
                records = records.take(_stable_order(records["key"].copy()))
                block = self._block(records)
                del records  # else it would stay while the block is written
                yield block

    def _block(self, records: np.ndarray) -> Block:
        columns = {name: np.ascontiguousarray(records[name]) for name in self.names}
        return Block(columns["X"], columns.get("y"), columns.get("sample_weight"))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """The order by key, equal keys as they came; different keys take the fastest sort."""
    order = np.argsort(keys)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(keys, kind="stable")
    return order

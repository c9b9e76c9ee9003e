"""Tables written to Zarr, in their order or shuffled."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from daskalt.compute.bars import Count, counted
from daskalt.data.ahead import ahead, mapped_ahead
from daskalt.data.buckets import Buckets
from daskalt.data.readers import Source, ZarrSource
from daskalt.data.table import Block, Table, good_rows
from daskalt.data.watch import Watch
from daskalt.errors import InputError
from daskalt.storage.groups import NewGroup, PatientArray, new_group
from daskalt.storage.store import check_space, storage_errors

__all__ = ["MEMORY_BYTES", "Layout", "as_stored", "shuffle_to_zarr", "table_layout", "write_blocks"]

MEMORY_BYTES = 256 << 20


@dataclass(frozen=True)
class Layout:
    """Layout of a stored table: its rows, and shape and type of a row of each array."""

    n_rows: int
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]]  # "X", "y", "sample_weight"
    columns: list[str] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of ``X``."""
        shape, dtype = self.arrays["X"]
        return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def shuffle_to_zarr(
    table: Table,
    destination: str | Path,
    *,
    seed: int,
    chunk_rows: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    overwrite: bool = False,
    progress: bool = False,
) -> Table:
    """Write the rows of a table to a Zarr group in a uniformly random order; return the copy.

    Row i goes where ``numpy.random.default_rng(seed).random(n)[i]`` ranks among all: the order
    depends on the seed and the number of rows, not on chunks or memory. One pass over the table
    scatters the rows over files by the size of that number, one over the files sorts each.

    Parameters
    ----------
    table : Table
        Aligned rows.
    destination : str or Path
        Path or fsspec URL of the new group.
    seed : int
        Seed of the order.
    chunk_rows : int, optional
        Rows of a chunk; by default about 4 MiB.
    memory_bytes : int
        Memory to work in, while chunks of the source allow it. The rows are on disk twice
        meanwhile.
    overwrite : bool
        Whether what is at ``destination`` may be replaced.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    InputError
        When something is at ``destination`` already.
    StorageError
        When the disk is too small or a store cannot be read; nothing is left behind.
    """
    layout, blocks = table_layout(table, destination, memory_bytes)
    return write_blocks(
        blocks,
        layout,
        destination,
        seed=seed,
        chunk_rows=chunk_rows,
        memory_bytes=memory_bytes,
        overwrite=overwrite,
        progress=progress,
    )


def table_layout(
    table: Table, destination: str | Path, memory_bytes: int
) -> tuple[Layout, Iterator[Block]]:
    """Layout and blocks of a table that is to be written to ``destination``."""
    _refuse_own_place(table, destination)
    arrays = {name: (a.shape[1:], _fixed_width(a)) for name, a in table.present.items()}
    rows = max(1, memory_bytes // 16 // max(1, table.row_bytes))
    return Layout(table.n_rows, arrays, table.X.columns), _unchanged(table, rows)


def _unchanged(table: Table, rows: int) -> Iterator[Block]:
    """The blocks of a table; after the last, an error if its rows changed meanwhile."""
    watch = Watch(table)
    with watch.explaining():
        yield from (table.read(*bounds) for bounds in table.block_bounds(rows))
    watch.check()


def _refuse_own_place(table: Table, destination: str | Path) -> None:
    place = str(destination).rstrip("/")
    for name, source in table.present.items():
        if isinstance(source, ZarrSource) and f"{source.location}/".startswith(f"{place}/"):
            raise InputError(f"{destination} is where {name} is read from. Name another place.")


def _fixed_width(source: Source) -> np.dtype:
    """The type of a row's record: text needs its greatest width, which one reading finds."""
    if source.dtype.kind not in "OT":
        return source.dtype
    rows = source.chunk_rows or good_rows(len(source), source.row_bytes)
    starts = range(0, len(source), rows)
    return np.result_type(
        *(source.read(a, min(a + rows, len(source))).astype(np.str_).dtype for a in starts)
    )


def write_blocks(
    blocks: Iterable[Block],
    layout: Layout,
    destination: str | Path,
    *,
    seed: int | None,
    chunk_rows: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    overwrite: bool = False,
    progress: bool = False,
) -> Table:
    """Write blocks of rows to a Zarr group, shuffled unless ``seed`` is None, and return that.

    See ``shuffle_to_zarr`` for the other parameters and the errors.
    """
    _check_numbers(seed, chunk_rows)
    attributes = {"daskalt_format": 1, "seed": seed, **layout.attributes}
    rows = chunk_rows or good_rows(layout.n_rows, layout.row_bytes)
    with new_group(destination, attributes=attributes, overwrite=overwrite) as group:
        writer = ChunkWriter(group, layout, rows)
        with storage_errors(destination):
            if seed is not None:
                with counted("reading", layout.n_rows, "rows", progress) as bar:
                    blocks = _shuffled(blocks, layout, group, seed, memory_bytes, bar)
        with (
            counted("writing", layout.n_rows, "rows", progress) as bar,
            storage_errors(destination),
        ):
            for block in ahead(blocks):
                writer.append(block)
                bar.update(len(block.X))
            writer.finish()
    return as_stored({name: ZarrSource(str(destination), name, name) for name in layout.arrays})


def as_stored(sources: Mapping[str, Source]) -> Table:
    """Return the table of the arrays of a group, by their names there."""
    return Table(sources["X"], sources.get("y"), sources.get("sample_weight"))


def _check_numbers(seed: int | None, chunk_rows: int | None) -> None:
    if seed is not None and seed < 0:
        raise InputError(f"seed must be an integer of at least 0; got {seed}.")
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows must be an integer of at least 1, or None; got {chunk_rows}.")


_FIELDS = {"X": "X", "y": "y", "sample_weight": "weight"}


def _shuffled(
    blocks: Iterable[Block],
    layout: Layout,
    group: NewGroup,
    seed: int,
    memory_bytes: int,
    bar: Count,
) -> Iterator[Block]:
    """The rows in random order; all blocks are read before the first comes out."""
    buckets = Buckets(group.folder / "buckets", layout.arrays, layout.n_rows, memory_bytes)
    check_space(group.folder, buckets.nbytes, group.root)
    rng = np.random.default_rng(seed)
    rows = max(1, memory_bytes // 32 // buckets.record.itemsize)
    # One number a row from one stream: how the rows are cut into blocks changes nothing.
    keyed = ((block, rng.random(len(block.X))) for block in _joined(blocks, rows))
    for parted in mapped_ahead(buckets.parted, keyed):
        buckets.append(parted)
        bar.update(len(parted.records))
    return buckets.sorted_blocks()


def _joined(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """Blocks of at least so many rows: each block is scattered over all files."""
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        if sum(len(part.X) for part in waiting) >= rows:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    return Block(*map(_stacked, *blocks))


def _stacked(*parts: Any) -> Any:
    return None if parts[0] is None else np.concatenate(parts)


class ChunkWriter:
    """Appends blocks of any length to new arrays, always whole chunks at a time."""

    def __init__(self, group: NewGroup, layout: Layout, chunk_rows: int) -> None:
        self.n_rows = layout.n_rows
        self.chunk_rows = chunk_rows
        self.row = 0
        self.waiting: list[Block] = []
        self.arrays: dict[str, PatientArray] = {}
        for name, (shape, dtype) in layout.arrays.items():
            columns = {"columns": layout.columns} if layout.columns and name == "X" else None
            shape = (layout.n_rows, *shape)
            array = group.create(name, shape, dtype, chunk_rows, columns)
            self.arrays[_FIELDS[name]] = PatientArray(array)

    def append(self, block: Block) -> None:
        """Write the whole chunks that this block completes; keep the rest."""
        self.waiting.append(block)
        rows = sum(len(part.X) for part in self.waiting)
        if rows >= self.chunk_rows:
            self._write(rows - rows % self.chunk_rows)

    def finish(self) -> None:
        """Write the ragged last chunk."""
        self._write(sum(len(part.X) for part in self.waiting))
        if self.row != self.n_rows:
            raise InputError(
                f"The source held {self.n_rows} rows at first and {self.row} when read again. "
                "Keep it unchanged while it is read."
            )

    def _write(self, rows: int) -> None:
        if self.row + rows > self.n_rows:
            self.row += rows
            return
        rest = {}
        for field_, array in self.arrays.items():
            parts = [getattr(part, field_) for part in self.waiting]
            values = parts[0] if len(parts) == 1 else np.concatenate(parts)
            if rows:
                array[self.row : self.row + rows] = _stored(values[:rows], array)
            rest[field_] = values[rows:].copy()  # a view would keep the whole block
        self.waiting = [Block(**rest)]
        self.row += rows


def _stored(values: np.ndarray, array: PatientArray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=array.dtype)

"""CSV and Parquet files as batches of rows with named columns, of any number of rows."""

import lzma
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from daskalt.data.ahead import mapped_ahead
from daskalt.errors import DaskaltError, InputError, StorageError
from daskalt.ingest.casts import MISSING_MARKS, without_marks
from daskalt.ingest.lines import TOO_LONG, blocks_of_lines
from daskalt.storage.store import filesystem_of

__all__ = ["Batch", "FrameFiles", "Mistyped", "with_gaps"]

BLOCK_BYTES = 2 << 20  # of a CSV file: what is parsed stays in cache
BLOCK_COLUMNS = 250  # more make larger blocks, for each column costs time in each
HEADER_BYTES = 1 << 16
BATCH_VALUES = 1_000_000  # of a Parquet file
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


_TOO_SHORT = "straddling"  # what Arrow says of blocks with no whole row


class Mistyped(Exception):
    """A column of CSV is of another type than was expected."""


class _Ragged(ValueError):
    """A row of a block of CSV has more or fewer fields than the header: row, fields, text."""


class Batch(NamedTuple):
    """Consecutive rows of a file.

    Attributes
    ----------
    file : str
    first : int
        Number of the first row in the file.
    rows : pyarrow.RecordBatch
    """

    file: str
    first: int
    rows: Any


@dataclass(frozen=True)
class FrameFiles:
    """Files of rows with named columns.

    Parameters
    ----------
    files : sequence of str
        Paths or URLs of one kind.
    kind : {"csv", "parquet"}
        Columns of CSV come as text, those of Parquet as they are stored.
    """

    files: Sequence[str]
    kind: str

    def names(self, file: str | None = None) -> list[str]:
        """The columns of a file, by default the first.

        Raises
        ------
        InputError
            When there are none, or two of one name.
        """
        file = file or self.files[0]
        with _understood(file, self.kind):
            if self.kind == "csv":
                _refuse_wide_characters(file)
            names = _csv_names(file) if self.kind == "csv" else _parquet_names(file)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(
                f"{file} has several columns called {twice[0]!r}. {_cure_of_names(names)}"
            )
        if len(names) == 1:
            _refuse_other_separators(file, names[0])
        return names

    def about_rows(self) -> float:
        """About how many rows there are, by the first of them and the size of the files.

        0 where these do not say: for compressed and for Parquet files.
        """
        places = [filesystem_of(file) for file in self.files]
        if self.kind != "csv" or not all(path.lower().endswith(".csv") for _, path in places):
            return 0
        with _understood(self.files[0], self.kind), _stream(self.files[0]) as stream:
            start = bytes(stream.read(1 << 16))
        lines = start.count(b"\n")
        sizes = sum(filesystem.size(path) or 0 for filesystem, path in places)
        return max(0.0, sizes * lines / max(1, len(start)) - len(self.files))

    def first_rows(self, names: Sequence[str]) -> Batch | None:
        """Some rows at the start of CSV files, as text; None where there are none."""
        file = self.files[0]
        with _understood(file, self.kind), _stream(file) as stream:
            lines = next(blocks_of_lines(stream, _block_bytes(names)), b"")
            rows = _parse(0, lines, list(names), [], {})
        return Batch(file, 0, rows) if len(rows) else None

    def batches(
        self,
        names: Sequence[str],
        *,
        literal: Sequence[str] = (),
        types: Mapping[str, Any] | None = None,
    ) -> Iterator[Batch]:
        """All rows in order, with these columns.

        Parameters
        ----------
        names : sequence of str
        literal : sequence of str
            Columns in which marks of missing values in CSV are kept as text.
        types : mapping, optional
            Arrow types of columns of CSV, which are text without. `Mistyped` is raised where a
            value is of another.
        """
        for file in self.files:
            header = self.names(file)
            missing = sorted(set(names) - set(header))
            if missing:
                raise InputError(
                    f"{file} lacks columns {missing} that the first file has. "
                    "Add them, or leave the file out."
                )
            first, read = 0, _read_parquet
            if self.kind == "csv":
                read = partial(_read_csv, header=header, literal=literal, types=types)
            with _understood(file, self.kind):
                for rows in read(file, list(names)):
                    yield Batch(file, first, rows)
                    first += len(rows)


def _cure_of_names(names: list[str]) -> str:
    if any(name == "" or _NUMBER.fullmatch(name) for name in names):
        return (
            "Its first line seems to be no header: write names there, as by "
            "pandas.read_csv(..., header=None).to_csv(..., index=False)."
        )
    return "Rename them."


_NUMBER = re.compile(r"\s*[+-]?\.?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?\s*")


def _refuse_wide_characters(file: str) -> None:
    with _stream(file) as stream:
        start = bytes(stream.read(64))
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        raise InputError(
            f"{file} is no csv file as expected: it seems to be encoded in UTF-16 or UTF-32. Write "
            "it in UTF-8, as by pandas.read_csv(..., encoding='utf-16').to_csv(..., index=False)."
        )


def _refuse_other_separators(file: str, name: str) -> None:
    for mark, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if mark in name:
            raise InputError(
                f"{file}: its one column is called {name!r}, so fields seem to be separated by "
                f"{words}. Write it with commas, as by pandas.read_csv(..., sep={mark!r})"
                ".to_csv(..., index=False)."
            )


# ------------------------------------------------------------------------------- CSV


def _csv_names(file: str) -> list[str]:
    try:
        return _header(file, HEADER_BYTES)
    except ValueError as error:
        if _TOO_SHORT not in str(error):
            raise
    return _header(file, BLOCK_BYTES)


def _header(file: str, size: int) -> list[str]:
    from pyarrow import csv

    read = csv.ReadOptions(block_size=size, use_threads=False)
    parse = csv.ParseOptions(newlines_in_values=True)
    with (
        _stream(file) as stream,
        _ragged_told(with_header=True),
        csv.open_csv(stream, read, parse) as reader,
    ):
        return list(reader.schema.names)


def _read_csv(
    file: str,
    names: list[str],
    header: list[str],
    literal: Sequence[str],
    types: Mapping[str, Any] | None,
) -> Iterator[Any]:
    parse = partial(_parse, names=names, header=header, types=types or {}, marks=not literal)
    with _stream(file) as stream:
        blocks = enumerate(blocks_of_lines(stream, _block_bytes(names)))
        first = 0
        try:
            for rows in mapped_ahead(parse, blocks):
                if len(rows):
                    yield with_gaps(rows, literal) if literal else rows
                first += len(rows)
        except _Ragged as error:
            raise ValueError(_of_ragged(error, first)) from error


def with_gaps(rows: Any, literal: Sequence[str] = ()) -> Any:
    """Rows of text with marks of missing values made missing, except in some columns."""
    import pyarrow

    names = rows.schema.names
    columns = [
        column if name in literal else without_marks(column)
        for name, column in zip(names, rows.columns, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names)


def _parse(
    number: int,
    lines: bytes,
    names: list[str],
    header: list[str],
    types: Mapping[str, Any],
    marks: bool = True,
) -> Any:
    """The rows of a numbered block of a file, the first of which starts with the header."""
    import pyarrow
    from pyarrow import csv

    read = csv.ReadOptions(
        block_size=len(lines) + 1, use_threads=False, column_names=header if number else None
    )
    convert = csv.ConvertOptions(
        # Types follow from all rows, never from the first block alone.
        column_types={**dict.fromkeys(names, pyarrow.string()), **types},
        null_values=MISSING_MARKS,
        strings_can_be_null=marks,
        include_columns=names,
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    with _ragged_told(with_header=number == 0):
        table = csv.read_csv(pyarrow.BufferReader(lines), read, parse, convert)
    return table.combine_chunks().to_batches()[0] if len(table) else table


def _block_bytes(names: Sequence[str]) -> int:
    return BLOCK_BYTES * min(8, 1 + len(names) // BLOCK_COLUMNS)


@contextmanager
def _stream(file: str) -> Iterator[Any]:
    """The bytes of a file, decompressed."""
    import pyarrow

    filesystem, path = filesystem_of(file)
    suffix = re.search(r"(\.\w+)?$", path.lower())[0]  # type: ignore[index]
    with filesystem.open(path, "rb") as handle:
        if suffix == ".xz":
            with lzma.open(handle) as unpacked:
                yield unpacked
        elif suffix in CODECS:
            with pyarrow.CompressedInputStream(handle, CODECS[suffix]) as unpacked:
                yield unpacked
        elif isinstance(filesystem, LocalFileSystem):
            with pyarrow.OSFile(path) as plain:
                yield plain
        else:
            yield handle


# ------------------------------------------------------------------------------- Parquet


def _parquet_names(file: str) -> list[str]:
    with _parquet(file) as parquet:
        return list(parquet.schema_arrow.names)


def _read_parquet(file: str, names: list[str]) -> Iterator[Any]:
    rows = max(1, BATCH_VALUES // len(names))
    with _parquet(file) as parquet:
        for batch in parquet.iter_batches(rows, columns=names):
            yield batch.select(names)


@contextmanager
def _parquet(file: str) -> Iterator[Any]:
    import pyarrow.parquet

    filesystem, path = filesystem_of(file)
    with filesystem.open(path, "rb") as handle, pyarrow.parquet.ParquetFile(handle) as parquet:
        yield parquet


# ------------------------------------------------------------------------------- errors


@contextmanager
def _understood(file: str, kind: str) -> Iterator[None]:
    """Turn errors of the library that reads a file into those of daskalt."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{file}: reading {kind} needs pyarrow. Install it: pip install 'daskalt[dataframe]'."
        ) from error
    try:
        yield
    except DaskaltError:
        raise
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise StorageError(f"{file} cannot be read: {error}.") from error
    except ValueError as error:  # what Arrow raises for malformed files
        if "CSV conversion error" in str(error) and "UTF8" not in str(error):
            raise Mistyped(str(error)) from error
        raise InputError(f"{file} is no {kind} file as expected: {_explained(error)}") from error


_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


@contextmanager
def _ragged_told(*, with_header: bool) -> Iterator[None]:
    """Errors for rows with a wrong number of fields, with the rows counted from 0."""
    try:
        yield
    except ValueError as error:
        ragged = _RAGGED.search(str(error))
        if ragged is None:
            raise
        row = int(ragged[1]) - (2 if with_header else 1)  # Arrow counts from 1, the header too
        raise _Ragged(row, int(ragged[2]), int(ragged[3]), ragged[4]) from error


def _of_ragged(error: _Ragged, first: int) -> str:
    row, expected, found, text = error.args
    more = "more" if found > expected else "fewer"
    return (
        f"row {first + row} (counted from 0) has {more} fields than the header, {found} and not "
        f"{expected}: {text[:80]!r}. Repair it."
    )


def _explained(error: ValueError) -> str:
    text = str(_of_ragged(error, 0) if isinstance(error, _Ragged) else error)
    if "Empty CSV file" in text:
        return "it is empty. Write a line of names and rows below it, or leave the file out."
    if _TOO_SHORT in text or TOO_LONG in text:
        return f"it has a row of more than {BLOCK_BYTES} bytes, or a quote that is never closed."
    if "UTF8" in text or "utf-8" in text:
        return f"{text}. Write it in UTF-8."
    return text

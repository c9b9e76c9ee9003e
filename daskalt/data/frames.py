"""Rows of CSV and Parquet files: read once to learn sizes and types, once more to be stored."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np

from daskalt.data.staging import Layout
from daskalt.data.table import Block
from daskalt.errors import DaskaltError, InputError, StorageError
from daskalt.wording import plural

__all__ = ["FrameFiles"]

SHOWN = 20  # names in a message
BATCH_VALUES = 2_000_000  # about 16 MB of float64 a batch
EXACT_INTEGERS = 2.0**-4  # float32 keeps a millionth of the range of a column this wide


@dataclass
class FrameFiles:
    """Files of rows with named columns.

    Parameters
    ----------
    files : sequence of str
        Paths or URLs of one kind.
    kind : {"csv", "parquet"}
    target, features, weight
        Names of columns; features None stands for all others.
    dtype : dtype, optional
        Type to store the features in.
    """

    files: Sequence[str]
    kind: str
    target: str | Sequence[str] | None = None
    features: Sequence[str] | None = None
    weight: str | None = None
    dtype: Any = None
    roles: "Roles" = field(init=False)
    text_target: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.roles = Roles(_column_names(self.files[0], self.kind), self)

    def survey(self) -> Layout:
        """Read everything once; the layout that all of it fits in.

        Raises
        ------
        InputError
            When a feature is no number, or a value is missing, naming file, row and column.
        """
        surveys = {role: Survey(names) for role, names in self.roles.columns.items()}
        n_rows = 0
        for file, first, frame in self._batches():
            n_rows += len(frame)
            for role, survey in surveys.items():
                survey.add(frame, file, first, text_allowed=role == "y")
        if n_rows == 0:
            raise InputError(f"{self.files[0]} holds no rows below its header. Check the input.")
        return self._layout(surveys, n_rows)

    def _layout(self, surveys: dict[str, "Survey"], n_rows: int) -> Layout:
        arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        names = self.roles.columns["X"]
        feature_type = surveys["X"].narrowest() if self.kind == "csv" else surveys["X"].dtype
        arrays["X"] = ((len(names),), np.dtype(self.dtype or feature_type))
        if "y" in surveys:
            shape = () if isinstance(self.target, str) else (len(self.roles.columns["y"]),)
            self.text_target = surveys["y"].text
            arrays["y"] = (
                shape,
                self._text_type(surveys["y"]) if self.text_target else surveys["y"].dtype,
            )
        if "sample_weight" in surveys:
            arrays["sample_weight"] = ((), np.dtype(np.float64))
        return Layout(n_rows, arrays, list(names))

    def _text_type(self, survey: "Survey") -> np.dtype:
        names = self.roles.columns["y"]
        if not isinstance(self.target, str):
            raise InputError(f"Several targets must be numbers; one of {names} holds text.")
        if not survey.numbers:
            return np.dtype(f"U{survey.width // np.dtype('U1').itemsize}")
        # Text met anywhere makes all of it text: what was read as numbers is read again.
        widths = (_text(frame[names[0]]).dtype for _, _, frame in self._batches(names))
        return np.result_type(*widths)

    def blocks(self, layout: Layout) -> Iterator[Block]:
        """The rows in order, in the types of ``layout``."""
        for _, _, frame in self._batches():
            arrays = {
                name: self._array(frame, name, *layout.arrays[name]) for name in layout.arrays
            }
            yield Block(arrays["X"], arrays.get("y"), arrays.get("sample_weight"))

    def _array(self, frame: Any, role: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        names = self.roles.columns[role]
        if dtype.kind == "U":
            return _text(frame[names[0]])
        values = frame[names].to_numpy(dtype=dtype)
        return values if shape else values[:, 0]

    def _batches(self, names: list[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """File, number of the first row in it, and rows, batch by batch."""
        names = names or [name for part in self.roles.columns.values() for name in part]
        rows = max(1, BATCH_VALUES // len(names))
        text = self.roles.columns["y"] if self.text_target else []
        for file in self.files:
            _check_names(file, self.kind, names)
            first = 0
            for frame in _read(file, self.kind, names, text, rows):
                yield file, first, frame
                first += len(frame)


class Roles:
    """Which columns are features, targets and weights."""

    def __init__(self, available: list[str], files: FrameFiles) -> None:
        target = [files.target] if isinstance(files.target, str) else list(files.target or ())
        weight = [] if files.weight is None else [files.weight]
        others = [name for name in available if name not in {*target, *weight}]
        features = others if files.features is None else list(files.features)
        chosen = {"X": features, "y": target, "sample_weight": weight}
        self.columns = {role: names for role, names in chosen.items() if names}
        wanted = [name for names in self.columns.values() for name in names]
        unknown = [name for name in wanted if name not in available]
        if unknown:
            raise InputError(
                f"{files.files[0]} has no column {', '.join(map(repr, unknown))}."
                f"{_closest(unknown, available)} It has {_listed(available)}. Check target, "
                "features and weight."
            )
        if not features or len(set(wanted)) < len(wanted):
            raise InputError(
                f"Features {_listed(features)}, target {target} and weight {weight} must be "
                "different columns, and at least one a feature."
            )


def _closest(unknown: list[str], available: list[str]) -> str:
    """A guess at what was meant."""
    lower = {name.lower(): name for name in available}
    found = [difflib.get_close_matches(name.lower(), lower, 1) for name in unknown]
    names = [repr(lower[close[0]]) for close in found if close]
    return f" Did you mean {', '.join(names)}?" if names else ""


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many there are beside."""
    more = f" and {plural(len(names) - SHOWN, 'column')} more" if len(names) > SHOWN else ""
    return f"{list(names[:SHOWN])}{more}"


class Survey:
    """Types, least and greatest values of some columns over all batches."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.text = False
        self.numbers = False
        self.width = 0  # bytes of the longest text
        self.dtype: np.dtype = np.dtype(np.bool_)
        self.low = np.full(len(names), np.inf)
        self.high = np.full(len(names), -np.inf)

    def add(self, frame: Any, file: str, first: int, *, text_allowed: bool) -> None:
        """Take in a batch that starts at row ``first`` of ``file``."""
        frame = frame[self.names]
        if not len(frame):
            return
        self._refuse_missing(frame, file, first)
        wrong = [name for name in self.names if frame[name].dtype.kind not in "biuf"]
        if wrong and not text_allowed:
            raise InputError(
                f"{file}: column {wrong[0]!r} is {frame[wrong[0]].dtype}, no number, near row "
                f"{first}. Encode it, or choose others by features=."
            )
        if wrong:
            self.text = True
            self.width = max(self.width, *(_text(frame[name]).dtype.itemsize for name in wrong))
        else:
            self.numbers = True
            self.dtype = np.result_type(self.dtype, *(_numpy(dtype) for dtype in frame.dtypes))
            self.low = np.minimum(self.low, frame.min().to_numpy(np.float64))
            self.high = np.maximum(self.high, frame.max().to_numpy(np.float64))

    def _refuse_missing(self, frame: Any, file: str, first: int) -> None:
        missing = frame.isna().to_numpy()
        if missing.any():
            row, column = np.argwhere(missing)[0].tolist()
            raise InputError(
                f"{file}: row {first + row} (counted from 0) has no value in column "
                f"{self.names[column]!r}. Fill or drop such rows first."
            )

    def narrowest(self) -> np.dtype:
        """The smallest type that keeps integers exact, and floats to a millionth of their range."""
        if self.dtype.kind == "b":
            return np.dtype(np.uint8)
        if self.dtype.kind in "iu":
            return _integer_type(self.low.min(), self.high.max(), self.dtype)
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        spread = self.high - self.low
        narrow = (spread == 0) | (spread >= EXACT_INTEGERS * reach)
        return np.dtype(np.float32 if (narrow & (reach < 1e38)).all() else np.float64)


def _integer_type(low: float, high: float, default: np.dtype) -> np.dtype:
    for name in ("u1", "i1", "u2", "i2", "u4", "i4"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return default


def _numpy(dtype: Any) -> np.dtype:
    return np.dtype(getattr(dtype, "numpy_dtype", dtype))


def _text(column: Any) -> np.ndarray:
    return column.astype(str).to_numpy(dtype=object).astype(np.str_)


# ------------------------------------------------------------------------------- files


def _column_names(file: str, kind: str) -> list[str]:
    with _opened(file, kind) as library:
        if kind == "csv":
            return list(map(str, library.read_csv(file, nrows=0).columns))
        with fsspec.open(file, "rb") as handle:
            return list(library.ParquetFile(handle).schema_arrow.names)


def _check_names(file: str, kind: str, names: list[str]) -> None:
    missing = set(names) - set(_column_names(file, kind))
    if missing:
        raise InputError(f"{file} lacks columns {sorted(missing)} that the first file has.")


def _read(file: str, kind: str, names: list[str], text: list[str], rows: int) -> Iterator[Any]:
    reader = _read_csv if kind == "csv" else _read_parquet
    with _opened(file, kind) as library:
        yield from reader(library, file, names, text, rows)


def _read_csv(
    pandas: Any, file: str, names: list[str], text: list[str], rows: int
) -> Iterator[Any]:
    types = dict.fromkeys(text, str)  # as written: "01" is not 1
    # All columns, for with usecols= pandas drops what is too much on a line without a word.
    with pandas.read_csv(file, dtype=types, chunksize=rows, low_memory=False) as frames:
        for frame in frames:
            if not isinstance(frame.index, pandas.RangeIndex):
                raise InputError(f"{file}: lines have more fields than the header. Repair it.")
            yield frame[names]


def _read_parquet(
    parquet: Any, file: str, names: list[str], text: list[str], rows: int
) -> Iterator[Any]:
    with fsspec.open(file, "rb") as handle:
        for batch in parquet.ParquetFile(handle).iter_batches(rows, columns=names):
            yield batch.to_pandas()


class _opened:
    """The library that reads ``kind``, its errors turned into ours for the block."""

    def __init__(self, file: str, kind: str) -> None:
        self.file = file
        self.kind = kind

    def __enter__(self) -> Any:
        try:
            if self.kind == "parquet":
                import pyarrow.parquet as library
            else:
                import pandas as library
        except ImportError as error:
            raise InputError(
                f"{self.file}: reading {self.kind} needs pandas and pyarrow. "
                "Install them: pip install 'daskalt[dataframe]'."
            ) from error
        return library

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, DaskaltError):
            return
        if isinstance(error, OSError):
            raise StorageError(f"{self.file} cannot be read: {error}.") from error
        if isinstance(error, ValueError):  # what both libraries raise for malformed files
            raise InputError(f"{self.file} is no {self.kind} file as expected: {error}") from error

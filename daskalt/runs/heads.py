"""The first rows of tables in files, which show the kind of targets before all are read."""

from typing import Any

import numpy as np

from daskalt.errors import ConfigError
from daskalt.ingest.files import find_files, kind_of_files
from daskalt.ingest.frames import Batch, FrameFiles
from daskalt.ingest.tally import Tally
from daskalt.runs.origins import DataConfig
from daskalt.wording import meant

__all__ = ["first_targets"]

SHOWN = 20  # columns in a message


def first_targets(data: DataConfig) -> list[np.ndarray] | None:
    """Return the targets of the first rows of training files, read as `ingest` reads them.

    There is an array for each target, of numbers, or else of truth values or text as objects. Rows
    that lack one are left out. None stands for files without columns, such as NumPy's.

    Raises
    ------
    ConfigError
        When the target is missing or is no column.
    """
    files = find_files(data.places["data.train"])
    kind = kind_of_files(files)
    if kind not in ("csv", "parquet"):
        return None
    frames = FrameFiles(files, kind)
    columns = frames.names()
    names = [data.target] if isinstance(data.target, str) else list(data.target or ())
    shown = ", ".join(columns[:SHOWN]) + (", ..." if len(columns) > SHOWN else "")
    if not names:
        raise ConfigError(
            f"data.target: say which column of {files[0]} to predict, as in --target "
            f"{columns[-1]}. It has {shown}."
        )
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ConfigError(
            f"data.target: {files[0]} has no column {unknown[0]!r}."
            f"{meant(unknown[:1], columns)} It has {shown}."
        )
    batch = frames.first_rows(columns) if kind == "csv" else next(frames.batches(names), None)
    if batch is None:
        raise ConfigError(f"{files[0]} holds no rows below its header. Check the input.")
    found = [_values(name, batch, kind, codes=isinstance(data.target, str)) for name in names]
    whole = ~np.any([_missing(values) for values in found], axis=0)
    return [values[whole] for values in found]


def _values(name: str, batch: Batch, kind: str, *, codes: bool) -> np.ndarray:
    tally = Tally(name, stored=kind == "parquet", codes=codes)
    column: Any = batch.rows.column(name)
    numbers = tally.read(column, batch.file)
    if numbers is None:
        return np.array(column.to_pylist(), dtype=object)
    if tally.kind == "boolean":
        return np.array([None if v is None else bool(v) for v in numbers.to_pylist()], dtype=object)
    return numbers.to_numpy(zero_copy_only=False)


def _missing(values: np.ndarray) -> np.ndarray:
    return np.array([v is None for v in values]) if values.dtype == object else np.isnan(values)

"""The first rows of tables in files, to tell what is asked of them before all are read."""

from typing import Any

import fsspec

from daskalt.data.files import find_files, kind_of_files
from daskalt.errors import ConfigError, InputError, StorageError
from daskalt.runs.origins import DataConfig
from daskalt.wording import meant

__all__ = ["first_targets"]

ROWS = 10_000
SHOWN = 20  # columns in a message


def first_targets(data: DataConfig) -> Any:
    """Return the targets of the first rows of training files, a pandas DataFrame.

    None stands for files without columns, such as NumPy's.

    Raises
    ------
    ConfigError
        When the target is missing or is no column.
    """
    files = find_files(data.places["data.train"])
    kind = kind_of_files(files)
    if kind not in ("csv", "parquet"):
        return None
    head = _head(files[0], kind)
    names = [data.target] if isinstance(data.target, str) else list(data.target or ())
    columns = list(map(str, head.columns))
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
    return head[names]


def _head(file: str, kind: str) -> Any:
    try:
        import pandas

        if kind == "csv":
            return pandas.read_csv(file, nrows=ROWS, low_memory=False)
        from pyarrow.parquet import ParquetFile

        with fsspec.open(file, "rb") as handle:
            parquet = ParquetFile(handle)
            empty = parquet.schema_arrow.empty_table().to_pandas()
            return next((part.to_pandas() for part in parquet.iter_batches(ROWS)), empty)
    except ImportError as error:
        raise InputError(
            f"{file}: reading {kind} needs pandas and pyarrow. "
            "Install them: pip install 'daskalt[dataframe]'."
        ) from error
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error}.") from error
    except ValueError as error:  # what both libraries raise for malformed files
        raise InputError(f"{file} is no {kind} file as expected: {error}") from error

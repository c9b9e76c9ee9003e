"""Predictions written part by part: to CSV, Parquet, a NumPy file or Zarr."""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from daskalt.errors import ConfigError, InputError
from daskalt.runs.inputs import Inputs, Part, open_inputs, target_names
from daskalt.storage.folders import whole_file
from daskalt.storage.groups import new_group
from daskalt.storage.store import storage_errors

__all__ = ["write_predictions"]

CHUNK_ROWS = 4096


def write_predictions(
    model: Any,
    X: Any,
    output: str | None,
    *,
    proba: bool = False,
    ident: str | None = None,
    missing: str | None = None,
    unknown: str | None = None,
    overwrite: bool = False,
    stored_order: bool = False,
) -> int:
    """Predict for stored rows and write the results in their order, a part in memory at a time.

    Returns how many rows there were.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        A fitted estimator.
    X : str
        Path or URL of the features in Zarr; or CSV or Parquet files, a folder or pattern of them,
        whose columns are encoded by the model's recipe.
    output : str or None
        A ``.csv``, ``.parquet`` or ``.npy`` file, or a ``.zarr`` group; None prints CSV. Files
        appear when they are complete. CSV and Parquet have the number of the row or its
        ``ident``, the prediction under the name of the target, and with ``proba`` a column
        ``probability_CLASS`` for each class. A NumPy file has the predictions alone, or the
        probabilities; a Zarr group the arrays ``y``, ``probability`` and ``id``, as far as asked
        for.
    proba : bool
        Whether to write class probabilities.
    ident : str, optional
        Column of CSV or Parquet that names the rows, instead of the recipe's.
    missing, unknown : str, optional
        Treatment of missing values and of categories unknown to training, in place of the
        recipe's: "median" or "error", "own" or "error".
    overwrite : bool
        Whether what is at ``output`` may be replaced.
    stored_order : bool
        Whether rows that were shuffled when they were ingested may be predicted for, in their
        present order.

    Raises
    ------
    ConfigError
        If the model has no probabilities or the suffix of ``output`` is another.
    InputError
        If the features do not suit the model, are not finite or were shuffled when they were
        ingested, or ``output`` exists.
    StorageError
        If a store cannot be read or written.
    """
    if proba and not hasattr(model, "predict_proba"):
        raise ConfigError(f"--proba: {type(model).__name__} predicts numbers. Leave it out.")
    suffix = "" if output is None else Path(output).suffix
    write = _WRITERS.get(suffix)
    if write is None or (suffix == "" and output is not None):
        kinds = ", ".join(filter(None, _WRITERS))
        raise ConfigError(f"--output must end in one of {kinds}; got {output!r}.")
    inputs = open_inputs(
        model, X, ident=ident, missing=missing, unknown=unknown, stored_order=stored_order
    )
    predictions = Predictions(model, X, inputs, proba)
    write(predictions, output, overwrite)
    return predictions.rows


class Predictions:
    """Predictions for some rows, part by part, as named columns.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
    place : str
        The place of the rows.
    inputs : Inputs
    proba : bool
    """

    def __init__(self, model: Any, place: str, inputs: Inputs, proba: bool) -> None:
        self.predictor = model._predictor
        self.inputs = inputs
        self.proba = proba
        self.n_features = model.n_features_in_
        self.rows = 0  # until now
        example = self.predictor.predict(np.zeros((1, model.n_features_in_), np.float32))
        self.targets = target_names(model, place, int(np.prod(example.shape[1:])))
        classes = getattr(model, "classes_", [])
        multilabel = example.ndim == 2
        self.classes = [str(each) for each in (self.targets if multilabel else classes)]

    @property
    def _no_idents(self) -> np.ndarray | None:
        return None if self.inputs.ident is None else np.empty(0, object)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        shares = [f"probability_{name}" for name in self.classes] if self.proba else []
        return [self.inputs.ident or "row", *self.targets, *shares]

    def parts(self) -> Iterator[dict[str, np.ndarray]]:
        """The arrays "id" or "row", "y" and, if asked for, "probability".

        There is at least one part, if need be without rows.
        """
        nothing = Part(0, np.zeros((0, self.n_features), np.float32), self._no_idents)
        parts = iter(self.inputs.parts)
        for part in chain([next(parts, nothing)], parts):
            rows = np.arange(part.first, part.first + len(part.X))
            arrays = {"row": rows} if part.idents is None else {"id": part.idents}
            arrays["y"] = self.predictor.predict(part.X)
            if self.proba:
                arrays["probability"] = self.predictor.predict_proba(part.X)
            self.rows += len(part.X)
            yield arrays

    def columns(self) -> Iterator[list[np.ndarray]]:
        """The arrays of `parts`, column by column."""
        for arrays in self.parts():
            yield [
                column
                for array in arrays.values()
                for column in (array.T if array.ndim == 2 else [array])
            ]


# ------------------------------------------------------------------------------- formats


def _print_rows(predictions: Predictions, output: None, overwrite: bool) -> None:
    _write_rows(predictions, sys.stdout)


def _write_csv(predictions: Predictions, output: str, overwrite: bool) -> None:
    with _output_file(output, overwrite, "w", encoding="utf-8", newline="") as file:
        _write_rows(predictions, file)


def _write_rows(predictions: Predictions, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    parts = predictions.columns()
    first = list(islice(parts, 1))  # faults of rows often show in the first part
    writer.writerow(predictions.names)
    for columns in chain(first, parts):
        writer.writerows(zip(*map(_values, columns), strict=True))


def _values(column: np.ndarray) -> list:
    """Values that print with as many digits as it takes to read them back, and no more."""
    short = column.dtype.kind == "f" and column.dtype.itemsize < 8
    return (column.astype(str) if short else column).tolist()


def _write_parquet(predictions: Predictions, output: str, overwrite: bool) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"Writing {output} needs pyarrow. Install it: pip install 'daskalt[dataframe]'."
        ) from error
    with _output_file(output, overwrite) as file:
        writer = None
        try:
            for columns in predictions.columns():
                arrays = [pyarrow.array(_arrow_ready(column)) for column in columns]
                batch = pyarrow.RecordBatch.from_arrays(arrays, predictions.names)
                writer = writer or pyarrow.parquet.ParquetWriter(file, batch.schema)
                writer.write_batch(batch)
        finally:
            if writer is not None:
                writer.close()


def _arrow_ready(column: np.ndarray) -> Any:
    return column.tolist() if column.dtype.kind in "UT" else np.ascontiguousarray(column)


def _write_npy(predictions: Predictions, output: str, overwrite: bool) -> None:
    name = "probability" if predictions.proba else "y"
    with _output_file(output, overwrite) as file:
        rows = 0
        for arrays in predictions.parts():
            values = np.ascontiguousarray(arrays[name])
            if rows == 0:
                file.seek(0)
                _write_header(file, values, 0)
            file.write(values.tobytes())
            rows += len(values)
        file.seek(0)
        _write_header(file, values, rows)  # of the same length: NumPy leaves room to grow


def _write_header(file: Any, values: np.ndarray, rows: int) -> None:
    described = np.lib.format.header_data_from_array_1_0(values)
    np.lib.format.write_array_header_1_0(file, {**described, "shape": (rows, *values.shape[1:])})


def _write_zarr(predictions: Predictions, output: str, overwrite: bool) -> None:
    with new_group(output, overwrite=overwrite) as group:
        parts, rows = predictions.parts(), predictions.inputs.n_rows
        kinds: dict[str, np.dtype] = {}
        if rows is None:
            parts, rows, kinds = _counted(parts, group.folder / "predictions")
        first = next(parts)
        kinds = {name: _stored(values).dtype for name, values in first.items()} | kinds
        arrays = {
            name: group.create(name, (rows, *values.shape[1:]), kinds[name], CHUNK_ROWS)
            for name, values in first.items()
            if name != "row"
        }
        start = 0
        for part in chain([first], parts):
            stop = start + len(part["y"])
            for name, array in arrays.items():
                array[start:stop] = _stored(part[name]).astype(array.dtype)
            start = stop


def _stored(values: np.ndarray) -> np.ndarray:
    """What Zarr can hold: text for whatever is no number."""
    if values.dtype.kind != "O":
        return values
    return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)


def _counted(
    parts: Iterator[dict[str, np.ndarray]], file: Path
) -> tuple[Iterator[dict[str, np.ndarray]], int, dict[str, np.dtype]]:
    """The same parts, kept on disk to be counted; their number of rows and common types."""
    lengths, rows = 0, 0
    kinds: dict[str, np.dtype] = {}
    with file.open("wb") as out:
        for part in parts:
            for name, values in part.items():
                stored = _stored(values)
                np.save(out, stored)
                kinds[name] = np.result_type(kinds.get(name, stored.dtype), stored.dtype)
            lengths, rows = lengths + 1, rows + len(part["y"])
    return _put_aside(file, list(kinds), lengths), rows, kinds


def _put_aside(file: Path, names: list[str], count: int) -> Iterator[dict[str, np.ndarray]]:
    with file.open("rb") as saved:
        for _ in range(count):
            yield {name: np.load(saved, allow_pickle=False) for name in names}


_WRITERS: dict[str, Any] = {
    "": _print_rows,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".npy": _write_npy,
    ".zarr": _write_zarr,
}


@contextmanager
def _output_file(output: str, overwrite: bool, mode: str = "wb", **options: Any) -> Iterator[Any]:
    """Yield a new file that is at ``output`` once the block ends well."""
    path = Path(output)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists already. Name another place or pass --overwrite.")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, mode, **options) as file:
            yield file

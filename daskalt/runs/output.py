"""Predictions written block by block: to text, a NumPy file or Zarr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import zarr

from daskalt.data.finite import check_block
from daskalt.data.ingest import is_shuffled
from daskalt.data.opening import open_features
from daskalt.data.readers import Source, ZarrSource
from daskalt.data.store import new_group, storage_errors
from daskalt.data.table import Table
from daskalt.errors import ConfigError, InputError

__all__ = ["write_predictions"]

BLOCK_ROWS = 4096


def write_predictions(
    model: Any,
    X: Any,
    output: str | None,
    *,
    proba: bool = False,
    overwrite: bool = False,
    stored_order: bool = False,
) -> None:
    """Predict for stored rows and write the results in their order, a block in memory at a time.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        A fitted estimator.
    X : str
        Path or URL of the features in Zarr.
    output : str or None
        A ``.csv`` or ``.npy`` file, or a ``.zarr`` group, whose array is ``y``; None prints lines
        of text. Files appear when they are complete.
    proba : bool
        Whether to write class probabilities.
    overwrite : bool
        Whether what lies at ``output`` may be replaced.
    stored_order : bool
        Whether rows that were shuffled when they were ingested may be predicted for, in the order
        that they have now.

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
    source = open_features(model, X)
    if not stored_order:
        _refuse_shuffled(source)
    predictor = model._predictor
    function = predictor.predict_proba if proba else predictor.predict
    example = function(np.zeros((1, source.shape[1]), np.float32))
    shape = (len(source), *example.shape[1:])
    blocks = _predictions(function, source)
    if output is None:
        _print_rows(blocks, sys.stdout)
        return
    suffix = Path(output).suffix
    if suffix not in (".csv", ".npy", ".zarr"):
        raise ConfigError(f"--output must end in .csv, .npy or .zarr; got {output!r}.")
    if suffix == ".zarr":
        with new_group(output, overwrite=overwrite) as group:
            array = group.create("y", shape, example.dtype, BLOCK_ROWS)
            for start, rows in blocks:
                array[start : start + len(rows)] = rows.astype(array.dtype)
        return
    with _whole_file(Path(output), overwrite) as work:
        if suffix == ".csv":
            with work.open("w", encoding="utf-8") as file:
                _print_rows(blocks, file)
        else:
            result = np.lib.format.open_memmap(work, "w+", example.dtype, shape)
            for start, rows in blocks:
                result[start : start + len(rows)] = rows
            result.flush()


def _refuse_shuffled(source: Source) -> None:
    """Raise InputError where the lines of predictions would not be those of the user's rows."""
    group = _group_of(source)
    if group is not None and is_shuffled(group):
        raise InputError(
            f"The rows of {group.store_path} were shuffled when they were ingested, so predictions "
            "would be in another order than the rows that they came from. Ingest them anew with "
            "daskalt ingest --no-shuffle, or pass --stored-order to predict in the order of the "
            "store."
        )


def _group_of(source: Source) -> zarr.Group | None:
    """The group that holds the array of a source, if there is one."""
    if not isinstance(source, ZarrSource):
        return None
    place = source.array.store_path
    with suppress(FileNotFoundError):
        if place.path:
            parent = place.path.rpartition("/")[0]
            return zarr.open_group(place.store, path=parent, mode="r")
        return zarr.open_group(source.location.rstrip("/").rpartition("/")[0], mode="r")
    return None


def _predictions(function: Any, source: Source) -> Iterator[tuple[int, np.ndarray]]:
    for start, stop in Table(source).block_bounds(BLOCK_ROWS):
        block = Table(source).read(start, stop)
        check_block(block, start, stop)
        yield start, function(block.X)


def _print_rows(blocks: Iterator[tuple[int, np.ndarray]], file: TextIO) -> None:
    for _, rows in blocks:
        for row in rows.reshape(len(rows), -1).tolist():
            print(*row, sep=",", file=file)


@contextmanager
def _whole_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary sibling that becomes ``path`` once the block ends well."""
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists already. Name another place or pass --overwrite.")
    work = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield work
            os.replace(work, path)
        finally:
            work.unlink(missing_ok=True)

"""scikit-learn's bundled data sets, written to Zarr as a user's own data would be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from daskalt.data.readers import MemorySource
from daskalt.data.table import Table
from daskalt.data.writers import shuffle_to_zarr
from daskalt.errors import ConfigError

__all__ = ["EXAMPLES", "HELD_OUT", "write_example"]

HELD_OUT = 0.2


class Example(NamedTuple):
    """A data set: how to load it, the type of its features, and the kind of its targets."""

    load: Callable[..., Any]
    dtype: type
    labelled: bool


EXAMPLES = {
    "digits": Example(datasets.load_digits, np.uint8, True),
    "breast_cancer": Example(datasets.load_breast_cancer, np.float32, True),
    "wine": Example(datasets.load_wine, np.float32, True),
    "diabetes": Example(datasets.load_diabetes, np.float32, False),
}


def write_example(
    name: str, folder: Path, *, held_out: float, seed: int, chunk_rows: int | None = None
) -> tuple[Table, Table]:
    """Write a data set as ``train.zarr`` and ``test.zarr``, shuffled, and return both.

    Labels have the same shares in both parts.

    Parameters
    ----------
    name : str
        Key of :data:`EXAMPLES`.
    folder : Path
        Where to write.
    held_out : float
        Share of the rows in ``test.zarr``.
    seed : int
        Seed of the division and the order.
    chunk_rows : int, optional
        Rows of a Zarr chunk.

    Raises
    ------
    ConfigError
        If ``held_out`` leaves too few rows on a side.
    """
    example = EXAMPLES[name]
    X, y = example.load(return_X_y=True)
    X = np.ascontiguousarray(X, dtype=example.dtype)
    try:
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=held_out, random_state=seed, stratify=y if example.labelled else None
        )
    except ValueError as error:
        raise ConfigError(f"{held_out=} does not divide {len(X)} rows: {error}") from error

    def write(part: str, X: np.ndarray, y: np.ndarray) -> Table:
        table = Table(MemorySource(X, "X"), MemorySource(y, "y"))
        place = folder / f"{part}.zarr"
        # A resumed run may ask for other rows, which its checkpoint must notice.
        return shuffle_to_zarr(table, place, seed=seed, chunk_rows=chunk_rows, overwrite=True)

    return write("train", X_train, y_train), write("test", X_test, y_test)

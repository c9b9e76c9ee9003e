"""Tables from npz files: rows, and either class codes or numbers to predict."""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
FEW, MANY = 20, 1_000  # distinct whole numbers: of floating-point classes, of any classes


@dataclass(frozen=True)
class TableData:
    """Training and test rows of one file.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    x_train, x_test : array (rows, features)
        As in the file.
    y_train, y_test : array (rows,)
        Class codes 0, 1, ... (-1 for a class that no training row has), or float64.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def is_classification(self):
        """Whether the targets are classes."""
        return np.issubdtype(self.y_train.dtype, np.integer)

    def head(self, rows):
        """The table cut to its first training and test rows, less the classes that are rare there.

        Some methods put rows of every class aside, for which they need several of each.
        """
        parts = [getattr(self, name)[:rows] for name in ARRAYS]
        if not self.is_classification:
            return TableData(self.name, *parts)
        x_train, y_train, x_test, y_test = parts
        counts = np.bincount(y_train)
        # The most frequent two stay in any case: fewer classes are no classification.
        common = np.union1d(np.flatnonzero(counts >= rows / 50), np.argsort(counts)[-2:])
        train, test = np.isin(y_train, common), np.isin(y_test, common)
        y_train, y_test = coded(y_train[train], y_test[test])
        return TableData(self.name, x_train[train], y_train, x_test[test], y_test)


@dataclass(frozen=True)
class Setting:
    """What every method is given: one table, and the size of the network and of the run.

    Attributes
    ----------
    data : TableData
    seeds : tuple of int
    hidden : int
        Units of the hidden layer.
    passes : int
        Of the fits whose number of passes is set.
    quick : bool
        A trial of the code, whose numbers mean nothing.
    """

    data: TableData
    seeds: tuple
    hidden: int = 256
    passes: int = 20
    quick: bool = False

    @contextmanager
    def shortened(self, rows=1_000):
        """A quick setting with the first `rows` rows alone, but the same network."""
        yield replace(self, data=self.data.head(rows), passes=2, quick=True)


def load_tables(folder, only=()):
    """The tables of the npz files in `folder`, in the order of their names, or those in `only`.

    Raises
    ------
    SystemExit
        If there is no such folder, file or name, or a file is no table: it is named with the cure.
    """
    if not folder.is_dir():
        raise SystemExit(f"FOLDER: {folder} is no folder; give one with npz files")
    paths = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if not paths:
        raise SystemExit(f"FOLDER: {folder} has no npz file; each table is one, with {ARRAYS}")
    unknown = sorted(set(only) - set(paths))
    if unknown:
        raise SystemExit(f"--only: {folder} has no {unknown}; choose among {', '.join(paths)}")
    return [load_table(path) for name, path in paths.items() if not only or name in only]


def load_table(path):
    """The table in the npz file `path`."""
    try:
        with np.load(Path(path)) as arrays:
            missing = [name for name in ARRAYS if name not in arrays]
            if missing:
                raise ValueError(f"it lacks the arrays {missing}; save all of {ARRAYS}")
            x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
        x_train, x_test = features("x_train", x_train), features("x_test", x_test)
        if x_train.shape[1] != x_test.shape[1]:
            raise ValueError(
                f"x_train has {x_train.shape[1]} features and x_test {x_test.shape[1]}; "
                "save the same ones in both"
            )
        y_train, y_test = column("y_train", y_train, x_train), column("y_test", y_test, x_test)
        y_train, y_test = encoded(y_train, y_test)
        return TableData(path.stem, x_train, y_train, x_test, y_test)
    except (ValueError, BadZipFile, EOFError) as error:
        raise SystemExit(f"{path}: {error}") from error


def features(name, array):
    """The rows in `array`, one dimension each."""
    if array.ndim < 2 or not array.size:
        raise ValueError(f"{name} has the shape {array.shape}; save it as (rows, features)")
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise ValueError(f"{name} holds {array.dtype}; encode its columns as numbers")
    check_finite(name, array)
    return array.reshape(len(array), -1)


def column(name, array, rows):
    """The targets in `array`, one a row of `rows`."""
    if array.shape not in ((len(rows),), (len(rows), 1)):
        raise ValueError(
            f"{name} has the shape {array.shape} and its rows are {len(rows):,}; "
            "save one target for each row"
        )
    if np.issubdtype(array.dtype, np.floating):
        check_finite(name, array)
    return array.ravel()


def check_finite(name, array):
    """Raise if `array` has a NaN or an infinity."""
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise ValueError(f"{name} has {bad:,} values that are no finite numbers; fill or drop them")


def encoded(y_train, y_test):
    """Class codes, or float64 for a regression.

    Floating-point targets are classes if they are at most `FEW` distinct whole numbers; targets
    of any other type are always classes.
    """
    classes = np.unique(y_train)
    if np.issubdtype(y_train.dtype, np.floating) and (
        len(classes) > FEW or np.any(classes != np.round(classes))
    ):
        return y_train.astype(np.float64), y_test.astype(np.float64)
    if not 2 <= len(classes) <= MANY:
        raise ValueError(
            f"y_train has {len(classes):,} distinct values of type {y_train.dtype}, which is no "
            f"classification; give 2 to {MANY:,} classes, or save numbers to predict as float32"
        )
    return coded(y_train, y_test)


def coded(y_train, y_test):
    """Codes 0, 1, ... of the training rows' classes; -1, which is never right, for others."""
    classes, codes = np.unique(y_train, return_inverse=True)
    places = np.searchsorted(classes, y_test).clip(max=len(classes) - 1)
    return codes.astype(np.int64), np.where(classes[places] == y_test, places, -1)

"""Files of the kinds that can be ingested, found under paths, folders, patterns and URLs."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from daskalt.errors import InputError, StorageError
from daskalt.storage.store import filesystem_of

__all__ = ["find_files", "is_frame", "kind_of_files"]

KINDS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.bz2": "csv",
    ".csv.xz": "csv",
    ".csv.zst": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npy": "npy",
    ".npz": "npz",
}
FRAMES = ("csv", "parquet")
TABS = (".tsv", ".tab")
SPARSE = (".svm", ".svmlight", ".libsvm")
ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")


def find_files(inputs: str | Path | Sequence[str | Path]) -> list[str]:
    """Paths or URLs of the files, numbers within their names in numerical order.

    A folder stands for the files of a known kind in it, except that a Zarr store stands for
    itself.

    Raises
    ------
    StorageError
        When nothing is found.
    """
    if not isinstance(inputs, str | Path):
        return [file for item in inputs for file in find_files(item)]
    filesystem, path = filesystem_of(inputs)
    if any(mark in str(inputs) for mark in "*?["):
        found = filesystem.glob(path)
    elif filesystem.isdir(path) and not _is_zarr(filesystem, path):
        found = [file for file in filesystem.find(path) if _kind(file) != "zarr"]
    elif filesystem.exists(path):
        found = [path]
    else:
        found = []
    if not found:
        raise StorageError(
            f"{inputs}: no CSV, Parquet, .npy or .npz file and no Zarr store found. Check the path."
        )
    local = isinstance(filesystem, LocalFileSystem)
    named = [file if local else filesystem.unstrip_protocol(file) for file in found]
    return sorted(named, key=_natural)


def is_frame(place: str | Path) -> bool:
    """Say whether a path, folder or pattern means files of columns, and no Zarr store."""
    if _has_tabs(str(place)):  # refused as such, and not as a store
        return not Path(place).is_dir()
    if _kind(str(place)) != "zarr":
        return _kind(str(place)) in FRAMES
    filesystem, path = filesystem_of(place)
    several = any(mark in str(place) for mark in "*?[")
    if not several and (not filesystem.isdir(path) or _is_zarr(filesystem, path)):
        return False
    found = filesystem.glob(path) if several else filesystem.find(path)
    return any(_kind(file) in FRAMES for file in found)


def kind_of_files(files: Sequence[str]) -> str:
    """The one kind, "csv", "parquet", "npy", "npz" or "zarr", that all files are of."""
    for file in files:
        _refuse_sparse(file)
        _refuse_tabs(file)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise InputError(
            f"The inputs are of several kinds: {', '.join(sorted(kinds))}. "
            "Ingest one kind, e.g. by a pattern such as 'folder/*.csv'."
        )
    return kinds.pop()


def _refuse_sparse(file: str) -> None:
    if any(suffix.lower() in SPARSE for suffix in PurePosixPath(file).suffixes):
        raise InputError(
            f"{file} is of the svmlight format, whose rows are sparse; networks here take dense "
            "ones. Save its rows as .npz with arrays X and y, or as Zarr: X, y = "
            "sklearn.datasets.load_svmlight_file(...) and X.toarray(), part by part by its "
            "arguments offset and length where it is large."
        )


def _refuse_tabs(file: str) -> None:
    if _has_tabs(file):
        raise InputError(
            f"{file}: fields separated by tabs are not read. Write them with commas, as by "
            "pandas.read_csv(..., sep='\\t').to_csv('data.csv', index=False)."
        )


def _has_tabs(file: str) -> bool:
    return any(suffix.lower() in TABS for suffix in PurePosixPath(file).suffixes[-2:])


def _kind(file: str) -> str:
    return KINDS.get("".join(PurePosixPath(file).suffixes[-2:]).lower()) or KINDS.get(
        PurePosixPath(file).suffix.lower(), "zarr"
    )


def _is_zarr(filesystem: Any, path: str) -> bool:
    return any(filesystem.exists(f"{path.rstrip('/')}/{mark}") for mark in ZARR_MARKS)


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

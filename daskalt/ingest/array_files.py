"""Arrays in NumPy files and Zarr groups, opened as a table without copying."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from daskalt.data.checks import check_array
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, Source, StackedSource, ZarrSource
from daskalt.data.table import Table
from daskalt.errors import InputError, StorageError
from daskalt.ingest.files import find_files

__all__ = ["OPENERS", "single_names"]


def single_names(asked: dict[str, Any]) -> dict[str, str | None]:
    """The names of arrays by what they hold, one each."""
    for role, name in asked.items():
        if name is not None and not isinstance(name, str | Path):
            raise InputError(f"{role} is one array here, but {name} names several. Give one name.")
    return {role: None if name is None else str(name) for role, name in asked.items()}


# ------------------------------------------------------------------------------- NumPy files


def _open_npy(files: list[str], names: dict[str, str | None], folder: Path) -> Table:
    groups = _grouped(files)
    for role in ("y", "sample_weight"):
        path = names[role]
        if path is not None:
            groups[role] = find_files(path)
    return _table({role: _stacked(group, role) for role, group in groups.items()})


def _grouped(files: list[str]) -> dict[str, list[str]]:
    """Files by role, where names begin with X and y; else all of them hold features."""
    by_role: dict[str, list[str]] = {}
    for file in files:
        name = Path(file).name
        role = next((role for role in ("X", "y", "sample_weight") if name.startswith(role)), "")
        by_role.setdefault(role, []).append(file)
    if "X" not in by_role:
        return {"X": files}
    if "" in by_role:
        raise InputError(
            f"{by_role[''][0]} is called neither X... nor y... nor sample_weight..., unlike the "
            "files beside it. Rename it or leave it out by a pattern."
        )
    ends = {role: [Path(file).name[len(role) :] for file in part] for role, part in by_role.items()}
    for role, own in ends.items():
        if own != ends["X"]:
            odd = sorted(set(own) ^ set(ends["X"]))[0]
            raise InputError(f"X{odd} and {role}{odd} must both be there: files go in pairs.")
    return by_role


def _stacked(files: list[str], role: str) -> Source:
    pieces = [_mapped(file, role) for file in files]
    return pieces[0] if len(pieces) == 1 else StackedSource(pieces, role)


def _mapped(file: str | Path, role: str) -> MemorySource:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error}.") from error
    except ValueError as error:
        raise InputError(
            f"{file} is no .npy file of numbers or text: {error} Save it without objects."
        ) from error
    if role == "X" and array.ndim > 2:
        array = array.reshape(len(array), -1)
    check_array(array, role)
    return MemorySource(array, role)


def _open_npz(files: list[str], names: dict[str, str | None], folder: Path) -> Table:
    """Members are unpacked first: a packed one cannot be read in parts."""
    parts: dict[str, list[Source]] = {}
    for number, file in enumerate(files):
        try:
            with zipfile.ZipFile(file) as archive:
                for role, member in _members(archive.namelist(), names, file, ".npy").items():
                    path = archive.extract(member, folder / str(number))
                    parts.setdefault(role, []).append(_mapped(path, role))
        except (OSError, zipfile.BadZipFile) as error:
            raise StorageError(f"{file} cannot be read: {error}.") from error
    return _table({role: StackedSource(pieces, role) for role, pieces in parts.items()})


def _members(
    available: list[str], names: dict[str, str | None], file: str, suffix: str = ""
) -> dict[str, str]:
    """Names of the arrays that hold each role; without names only the features must exist."""
    members = {}
    for role, name in names.items():
        member = f"{name or role}{suffix}"
        if member in available:
            members[role] = member
        elif name is not None or role == "X":
            shown = [entry.removesuffix(suffix) for entry in available]
            raise InputError(
                f"{file} has no array {name or role!r}; it has {shown}. "
                "Name them by features=, target= and weight=."
            )
    return members


# ------------------------------------------------------------------------------- Zarr


def _open_zarr(files: list[str], names: dict[str, str | None], folder: Path) -> Table:
    if len(files) > 1:
        raise InputError(f"One Zarr group can be ingested at a time, not {len(files)}.")
    try:
        group = zarr.open_group(files[0], mode="r")
    except Exception as error:
        raise StorageError(f"{files[0]} is no readable Zarr group: {error}.") from error
    members = _members(list(group.array_keys()), names, files[0])
    sources: dict[str, Source] = {}
    for role, member in members.items():
        source = ZarrSource(files[0], member, role)
        check_array(source, role)
        learn_chunks(source, warn=True)  # the copy will be whole, and tell nobody
        sources[role] = source
    return _table(sources)


def _table(sources: dict[str, Source]) -> Table:
    return Table(sources["X"], sources.get("y"), sources.get("sample_weight"))


OPENERS = {"npy": _open_npy, "npz": _open_npz, "zarr": _open_zarr}

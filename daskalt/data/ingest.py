"""CSV, Parquet, NumPy files and Zarr stores as a shuffled Zarr group, ready to train on."""

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import zarr

from daskalt.data.checks import check_array
from daskalt.data.files import find_files, kind_of_files
from daskalt.data.frames import FrameFiles
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, Source, StackedSource, ZarrSource
from daskalt.data.staging import MEMORY_BYTES, Layout, table_layout, write_blocks
from daskalt.data.store import refuse_existing
from daskalt.data.table import Table
from daskalt.errors import InputError, StorageError
from daskalt.parameters import check_arguments, choice, instance, integer, names

__all__ = ["ingest", "is_shuffled"]


def ingest(
    inputs: str | Path | Sequence[str | Path],
    destination: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    weight: str | None = None,
    dtype: str | None = None,
    shuffle: bool = True,
    seed: int = 0,
    chunk_rows: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    overwrite: bool = False,
    progress: bool = False,
) -> Table:
    """Write files to a Zarr group with arrays X, y and sample_weight, and return its table.

    Memory stays bounded whatever the size of the files. The rows are put in a uniformly random
    order unless ``shuffle`` is False: data that lies sorted by label spoils stochastic steps. Rows
    without a target always keep their order, as they are there to be predicted for. The attribute
    ``shuffled`` of the group says whether its rows are in another order than their source, or
    than the source of that.

    Parameters
    ----------
    inputs : str, Path or sequence of these
        Files, folders or patterns of one kind, local or fsspec URLs:

        - CSV or Parquet with named columns (needs the extra "dataframe");
        - ``.npy``: each file a block of rows; in a folder with ``X*.npy`` and ``y*.npy`` (and
          ``sample_weight*.npy``) these go together;
        - ``.npz`` with named arrays;
        - a Zarr group.

        Arrays of more than two dimensions are laid flat, a row for each first index.
    destination : str or Path
        Path or fsspec URL of the new group.
    target, features, weight : optional
        For CSV and Parquet, names of columns: features are all others by default, and a sequence
        of targets makes ``y`` two-dimensional. For npz and Zarr, names of arrays, by default "X",
        "y" and "sample_weight" where there are any. For ``.npy``, a path of ``.npy`` files for
        target and weight.
    dtype : str, optional
        Type of the features of CSV and Parquet files. By default that of Parquet, and for CSV the
        smallest that holds integers exactly or floats to a millionth of their column's range.
    shuffle : bool
        Whether to put the rows in random order. Those without a target never are.
    seed : int
        Seed of the order.
    chunk_rows : int, optional
        Rows of a chunk; by default about 4 MiB.
    memory_bytes : int
        Memory that shuffling works in.
    overwrite : bool
        Whether what lies at ``destination`` may be replaced.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    InputError
        When files, columns or values will not do, or something is at ``destination`` already.
    StorageError
        When files cannot be read or the disk is full; nothing is left behind.
    """
    check_arguments(
        inputs=(inputs, _PLACES),
        destination=(destination, instance("a path or URL", str, Path)),
        target=(target, names(str, Path)),
        features=(features, names(str, Path)),
        weight=(weight, instance("a name or None", str, Path, NoneType)),
        dtype=(dtype, _NUMBERS),
        shuffle=(shuffle, choice(True, False)),
        seed=(seed, integer(at_least=0)),
        chunk_rows=(chunk_rows, integer(at_least=1, or_none=True)),
        memory_bytes=(memory_bytes, integer(at_least=1)),
        overwrite=(overwrite, choice(True, False)),
    )
    refuse_existing(destination, overwrite)
    files = find_files(inputs)
    kind = kind_of_files(files)
    with tempfile.TemporaryDirectory(prefix="daskalt-") as folder:
        if kind in ("csv", "parquet"):
            chosen = [features] if isinstance(features, str) else features
            frames = FrameFiles(files, kind, target, chosen, weight, dtype)
            layout = frames.survey()
            blocks = frames.blocks(layout)
        else:
            asked = {"X": features, "y": target, "sample_weight": weight}
            table = _OPENERS[kind](files, _single_names(asked), Path(folder))
            layout, blocks = table_layout(table, destination, memory_bytes)
        shuffle = shuffle and "y" in layout.arrays
        before = kind == "zarr" and is_shuffled(zarr.open_group(files[0], mode="r"))
        return write_blocks(
            blocks,
            _described(layout, files, target, shuffled=shuffle or before),
            destination,
            seed=int(seed) if shuffle else None,
            chunk_rows=chunk_rows,
            memory_bytes=memory_bytes,
            overwrite=overwrite,
            progress=progress,
        )


def _are_places(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return len(several) > 0 and all(isinstance(place, str | Path) for place in several)


def _is_number_type(value: Any) -> bool:
    try:
        return value is None or np.dtype(value).kind in "biuf"
    except TypeError:
        return False


_PLACES = ("a path or URL, or a list of them", _are_places)
_NUMBERS = ("the name of a type of numbers, such as 'float32', or None", _is_number_type)


def is_shuffled(group: zarr.Group) -> bool:
    """Say whether the rows of a group that `ingest` wrote are in another order than their source.

    Groups of other origin have no order but their own.
    """
    attributes = group.attrs.asdict()
    if not {"daskalt_format", "source"} <= attributes.keys():
        return False
    return bool(attributes.get("shuffled", attributes.get("seed") is not None))


def _described(layout: Layout, files: list[str], target: Any, *, shuffled: bool) -> Layout:
    shown = files[:10] + ([f"and {len(files) - 10} more"] if len(files) > 10 else [])
    named = target if target is None or isinstance(target, str) else list(target)
    attributes = {"source": shown, "target": named, "shuffled": shuffled}
    return replace(layout, attributes=attributes)


def _single_names(asked: dict[str, Any]) -> dict[str, str | None]:
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
    """Names of the arrays that hold each role; only features must be there unasked."""
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


_OPENERS = {"npy": _open_npy, "npz": _open_npz, "zarr": _open_zarr}

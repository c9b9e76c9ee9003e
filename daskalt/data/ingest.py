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

from daskalt.data.census import Rules
from daskalt.data.checks import check_array
from daskalt.data.encoded import EncodedFrames
from daskalt.data.files import find_files, kind_of_files
from daskalt.data.frames import FrameFiles
from daskalt.data.gaps import learn_chunks
from daskalt.data.readers import MemorySource, Source, StackedSource, ZarrSource
from daskalt.data.recipe import ATTRIBUTE, find_recipe, recipe_of_rows
from daskalt.data.roles import assign_roles, roles_by_recipe
from daskalt.data.staging import MEMORY_BYTES, table_layout, write_blocks
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
    exclude: str | Sequence[str] | None = None,
    weight: str | None = None,
    ident: str | None = None,
    categorical: str | None = None,
    missing: str | None = None,
    unknown: str | None = None,
    max_categories: int | None = None,
    recipe: str | Path | dict | None = None,
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
        of targets makes ``y`` two-dimensional. Features may also be patterns such as "pixel*", and
        several with commas between. For npz and Zarr, names of arrays, by default "X", "y" and
        "sample_weight" where there are any. For ``.npy``, a path of ``.npy`` files for target and
        weight.
    exclude : str or sequence of str, optional
        Columns of CSV and Parquet that are left out, as names and patterns like ``features``.
    ident : str, optional
        Column that says what a row is called: no feature, and what predictions are written beside.
    categorical : {"auto", "error"}, optional
        What to do about text, in columns of features. "auto", the default, makes one feature of
        zeros and ones for each different text, called ``column=text``. Truth values are 0 and 1.
    missing : {"median", "drop", "error"}, optional
        What to do about missing values. With "median", the default, numbers are filled by the
        median of their column, missing texts are a category of their own, and a missing target or
        weight is an error; "drop" leaves out rows in which anything is missing.
    unknown : {"own", "error"}, optional
        What to do later about a category that is not among these rows: zeros in all features of
        its column by "own", the default, or an error.
    max_categories : int, optional
        Most different texts in a column of features, 256 by default: more is an error.
    recipe : str, Path or dict, optional
        A store that was ingested before, a run folder or a saved model, by whose recipe the rows
        are encoded, so that nothing is learnt of them: for rows to test on.
    dtype : str, optional
        Type of the features of CSV and Parquet files. By default that of Parquet, and for CSV the
        smallest that holds integers exactly or floats to a millionth of their column's range;
        signed before unsigned, because unsigned bytes are scaled as those of pictures.
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
        exclude=(exclude, names(str)),
        weight=(weight, instance("a name or None", str, Path, NoneType)),
        ident=(ident, instance("a name or None", str, NoneType)),
        categorical=(categorical, choice("auto", "error", None)),
        missing=(missing, choice("median", "drop", "error", None)),
        unknown=(unknown, choice("own", "error", None)),
        max_categories=(max_categories, integer(at_least=1, or_none=True)),
        recipe=(recipe, instance("a path, a recipe or None", str, Path, dict, NoneType)),
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
    asked = _given(
        exclude=exclude,
        ident=ident,
        categorical=categorical,
        missing=missing,
        unknown=unknown,
        max_categories=max_categories,
        recipe=recipe,
    )
    with tempfile.TemporaryDirectory(prefix="daskalt-") as folder:
        attributes: dict[str, Any] = {}
        if kind in ("csv", "parquet"):
            chosen = _given(target=target, features=features, weight=weight)
            encoded = _encoded(FrameFiles(files, kind), {**chosen, **asked}, dtype, Path(folder))
            learnt, layout = encoded.survey()
            blocks = encoded.blocks(learnt, layout)
            attributes[ATTRIBUTE] = learnt.as_dict()
            target = encoded.roles.target
        else:
            _refuse_frame_options(asked, files[0])
            named = {"X": features, "y": target, "sample_weight": weight}
            table = _OPENERS[kind](files, _single_names(named), Path(folder))
            layout, blocks = table_layout(table, destination, memory_bytes)
            attributes |= _given(**{ATTRIBUTE: recipe_of_rows(table.X)})
        shuffle = shuffle and "y" in layout.arrays
        before = kind == "zarr" and is_shuffled(zarr.open_group(files[0], mode="r"))
        attributes |= _described(files, target, shuffled=shuffle or before)
        return write_blocks(
            blocks,
            replace(layout, attributes=attributes),
            destination,
            seed=int(seed) if shuffle else None,
            chunk_rows=chunk_rows,
            memory_bytes=memory_bytes,
            overwrite=overwrite,
            progress=progress,
        )


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _encoded(frames: FrameFiles, asked: dict[str, Any], dtype: Any, folder: Path) -> EncodedFrames:
    """The rows of CSV or Parquet files, by what was asked for or by an earlier recipe."""
    rules = {name: asked[name] for name in ("missing", "unknown") if name in asked}
    if "recipe" in asked:
        _refuse_beside_recipe(asked)
        recipe = find_recipe(asked["recipe"])
        roles = roles_by_recipe(frames.names(), frames.files[0], recipe, asked.get("target"))
        rules = {"missing": recipe.missing, "unknown": recipe.unknown, **rules}
        return EncodedFrames(frames, roles, Rules(**rules), folder, dtype, recipe)
    limits = {n: asked[n] for n in ("categorical", "max_categories") if n in asked}
    columns = {n: asked[n] for n in _COLUMNS if n in asked}
    roles = assign_roles(frames.names(), frames.files[0], **columns)
    return EncodedFrames(frames, roles, Rules(**rules, **limits), folder, dtype)


_COLUMNS = ("target", "features", "exclude", "weight", "ident")


def _refuse_beside_recipe(asked: dict[str, Any]) -> None:
    decided = [n for n in ("features", "exclude", "categorical", "max_categories") if n in asked]
    if decided:
        raise InputError(
            f"{decided[0]} cannot be given beside recipe: the recipe says what becomes of every "
            "column. Leave one of them out."
        )


def _refuse_frame_options(asked: dict[str, Any], file: str) -> None:
    if asked:
        raise InputError(
            f"{', '.join(asked)}: only columns of CSV and Parquet files have names and text; "
            f"{file} has neither. Leave it out."
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


def _described(files: list[str], target: Any, *, shuffled: bool) -> dict[str, Any]:
    shown = files[:10] + ([f"and {len(files) - 10} more"] if len(files) > 10 else [])
    named = target if target is None or isinstance(target, str) else [str(each) for each in target]
    return {"source": shown, "target": named, "shuffled": shuffled}


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

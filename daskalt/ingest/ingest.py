"""CSV, Parquet, NumPy files and Zarr stores as a shuffled Zarr group, ready to train on."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import zarr
from fsspec.implementations.local import LocalFileSystem

from daskalt.data.recipe import ATTRIBUTE, find_recipe, recipe_of_rows
from daskalt.data.table import Block, Table
from daskalt.data.writers import MEMORY_BYTES, Layout, table_layout, write_blocks
from daskalt.errors import InputError
from daskalt.ingest.array_files import OPENERS, single_names
from daskalt.ingest.census import Rules
from daskalt.ingest.encoded import EncodedFrames
from daskalt.ingest.files import find_files, kind_of_files
from daskalt.ingest.frames import FrameFiles
from daskalt.ingest.roles import assign_roles, roles_by_recipe
from daskalt.parameters import check_arguments, choice, instance, integer, names
from daskalt.storage.locks import locked
from daskalt.storage.store import filesystem_of, refuse_existing, storage_errors

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
    without a target always keep their order, as predictions for them will. The attribute
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

        Arrays of more than two dimensions are flattened, with a row for each first index.
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
        Column that names the rows. It is no feature; predictions are written beside it.
    categorical : {"auto", "error"}, optional
        Treatment of text in columns of features. "auto", the default, makes one feature of
        zeros and ones for each different text, called ``column=text``. Truth values are 0 and 1.
        Numbers with leading zeros, such as 007, are codes and make their column text, as they do
        for a target; the first rows of the first CSV file (2 MiB or more) decide.
    missing : {"median", "drop", "error"}, optional
        Treatment of missing values. With "median", the default, numbers are filled by the
        median of their column, missing texts are a category of their own, and a missing target or
        weight is an error; "drop" leaves out rows in which anything is missing.
    unknown : {"own", "error"}, optional
        Later treatment of a category that is not among these rows: "own", the default, gives zeros
        in all features of its column; or an error.
    max_categories : int, optional
        Most distinct texts in a column of features, 256 by default; more are an error.
    recipe : str, Path or dict, optional
        A store ingested earlier, a run folder or a saved model, whose recipe encodes the rows, so
        that nothing is learnt from them: for test sets.
    dtype : str, optional
        Type of the features of CSV and Parquet files. By default that of Parquet, and for CSV the
        smallest that holds all features if they are integers, signed before unsigned, because
        unsigned bytes are scaled as those of pictures; beside categories never unsigned. Other
        numbers are float32 where that keeps a millionth of every column's range, and else float64,
        whatever that keeps of them.
    shuffle : bool
        Whether to put the rows in random order. Those without a target never are.
    seed : int
        Seed of the order.
    chunk_rows : int, optional
        Rows of a chunk; by default about 4 MiB.
    memory_bytes : int
        Memory for shuffling.
    overwrite : bool
        Whether what is at ``destination`` may be replaced.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    InputError
        When files, columns or values cannot be used, or something is at ``destination`` already.
    StorageError
        When files cannot be read or the disk is full; nothing is left behind.
    """
    given = _checked(locals())
    refuse_existing(destination, overwrite)
    files = find_files(inputs)
    kind = kind_of_files(files)
    asked = _given(**{name: given[name] for name in _OF_COLUMNS})
    with _parents_of(destination), locked(str(destination)), _folder_beside(destination) as folder:
        refuse_existing(destination, overwrite)  # another ingest may have made it meanwhile
        if kind in ("csv", "parquet"):
            asked |= _given(target=target, features=features, weight=weight)
            encoded = _encoded(FrameFiles(files, kind), asked, dtype, folder)
            layout, blocks, target = _frame_rows(encoded, destination, progress)
        else:
            _refuse_frame_options(asked, files[0])
            named = {"X": features, "y": target, "sample_weight": weight}
            table = OPENERS[kind](files, single_names(named), folder)
            layout, blocks = _array_rows(table, files[0], destination, memory_bytes)
        shuffle = shuffle and "y" in layout.arrays
        shuffled = shuffle or (kind == "zarr" and is_shuffled(zarr.open_group(files[0], mode="r")))
        return write_blocks(
            blocks,
            _described(layout, files, target, shuffled=shuffled),
            destination,
            seed=int(seed) if shuffle else None,
            chunk_rows=chunk_rows,
            memory_bytes=memory_bytes,
            overwrite=overwrite,
            progress=progress,
        )


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `ingest`; InputError unless all are of the types allowed."""
    check_arguments(**{name: (given[name], allowed) for name, allowed in _ARGUMENTS.items()})
    return given


@contextmanager
def _parents_of(destination: str | Path) -> Iterator[None]:
    """Remove the folders made above a destination if writing fails and they are empty."""
    filesystem, path = filesystem_of(destination)
    local = isinstance(filesystem, LocalFileSystem)
    new = [folder for folder in Path(path).parents if local and not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _folder_beside(destination: str | Path) -> Iterator[Path]:
    """A folder for temporary files, where possible the same if the ingest is run again."""
    filesystem, path = filesystem_of(destination)
    if not isinstance(filesystem, LocalFileSystem):
        with tempfile.TemporaryDirectory(prefix="daskalt-") as folder:
            yield Path(folder)
        return
    work = Path(path).with_name(f".{Path(path).name}.aside")
    shutil.rmtree(work, ignore_errors=True)
    with storage_errors(destination):
        work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _frame_rows(
    encoded: EncodedFrames, destination: str | Path, progress: bool
) -> tuple[Layout, Iterator[Block], str | list[str] | None]:
    """The layout of the rows of files, with their recipe, the rows, and the names of targets."""
    with storage_errors(destination):
        learnt, layout = encoded.survey(progress=progress)
    attributes = {ATTRIBUTE: learnt.as_dict()}
    layout = replace(layout, attributes=attributes)
    return layout, encoded.blocks(learnt, layout), encoded.roles.target


def _array_rows(
    table: Table, file: str, destination: str | Path, memory_bytes: int
) -> tuple[Layout, Iterator[Block]]:
    """The layout of the rows of arrays, with the recipe that made them if any, and the rows."""
    layout, blocks = table_layout(table, destination, memory_bytes)
    attributes = _given(**{ATTRIBUTE: recipe_of_rows(table.X)})
    return replace(layout, attributes=attributes), _without_negative_weights(blocks, file)


def _encoded(frames: FrameFiles, asked: dict[str, Any], dtype: Any, folder: Path) -> EncodedFrames:
    """The rows of CSV or Parquet files, by the given options or by an earlier recipe."""
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
            f"{decided[0]} cannot be given beside recipe: the recipe decides about every "
            "column. Leave one of them out."
        )


def _refuse_frame_options(asked: dict[str, Any], file: str) -> None:
    if asked:
        raise InputError(
            f"{', '.join(asked)}: only columns of CSV and Parquet files have names and text; "
            f"{file} has neither. Leave it out."
        )


def _without_negative_weights(blocks: Iterator[Block], file: str) -> Iterator[Block]:
    first = 0
    for block in blocks:
        if block.weight is not None and (block.weight < 0).any():
            row = int((block.weight < 0).argmax())
            raise InputError(
                f"{file}: the weight of row {first + row} (counted from 0) is "
                f"{block.weight[row]:g}: weights must be 0 or more. Repair it, or leave weight "
                "out."
            )
        yield block
        first += len(block.X)


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
_ARGUMENTS = {
    "inputs": _PLACES,
    "destination": instance("a path or URL", str, Path),
    "target": names(str, Path),
    "features": names(str, Path),
    "exclude": names(str),
    "weight": instance("a name or None", str, Path, NoneType),
    "ident": instance("a name or None", str, NoneType),
    "categorical": choice("auto", "error", None),
    "missing": choice("median", "drop", "error", None),
    "unknown": choice("own", "error", None),
    "max_categories": integer(at_least=1, or_none=True),
    "recipe": instance("a path, a recipe or None", str, Path, dict, NoneType),
    "dtype": _NUMBERS,
    "shuffle": choice(True, False),
    "seed": integer(at_least=0),
    "chunk_rows": integer(at_least=1, or_none=True),
    "memory_bytes": integer(at_least=1),
    "overwrite": choice(True, False),
}
# Those that need columns with names.
_OF_COLUMNS = ["exclude", "ident", "categorical", "missing", "unknown", "max_categories", "recipe"]


def is_shuffled(group: zarr.Group) -> bool:
    """Say whether the rows of a group that `ingest` wrote are in another order than their source.

    A group that `ingest` did not write counts as not shuffled.
    """
    attributes = group.attrs.asdict()
    if not {"daskalt_format", "source"} <= attributes.keys():
        return False
    return bool(attributes.get("shuffled", attributes.get("seed") is not None))


def _described(layout: Layout, files: list[str], target: Any, *, shuffled: bool) -> Layout:
    """A layout whose attributes also say where the rows are from, and in what order."""
    shown = files[:10] + ([f"and {len(files) - 10} more"] if len(files) > 10 else [])
    named = target if target is None or isinstance(target, str) else [str(each) for each in target]
    source = {"source": shown, "target": named, "shuffled": shuffled}
    return replace(layout, attributes={**layout.attributes, **source})

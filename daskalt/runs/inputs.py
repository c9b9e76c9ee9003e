"""Rows to predict for: from Zarr as stored, from CSV and Parquet by a model's recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from daskalt.data.finite import check_block
from daskalt.data.opening import open_features, open_table
from daskalt.data.readers import Source
from daskalt.data.recipe import Column, Recipe, group_of
from daskalt.data.table import Table
from daskalt.errors import ConfigError, InputError, about
from daskalt.ingest.encoding import Encoder
from daskalt.ingest.files import find_files, is_frame, kind_of_files
from daskalt.ingest.frames import FrameFiles, with_gaps
from daskalt.ingest.ingest import ingest, is_shuffled
from daskalt.ingest.roles import roles_by_recipe
from daskalt.storage.scratch import TemporaryStore
from daskalt.storage.store import absolute

__all__ = ["Inputs", "Part", "open_inputs", "rows_with_targets", "target_names"]

BLOCK_ROWS = 4096


class Part(NamedTuple):
    """Consecutive rows: the number of the first, features, and the names of the rows."""

    first: int
    X: np.ndarray
    idents: np.ndarray | None = None


@dataclass(frozen=True)
class Inputs:
    """Rows in their order, part by part.

    Attributes
    ----------
    n_rows : int or None
        None where only reading them counts them.
    ident : str or None
        Column that names the rows.
    """

    parts: Iterator[Part]
    n_rows: int | None = None
    ident: str | None = None


def open_inputs(
    model: Any,
    place: str,
    *,
    ident: str | None = None,
    missing: str | None = None,
    unknown: str | None = None,
    stored_order: bool = False,
) -> Inputs:
    """Return the rows of a store, or of files with named columns.

    Raises
    ------
    InputError
        If they do not suit the model or were shuffled when they were ingested.
    """
    if is_frame(place):
        return _of_frames(model, place, ident, missing, unknown)
    _refuse_encoding(place, ident=ident, missing=missing, unknown=unknown)
    source = open_features(model, place)
    if not stored_order:
        _refuse_shuffled(source)
    return Inputs(_stored(source), len(source))


def _refuse_encoding(place: str, **options: str | None) -> None:
    """Raise ConfigError where options for files are given for a store."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(
                f"{name}={value} is for CSV and Parquet files; {place} holds rows that are numbers "
                "already. Leave it out."
            )


def _refuse_shuffled(source: Source) -> None:
    """Raise InputError where the lines of predictions would not be those of the user's rows."""
    group = group_of(source)
    if group is not None and is_shuffled(group):
        raise InputError(
            f"The rows of {group.store_path} were shuffled when they were ingested, so predictions "
            "would be in another order than the rows that they came from. Predict for the files "
            "that they came from, ingest them anew with daskalt ingest --no-shuffle, or pass "
            "--stored-order to predict in the order of the store."
        )


def _stored(source: Source) -> Iterator[Part]:
    for start, stop in Table(source).block_bounds(BLOCK_ROWS):
        block = Table(source).read(start, stop)
        check_block(block, start, stop)
        yield Part(start, block.X)


def _of_frames(
    model: Any, place: str, ident: str | None, missing: str | None, unknown: str | None
) -> Inputs:
    recipe = recipe_of_model(model)
    frames = _frame_files(place)
    roles = roles_by_recipe(frames.names(), frames.files[0], replace(recipe, ident=None))
    available = frames.names()
    if ident is not None and ident not in available:
        raise InputError(f"{frames.files[0]} has no column {ident!r} to call the rows by.")
    ident = ident or (recipe.ident if recipe.ident in available else None)
    encoder = Encoder(recipe, missing=missing, unknown=unknown)
    return Inputs(_encoded(frames, encoder, roles.features, ident), None, ident)


def _encoded(
    frames: FrameFiles, encoder: Encoder, names: list[str], ident: str | None
) -> Iterator[Part]:
    first = 0
    literal = [] if ident is None else [ident]
    dtype = np.dtype(np.float64)
    batches = frames.batches(list(dict.fromkeys([*names, *literal])), literal=literal)
    for batch in encoder.parts(batches, dtype):
        idents = None if ident is None else _plain(batch.rows.column(ident))
        if ident in names and frames.kind == "csv":
            batch = batch._replace(rows=with_gaps(batch.rows))
        X = encoder.features(batch, dtype)
        yield Part(first, X, idents)
        first += len(X)


def _plain(column: Any) -> np.ndarray:
    """The names of rows as the file has them; empty where there are none."""
    values = column.to_numpy(zero_copy_only=False)
    return values if values.dtype.kind in "biuM" else np.asarray(column.to_pylist(), object)


def recipe_of_model(model: Any) -> Recipe:
    """The recipe of a model, or one that takes columns of numbers by its feature names.

    Raises
    ------
    InputError
        If it has no feature names.
    """
    facts = getattr(model, "recipe_", None)
    if facts is not None:
        return Recipe.from_dict(facts, "the model")
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        raise InputError(
            "The model knows no names of columns, so it cannot tell which columns of a file to "
            "take. Make Zarr of the file as it was made of the training data, or train on a store "
            "that daskalt ingest made of CSV or Parquet files."
        )
    return Recipe([Column(str(name), "number", "float64") for name in names], missing="error")


def target_names(model: Any, place: str, count: int) -> list[str]:
    """The names of the targets: of the recipe, else of the store, else of the fit."""
    facts = getattr(model, "recipe_", None)
    names = [] if facts is None else [target["name"] for target in facts["targets"]]
    if not names and not is_frame(place):
        group = group_of(open_features(model, place))
        stored = None if group is None else group.attrs.get("target")
        names = stored if isinstance(stored, list) else [stored] if stored else []
    if not names and hasattr(model, "target_name_"):
        names = [model.target_name_]
    if len(names) == count:
        return list(map(str, names))
    return ["prediction"] if count == 1 else [f"prediction_{i}" for i in range(count)]


def _frame_files(place: str) -> FrameFiles:
    files = find_files(place)
    return FrameFiles(files, kind_of_files(files))


@contextmanager
def rows_with_targets(
    model: Any,
    place: str,
    *,
    target: str | None = None,
    missing: str | None = None,
    unknown: str | None = None,
) -> Iterator[Table]:
    """Rows to score: of a store, or of files, which are encoded to a temporary store."""
    if not is_frame(place):
        _refuse_encoding(place, missing=missing, unknown=unknown)
        with about("DATA"):
            table = open_table(model, absolute(place), target, None, reset=False)
        yield table
        return
    recipe = recipe_of_model(model)
    store = TemporaryStore()
    table = ingest(
        place,
        store.location,
        target=target,
        recipe=recipe.as_dict(),
        missing=missing,
        unknown=unknown,
        shuffle=False,
    )
    if table.y is None:
        raise InputError(
            f"{place} has no targets: no column {recipe.target!r}. Name one by target=COLUMN."
            if recipe.targets
            else f"{place}: which column holds the targets is not known. Name it by target=COLUMN."
        )
    yield table

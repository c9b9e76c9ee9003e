"""The rows of a configured run: a Zarr group as it is, or made of files or a bundled data set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from daskalt.data.choosing import Named
from daskalt.data.sources import as_table
from daskalt.data.survey import survey_labels
from daskalt.data.table import Table
from daskalt.errors import ConfigError, InputError, about
from daskalt.ingest.files import find_files, kind_of_files
from daskalt.ingest.ingest import ingest
from daskalt.runs.examples import HELD_OUT, write_example
from daskalt.runs.heads import first_targets
from daskalt.runs.origins import DataConfig
from daskalt.storage.folders import write_whole
from daskalt.storage.store import absolute, filesystem_of

__all__ = ["are_files", "check_labels", "make_tables", "open_rows", "open_tables"]

# Keys of the data section, and what `ingest` calls them.
OF_FILES = {
    "target": "target",
    "features": "features",
    "exclude": "exclude",
    "id": "ident",
    "sample_weight": "weight",
    "categorical": "categorical",
    "missing": "missing",
    "unknown": "unknown",
    "max_categories": "max_categories",
    "dtype": "dtype",
    "seed": "seed",
    "chunk_rows": "chunk_rows",
}
ROLES = ("X", "y", "sample_weight")
OF_ZARR = {"X", "y"}
OF_BOTH = {"target", "sample_weight", "seed", "chunk_rows"}


def open_rows(place: str, key: str, data: DataConfig | None = None) -> Table:
    """Return the rows of a Zarr group, whose arrays ``data`` may name; errors name ``key``."""
    names = dict.fromkeys(ROLES) if data is None else _names(data, key)
    rows: Any = absolute(place)
    if names["X"] is not None:
        rows = Named(rows, names["X"])
    with about(key):
        table = as_table(rows, names["y"], names["sample_weight"])
    if table.y is None:
        raise InputError(f"{key}: {place} has no array y. Name its targets by --target.")
    return table


def open_tables(data: DataConfig) -> tuple[Table, Table | None] | None:
    """Return the rows to train on and to evaluate on, or None where they have to be made first."""
    if data.dataset is not None:
        return None
    if any(map(are_files, data.places.values())):
        _check_files(data)
        return None
    return _divided(data, *(open_rows(place[0], key, data) for key, place in data.places.items()))


def make_tables(
    data: DataConfig, folder: Path, *, resumed: bool = False, progress: bool = False
) -> tuple[Table, Table | None]:
    """Write rows that are not in Zarr to the folder ``data`` of a run, and return all.

    Complete data that is there already is used as it is; in a run that is ``resumed`` it is never
    replaced.
    """
    if data.dataset is not None:
        return write_example(
            data.dataset,
            folder / "data",
            held_out=data.held_out or HELD_OUT,
            seed=data.seed,
            chunk_rows=data.chunk_rows,
        )
    tables, recipe, basis = [], data.places["data.train"][0], ""
    named = None if are_files(data.places["data.train"]) else data
    for key, places in data.places.items():
        store = folder / "data" / f"{key.removeprefix('data.')}.zarr"
        if not are_files(places):
            tables.append(open_rows(places[0], key, named))
            continue
        if key == "data.train":
            recipe = str(store)
            options = {OF_FILES[k]: value for k, value in data.chosen().items() if k in OF_FILES}
        else:
            options = {"recipe": recipe, "shuffle": False}
        basis = _ingest_once(places, store, options, basis, resumed, progress)
        tables.append(open_rows(str(store), key))
    return _divided(data, *tables)


def are_files(places: Sequence[str]) -> bool:
    """Say whether rows have to be ingested before they can be trained on."""
    if len(places) > 1 or any(mark in places[0] for mark in "*?["):
        return True
    if kind_of_files(places) != "zarr":
        return True
    return Path(places[0]).is_dir() and kind_of_files(find_files(places[0])) != "zarr"


# ------------------------------------------------------------------------------- Zarr


def _names(data: DataConfig, key: str) -> dict[str, Any]:
    """The names of arrays that differ from the defaults."""
    unused = sorted(data.chosen().keys() & OF_FILES.keys() - OF_BOTH)
    if unused:
        raise ConfigError(
            f"data.{unused[0]} is for files, and {key} is a Zarr group. Name its arrays by data.X, "
            "data.y and data.sample_weight."
        )
    if not isinstance(data.target, str | None):
        raise ConfigError("data.target names several arrays; a Zarr group has one of targets.")
    return {"X": data.X, "y": data.y or data.target, "sample_weight": data.sample_weight}


def _divided(
    data: DataConfig, train: Table, test: Table | None = None
) -> tuple[Table, Table | None]:
    """Training rows and rows to evaluate on, the last ones where a share is held out."""
    if test is not None or data.held_out is None:
        return train, test
    wanted = max(1, round(data.held_out * train.n_rows))
    cut = train.n_rows - wanted
    over = cut % (train.X.chunk_rows or 1)
    if over < cut and over <= 0.05 * wanted:  # no chunk is read for both, where that is so cheap
        cut -= over
    if cut < 1:
        raise ConfigError(f"data.held_out={data.held_out} leaves no rows to train on.")
    return train.rows_slice(0, cut), train.rows_slice(cut, train.n_rows)


def check_labels(estimator: Any, train: Table, test: Table | None) -> None:
    """Raise InputError where rows to evaluate on have labels that no row to train on has."""
    if test is None or not is_classifier(estimator) or len(train.y.shape) > 1:  # type: ignore
        return
    unknown = np.setdiff1d(survey_labels(test).classes, survey_labels(train).classes)
    if len(unknown):
        shown = ", ".join(map(repr, unknown[:5].tolist())) + (", ..." if len(unknown) > 5 else "")
        raise InputError(
            f"The rows to evaluate on have labels that no row to train on has: {shown}. Where they "
            "are rare, leave them out or name rows of your own by --test; where the rows lie "
            "sorted, ingest them anew, which shuffles them."
        )


# ------------------------------------------------------------------------------- files


def _check_files(data: DataConfig) -> None:
    """Raise the faults of files that their first rows show."""
    train = data.places["data.train"]
    if not are_files(train):
        return
    unused = sorted(data.chosen().keys() & OF_ZARR)
    if unused:
        raise ConfigError(
            f"data.{unused[0]} names an array of a Zarr group, and {train[0]} is none. Name "
            "columns by data.target and data.features."
        )
    first_targets(data)


def _ingest_once(
    places: Sequence[str],
    store: Path,
    options: dict[str, Any],
    basis: str,
    resumed: bool,
    progress: bool,
) -> str:
    """Ingest, unless the same ingest was completed before, and return its description.

    A note beside the store holds it; ``basis`` describes the ingest that learnt the recipe.
    """
    note, files = store.with_suffix(".json"), find_files(places)
    done = json.dumps({"inputs": list(map(_state, files)), "options": options, "basis": basis})
    whole = store.is_dir() and note.is_file()
    if not (whole and note.read_text("utf-8") == done):
        if whole and resumed:
            raise InputError(
                f"--resume: {', '.join(places)} changed since this run ingested it, or is to be "
                "ingested in another way. Restore it, pass --overwrite to train anew, or name "
                "another --output."
            )
        note.unlink(missing_ok=True)
        ingest(list(places), store, **options, overwrite=True, progress=progress)
        write_whole(note, done)
    return done


def _state(file: str) -> list[Any]:
    filesystem, path = filesystem_of(file)
    facts = filesystem.info(path)
    return [file, *(str(facts.get(key)) for key in ("size", "mtime", "LastModified", "ETag"))]

"""The recipe learnt from the columns of a frame, by which new rows are encoded alike."""

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zarr

from daskalt.data.readers import SlicedSource, Source, ZarrSource
from daskalt.errors import InputError, StorageError
from daskalt.storage.records import decode
from daskalt.storage.sealed import unseal

__all__ = [
    "ATTRIBUTE",
    "Column",
    "Recipe",
    "Target",
    "find_recipe",
    "group_of",
    "recipe_of_rows",
]

ATTRIBUTE = "recipe"
VERSION = 1


@dataclass
class Column:
    """One feature of the frame.

    Attributes
    ----------
    kind : {"number", "category"}
        A number is one feature of the network, a category one for each of its values.
    type : str
        "bool", "int64", "float64" or another type of numbers, or "text".
    missing : int
        Values that were missing.
    low, high : float or int, optional
        Range of a number.
    fill : float or int, optional
        Median of a number.
    categories : list, optional
        The texts in their order, and None last if values were missing.
    counts : list of int, optional
        How often each occurs.
    """

    name: str
    kind: str
    type: str
    missing: int = 0
    low: float | None = None
    high: float | None = None
    fill: float | None = None
    categories: list[str | None] | None = None
    counts: list[int] | None = None

    @property
    def truths(self) -> bool:
        """Whether it was truth values, or zeros and ones, which are read the same way."""
        if self.kind != "number" or self.low is None or self.high is None:
            return False
        whole = self.type == "bool" or "int" in self.type
        return whole and self.low >= 0 and self.high <= 1

    @property
    def encoded(self) -> list[str]:
        """Names of the features that it becomes."""
        if self.categories is None:
            return [self.name]
        return [f"{self.name}={'nan' if text is None else text}" for text in self.categories]


@dataclass
class Target:
    """One target: its classes and their counts if these are few, or its range."""

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    classes: list | None = None
    counts: list[int] | None = None


@dataclass
class Recipe:
    """How rows of a frame become features.

    Attributes
    ----------
    columns : list of Column
        In the order of the features.
    targets : list of Target
    several : bool
        Whether y has two dimensions.
    weight, ident : str or None
        Columns of row weights, and of the names of rows.
    excluded : list of str
        Columns that are not used.
    missing : {"median", "drop", "error"}
        Treatment of missing values.
    unknown : {"own", "error"}
        Treatment of unknown categories.
    rows, left_out : int
        Rows that were kept, and that were left out for a missing value.
    medians : str
        The rows that the medians are taken over.
    reused : bool
        Whether it was learnt from other rows; counts and ranges are theirs.
    """

    columns: list[Column]
    targets: list[Target] = field(default_factory=list)
    several: bool = False
    weight: str | None = None
    ident: str | None = None
    excluded: list[str] = field(default_factory=list)
    missing: str = "median"
    unknown: str = "own"
    rows: int = 0
    left_out: int = 0
    medians: str = "all rows"
    reused: bool = False

    @property
    def encoded(self) -> list[str]:
        """Names of the features of the network."""
        return [name for column in self.columns for name in column.encoded]

    @property
    def target(self) -> str | list[str] | None:
        """The name of the target, or a list of names where y has two dimensions."""
        names = [target.name for target in self.targets]
        return names if self.several else (names[0] if names else None)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, fit for JSON."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, facts: Any, where: str) -> "Recipe":
        """The recipe from the plain values of `as_dict`.

        Raises
        ------
        StorageError
            When they are something else; the message names ``where`` they are from.
        """
        try:
            facts = dict(facts)
            if facts.pop("version") != VERSION:
                raise ValueError("it is of another version")
            columns = [Column(**column) for column in facts.pop("columns")]
            targets = [Target(**target) for target in facts.pop("targets")]
            recipe = cls(columns, targets, **facts)
            _check(recipe)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StorageError(
                f"The recipe of {where} is damaged or was not written by daskalt ({error}). Ingest "
                "the data again."
            ) from error
        return recipe


def _check(recipe: Recipe) -> None:
    names = [column.name for column in recipe.columns]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("columns have no names")
    for column in recipe.columns:
        if (column.kind == "category") != isinstance(column.categories, list):
            raise ValueError(f"column {column.name!r} is of kind {column.kind!r}")
        if column.fill is not None and not isinstance(column.fill, int | float):
            raise ValueError(f"column {column.name!r} is filled with {column.fill!r}")


# ------------------------------------------------------------------------------- where it is


def find_recipe(place: Any) -> Recipe:
    """The recipe of a store, a run folder or a saved model, or from its plain values.

    Raises
    ------
    InputError
        When there is none.
    StorageError
        When it is damaged.
    """
    if isinstance(place, dict):
        return Recipe.from_dict(place, "this dict")
    facts = _of_model(Path(str(place)))
    if facts is None:
        with suppress(Exception):
            facts = zarr.open_group(str(place), mode="r").attrs.get(ATTRIBUTE)
    if facts is None:
        raise InputError(
            f"recipe={str(place)!r}: there is no recipe. Name a store that daskalt ingest made of "
            "CSV or Parquet files, a run that was trained on one, or a model saved from it."
        )
    return Recipe.from_dict(facts, str(place))


def _of_model(folder: Path) -> Any:
    for place in (folder / "model" / "model.json", folder / "model.json"):
        if place.is_file():
            try:
                attributes = unseal(place.read_bytes())["attributes"]
                return decode(attributes.get("recipe_"), {}, {})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StorageError(
                    f"The model at {folder} is damaged or of another version of daskalt "
                    f"({type(error).__name__}: {error}). Save it again."
                ) from error
    return None


def recipe_of_rows(source: Source) -> dict[str, Any] | None:
    """The recipe that stored features were made by, as plain values; None if there is none."""
    group = group_of(source)
    facts = None if group is None else group.attrs.get(ATTRIBUTE)
    if facts is None:
        return None
    recipe = Recipe.from_dict(facts, str(group.store_path))  # type: ignore[union-attr]
    # Other arrays of the group are no features of this recipe.
    return recipe.as_dict() if source.columns == recipe.encoded else None


def group_of(source: Source) -> zarr.Group | None:
    """The group that holds the array of a source, if there is one."""
    while isinstance(source, SlicedSource):
        source = source.source
    if not isinstance(source, ZarrSource):
        return None
    place = source.array.store_path
    with suppress(FileNotFoundError):
        if place.path:
            parent = place.path.rpartition("/")[0]
            return zarr.open_group(place.store, path=parent, mode="r")
        return zarr.open_group(source.location.rstrip("/").rpartition("/")[0], mode="r")
    return None

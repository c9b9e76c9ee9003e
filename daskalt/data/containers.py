"""Arrays by name: Zarr groups and xarray Datasets, and several arrays side by side."""

import base64
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from daskalt.data.identity import is_same, names_of, place_of, stored_at
from daskalt.data.labelled import feature_names, is_data_array, is_lazy
from daskalt.errors import DaskaltError, InputError, StorageError
from daskalt.storage.retries import patiently
from daskalt.wording import meant

__all__ = [
    "SHOWN",
    "Columns",
    "Container",
    "DatasetContainer",
    "GroupContainer",
    "is_inside",
    "member",
    "open_store",
    "refuse_packed",
]

SHOWN = 20  # names in a message


@dataclass(frozen=True)
class Columns:
    """Arrays of a container whose columns, side by side, are one array."""

    parts: dict[str, Any]  # zarr.Array or xarray.DataArray, of one or two dimensions

    @property
    def first(self) -> Any:
        """The first of the arrays, along whose first dimension the rows are."""
        return next(iter(self.parts.values()))

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return [label for name, part in self.parts.items() for label in _labels(name, part)]


def _labels(name: str, part: Any) -> list[str]:
    if part.ndim == 1:
        return [name]
    known = feature_names(part) if is_data_array(part) else None
    return [f"{name}_{label}" for label in known or range(part.shape[1])]


class Container(ABC):
    """Arrays by name."""

    place: str  # its name in messages
    thing = "array"
    target: Any = None  # column of files that the array y was made of

    @abstractmethod
    def get(self, name: str) -> Any:
        """The array of a name, None if there is none."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of all arrays that may be chosen."""

    @property
    @abstractmethod
    def variables(self) -> list[str]:
        """Names of all arrays but coordinates, sorted."""

    @abstractmethod
    def name_of(self, array: Any) -> str | None:
        """The name of an array of this container; None for any other."""

    @abstractmethod
    def is_coordinate(self, name: str) -> bool:
        """Say whether an array labels rows or columns, and holds no data."""

    @abstractmethod
    def dims(self, array: Any) -> tuple[str, ...] | None:
        """Names of an array's dimensions, if they have any."""

    def has(self, name: str) -> bool:
        """Say whether there is an array of a name."""
        return self.get(name) is not None

    def lacks(self, role: str, wrong: Sequence[str], fit: bool = False) -> InputError:
        """The error that names the arrays that are missing."""
        names = self.names
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return InputError(
            f"{role}: {self.place} has no {self.thing} called "
            f"{', '.join(map(repr, wrong[:SHOWN]))}{', as the fit had' if fit else ''}; it has "
            f"{names[:SHOWN]}{more}.{meant(wrong, names)} Name what is "
            f"meant by {role}=."
        )

    def pick(self, role: str, names: str | list[str], like: Any = None) -> Any:
        """The array of a name, or several as columns; their rows are those of ``like``."""
        if isinstance(names, str):
            array = self.get(names)
            if role != "X" or array.ndim == 2:
                return array
            names = [names]
        parts = {name: self.get(name) for name in names}
        self._check(role, parts, like)
        return Columns(parts)

    def _check(self, role: str, parts: dict[str, Any], like: Any) -> None:
        """Raise InputError unless the arrays are columns of the same rows."""
        good = [name for name, part in parts.items() if part.ndim in (1, 2) and _is_number(part)]
        like = like.first if isinstance(like, Columns) else like
        if like is not None:
            rows = self._rows(like) if like.ndim else None
        else:
            common = Counter(self._rows(parts[name]) for name in good).most_common(1)
            rows = common[0][0] if common else None
        for name, part in parts.items():
            problem = self._problem(part, rows)
            if problem:
                fine = [other for other in good if not self._problem(parts[other], rows)]
                cure = f"name others, as in {role}={fine[:SHOWN]!r}" if fine else "name others"
                raise InputError(
                    f"{role}: the {self.thing} {name!r} of {self.place} {problem}; or {cure}."
                )

    def _rows(self, part: Any) -> tuple[int, str | None]:
        """Number of rows, and the dimension that they are along if it has a name."""
        dims = self.dims(part)
        return part.shape[0], None if dims is None else dims[0]

    def _problem(self, part: Any, rows: tuple[int, str | None] | None) -> str:
        """What is wrong with a column, and the cure; "" if nothing is."""
        if part.ndim == 0:
            return "is a single value with no rows. Leave it out"
        if not _is_number(part):
            return f"is no number but of dtype {part.dtype}. Convert it or leave it out"
        dims = self.dims(part)
        if part.ndim > 2:
            others = ", ".join(f'"{dim}"' for dim in (dims or ("row", "lat", "lon"))[1:])
            return (
                f"has {part.ndim} dimensions{f', {dims}' if dims else ''}, and rows have one. With "
                f"xarray lay the others side by side: .stack(feature=({others}))"
            )
        return "" if rows is None else self._off(part, dims, *rows)

    def _off(self, part: Any, dims: tuple[str, ...] | None, count: int, along: str | None) -> str:
        """How the rows of a column differ from those expected; "" if they do not."""
        if dims is not None and along is not None and dims[0] != along:
            if along in dims:
                return f'has its rows last, {dims}: call .transpose("{along}", ...)'
            return f"lies along {dims[0]!r}, the others along {along!r}. Leave it out"
        if part.shape[0] != count:
            return f"has {part.shape[0]} rows, the others {count}. Leave it out"
        return ""


def _is_number(array: Any) -> bool:
    dtype = np.dtype(array.dtype)
    return dtype.kind in "biuf" and dtype.itemsize <= 8


class DatasetContainer(Container):
    thing = "variable"

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.place = "the xarray Dataset"

    def get(self, name: str) -> Any:
        return self.dataset[name] if name in self.dataset.variables else None

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.dataset.data_vars]

    @property
    def variables(self) -> list[str]:
        # An opened data set has them in the order in which the folder happens to be listed.
        names = list(self.dataset.data_vars)
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise InputError(
                f"X: {self.place} has variables whose names are no text: {wrong[:SHOWN]}. Rename "
                f"them, as in .rename({{{wrong[0]!r}: {str(wrong[0])!r}}}), or name the features, "
                "as in X=[...]."
            )
        return sorted(names)

    def name_of(self, array: Any) -> str | None:
        variables = self.dataset.variables
        for name, variable in variables.items():
            if isinstance(name, str) and is_same(array, variable):
                return name
        called = [name for name in names_of(array) if self.has(name)]
        return next((name for name in called if _is_equal(array, self.dataset[name])), None)

    def is_coordinate(self, name: str) -> bool:
        return name in self.dataset.coords

    def dims(self, array: Any) -> tuple[str, ...]:
        return array.dims


def _is_equal(array: Any, other: Any) -> bool:
    """Whether two arrays of one name are certainly the same."""
    place = stored_at(array)
    if place is not None:
        return place == stored_at(other)
    if not hasattr(array, "to_numpy") or hasattr(array, "dask") or is_lazy(other):
        return False
    if is_data_array(array) and is_lazy(array):
        return False
    return np.array_equal(np.asarray(array), np.asarray(other))


class GroupContainer(Container):
    def __init__(self, group: zarr.Group) -> None:
        self.group = group
        self.place = f"the Zarr group {group.store_path}"
        self.target = group.attrs.get("target")
        self._found: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        if name not in self._found:
            array = member(self.group, name) if is_inside(name) else None
            self._found[name] = array if isinstance(array, zarr.Array) else None
        return self._found[name]

    def pick(self, role: str, names: str | list[str], like: Any = None) -> Any:
        for name in [names] if isinstance(names, str) else names:
            refuse_packed(self.get(name), f"{role}: the array {name!r} of {self.place}")
        return super().pick(role, names, like)

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]
        what = f"listing the arrays of {self.place}"
        try:
            return sorted(patiently(what, lambda: list(self.group.array_keys())))
        except DaskaltError:
            raise
        except Exception as error:
            raise StorageError(
                f"{what} failed ({type(error).__name__}: {error}). Name arrays that it has by X=, "
                "y= and sample_weight=."
            ) from error

    @cached_property
    def variables(self) -> list[str]:  # type: ignore[override]
        attributes = [dict(self.group.attrs), *(self.get(name).attrs for name in self.names)]
        listed = [a.get(key) for a in attributes for key in ("coordinates", "bounds")]
        coordinates = {name for text in listed if isinstance(text, str) for name in text.split()}
        return [
            name for name in self.names if name not in coordinates and not self.is_coordinate(name)
        ]

    def name_of(self, array: Any) -> str | None:
        root, place = place_of(self.group).rstrip("/") + "/", stored_at(array)
        name = "" if place is None or not place.startswith(root) else place[len(root) :]
        return name if name and self.has(name) else None

    def is_coordinate(self, name: str) -> bool:
        return self.dims(self.get(name)) == (name,)

    def dims(self, array: Any) -> tuple[str, ...] | None:
        return _dimensions(array)


# ------------------------------------------------------------------------------- Zarr


def open_store(location: str | Path, name: str) -> zarr.Array | zarr.Group:
    """Return the Zarr array or group at a path or URL, for the argument called ``name``."""
    if str(location).endswith((".csv", ".parquet", ".npy", ".npz")):
        raise InputError(
            f"{name}: {location} is not a Zarr store. Convert it first: daskalt ingest, or "
            "daskalt.ingest.ingest."
        )
    try:
        what = f"{name}: opening the Zarr store at {location}"
        opened = patiently(what, zarr.open, str(location), mode="r")
    except DaskaltError:
        raise
    except Exception as error:
        cure = "Check the path; a store whose writing was interrupted must be written again."
        if str(location).endswith(".zip") and "::" not in str(location):
            cure = f"A Zarr store in a zip file is read as zip::{location}."
        raise StorageError(
            f"{name}: no readable Zarr array or group at {location} ({error}). {cure}"
        ) from error
    if isinstance(opened, zarr.Array):
        refuse_packed(opened, f"{name}: the array {location}")
    return opened


def member(group: zarr.Group, name: str) -> Any:
    """Return the array or group of a name in a group; None if there is none."""
    try:
        return patiently(f"{name}: opening it in {group.store_path}", group.get, name)
    except DaskaltError:
        raise
    except Exception as error:
        raise StorageError(
            f"{name}: the metadata of {group.store_path}/{name} are damaged "
            f"({type(error).__name__}: {error}). Restore them, or write the array again."
        ) from error


def is_inside(name: str) -> bool:
    """Say whether a text can name an array in a group, which no path out of it or URL can."""
    steps = name.split("/")
    return not {"", ".", ".."} & set(steps) and "://" not in name


def _dimensions(array: zarr.Array) -> tuple[str, ...] | None:
    """Names of the dimensions, as xarray leaves them in either format."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(map(str, names)) if names and None not in names else None


def refuse_packed(array: zarr.Array, which: str) -> None:
    """Raise InputError where stored numbers are packed by the CF conventions."""
    if not _is_number(array):
        return
    attributes = array.attrs.asdict()
    packed = [
        f"{key}={attributes[key]!r}"
        for key, nothing in (("scale_factor", 1), ("add_offset", 0), ("_Unsigned", "false"))
        if attributes.get(key, nothing) != nothing
    ]
    marks = [attributes.get("_FillValue"), attributes.get("missing_value")]
    if array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in attributes:
        marks.append(array.fill_value)  # where xarray keeps it in this format
    numbers = {str(mark) for mark in map(_decoded, marks) if not np.all(np.isnan(mark))}
    packed += [f"missing values as {mark}" for mark in sorted(numbers)]
    if packed:
        raise InputError(
            f"{which} holds packed numbers ({', '.join(packed)}), which Zarr does not decode. "
            "Open it with xarray, which does: xarray.open_zarr(path), or with "
            "mask_and_scale=False if the numbers are meant as they are stored."
        )


def _decoded(mark: Any) -> np.ndarray:
    """A mark of missing values as a number; NaN where there is none."""
    if isinstance(mark, str):  # as xarray writes those of floats in format 3
        (mark,) = struct.unpack("<d", base64.b64decode(mark))
    return np.asarray(np.nan if mark is None else mark, np.float64)

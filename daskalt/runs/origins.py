"""Where the rows of a run come from, as configured."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from daskalt.errors import ConfigError
from daskalt.runs.examples import EXAMPLES
from daskalt.runs.sections import Section

__all__ = ["DataConfig"]

Names = str | tuple[str, ...]
Positive = Annotated[int, Field(ge=1)]


class DataConfig(Section):
    """Where the rows come from: one of ``dataset`` and ``train``.

    Attributes
    ----------
    dataset : str or None
        Name of a data set that comes with scikit-learn.
    train, test : str, tuple of str or None
        Path or URL of a Zarr group; or files, folders or patterns for `daskalt.ingest.ingest`, from
        which a run first makes a Zarr group.
    target : str, tuple of str or None
        Column of the targets, or array of a Zarr group; there "y" unless told.
    features, exclude, id, categorical, missing, unknown, max_categories, dtype
        How files are ingested: see `daskalt.ingest.ingest.ingest`, where id is called ``ident``.
    X, y, sample_weight : str, tuple of str (X) or None
        Names of the arrays of a Zarr group, "X", "y" and "sample_weight" unless told; for files
        ``sample_weight`` is a column.
    held_out : float or None
        Share of the rows to evaluate on: drawn at random from a bundled data set (0.2 unless
        told), the last rows of ``train`` (none unless told).
    seed : int
        Seed of that draw, and of the order of ingested rows.
    chunk_rows : int or None
        Rows of a Zarr chunk of a bundled data set or of ingested rows.
    """

    dataset: Literal[tuple(EXAMPLES)] | None = None  # type: ignore[valid-type]
    train: Names | None = None
    test: Names | None = None
    target: Names | None = None
    features: Names | None = None
    exclude: Names | None = None
    id: str | None = None
    categorical: Literal["auto", "error"] = "auto"
    missing: Literal["median", "drop", "error"] = "median"
    unknown: Literal["own", "error"] = "own"
    max_categories: Positive = 256
    dtype: str | None = None
    X: Names | None = None
    y: str | None = None
    sample_weight: str | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    chunk_rows: Positive | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.dataset is None) == (self.train is None):
            raise ConfigError(
                f"data must have either dataset (one of {', '.join(EXAMPLES)}) or train, the path "
                "or URL of a Zarr group, or of CSV or Parquet files."
            )
        if self.dataset is not None and self.test is not None:
            raise ConfigError("data.test goes with data.train; a dataset is divided by held_out.")
        if self.test is not None and self.held_out is not None:
            raise ConfigError("data has both test and held_out: choose one.")
        if self.target is not None and self.y is not None:
            raise ConfigError("data has both target and y, which name the same: choose one.")
        return self

    def chosen(self) -> dict[str, Any]:
        """Return the values that are not the defaults, by key."""
        return self.model_dump(exclude_defaults=True)

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """Paths and URLs by key."""
        given = {"data.train": self.train, "data.test": self.test}
        return {
            key: (place,) if isinstance(place, str) else place
            for key, place in given.items()
            if place is not None
        }

    @property
    def title(self) -> str:
        """A name for the rows."""
        return self.dataset or Path(self.places["data.train"][0]).name

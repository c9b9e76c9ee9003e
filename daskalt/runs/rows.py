"""The rows of a configured run: a bundled data set, or Zarr of the user's own."""

from pathlib import Path

from daskalt.data.sources import as_table
from daskalt.data.store import absolute
from daskalt.data.table import Table
from daskalt.errors import ConfigError, InputError
from daskalt.runs.config import DataConfig
from daskalt.runs.examples import HELD_OUT, write_example

__all__ = ["example_tables", "open_rows", "own_tables"]


def open_rows(place: str, key: str) -> Table:
    """Return the rows of a Zarr group with arrays X and y; errors name ``key``."""
    table = as_table(absolute(place))
    if table.y is None:
        raise InputError(f"{key}: {place} has no targets. It must be a group with arrays X and y.")
    return table


def own_tables(data: DataConfig) -> tuple[Table, Table | None]:
    assert data.train is not None
    train = open_rows(data.train, "data.train")
    if data.test is not None:
        return train, open_rows(data.test, "data.test")
    if data.held_out is None:
        return train, None
    wanted = max(1, round(data.held_out * train.n_rows))
    cut = train.n_rows - wanted
    over = cut % (train.X.chunk_rows or 1)
    if over < cut and over <= 0.05 * wanted:  # no chunk is read for both, where that is so cheap
        cut -= over
    if cut < 1:
        raise ConfigError(f"data.held_out={data.held_out} leaves no rows to train on.")
    return train.rows_slice(0, cut), train.rows_slice(cut, train.n_rows)


def example_tables(data: DataConfig, folder: Path) -> tuple[Table, Table]:
    assert data.dataset is not None
    return write_example(
        data.dataset,
        folder / "data",
        held_out=data.held_out or HELD_OUT,
        seed=data.seed,
        chunk_rows=data.chunk_rows,
    )

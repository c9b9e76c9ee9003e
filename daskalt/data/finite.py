"""The check of a block's numbers, made when it is first read."""

import numpy as np

from daskalt.data.table import Block
from daskalt.errors import InputError
from daskalt.kernels.scale import first_bad_entry

__all__ = ["check_block", "check_finite"]


def check_block(block: Block, start: int, stop: int, rows: np.ndarray | None = None) -> None:
    """Raise InputError if the rows ``start`` to ``stop`` hold NaN, infinity or negative weights.

    Where the block has only some of them, in another order, ``rows`` are their numbers.
    """
    for name, values in (("X", block.X), ("y", block.y), ("sample_weight", block.weight)):
        if values is not None:
            check_finite(values, name, start, stop, rows)


def check_finite(
    values: np.ndarray, name: str, start: int, stop: int, rows: np.ndarray | None = None
) -> None:
    """Raise InputError if some rows of the array called ``name`` cannot be trained on."""
    if not values.size:
        return
    values = values.reshape(len(values), -1)
    # In the order of memory, which is ten times as fast as across it.
    if first_bad_entry(values.T if values.flags.f_contiguous else values) is not None:
        bad = first_bad_entry(values)
        assert bad is not None
        row, column = bad
        row = start + row if rows is None else int(rows[row])
        raise InputError(
            f"Input {name} contains NaN or infinity: {values[bad]} at row {row}, "
            f"column {column} (block of rows {start} to {stop}). Leave such rows out or impute "
            "them first, with sklearn.impute for example."
        )
    if name == "sample_weight" and (values < 0).any():
        raise InputError(
            f"sample_weight is negative in the block of rows {start} to {stop}: weights must be "
            "zero or more."
        )

"""The check of a block's numbers, made when it is first read."""

from daskalt.data.table import Block
from daskalt.errors import InputError
from daskalt.kernels.scale import first_bad_entry

__all__ = ["check_block"]


def check_block(block: Block, start: int, stop: int) -> None:
    """Raise InputError if the rows ``start`` to ``stop`` hold NaN, infinity or negative weights."""
    for name, values in (("X", block.X), ("y", block.y), ("sample_weight", block.weight)):
        if values is None or values.dtype.kind != "f":
            continue
        values = values.reshape(len(values), -1)
        bad = first_bad_entry(values)
        if bad is not None:
            row, column = bad
            raise InputError(
                f"Input {name} contains NaN or infinity: {values[bad]} at row {start + row}, "
                f"column {column} (block of rows {start} to {stop}). Leave such rows out or impute "
                "them first, with sklearn.impute for example."
            )
    if block.weight is not None and (block.weight < 0).any():
        raise InputError(
            f"sample_weight is negative in the block of rows {start} to {stop}: weights must be "
            "zero or more."
        )

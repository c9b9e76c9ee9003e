"""Unusable numbers are found where they are: array, row of the table, column, block."""

import numpy as np
import pytest

from daskalt.data.finite import check_block, check_finite
from daskalt.data.table import Block
from daskalt.errors import InputError


def block_of(dtype="float32"):
    return Block(np.ones((6, 3), dtype), np.ones(6, dtype), np.ones(6, dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_name_row_and_column(bad, dtype):
    block = block_of(dtype)
    block.X[4, 2] = bad
    with pytest.raises(
        InputError,
        match=rf"Input X contains NaN or infinity: {bad} at row 104, column 2 "
        r"\(block of rows 100 to 106\).*impute",
    ):
        check_block(block, 100, 106)


@pytest.mark.parametrize(("field", "name"), [("y", "y"), ("weight", "sample_weight")])
def test_targets_and_weights_are_named(field, name):
    block = block_of()
    getattr(block, field)[1] = np.nan
    with pytest.raises(InputError, match=f"Input {name} contains NaN.*row 11"):
        check_block(block, 10, 16)


@pytest.mark.parametrize("kind", [float, int])
def test_negative_weights_are_refused(kind):
    block = block_of()._replace(weight=np.array([1, 1, -1, 1, 1, 1], kind))
    with pytest.raises(InputError, match="sample_weight is negative in the block of rows 10 to 16"):
        check_block(block, 10, 16)


def test_good_blocks_of_any_type_pass():
    check_block(block_of(), 0, 6)
    check_block(Block(np.ones((6, 3), np.uint8), np.array(["a"] * 6)), 0, 6)
    check_block(Block(np.ones((6, 3)), np.ones((6, 2), bool), np.zeros(6)), 0, 6)


@pytest.mark.parametrize("lay", [np.ascontiguousarray, np.asfortranarray])
def test_the_first_bad_entry_in_the_order_of_the_rows_is_named(lay):
    X = np.zeros((5, 3))
    X[4, 0] = X[2, 1] = np.inf
    with pytest.raises(InputError, match=r"inf at row 12, column 1 \(block of rows 10 to 15\)"):
        check_finite(lay(X), "X", 10, 15)
    check_finite(lay(X[:0]), "X", 0, 0)

"""Tables hold aligned rows; their blocks depend on the data alone."""

from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from daskalt.data.readers import MemorySource, ZarrSource
from daskalt.data.table import Table, good_rows
from daskalt.errors import InputError


class Chunked(MemorySource):
    """Rows in memory that claim to lie in chunks."""

    def __init__(self, array, chunk_rows):
        super().__init__(array)
        self.chunk_rows = chunk_rows


@given(
    n=st.integers(1, 300),
    chunk=st.none() | st.integers(1, 60),
    rows=st.none() | st.integers(1, 400),
    start=st.integers(0, 299),
)
def test_blocks_cover_the_rows_and_end_with_chunks(n, chunk, rows, start):
    start = min(start, n - 1)
    table = Table(Chunked(np.zeros((n, 2)), chunk)).rows_slice(start, n)
    bounds = table.block_bounds(rows)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == table.n_rows
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    if chunk is not None:
        assert all((stop + start) % chunk == 0 for _, stop in bounds[:-1])
    if rows is not None:
        assert all(b - a <= max(rows, chunk or 1) for a, b in bounds)


def test_reading_takes_the_same_rows_of_every_array(tmp_path):
    X = np.arange(40.0).reshape(20, 2)
    zarr.create_array(str(tmp_path / "X"), data=X, chunks=(7, 2))
    table = Table(ZarrSource(tmp_path / "X"), MemorySource(np.arange(20), "y"))
    part = table.rows_slice(5, 15).read(2, 6)
    np.testing.assert_array_equal(part.X, X[7:11])
    np.testing.assert_array_equal(part.y, [7, 8, 9, 10])
    assert part.weight is None
    assert not table.in_memory
    assert table.nbytes == 20 * (16 + 8)


def test_tables_in_memory_give_single_rows():
    table = Table(MemorySource(np.eye(5)), MemorySource(np.arange(5), "y"))
    assert table.in_memory
    block = table.rows_slice(1, 5).read_rows(np.array([3, 0]))
    np.testing.assert_array_equal(block.y, [4, 1])


def test_unequal_rows_are_named():
    with pytest.raises(
        InputError, match=r"inconsistent numbers of samples: \[3, 4\].*y has 4 rows"
    ):
        Table(MemorySource(np.ones((3, 2))), MemorySource(np.ones(4), "y"))


@given(n=st.integers(1, 10**10), row_bytes=st.integers(0, 10**9))
def test_good_blocks_are_neither_huge_nor_countless(n, row_bytes):
    rows = good_rows(n, row_bytes)
    assert rows >= 1
    assert rows == 1 or rows * row_bytes <= 64 << 20
    # Ten thousand files do no harm (and a few from rounding the rows of each down, to no less than
    # 4096); more only where each is of a decent size.
    assert n / rows <= 10_003 or (rows + 1) * row_bytes >= 4 << 20

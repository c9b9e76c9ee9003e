"""The plan of a pass: every row once, chunks whole, lanes even, all decided by data and seed."""

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.data.passes import CHUNK_ROWS, Lane, in_order, plan_pass, read_lane
from daskalt.data.readers import MemorySource, Source, ZarrSource
from daskalt.data.table import Table


class Stored(Source):
    """Rows that say which they are, in chunks whose reads are counted."""

    def __init__(self, n, chunk_rows=None, offset=0, name="X"):
        self.name = name
        self.shape = (n, 2) if name == "X" else (n,)
        self.dtype = np.dtype(np.float32 if name == "X" else np.int64)
        self.chunk_rows = chunk_rows
        self.offset = offset
        self.chunks_read = Counter()

    def read(self, start, stop):
        assert 0 <= start < stop <= len(self)
        if self.chunk_rows:
            first = (start + self.offset) // self.chunk_rows
            last = (stop - 1 + self.offset) // self.chunk_rows
            self.chunks_read.update(range(first, last + 1))
        rows = np.arange(start, stop)
        return rows if len(self.shape) == 1 else np.column_stack([rows, rows]).astype(np.float32)


def stored(n, chunk_rows=None, offset=0):
    return Table(Stored(n, chunk_rows, offset), Stored(n, chunk_rows, offset, "y"))


def single(n):
    rows = np.arange(n)
    X = MemorySource(np.column_stack([rows, rows]).astype(np.float32))
    return Table(X, MemorySource(rows, "y"), single=True)


def bounds_of(table, rows=None):
    return np.array(table.block_bounds(rows))


def plan_of(table, *, batch_size=10, lanes=2, buffer_rows=40, seed=(0, 0), block=None):
    bounds = bounds_of(table, block)
    return plan_pass(
        table, bounds, batch_size=batch_size, lanes=lanes, buffer_rows=buffer_rows, seed=seed
    )


def steps_of(plan, table):
    """The rows of every step, in the order of the lanes, as numbers."""
    for group in plan.groups:
        blocks = [read_lane(table, lane) for lane in group.lanes]
        shares = [lane.shares(group.steps) for lane in group.lanes]
        for step in range(group.steps):
            parts = [
                block.y[slice(*share[step])] for block, share in zip(blocks, shares, strict=True)
            ]
            yield np.concatenate(parts)


tables = st.one_of(
    st.builds(single, st.integers(1, 200)),
    st.builds(
        lambda n, chunk, offset: stored(n, chunk, offset % chunk if chunk else 0),
        st.integers(1, 200),
        st.none() | st.integers(1, 70),
        st.integers(0, 69),
    ),
)
plans = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 60),
        "lanes": st.integers(1, 5),
        "buffer_rows": st.integers(1, 250),
        "seed": st.none() | st.tuples(st.integers(0, 99), st.integers(0, 3)),
        "block": st.none() | st.integers(1, 80),
    }
)


@settings(max_examples=300, deadline=None)
@given(table=tables, options=plans)
def test_every_row_is_in_one_step_of_a_pass(table, options):
    options["lanes"] = min(options["lanes"], options["batch_size"])
    options["batch_size"] = min(options["batch_size"], table.n_rows)
    steps = list(steps_of(plan := plan_of(table, **options), table))
    assert len(steps) == plan.steps
    assert all(len(step) for step in steps)
    rows = np.concatenate(steps)
    np.testing.assert_array_equal(np.sort(rows), np.arange(table.n_rows))
    if options["seed"] is None and options["lanes"] == 1:
        np.testing.assert_array_equal(rows, np.arange(table.n_rows))


@settings(max_examples=200, deadline=None)
@given(
    chunk=st.integers(1, 40),
    chunks=st.integers(1, 12),
    offset=st.integers(0, 39),
    ragged=st.integers(0, 39),
    options=plans,
)
def test_chunks_are_read_once_where_there_are_enough(chunk, chunks, offset, ragged, options):
    offset %= chunk
    n = chunk * chunks - offset + ragged % chunk
    if n < 1:
        return
    table = stored(n, chunk, offset)
    plan = plan_of(table, **options)
    for group in plan.groups:
        table.X.chunks_read.clear()
        for lane in group.lanes:
            read_lane(table, lane)
        in_group = len(table.X.chunks_read)
        if in_group >= options["lanes"]:
            assert set(table.X.chunks_read.values()) == {1}
        else:  # fewer chunks than tasks: each is read in parts, by no more tasks than there are
            assert max(table.X.chunks_read.values()) <= options["lanes"] + 1


@settings(max_examples=100, deadline=None)
@given(table=tables, options=plans)
def test_lanes_of_a_group_differ_by_a_chunk_at_most(table, options):
    for group in plan_of(table, **options).groups:
        rows = [lane.rows for lane in group.lanes]
        unit = table.X.chunk_rows or 1
        assert len(rows) <= options["lanes"]
        assert min(rows) > 0
        if table.single and options["seed"] is not None:
            assert max(rows) - min(rows) <= 1
        elif unit > 1 and sum(rows) >= options["lanes"] * unit:
            assert max(rows) - min(rows) <= 2 * unit


@pytest.mark.parametrize("table", [single(240), stored(240, 4)], ids=["memory", "stored"])
def test_steps_are_even_to_a_row_a_lane(table):
    plan = plan_of(table, batch_size=20, lanes=3, buffer_rows=60)
    assert plan.steps == 12
    assert {len(step) for step in steps_of(plan, table)} <= set(range(17, 24))


def test_a_group_holds_about_the_buffer():
    table = stored(1000, 10)
    plan = plan_of(table, batch_size=20, buffer_rows=100, block=10)
    assert len(plan.groups) == 10
    assert all(sum(lane.rows for lane in group.lanes) == 100 for group in plan.groups)


def test_a_step_draws_from_all_blocks_of_its_group():
    table = stored(400, 10)
    plan = plan_of(table, batch_size=50, lanes=2, buffer_rows=200, block=10)
    for step in steps_of(plan, table):
        assert len(np.unique(step // 10)) >= 14  # of the 20 blocks; by chance 18 or so


def test_the_seed_decides_order_and_mixing():
    table = stored(300, 10)

    def rows(seed):
        return np.concatenate(list(steps_of(plan_of(table, seed=seed, block=10), table)))

    np.testing.assert_array_equal(rows((1, 0)), rows((1, 0)))
    assert not np.array_equal(rows((1, 0)), rows((1, 1)))
    assert not np.array_equal(rows((1, 0)), rows((2, 0)))


def test_single_rows_are_drawn_uniformly():
    table = single(5000)
    plan = plan_of(table, batch_size=100, lanes=2, buffer_rows=1000)
    means = [step.mean() for step in steps_of(plan, table)]
    # The mean of 100 of 0..4999 has a standard deviation of 144; of 50 steps none is 5 of it out.
    assert max(abs(np.array(means) - 2499.5)) < 5 * 144
    neighbours = np.diff(np.concatenate(list(steps_of(plan, table))))
    assert np.mean(neighbours == 1) < 0.01


def test_no_seed_keeps_the_order():
    table = stored(95, 10)
    plan = plan_of(table, lanes=1, seed=None, buffer_rows=30, block=10)
    np.testing.assert_array_equal(np.concatenate(list(steps_of(plan, table))), np.arange(95))


def test_one_chunk_is_divided_among_the_lanes():
    table = stored(100, 100)
    plan = plan_of(table, batch_size=20, lanes=4, buffer_rows=1000)
    (group,) = plan.groups
    assert [lane.rows for lane in group.lanes] == [25, 25, 25, 25]
    np.testing.assert_array_equal(np.sort(np.concatenate(list(steps_of(plan, table)))), range(100))


def test_part_of_a_table_can_be_passed_over():
    table = stored(100, 10)
    bounds = np.array([[10, 20], [40, 60]])
    plan = plan_pass(table, bounds, batch_size=10, lanes=2, buffer_rows=20, seed=(0, 0))
    rows = np.concatenate(list(steps_of(plan, table)))
    np.testing.assert_array_equal(np.sort(rows), [*range(10, 20), *range(40, 60)])


def test_a_plan_depends_on_nothing_that_is_stored(tmp_path):
    import zarr

    X = np.arange(120, dtype=np.float32).reshape(60, 2)
    zarr.create_array(str(tmp_path / "X"), data=X, chunks=(7, 2))
    kept = Table(ZarrSource(tmp_path / "X"), MemorySource(np.arange(60), "y"))
    claimed = stored(60, 7)
    for a, b in zip(plan_of(kept).groups, plan_of(claimed).groups, strict=True):
        assert pickle.dumps(a) == pickle.dumps(b)


def test_a_block_is_checked_as_it_is_read():
    seen = []
    table = stored(40, 10)
    lane = Lane(np.array([0, 20]), np.array([10, 30]), (1, 2))
    block = read_lane(table, lane, lambda block, start, stop: seen.append((start, stop, block.y)))
    assert [(start, stop) for start, stop, _ in seen] == [(0, 10), (20, 30)]
    np.testing.assert_array_equal(np.sort(block.y), [*range(10), *range(20, 30)])


def test_features_targets_and_weights_stay_together():
    n = 60
    weight = Stored(n, 7, name="sample_weight")
    table = Table(Stored(n, 10), Stored(n, 3, name="y"), weight)
    block = read_lane(table, Lane(np.array([30, 0]), np.array([60, 20]), (3,)))
    np.testing.assert_array_equal(block.X[:, 0], block.y)
    np.testing.assert_array_equal(block.weight, block.y)
    assert not np.array_equal(block.y, np.sort(block.y))


@pytest.mark.parametrize("kinds", ["f4", "u1", ">f8", "?", "f2", "i8 f8", "f4 f8", "O"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_all_kinds_are_mixed_whole(kinds, order):
    """Also where the pieces of a source differ in type."""
    rows, kinds = np.arange(20)[:, None] * 5 + np.arange(3), kinds.split()

    class Pieces(Stored):
        def read(self, start, stop):
            kind = kinds[start // 10 % len(kinds)]
            return np.asarray(rows[start:stop].astype(kind), order=order)

    table = Table(Pieces(20, 10), Stored(20, 10, name="y"))
    block = read_lane(table, Lane(np.array([0, 10]), np.array([10, 20]), (0,)))
    assert block.X.dtype == (kinds[0] if len(kinds) == 1 else np.result_type(*kinds))
    np.testing.assert_array_equal(block.X, rows[block.y].astype(block.X.dtype))


def test_text_of_varying_width_is_mixed_whole():
    class Words(Stored):
        def read(self, start, stop):
            return np.array(["x" * (1 + row // 5) for row in range(start, stop)])

    table = Table(Stored(20, 5), Words(20, 5, name="y"))
    block = read_lane(table, Lane(np.arange(0, 20, 5), np.arange(5, 25, 5), (0,)))
    lengths = np.char.str_len(block.y)
    np.testing.assert_array_equal(lengths, 1 + block.X[:, 0] // 5)


@given(n=st.integers(1, 300), block=st.integers(1, 400))
def test_shares_are_even_and_cover_a_lane(n, block):
    lane = Lane(np.array([5]), np.array([5 + n]), None)
    steps = min(block, n)
    shares = lane.shares(steps)
    assert shares[0][0] == 0
    assert shares[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(shares))
    sizes = {b - a for a, b in shares}
    assert max(sizes) - min(sizes) <= 1


@given(
    lengths=st.lists(st.integers(1, 3 * CHUNK_ROWS), min_size=1, max_size=20),
    gap=st.integers(0, 3),
)
def test_blocks_in_order_are_joined_to_tasks_worth_having(lengths, gap):
    starts = np.cumsum([0, *(length + gap for length in lengths[:-1])])
    bounds = np.stack([starts, starts + lengths], axis=1)
    lanes = in_order(bounds)
    joined = np.concatenate([np.stack([lane.starts, lane.stops], axis=1) for lane in lanes])
    np.testing.assert_array_equal(joined, bounds)
    assert all(lane.seed is None for lane in lanes)
    assert len(lanes) <= sum(lengths) // CHUNK_ROWS + 1

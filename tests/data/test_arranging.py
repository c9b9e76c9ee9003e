"""Rows are laid out by their number and size, not by where they are stored."""

import dask.array as da
import numpy as np
import pytest
import zarr

from daskalt import MLPClassifier
from daskalt.data.arranging import Arrangement, mixing_bytes
from daskalt.data.passes import all_blocks, count_rows
from daskalt.data.readers import MemorySource, ZarrSource
from daskalt.data.table import Table
from daskalt.training.preparing import hold_out

N = 600
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
Y = np.sort((X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 1))


def in_memory():
    return Table(MemorySource(X), MemorySource(Y, "y"))


def stored(tmp_path, chunk_rows=70):
    group = zarr.create_group(str(tmp_path / "rows"))
    group.create_array("X", data=X, chunks=(chunk_rows, 3), config={"write_empty_chunks": True})
    group.create_array("y", data=Y, chunks=(chunk_rows,), config={"write_empty_chunks": True})
    place = str(tmp_path / "rows")
    return Table(ZarrSource(place, "X"), ZarrSource(place, "y", "y"))


@pytest.fixture
def many(monkeypatch):
    """Have these rows be too many to be dealt one by one."""
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 2000)
    for module in ("table", "staging", "writers", "arranging"):
        monkeypatch.setattr(f"daskalt.data.{module}.good_rows", lambda *_: 50)


def arranged(table, **options):
    options = {"shuffle": True, "mixes": True, "seed": 3} | options
    return Arrangement(**options).arrange(table)


def contents(table):
    block = table.read(0, table.n_rows)
    return np.column_stack([block.X, block.y])


def test_few_rows_are_single_wherever_they_lie(tmp_path):
    here, there = arranged(in_memory()), arranged(stored(tmp_path))
    assert here.single
    assert there.single
    assert here.block_bounds(128) == there.block_bounds(128)
    rows = np.random.default_rng(0).permutation(N)
    for a, b in zip(here.read_rows(rows)[:2], there.read_rows(rows)[:2], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("shuffle", "mixes", "moved"),
    [(True, True, True), (True, False, False), (False, True, False), ("global", False, True)],
)
def test_many_rows_in_memory_are_read_as_a_copy_of_them_would_be(tmp_path, shuffle, mixes, moved):
    options = {"shuffle": shuffle, "mixes": mixes}
    view = arranged(in_memory(), **options)
    copy = arranged(in_memory(), shared=True, scratch=str(tmp_path), **options)
    assert not isinstance(copy.X, type(view.X))
    assert view.block_bounds() == copy.block_bounds()
    assert view.chunk_rows == copy.chunk_rows == 50
    np.testing.assert_array_equal(contents(view), contents(copy))
    assert np.array_equal(contents(view), contents(in_memory())) != moved
    np.testing.assert_array_equal(
        np.sort(contents(view), axis=0), np.sort(contents(in_memory()), axis=0)
    )


@pytest.mark.usefixtures("many")
def test_many_stored_rows_are_moved_by_a_global_shuffle_alone(tmp_path):
    table = stored(tmp_path)
    assert arranged(table) == table
    copy = arranged(table, shuffle="global", scratch=str(tmp_path))
    np.testing.assert_array_equal(contents(copy), contents(arranged(in_memory())))


def test_a_limit_of_memory_counts(tmp_path):
    assert mixing_bytes(None) == 64 << 20
    assert mixing_bytes(16 * 500) == 500
    assert not arranged(in_memory(), memory=16 * 500).single


def fitted(*data, **options):
    options = {"max_iter": 2, "batch_size": 60, "random_state": 0} | options
    return MLPClassifier((4,), **options).fit(*data)


def assert_same(a, b):
    for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("solver", ["altmin", "batch-altmin", "lbfgs", "adam"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_many_rows_give_the_same_bits_on_a_cluster(cluster, solver, early_stopping):
    options = {"solver": solver, "early_stopping": early_stopping}
    here = fitted(X, Y, **options)
    cluster(2)
    assert_same(fitted(X, Y, **options), here)
    dask_arrays = da.from_array(X, chunks=(90, -1)), da.from_array(Y, chunks=90)
    assert_same(fitted(*dask_arrays, **options), here)


@pytest.mark.usefixtures("many")
def test_rows_in_memory_are_what_a_global_shuffle_makes_of_stored_ones(tmp_path):
    stored(tmp_path)
    shuffled = fitted(str(tmp_path / "rows"), shuffle="global", scratch=str(tmp_path / "scratch"))
    assert_same(fitted(X, Y), shuffled)


def test_sorted_rows_in_memory_train_as_well_on_a_cluster(cluster):
    """They were dealt in whole blocks there: one label at a time."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 4)).astype(np.float32)
    labels = np.argmax(rows, axis=1)
    order = np.argsort(labels, kind="stable")
    rows, labels = rows[order], labels[order]
    options = {"max_iter": 5, "batch_size": 100, "early_stopping": True}
    here = fitted(rows, labels, **options)
    cluster(1)
    there = fitted(rows, labels, **options)
    assert_same(here, there)
    shuffled = np.random.default_rng(0).permutation(len(rows))
    never_sorted = fitted(rows[shuffled], labels[shuffled], **options)
    assert there.score(rows, labels) > never_sorted.score(rows, labels) - 0.02


# ---------------------------------------------------------------------------------- hold-outs


@pytest.mark.parametrize("chunk_rows", [70, 300, 599, 600])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.37, 0.9])
@pytest.mark.usefixtures("many")
def test_the_share_that_was_asked_for_is_held_out(tmp_path, chunk_rows, fraction):
    table = arranged(stored(tmp_path, chunk_rows))
    assert not table.single
    trained, held = hold_out(table, fraction, 0, None)
    assert count_rows(held) == max(1, round(fraction * N))
    parts = [np.arange(*bounds) for bounds in np.concatenate([trained, held]).tolist()]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(N))
    whole = {tuple(bounds) for bounds in all_blocks(table).tolist()}
    assert sum(tuple(bounds) not in whole for bounds in trained.tolist()) <= 1


def test_single_rows_are_held_out_label_by_label(tmp_path):
    for table in (arranged(in_memory()), arranged(stored(tmp_path))):
        _, held = hold_out(table, 0.2, 0, Y)
        counts = np.bincount(Y[held[:, 0]])
        np.testing.assert_array_equal(counts, np.round(0.2 * np.bincount(Y)))

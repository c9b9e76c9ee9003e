"""Graphs compute nothing while they are built, and add in the same order on every scheduler."""

import operator
import threading
import time

import dask
import numpy as np
import pytest
from distributed import futures_of
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from daskalt.compute.graph import FAN_IN, Graph, call, fold, in_this_process
from daskalt.compute.statistics import combine


def concatenate(a, b):
    return f"({a}{b})"


def leaf(name):
    return name


def random_block(seed):
    return np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def tree_of(leaves):
    graph = Graph()
    return graph, graph.reduce(concatenate, [graph.add(leaf, name) for name in leaves])


def naive_tree(parts):
    """The documented shape: groups of FAN_IN, each folded from the left, until so few are left."""
    while len(parts) > FAN_IN:
        parts = [fold(concatenate, parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return fold(concatenate, parts)


@given(st.integers(1, 90))
def test_the_tree_depends_on_the_number_of_parts_alone(n):
    leaves = [chr(ord("A") + k % 26) for k in range(n)]
    graph, total = tree_of(leaves)
    with dask.config.set(scheduler="sync"):
        assert graph.compute(total) == naive_tree(leaves)


def test_no_node_has_more_than_fan_in_children():
    graph = Graph()
    parts = [graph.add(leaf, k) for k in range(100)]
    nodes = graph.tree(parts, fold, operator.add)
    assert len(nodes) <= FAN_IN
    assert max(len(task.dependencies) for task in graph._tasks.values()) <= FAN_IN


def test_building_computes_nothing():
    def explode(*args):
        raise AssertionError("computed")

    graph = Graph()
    parts = [graph.add(explode, graph.constant(np.ones(3)), k) for k in range(20)]
    graph.reduce(explode, parts)


def sum_of_blocks():
    graph = Graph()
    parts = [graph.add(random_block, seed) for seed in range(23)]
    return graph.compute(graph.reduce(combine, parts))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_sums_have_the_same_bits_on_any_number_of_threads(threads):
    with dask.config.set(scheduler="sync"):
        expected = sum_of_blocks()
    with dask.config.set(scheduler="threads", num_workers=threads):
        np.testing.assert_array_equal(sum_of_blocks(), expected)


def test_sums_have_the_same_bits_on_processes(request):
    expected = sum_of_blocks()
    request.getfixturevalue("processes")
    np.testing.assert_array_equal(sum_of_blocks(), expected)


def assert_handle_is_used():
    graph = Graph()
    (handle,) = graph.persist(graph.add(operator.add, 1, 2))
    graph = Graph()
    assert graph.compute(graph.add(operator.mul, graph.constant(handle), 10)) == 30
    return handle


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_handle_goes_into_the_next_graph(scheduler):
    with dask.config.set(scheduler=scheduler):
        assert_handle_is_used()


@pytest.mark.usefixtures("processes")
def test_a_handle_goes_into_the_next_graph_of_a_pool():
    assert_handle_is_used()


def test_a_handle_stays_on_the_cluster(cluster):
    cluster(1)
    handle = assert_handle_is_used()
    assert [future.status for future in futures_of(handle)] == ["finished"]


def test_an_error_in_a_task_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        call(operator.truediv, 1, 0)


def test_tasks_run_with_one_blas_thread():
    before = blas_threads()
    assert call(blas_threads) == {1}
    assert blas_threads() == before


def test_more_threads_a_task_leave_fewer_tasks_at_once(monkeypatch):
    monkeypatch.setattr("daskalt.compute.graph.CPU_COUNT", 4)
    lock, running, most = threading.Lock(), [0], [0]

    def task(_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)  # long enough for others to come in beside it
        seen = blas_threads()
        with lock:
            running[0] -= 1
        return seen

    graph = Graph(threads=2)
    with dask.config.set(scheduler="threads", num_workers=4):
        seen = graph.compute(graph.reduce(set.union, [graph.add(task, k) for k in range(12)]))
    assert seen == {2}
    assert most[0] <= 2


def test_workers_hold_their_tasks_to_the_threads(cluster):
    cluster(1)
    for threads in (2, 1):
        graph = Graph(threads)
        assert graph.compute(graph.add(blas_threads)) == {threads}


def test_lists_of_references_and_plain_values_mix():
    graph = Graph()
    a, b = graph.add(leaf, 1), graph.add(leaf, 2)
    assert graph.compute(graph.add(fold, operator.add, [a, b, 3])) == 6


def test_which_schedulers_share_this_memory():
    expected = {"sync": True, "threads": True, "processes": False}
    for scheduler, here in expected.items():
        with dask.config.set(scheduler=scheduler):
            assert in_this_process() is here


def test_a_cluster_does_not_share_this_memory(cluster):
    cluster(1)
    assert not in_this_process()

import threading

import numpy as np
import pytest

from daskalt.kernels import workspace as memory
from daskalt.kernels.workspace import (
    RECYCLED_BYTES,
    Workspace,
    empty,
    lent_workspace,
    recycled,
    release,
    thread_workspace,
)


def test_take_reuses_the_buffer_of_a_name():
    workspace = Workspace()
    first = workspace.take("a", (10, 3), np.float64)
    smaller = workspace.take("a", (4, 5), np.float32)
    assert np.shares_memory(first, smaller)
    assert smaller.shape == (4, 5)
    assert smaller.dtype == np.float32
    assert workspace.nbytes == first.nbytes


def test_take_grows_and_keeps_names_apart():
    workspace = Workspace()
    first = workspace.take("a", (2,), np.float64)
    larger = workspace.take("a", (200,), np.float64)
    other = workspace.take("b", (200,), np.float64)
    assert not np.shares_memory(first, larger)
    assert not np.shares_memory(larger, other)
    assert workspace.nbytes == 2 * larger.nbytes
    workspace.clear()
    assert workspace.nbytes == 0


def test_arrays_are_aligned_contiguous_and_writable():
    workspace = Workspace()
    for shape in [(3, 5), (7,), (0, 4), ()]:
        array = workspace.take("a", shape, np.float32)
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        array[...] = 1


def test_empty_without_a_workspace_is_fresh():
    workspace = Workspace()
    assert not np.shares_memory(empty(None, "a", (3,), "f4"), empty(None, "a", (3,), "f4"))
    assert np.shares_memory(empty(workspace, "a", (3,), "f4"), empty(workspace, "a", (3,), "f4"))


def test_each_thread_has_its_own():
    workspaces = []
    thread = threading.Thread(target=lambda: workspaces.append(thread_workspace()))
    thread.start()
    thread.join()
    assert thread_workspace() is thread_workspace()
    assert workspaces[0] is not thread_workspace()


def test_memory_of_a_result_is_used_again_only_when_nobody_holds_it():
    shape, dtype = (RECYCLED_BYTES // 4,), np.float32
    first = recycled(shape, dtype)
    address = first.ctypes.data
    held = first[10:20]  # a view keeps the memory
    del first
    second = recycled(shape, dtype)
    assert not np.shares_memory(held, second)
    del held, second
    third, fourth = recycled(shape, dtype), recycled((2, RECYCLED_BYTES // 8), dtype)
    assert address in {third.ctypes.data, fourth.ctypes.data}
    assert not np.shares_memory(third, fourth)
    assert third.ctypes.data % 64 == 0


def test_memory_of_other_sizes_and_all_of_it_on_release_is_dropped():
    release()
    kept = recycled((RECYCLED_BYTES,), np.uint8)
    recycled((2 * RECYCLED_BYTES,), np.uint8)
    recycled((3 * RECYCLED_BYTES,), np.uint8)
    sizes = sorted(len(buffer) // RECYCLED_BYTES for buffer in memory._results)
    assert sizes == [1, 3]
    release()
    assert memory._results == []
    kept += 1  # is still there


def on_a_thread(call):
    """The result of a call on a new thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def lent_address(size=1000):
    with lent_workspace():
        return thread_workspace().take("a", (size,), np.float32).ctypes.data


def test_calls_in_a_row_take_the_memory_of_one_workspace_on_any_thread():
    release()
    address = lent_address()
    assert on_a_thread(lent_address) == address
    assert on_a_thread(lent_address) == address
    assert lent_address() == address
    assert len(memory._lent) == 1
    release()
    assert memory._lent == []


def test_calls_at_once_take_workspaces_of_their_own():
    release()
    with lent_workspace():
        own = thread_workspace().take("a", (1000,), np.float32)
        address = on_a_thread(lent_address)
        assert own.ctypes.data != address
    assert len(memory._lent) == 2
    assert {lent_address(), address} <= {own.ctypes.data, address}
    release()


def test_a_thread_has_its_own_workspace_back_afterwards():
    own = thread_workspace()
    with lent_workspace():
        outer = thread_workspace()
        assert outer is not own
        with lent_workspace():
            assert thread_workspace() not in (own, outer)
        assert thread_workspace() is outer
    assert thread_workspace() is own
    with pytest.raises(ZeroDivisionError), lent_workspace():
        raise ZeroDivisionError
    assert thread_workspace() is own
    # A thread that had none must not keep the one that others use.
    kept = on_a_thread(lambda: (lent_address(), thread_workspace())[1])
    assert kept not in memory._lent
    release()

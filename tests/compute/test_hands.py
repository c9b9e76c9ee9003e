"""Calls on several threads of one task."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from daskalt.compute.hands import hands, side_by_side, spread
from daskalt.compute.threads import blas_threads


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_results_come_in_order(count, threads):
    seen = set()

    def double(n):
        seen.add(threading.get_ident())
        return 2 * n

    with blas_threads(), hands(threads):
        found = list(side_by_side(double, [(n,) for n in range(count)]))
    assert found == [2 * n for n in range(count)]
    assert len(seen) <= threads
    assert (threading.get_ident() in seen) == (count > 0)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_failure_waits_for_the_others(bad):
    ended = []

    def fail(n):
        if n == bad:
            raise ZeroDivisionError
        threading.Event().wait(0.05)
        ended.append(n)

    with blas_threads(), hands(3), pytest.raises(ZeroDivisionError):
        list(side_by_side(fail, [(0,), (1,), (2,)]))
    assert sorted([*ended, bad]) == [0, 1, 2]


def test_overflow_warns_on_no_thread():
    """As in a task: solvers look at the numbers themselves."""
    big = np.array([1e308])
    with blas_threads(), hands(3), np.errstate(over="ignore"):
        found = list(side_by_side(np.multiply, [(big, big)] * 3))
    assert np.isinf(found).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_items_spread_over_threads_keep_their_order(count, threads):
    seen = []

    def double(n):
        seen.append((n, threading.get_ident()))
        return 2 * n

    with blas_threads(), hands(threads):
        assert spread(double, [(n,) for n in range(count)]) == [2 * n for n in range(count)]
    threads_of = [thread for _, thread in sorted(seen)]
    assert len(threads_of) == count  # each once
    changes = sum(a != b for a, b in pairwise(threads_of))
    assert changes < max(1, min(threads, count))  # neighbours share a thread
    assert not threads_of or threads_of[0] == threading.get_ident()


def test_spread_calls_as_many_at_once_as_it_may_and_no_more():
    meeting = threading.Barrier(3)  # which breaks unless three threads meet there

    def met(n):
        return meeting.wait(30)

    with blas_threads(), hands(3):
        assert sorted(spread(met, [(n,) for n in range(3)])) == [0, 1, 2]
        assert len(set(spread(threading.get_ident, [()] * 20))) <= 3
    assert set(spread(threading.get_ident, [()] * 20)) == {threading.get_ident()}


@pytest.mark.parametrize("bad", [0, 3, 7])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_of_an_item_is_raised_when_no_thread_goes_on(bad, threads):
    running = []

    def fail(n):
        running.append(n)
        try:
            if n == bad:
                raise ZeroDivisionError(f"at {n}")
            threading.Event().wait(0.02)
        finally:
            running.remove(n)

    with blas_threads(), hands(threads):
        with pytest.raises(ZeroDivisionError, match=f"at {bad}"):
            spread(fail, [(n,) for n in range(8)])
        assert running == []
        assert spread(abs, [(-1,), (-2,), (-3,)]) == [1, 2, 3]  # the threads are there for others


def one_by_one(call, items):
    return list(side_by_side(call, [(n,) for n in items]))


@pytest.mark.parametrize("call", [spread, one_by_one])
def test_calls_within_a_hand_are_made_by_it_alone(call):
    meeting = threading.Barrier(3)

    def inner(n):
        return threading.get_ident()

    def outer(n):
        meeting.wait(30)  # on three threads
        return threading.get_ident(), set(call(inner, [(n,) for n in range(4)]))

    with blas_threads(), hands(3):
        for _ in range(2):  # the hands of this thread are its own again afterwards
            found = call(outer, [(n,) for n in range(3)])
            assert len({own for own, _ in found}) == 3
            assert all(seen == {own} for own, seen in found)


def test_hands_within_hands_are_for_that_part_alone():
    meeting = threading.Barrier(3)

    def three():
        return sorted(spread(meeting.wait, [(30,)] * 3)) == [0, 1, 2]

    def alone():
        own = {threading.get_ident()}
        return set(spread(threading.get_ident, [()] * 12)) == own

    with blas_threads(), hands(3):
        with hands(1):
            assert alone()
        assert three()
        with pytest.raises(ZeroDivisionError), hands(1):
            raise ZeroDivisionError
        assert three()
    assert alone()

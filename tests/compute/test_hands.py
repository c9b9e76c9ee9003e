"""Calls on several threads of one task."""

import threading

import numpy as np
import pytest

from daskalt.compute.hands import side_by_side
from daskalt.compute.threads import blas_threads


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_results_come_in_order(count, threads):
    seen = set()

    def double(n):
        seen.add(threading.get_ident())
        return 2 * n

    with blas_threads():
        found = list(side_by_side(double, [(n,) for n in range(count)], threads))
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

    with blas_threads(), pytest.raises(ZeroDivisionError):
        list(side_by_side(fail, [(0,), (1,), (2,)], 3))
    assert sorted([*ended, bad]) == [0, 1, 2]


def test_overflow_warns_on_no_thread():
    """As in a task: solvers look at the numbers themselves."""
    big = np.array([1e308])
    with blas_threads(), np.errstate(over="ignore"):
        found = list(side_by_side(np.multiply, [(big, big)] * 3, 3))
    assert np.isinf(found).all()

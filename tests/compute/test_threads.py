"""BLAS limits hold in any thread that sets them, and are restored."""

import threading
import time

import pytest

from daskalt.compute import threads
from daskalt.compute.threads import blas_threads, hold_blas_threads


def numbers():
    return {library.num_threads for library in threads._libraries()}


def in_thread(call):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


@pytest.fixture(autouse=True)
def two_at_first():
    """What a process begins with, set in the first thread as others may have done."""
    hold_blas_threads(2)
    yield
    hold_blas_threads(2)


def test_limits_hold_in_a_second_thread():
    def limited():
        with blas_threads(1):
            return numbers()

    assert in_thread(limited) == {1}
    assert numbers() == {2}
    assert in_thread(lambda: hold_blas_threads(3) or numbers()) == {3}
    assert numbers() == {3}


def test_a_block_within_another_has_its_own_limit():
    with blas_threads(1):
        with blas_threads(3):
            assert numbers() == {3}
        assert numbers() == {1}
    assert numbers() == {2}


def test_another_number_waits_until_the_first_is_done():
    order = []

    def other():
        with blas_threads(3):
            order.append(numbers())

    with blas_threads(1):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        order.append(numbers())
    thread.join()
    assert order == [{1}, {3}]
    assert numbers() == {2}


def test_the_same_number_does_not_wait():
    with blas_threads(1):
        in_thread(lambda: blas_threads(1).__enter__())
        assert numbers() == {1}
    threads._inside.clear()  # that thread never left


class Stubborn:
    filepath, internal_api, num_threads = "libstubborn.so", "stubborn", 4

    def set_num_threads(self, number):
        pass


def test_a_library_that_takes_no_limit_is_named(monkeypatch):
    monkeypatch.setattr(threads, "_libraries", lambda: [Stubborn()])
    with pytest.raises(RuntimeError, match=r"libstubborn.*STUBBORN_NUM_THREADS=1"):
        hold_blas_threads(1)
    hold_blas_threads(4)

"""One BLAS thread a task: the tasks are the parallelism, and bits must not depend on the cores."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread", "stay_at_one_blas_thread"]

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own that must be limited too

    return ThreadpoolController()


def stay_at_one_blas_thread() -> None:
    """Limit BLAS to one thread for good, unless `one_blas_thread` limits it at the moment.

    For the tasks of a worker process, which has no other work: to set and restore the limit around
    each of them costs more than a small task.
    """
    if _inside == 0:
        _limit_for_good()


@cache
def _limit_for_good() -> None:
    _controller().limit(limits=1, user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread while any thread of this process is inside.

    The limit is one number for the whole process, so entries are counted: the first sets it and
    the last restores what it found.
    """
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()

"""BLAS threads of a task: one, unless told, for the tasks are the parallelism.

The bits of a product may depend on their number, so it never follows from the number of cores.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_threads", "stay_at_blas_threads"]

_lock = threading.Lock()
_inside = 0
_limit: Any = None
_for_good = 0


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own that must be limited too

    return ThreadpoolController()


def stay_at_blas_threads(threads: int) -> None:
    """Limit BLAS to some threads for good, unless `blas_threads` limits it at the moment.

    For the tasks of a worker process, which has no other work: to set and restore the limit around
    each of them costs more than a small task.
    """
    global _for_good
    if _inside == 0 and _for_good != threads:
        _controller().limit(limits=int(threads), user_api="blas")
        _for_good = threads


@contextmanager
def blas_threads(threads: int = 1) -> Iterator[None]:
    """Limit BLAS to some threads while any thread of this process is inside.

    The limit is one number for the whole process, so entries are counted: the first sets it and
    the last restores what it found.
    """
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=int(threads), user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()

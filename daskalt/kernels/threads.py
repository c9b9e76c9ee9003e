"""BLAS threads of a task: one, unless told, for the tasks are the parallelism.

The bits of a product may depend on their number, so it never follows from the number of cores.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_threads", "hold_blas_threads"]

_change = threading.Condition()
_inside: dict[int, int] = {}  # how often each thread is inside `blas_threads`
_limit = 0
_found: list[int] = []  # what the limits were before the first entered


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process."""
    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own that must be limited too

    return ThreadpoolController().select(user_api="blas").lib_controllers


def hold_blas_threads(threads: int) -> None:
    """See to it that products of this thread are made by so many BLAS threads.

    A task calls this: where every thread has a limit of its own, `blas_threads` in another does not
    reach it. Asking takes a microsecond.

    Raises
    ------
    RuntimeError
        If a library goes on with more: bits would depend on the number of cores.
    """
    for library in _libraries():
        if library.num_threads == threads:
            continue
        _set(library, threads)
        if (library.num_threads or 1) > threads:
            raise RuntimeError(
                f"{library.filepath} takes no limit of {threads} threads, and results would depend "
                f"on the number of cores. Set {library.internal_api.upper()}_NUM_THREADS={threads} "
                "before Python starts."
            )


def _set(library: Any, threads: int) -> None:
    """Set a limit from whichever thread.

    From 3.7 on, threadpoolctl heeds only the first thread that ever set a limit of a library whose
    threads all share, and ignores others without a word.
    """
    let_go = getattr(library, "clear_controlling_thread", lambda force=False: None)
    let_go(force=True)
    library.set_num_threads(int(threads))
    let_go()


@contextmanager
def blas_threads(threads: int = 1) -> Iterator[None]:
    """Limit BLAS to some threads while any thread of this process is inside.

    Mostly the limit is one number for the whole process, so entries are counted: the first sets it
    and the last restores what it found. A thread that wants another number waits until the others
    are out.
    """
    global _limit
    here = threading.get_ident()
    with _change:
        _change.wait_for(lambda: _limit == threads or not _inside.keys() - {here})
        if not _inside:
            _found[:] = [library.num_threads for library in _libraries()]
        before, _limit = _limit, threads
        _inside[here] = _inside.get(here, 0) + 1
        hold_blas_threads(threads)
    try:
        yield
    finally:
        with _change:
            _inside[here] -= 1
            if _inside[here] == 0:
                del _inside[here]
            if not _inside:
                _limit = 0
                for library, found in zip(_libraries(), _found, strict=True):
                    _set(library, found)
            elif before and before != threads:  # back in the block around this one
                _limit = before
                hold_blas_threads(before)
            _change.notify_all()

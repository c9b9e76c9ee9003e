"""BLAS threads of a task: one by default, since the tasks are the parallelism.

The bits of a product may depend on their number, so it never follows from the number of cores.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_threads", "hold_blas_threads"]

_change = threading.Condition()
_inside: dict[int, int] = {}  # how often each thread is inside `blas_threads`
_queue: list[object] = []  # threads that wait to enter
_limit = 0
_found: list[int] = []  # the limits before the first entered


def _forget() -> None:
    """Start anew in a forked process, which has none of the other threads."""
    global _change, _limit
    _change, _limit = threading.Condition(), 0
    _inside.clear()
    _queue.clear()


os.register_at_fork(after_in_child=_forget)


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process."""
    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own that must be limited too

    return ThreadpoolController().select(user_api="blas").lib_controllers


def hold_blas_threads(threads: int) -> None:
    """Make sure that matrix products of this thread use so many BLAS threads.

    Where each thread has its own limit, those of others do not affect it. The check takes a
    microsecond.

    Raises
    ------
    RuntimeError
        If a library still uses more: bits would depend on the number of cores.
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
    """Set a limit from any thread.

    From 3.7 on, threadpoolctl heeds only the first thread that ever set a limit of a library whose
    threads all share, and silently ignores others.
    """
    let_go = getattr(library, "clear_controlling_thread", lambda force=False: None)
    let_go(force=True)
    library.set_num_threads(int(threads))
    let_go()


@contextmanager
def blas_threads(threads: int = 1, *, joins: bool = False) -> Iterator[None]:
    """Limit BLAS to some threads while any thread of this process is inside.

    Mostly the limit is one number for the whole process, so entries are counted: the first sets it
    and the last restores what it found. A thread that wants another number waits until the others
    are out, in turn; one that ``joins``, as a task does whose graph is inside already, does not
    queue behind those.

    Raises
    ------
    RuntimeError
        If the thread is inside with another number, and not alone.
    """
    here, ticket = threading.get_ident(), object()
    with _change:
        _queue.append(ticket)
        try:
            _change.wait_for(lambda: _admits(here, threads, ticket, joins))
        finally:
            _queue.remove(ticket)
        before = _enter(here, threads)
        _change.notify_all()  # the next in the queue may want the same
    try:
        hold_blas_threads(threads)
        yield
    finally:
        with _change:
            _leave(here, before)
            _change.notify_all()


def _admits(here: int, threads: int, ticket: object, joins: bool) -> bool:
    if _limit == threads or _inside.keys() <= {here}:
        return here in _inside or joins or _queue[0] is ticket
    if here in _inside:
        raise RuntimeError(
            f"A limit of {threads} BLAS threads within one of {_limit} that other threads rely on."
        )
    return False


def _enter(here: int, threads: int) -> int:
    """Count a thread in; return the limit before."""
    global _limit
    if not _inside:
        _found[:] = [library.num_threads for library in _libraries()]
    before, _limit = _limit, threads
    _inside[here] = _inside.get(here, 0) + 1
    return before


def _leave(here: int, before: int) -> None:
    global _limit
    _inside[here] -= 1
    if _inside[here] == 0:
        del _inside[here]
    if not _inside:
        _limit = 0
        for library, found in zip(_libraries(), _found, strict=True):
            _set(library, found)
    elif before and before != _limit:  # back in the block around this one
        _limit = before
        hold_blas_threads(before)

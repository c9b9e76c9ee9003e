"""Several calls at once within one task, on threads of this process."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

from daskalt.compute.graph import held_to_threads

__all__ = ["hands", "side_by_side", "spread"]


@contextmanager
def hands(threads: int) -> Iterator[None]:
    """Let `side_by_side` and `spread` in this thread make so many calls at once."""
    before = _free()
    _local.threads = threads
    try:
        yield
    finally:
        _local.threads = before


def side_by_side(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the result of each call in order; one of those made at once is made by this thread.

    A scheduler takes longer to hand over a call than many a step of training does.
    """
    threads = _free()
    for start in range(0, len(arguments), threads):
        mine, *others = arguments[start : start + threads]
        coming = [_hands(threads - 1).submit(held_to_threads, 1, call, *own) for own in others]
        try:
            with hands(1):
                result = call(*mine)
        finally:
            # Even if this one failed, none goes on behind the caller's back.
            [each.exception() for each in coming]
        yield result
        for each in coming:
            yield each.result()


def spread(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the result of each call, in order; neighbours share a thread."""
    count = min(_free(), len(arguments))
    if count < 2:
        return _each(call, arguments)
    edges = [len(arguments) * n // count for n in range(count + 1)]
    parts = [(call, arguments[a:b]) for a, b in pairwise(edges)]
    return [result for part in side_by_side(_each, parts) for result in part]


def _each(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [call(*own) for own in arguments]


def _free() -> int:
    """Threads that this one may use, itself among them."""
    return getattr(_local, "threads", 1)


@cache
def _hands(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="daskalt-map")


_local = threading.local()
os.register_at_fork(after_in_child=_hands.cache_clear)  # threads do not survive a fork

"""Several calls at once within one task, on threads of this process."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from daskalt.compute.graph import held_to_threads

__all__ = ["side_by_side"]


def side_by_side(
    call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], threads: int
) -> Iterator[Any]:
    """Yield the result of each call in order; so many are made at once, one of them in this thread.

    A scheduler takes longer to hand over a call than many a step of training does.
    """
    for start in range(0, len(arguments), threads):
        mine, *others = arguments[start : start + threads]
        coming = [_hands(threads - 1).submit(held_to_threads, 1, call, *own) for own in others]
        try:
            result = call(*mine)
        finally:
            wait(coming)  # even if this one failed, none goes on behind the caller's back
        yield result
        for each in coming:
            yield each.result()


@cache
def _hands(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="daskalt-map")


os.register_at_fork(after_in_child=_hands.cache_clear)  # threads do not survive a fork

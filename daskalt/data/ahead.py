"""Iterators that prefetch a few items in threads of their own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dask.system import CPU_COUNT

__all__ = ["ahead", "mapped_ahead"]

T = TypeVar("T")
THREADS = min(4, CPU_COUNT)  # one consumer keeps no more threads busy
_END = object()


def ahead(items: Iterable[T], count: int = 1) -> Iterator[T]:
    """The items in order, up to ``count`` of which are made while others are used."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="daskalt-ahead") as thread:
        waiting: deque[Future] = deque()
        try:
            for _ in range(count):
                waiting.append(thread.submit(next, iterator, _END))
            while True:
                waiting.append(thread.submit(next, iterator, _END))
                item = waiting.popleft().result()
                if item is _END:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
            thread.shutdown()
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


def mapped_ahead(function: Callable[..., T], items: Iterable[tuple]) -> Iterator[T]:
    """The results of a function, in order, computed in threads while earlier ones are used."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="daskalt-ahead") as pool:
        waiting: deque[Future] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

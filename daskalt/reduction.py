"""Map over parts and combine as a fixed tree, on whichever Dask scheduler is active."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import dask
import dask.threaded
from dask.base import get_scheduler
from dask.delayed import Delayed, delayed
from dask.local import get_sync

from daskalt.kernels.threads import one_blas_thread

__all__ = ["compute", "constant", "fold", "in_this_process", "persist", "task", "tree"]

FAN_IN = 4  # children of a node: more would serialise the sums, fewer add latency


def task(function: Callable, *, name: str | None = None) -> Callable[..., Delayed]:
    """Return ``function`` as a maker of tasks, each held to one BLAS thread."""
    return delayed(_OneThread(function), pure=False, name=None, traverse=False)


class _OneThread:
    """A function called with BLAS limited to one thread, wherever it runs."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with one_blas_thread():
            return self.function(*args, **kwargs)


def constant(value: Any) -> Delayed:
    """Return a node that holds ``value`` once, however many tasks use it."""
    return delayed(value, pure=False, traverse=False)


def fold(combine: Callable[[Any, Any], Any], parts: Sequence[Any]) -> Any:
    """Return the parts combined from left to right."""
    return reduce(combine, parts)


def tree(combine: Callable[[Any, Any], Any], parts: list[Delayed]) -> list[Delayed]:
    """Return at most FAN_IN nodes whose `fold` is the combination of all parts.

    The shape of the tree depends on the number of parts alone, so floating-point sums have the
    same bits on any scheduler. The last fold is left to the task that uses the result.
    """
    node = task(fold)
    while len(parts) > FAN_IN:
        parts = [node(combine, parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return parts


def persist(value: Delayed) -> Delayed:
    """Compute a node and return it as a handle; on a cluster its value stays there."""
    with one_blas_thread():
        (handle,) = dask.persist(value, optimize_graph=False)
        if not in_this_process():
            from distributed import wait

            wait(handle)
    return handle


def compute(value: Any) -> Any:
    """Return the value of a node."""
    with one_blas_thread():
        return dask.compute(value, optimize_graph=False)[0]


def in_this_process() -> bool:
    """Say whether the active scheduler runs its tasks in this process and its memory."""
    return get_scheduler(cls=Delayed) in (None, dask.threaded.get, get_sync)

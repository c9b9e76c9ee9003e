"""Graphs of tasks, and map and combine as a fixed tree, on whichever Dask scheduler is active."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

import dask
import dask.threaded
import distributed
import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef
from dask.base import get_scheduler
from dask.delayed import Delayed
from dask.local import get_sync
from dask.system import CPU_COUNT
from distributed.client import CancelledError
from distributed.comm import CommClosedError
from distributed.threadpoolexecutor import thread_state

from daskalt.compute.threads import blas_threads
from daskalt.errors import ClusterError, InputError

__all__ = [
    "Graph",
    "Handle",
    "active_client",
    "call",
    "call_on",
    "check_client",
    "connected",
    "fetch",
    "fold",
    "height_of",
    "held_to_threads",
    "holds_a_worker",
    "in_this_process",
    "on",
    "on_cluster",
    "parallelism",
    "scheduler_of_here",
    "task_threads",
]

ATTEMPTS = 5  # at a graph whose workers are lost
FAN_IN = 4  # children of a node: more would serialise the sums, fewer add latency

# A value that a scheduler holds: in this process, or on a cluster as a future.
Handle = Delayed


class Graph:
    """A graph of tasks under construction.

    Written out as tasks rather than through `dask.delayed`, whose bookkeeping for each call costs
    as much as a small step of training.

    Parameters
    ----------
    threads : int
        BLAS threads of every task. The threaded scheduler then runs fewer tasks at once, so that
        there are no more threads than cores.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._tasks: dict[str, Any] = {}
        self._name = uuid.uuid4().hex[:12]

    def __len__(self) -> int:
        """Return the number of tasks, values among them."""
        return len(self._tasks)

    def add(self, function: Callable, *arguments: Any) -> TaskRef:
        """Add a call and return a reference to its result.

        References, and lists of them, stand for results of other tasks; any other argument is
        passed as it is.
        """
        key = f"{function.__name__.strip('_')}-{self._name}-{len(self._tasks)}"
        arguments = tuple(List(*a) if isinstance(a, list) else a for a in arguments)
        self._tasks[key] = Task(key, held_to_threads, self.threads, function, *arguments)
        return TaskRef(key)

    def constant(self, value: Any) -> TaskRef:
        """Add a value that many tasks share, and return a reference to it."""
        if isinstance(value, Delayed):
            self._tasks.update(value.dask)
            return TaskRef(value.key)
        key = f"constant-{self._name}-{len(self._tasks)}"
        self._tasks[key] = DataNode(key, value)
        return TaskRef(key)

    def tree(self, parts: list[TaskRef], function: Callable, *arguments: Any) -> list[TaskRef]:
        """Return at most FAN_IN nodes whose combination is that of all parts.

        ``function(*arguments, parts)`` combines some.

        The shape of the tree depends on the number of parts alone, so floating-point sums have the
        same bits on any scheduler. The last step is left to the task that uses the result.
        """
        while len(parts) > FAN_IN:
            parts = [
                self.add(function, *arguments, parts[i : i + FAN_IN])
                for i in range(0, len(parts), FAN_IN)
            ]
        return parts

    def reduce(self, combine: Callable[[Any, Any], Any], parts: list[TaskRef]) -> TaskRef:
        """Return the combination of all parts."""
        return self.add(fold, combine, self.tree(parts, fold, combine))

    def persist(self, *results: TaskRef) -> tuple[Handle, ...]:
        """Run the graph and return handles of results; on a cluster the values stay there.

        Raises
        ------
        ClusterError
            If workers were lost at a task again and again, or the scheduler is gone.
        """
        with self._held(), _cluster_errors():
            wanted = [Delayed(result.key, self._tasks) for result in results]
            handles = dask.persist(*wanted, optimize_graph=False, scheduler=scheduler_of_here())
            if futures := distributed.futures_of(handles):
                distributed.wait(futures)
                for future in futures:
                    if future.status != "finished":
                        future.result()  # which raises
        return handles

    def compute(self, result: TaskRef) -> Any:
        """Run the graph and return the value of the result.

        Raises
        ------
        ClusterError
            If workers were lost at a task again and again, or the scheduler is gone.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._held(), _cluster_errors():
                    wanted = Delayed(result.key, self._tasks)
                    here = scheduler_of_here()
                    return dask.compute(wanted, optimize_graph=False, scheduler=here)[0]
            except ClusterError:
                if attempt == ATTEMPTS or not connected():
                    raise
        raise AssertionError

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Limit this process to the graph's threads, and its scheduler to as many tasks as fit."""
        check_client()
        with ExitStack() as stack:
            stack.enter_context(blas_threads(self.threads))
            if self.threads > 1 and in_this_process():
                workers = dask.config.get("num_workers", None) or CPU_COUNT
                stack.enter_context(
                    dask.config.set(num_workers=max(1, min(workers, CPU_COUNT // self.threads)))
                )
            # A state goes with the graph on purpose: the scheduler has it when workers are lost.
            threshold = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
            stack.enter_context(dask.config.set(threshold))
            yield


def fetch(handle: Handle | Any) -> Any:
    """Return the value that a handle stands for; a value stands for itself."""
    if not isinstance(handle, Delayed):
        return handle
    futures = distributed.futures_of(handle)
    if not futures:  # the value itself is all that there is of the graph
        value = handle.dask[handle.key]
        return value.value if isinstance(value, DataNode) else value
    with _cluster_errors():
        return futures[0].result()


def fold(combine: Callable[[Any, Any], Any], parts: Iterable[Any]) -> Any:
    """Return the parts combined from left to right."""
    return reduce(combine, parts)


def height_of(parts: int) -> int:
    """Return the level of the tree that has at most FAN_IN nodes."""
    level = 0
    while parts > FAN_IN ** (level + 1):
        level += 1
    return level


def call(function: Callable, *arguments: Any) -> Any:
    """Run one call as a task of the active scheduler and return its value.

    A scheduler of this process is bypassed: it would take longer than most calls.
    """
    if in_this_process():
        with blas_threads():  # which waits in the queue
            return held_to_threads(1, function, *arguments)
    graph = Graph()
    return graph.compute(graph.add(function, *arguments))


def scheduler_of_here() -> str | None:
    """Return the scheduler that graphs of this thread must run on; None leaves it to Dask.

    A task of a worker that waited for others might occupy the thread that they need, so its calls
    are computed in its own thread; unless it has seceded, as in a `worker_client`.
    """
    return "sync" if holds_a_worker() else None


def holds_a_worker() -> bool:
    """Say whether this thread is one that a worker runs its tasks on."""
    return getattr(thread_state, "proceed", False)


@contextmanager
def on(client: distributed.Client | None) -> Iterator[None]:
    """Use a Dask client for the tasks made inside, if one is given.

    A task of a worker makes room for them meanwhile.

    Raises
    ------
    InputError
        If the client, or without one the active client, cannot be waited for.
    """
    check_client(client)
    with ExitStack() as stack:
        if client is not None:
            stack.enter_context(client.as_current())
            if holds_a_worker():
                distributed.secede()
                stack.callback(distributed.rejoin)
        yield


def _scheduler() -> Callable | None:
    return get_scheduler(scheduler=scheduler_of_here(), cls=Delayed)


def call_on(function: Callable, first: Any, handle: Handle | Any, *arguments: Any) -> Any:
    """Run one call whose second argument a handle stands for, where its value is."""
    if in_this_process():
        return call(function, first, fetch(handle), *arguments)
    graph = Graph()
    return graph.compute(graph.add(function, first, graph.constant(handle), *arguments))


def in_this_process() -> bool:
    """Say whether the active scheduler runs its tasks in this process and its memory."""
    return _scheduler() in (None, dask.threaded.get, get_sync)


def active_client() -> distributed.Client | None:
    """Return the client of the active scheduler; None where that is no `distributed` cluster."""
    client = getattr(_scheduler(), "__self__", None)
    return client if isinstance(client, distributed.Client) else None


def check_client(client: Any = None) -> None:
    """Raise InputError unless a client, by default the active one, can be waited for."""
    if client is not None and not isinstance(client, distributed.Client):
        raise InputError(
            f"client must be a distributed.Client; got {type(client).__name__}. Make one of an "
            "address: distributed.Client('tcp://host:8786')."
        )
    if client is not None and client.status == "closed":
        raise InputError("client is closed. Connect anew: distributed.Client(address).")
    try:
        client = active_client() if client is None else client
    except RuntimeError as error:  # so Dask has it of an asynchronous one, and of one that is gone
        raise InputError(
            f"client cannot be waited for: {error}. Use a synchronous one that is open: "
            "distributed.Client(address), without asynchronous=True."
        ) from error
    if client is not None and client.asynchronous:
        raise InputError(
            "client is asynchronous, and its results cannot be waited for. Use a synchronous one: "
            "distributed.Client(address), without asynchronous=True."
        )


def on_cluster() -> bool:
    """Say whether the active scheduler is that of a `distributed` cluster."""
    return active_client() is not None


def parallelism() -> int:
    """Return how many tasks the active scheduler runs at once, as far as that is known."""
    client = active_client()
    if client is not None:
        return max(1, sum(client.nthreads().values()))
    if _scheduler() is get_sync:
        return 1
    return dask.config.get("num_workers", None) or CPU_COUNT


def task_threads() -> int:
    """Return how many threads run tasks in this process; to be called in one."""
    try:
        return distributed.get_worker().state.nthreads
    except ValueError:  # no worker process
        return dask.config.get("num_workers", None) or CPU_COUNT


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """Turn the errors of a cluster that loses work into ClusterError."""
    try:
        yield
    except (distributed.KilledWorker, CancelledError, CommClosedError) as error:
        if connected():
            raise ClusterError(
                f"Workers were lost again and again at the same task: {error}. Their logs say why; "
                "if they ran out of memory, see what plan() says, and give them more or take "
                "smaller blocks. A fit with a checkpoint can be resumed."
            ) from error
        raise ClusterError(
            "The Dask scheduler is gone. A fit with a checkpoint can be resumed on another."
        ) from error


def connected() -> bool:
    """Say whether the client of the active cluster still has a scheduler to talk to."""
    client = active_client()
    return client is not None and client.status == "running"


def held_to_threads(threads: int, function: Callable, *arguments: Any) -> Any:
    """Return the result of a call, made with so many BLAS threads, as every task is."""
    # Numbers that overflow are found, by solvers, in the statistics that they reach.
    errors = np.errstate(over="ignore", invalid="ignore", divide="ignore")
    with blas_threads(threads, joins=True), errors:
        return function(*arguments)

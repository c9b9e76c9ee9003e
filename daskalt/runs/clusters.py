"""The cluster that a run trains on: its own workers, an existing scheduler, or none."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import dask
from distributed import Client, LocalCluster

from daskalt.compute.signals import held, sheltered, stopping
from daskalt.errors import ConfigError
from daskalt.runs.config import RunConfig

__all__ = ["NO_PROFILER", "cluster_of", "local_workers"]

LOOPBACK = "127.0.0.1"
# In some CPython 3.11 the profiler can lock up a process with a worker for good: garbage collected
# while it lists the threads' frames waits for a lock that it holds itself (CPython issue 106883).
NO_PROFILER = {"distributed.worker.profile.enabled": False}


@contextmanager
def local_workers(count: int, dashboard: int = 0) -> Iterator[Client]:
    """Yield a client of worker processes on this machine, with a thread each, restarted if lost.

    No part of it can be reached from other machines. ``dashboard`` is the port of its dashboard, 0
    for any that is free.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(NO_PROFILER))
        with held(), sheltered():  # half a cluster could not be ended
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    preload="daskalt.compute.shelter",
                    # None would be port 8787 of every interface, and the port of another run.
                    dashboard_address=f"{LOOPBACK}:{dashboard}",
                    worker_dashboard_address=f"{LOOPBACK}:0",
                )
            )
            client = stack.enter_context(Client(cluster))
            stack.enter_context(_killed_at_once(cluster))
        yield client


@contextmanager
def _killed_at_once(cluster: LocalCluster) -> Iterator[None]:
    """End workers at once if a signal ends the program; closing them is not interrupted."""
    try:
        with _left_quietly():
            yield
    except KeyboardInterrupt:
        with held(drop=True):
            _kill_workers(cluster)
        raise


def _kill_workers(cluster: LocalCluster) -> None:
    """End workers at once, as nothing waits for their results any more."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # or it would start another
        with suppress(ProcessLookupError, TypeError):  # gone, or not there yet
            os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def cluster_of(config: RunConfig) -> Iterator[None]:
    """Train on the scheduler or the workers that the configuration asks for, else on threads."""
    if config.workers is not None:
        cluster: Any = local_workers(config.workers, config.dashboard)
    elif config.scheduler is not None:
        cluster = _client(config.scheduler)
    else:
        cluster = nullcontext()
    with cluster as client:
        if client is not None:
            _show_dashboard(client, config)
        yield


def _show_dashboard(client: Client, config: RunConfig) -> None:
    """Say where the dashboard of a cluster is, if it has one."""
    try:
        import distributed.dashboard.scheduler  # noqa: F401
    except ImportError:  # bokeh is missing, or too old
        if config.dashboard:
            print("For a dashboard: pip install 'daskalt[dashboard]'.", file=sys.stderr)
        if config.workers is not None:
            return
    with suppress(KeyError, ValueError):  # a scheduler that serves none
        if link := client.dashboard_link:
            print(f"Dashboard: {link}", file=sys.stderr)


@contextmanager
def _client(scheduler: str) -> Iterator[Client]:
    """Train on an existing scheduler."""
    try:
        with _left_quietly():
            client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"No Dask scheduler answers at scheduler={scheduler!r} ({error}). "
            "Check the address, or use --workers N to start one here."
        ) from error
    with client, _left_quietly():
        yield client


@contextmanager
def _left_quietly() -> Iterator[None]:
    """Keep a cluster's messages about interrupted work off the terminal."""
    of_loops = logging.getLogger("asyncio")
    of_loops.addFilter(_is_news)
    try:
        yield
    except KeyboardInterrupt:
        for logger in (of_loops, logging.getLogger("distributed")):  # to the end of the process
            logger.setLevel(logging.CRITICAL + 1)
        raise
    finally:
        of_loops.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is about anything but tasks interrupted by a signal."""
    return not stopping()

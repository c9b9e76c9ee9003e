"""Worker processes killed at random moments of fits: all finish, with the bits of no harm."""

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from daskalt.runs.clusters import local_workers
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest, files, network, solvers, write_rows


def check_workers(options):
    """Fits on worker processes, of which some are killed in each fit."""
    fits, rows, workers, kills = (2, 3_000, 2, 1) if options.quick else (24, 20_000, 3, 3)
    passes = 0.3 if options.quick else 1.0
    table = Table(
        "workers", f"{fits} fits on {workers} worker processes, 1 to {kills} killed in each"
    )
    rng = np.random.default_rng(options.seed)
    outcomes = Counter()
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as folder, ExitStack() as stack:
        store = write_rows(Path(folder) / "rows.zarr", rows)
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        whole = {}
        for number, solver in enumerate(solvers(fits)):
            if not number or not options.quick:  # short fits share a cluster
                stack.close()
                client = stack.enter_context(local_workers(workers))
            if solver not in whole:
                whole[solver] = undisturbed(solver, store, scratch, passes, client)
            expected, seconds = whole[solver]
            moments = np.sort(rng.uniform(0, seconds, rng.integers(1, kills + 1)))
            client.wait_for_workers(workers)
            began = time.perf_counter()
            with killer(client, moments, rng) as killed:
                model = attempt(network(solver, passes, scratch=str(scratch)), store, client)
            took = time.perf_counter() - began
            same = model is not None and digest(model) == expected
            left = files(scratch)
            outcomes.update(finished=model is not None, same=same, orphans=len(left))
            table.add(
                Target("same bits, no files left", same and not left),
                fit=number + 1,
                solver=solver,
                undisturbed_seconds=seconds,
                seconds=took,
                killed_at=", ".join(f"{moment:.1f} s" for moment in killed),
                finished=model is not None,
                same_bits=same,
                files_left=len(left),
            )
    table.notes.append(
        f"{outcomes['finished']} of {fits} finished, {outcomes['same']} with the bits of the fit "
        f"on threads that nothing happened to; {outcomes['orphans']} files left."
    )
    return table


def undisturbed(solver, store, scratch, passes, client):
    """The digest of a fit on threads, and the seconds that one on the cluster takes."""
    attempt(network(solver, passes, scratch=str(scratch)), store, client)  # to compile
    began = time.perf_counter()
    network(solver, passes, scratch=str(scratch)).fit(store, client=client)
    seconds = time.perf_counter() - began
    with client.as_current(), on_threads():
        return digest(network(solver, passes).fit(store)), seconds


@contextmanager
def on_threads():
    """Dask on threads although a client is active."""
    import dask

    with dask.config.set(scheduler="threads"):
        yield


def attempt(model, store, client):
    """The fitted model; None if it could not be fitted."""
    try:
        return model.fit(store, client=client)
    except Exception as error:
        print(f"{type(model).__name__} failed: {type(error).__name__}: {error}", flush=True)
        return None


@contextmanager
def killer(client, moments, rng):
    """Kill a random worker at each moment after the start; yields the list of moments."""
    done, over = [], threading.Event()
    began = time.perf_counter()

    def kill():
        for moment in moments:
            if over.wait(max(0.0, began + moment - time.perf_counter())):
                return
            victims = worker_processes(client)
            if victims:
                os.kill(victims[int(rng.integers(len(victims)))], signal.SIGKILL)
                done.append(time.perf_counter() - began)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def worker_processes(client):
    """Process ids of the workers that are at work.

    Not of those that are starting: a nanny whose worker dies before it has started gives up.
    """
    known = set(client.cluster.scheduler.workers)
    return [
        nanny.pid
        for nanny in client.cluster.workers.values()
        if nanny.worker_address in known and nanny.process.status.name == "running"
    ]

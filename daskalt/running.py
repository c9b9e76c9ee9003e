"""One configured run, from data to a whole run folder."""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import dask
import yaml
from distributed import Client, LocalCluster

from daskalt.config import DataConfig, RunConfig
from daskalt.data.locks import locked
from daskalt.data.sources import as_table
from daskalt.data.store import absolute, storage_errors
from daskalt.data.table import Table
from daskalt.errors import ConfigError, InputError
from daskalt.examples import HELD_OUT, write_example
from daskalt.folders import check_replaceable, whole_folder
from daskalt.model import save
from daskalt.peaks import Machine
from daskalt.planning import Plan, Project, current_machine
from daskalt.report import quality, save_learning_curve, write_json, write_metrics
from daskalt.signals import held, sheltered, stopping
from daskalt.solvers import get_solver
from daskalt.versions import versions

__all__ = ["local_workers", "open_rows", "plan_run", "run"]

CONFIG, REPORT = "config.yaml", "report.json"
LOOPBACK = "127.0.0.1"


def run(config: RunConfig, *, overwrite: bool = False, resume: bool = False) -> dict[str, Any]:
    """Train as configured, leave the run folder, and return its report.

    The folder holds ``config.yaml`` (every parameter, defaults too), ``metrics.csv`` (a row a
    pass), ``report.json``, ``learning-curve.png``, ``model`` and, for a bundled data set, ``data``.
    It appears when all of that is complete; what a killed run leaves is cleared by the next.

    Parameters
    ----------
    config : RunConfig
        What to do; its estimator is fitted.
    overwrite : bool
        Whether a finished run in the same folder may be replaced.
    resume : bool
        Whether to go on from the checkpoint of a run that was cut short. Unless the configuration
        names another place, it is beside the run folder and called ``OUTPUT.checkpoint``, and is
        removed when the run is complete.

    Raises
    ------
    DaskaltError
        Of the kind that says what is wrong; the old run folder, if any, stays.
    """
    # Asked to overwrite, a run starts anew; unasked it does not replace one that was cut short.
    going_on = True if resume else (False if overwrite else None)
    with ExitStack() as end, locked(absolute(config.output)):
        _check_place(config, overwrite)
        tables = None if config.data.train is None else _own_tables(config.data)
        with _clearing(config), whole_folder(config.output) as folder:
            with _cluster(config):
                train, test = tables or _example_tables(config.data, folder)
                report = _fit(config, train, test, going_on)
                with held(), storage_errors(config.output):  # there are imports in it
                    _write(config, report, folder)
            end.enter_context(held(drop=True))  # too late to stop: the folder appears
    return report


def checkpoint_of(config: RunConfig) -> Path | None:
    """Return where a run puts its fit down that names no place for that: beside its folder."""
    estimator = config.estimator
    if estimator.checkpoint is not None or get_solver(estimator.solver).kept_at is not None:
        return None
    output = Path(config.output).resolve()
    return output.with_name(f"{output.name}.checkpoint")


@contextmanager
def _clearing(config: RunConfig) -> Iterator[None]:
    """Remove the checkpoints beside the run folder once that is complete."""
    yield
    place = checkpoint_of(config)
    if place is not None:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _kept(config: RunConfig) -> Iterator[None]:
    """Have the fit put down beside the run folder, which the configuration does not come to say.

    It would mean that place for runs with another folder, too.
    """
    place, estimator = checkpoint_of(config), config.estimator
    if place is None:
        yield
        return
    estimator.checkpoint = str(place)
    try:
        yield
    finally:
        estimator.checkpoint = None


def plan_run(config: RunConfig) -> tuple[Project, Plan]:
    """Return a configured run as a project, and its plan; no workers are started.

    A bundled data set is laid out in a temporary folder, as a run lays it out in its own.
    """
    estimator = config.estimator
    with tempfile.TemporaryDirectory(prefix="daskalt-plan-") as folder, _planned(config) as machine:
        tables = None if config.data.train is None else _own_tables(config.data)
        train, test = tables or _example_tables(config.data, Path(folder))
        watched = None if estimator.early_stopping else test
        project = estimator._plan_on(machine or current_machine(), train, eval_set=watched)
        return project, project.plan()


@contextmanager
def _planned(config: RunConfig) -> Iterator[Machine | None]:
    """The machine of a run that starts its own workers; else within its scheduler, None."""
    if config.workers is not None:
        yield Machine(1, config.workers)
        return
    with _cluster(config):
        yield None


def _fit(
    config: RunConfig, train: Table, test: Table | None, resume: bool | None
) -> dict[str, Any]:
    estimator = config.estimator
    # Rows that choose the weights cannot judge them: early stopping holds out rows of its own.
    watched = None if estimator.early_stopping else test
    began = time.time()
    with _kept(config):
        estimator.fit(train, eval_set=watched, resume=resume)
    report: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "rows": {"training": train.n_rows, "held_out": test.n_rows if test else 0},
        "last_pass": estimator.history_[-1],
    }
    if test is not None:
        report["held_out"] = quality(estimator, estimator._score(test, None, None))
    return report | {"cost": estimator.cost_, "versions": versions()}


def _write(config: RunConfig, report: dict[str, Any], folder: Path) -> None:
    estimator = config.estimator
    text = yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    write_metrics(estimator.history_, folder / "metrics.csv")
    rows = config.data.dataset or Path(config.data.train or "").name
    title = f"{type(estimator).__name__} on {rows}"
    watched = "validation rows" if estimator.early_stopping else "held-out rows"
    save_learning_curve(estimator.history_, folder / "learning-curve.png", title, watched)
    save(estimator, folder / "model")
    write_json(report, folder / REPORT)


def _check_place(config: RunConfig, overwrite: bool) -> None:
    """Refuse to replace a finished run, anything else, or the data itself."""
    output = Path(config.output)
    if (output / REPORT).is_file() and not overwrite:
        raise InputError(
            f"{output} holds a finished run. Pass --overwrite to replace it, or --output to write "
            "elsewhere."
        )
    check_replaceable(output, (CONFIG, REPORT))
    for name in ("train", "test"):
        place = getattr(config.data, name)
        if place and "://" not in place and Path(place).resolve().is_relative_to(output.resolve()):
            raise InputError(f"data.{name} lies in the run folder {output}. Name another output.")


def open_rows(place: str, key: str) -> Table:
    """Return the rows of a Zarr group with arrays X and y; errors name ``key``."""
    table = as_table(absolute(place))
    if table.y is None:
        raise InputError(f"{key}: {place} has no targets. It must be a group with arrays X and y.")
    return table


def _own_tables(data: DataConfig) -> tuple[Table, Table | None]:
    assert data.train is not None
    train = open_rows(data.train, "data.train")
    if data.test is not None:
        return train, open_rows(data.test, "data.test")
    if data.held_out is None:
        return train, None
    wanted = max(1, round(data.held_out * train.n_rows))
    cut = train.n_rows - wanted
    over = cut % (train.X.chunk_rows or 1)
    if over < cut and over <= 0.05 * wanted:  # no chunk is read for both, where that is so cheap
        cut -= over
    if cut < 1:
        raise ConfigError(f"data.held_out={data.held_out} leaves no rows to train on.")
    return train.rows_slice(0, cut), train.rows_slice(cut, train.n_rows)


def _example_tables(data: DataConfig, folder: Path) -> tuple[Table, Table]:
    assert data.dataset is not None
    return write_example(
        data.dataset,
        folder / "data",
        held_out=data.held_out or HELD_OUT,
        seed=data.seed,
        chunk_rows=data.chunk_rows,
    )


@contextmanager
def local_workers(count: int) -> Iterator[Client]:
    """Yield a client of worker processes on this machine, of a thread each, started again if lost.

    Nothing of it can be reached from other machines.
    """
    # In some CPython 3.11 the profiler of a worker can lock it up for good: garbage collected while
    # it lists the threads' frames waits for a lock that it holds itself.
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.worker.profile.enabled": False}))
        with held(), sheltered():  # half a cluster could not be ended
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    preload="daskalt.shelter",
                    # None would be port 8787 of every interface, and the port of another run.
                    dashboard_address=f"{LOOPBACK}:0",
                    worker_dashboard_address=f"{LOOPBACK}:0",
                )
            )
            client = stack.enter_context(Client(cluster))
            stack.enter_context(_killed_at_once(cluster))
        yield client


@contextmanager
def _killed_at_once(cluster: LocalCluster) -> Iterator[None]:
    """Have workers end at once where a signal ends the program; closing them is not cut short."""
    try:
        with _left_quietly():
            yield
    except KeyboardInterrupt:
        with held(drop=True):
            _kill_workers(cluster)
        raise


def _kill_workers(cluster: LocalCluster) -> None:
    """End workers whatever they are doing, which nobody waits for any more."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # or it would start another
        with suppress(ProcessLookupError, TypeError):  # gone, or not there yet
            os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def _cluster(config: RunConfig) -> Iterator[None]:
    """Train on the scheduler or the workers that the configuration asks for, else on threads."""
    if config.workers is not None:
        cluster: Any = local_workers(config.workers)
    elif config.scheduler is not None:
        cluster = _client(config.scheduler)
    else:
        cluster = nullcontext()
    with cluster:
        yield


@contextmanager
def _client(scheduler: str) -> Iterator[None]:
    """Train on a scheduler that is there already."""
    try:
        with _left_quietly():
            client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"No Dask scheduler answers at scheduler={scheduler!r} ({error}). "
            "Check the address, or use --workers N to start one here."
        ) from error
    with client, _left_quietly():
        yield


@contextmanager
def _left_quietly() -> Iterator[None]:
    """Keep what a cluster says of being left in the midst of work off the terminal."""
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
    """Whether a message is not of tasks that a signal has cut short."""
    return not stopping()

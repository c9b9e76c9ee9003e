"""One configured run, from data to a whole run folder."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from daskalt.data.locks import locked
from daskalt.data.store import absolute, storage_errors
from daskalt.data.table import Table
from daskalt.errors import InputError
from daskalt.folders import check_replaceable, whole_folder
from daskalt.model import save
from daskalt.peaks import Machine
from daskalt.planning import Plan, Project, current_machine
from daskalt.runs.clusters import cluster_of
from daskalt.runs.config import RunConfig
from daskalt.runs.report import quality, save_learning_curve, write_json, write_metrics
from daskalt.runs.rows import make_tables, open_tables
from daskalt.signals import held
from daskalt.solvers import get_solver
from daskalt.versions import versions

__all__ = ["plan_run", "run"]

CONFIG, REPORT = "config.yaml", "report.json"


def run(config: RunConfig, *, overwrite: bool = False, resume: bool = False) -> dict[str, Any]:
    """Train as configured, leave the run folder, and return its report.

    The folder holds ``config.yaml`` (every parameter, defaults too), ``metrics.csv`` (a row a
    pass), ``report.json``, ``learning-curve.png``, ``model`` and, for rows that are not in Zarr,
    ``data``.
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
        tables = open_tables(config.data)
        with _clearing(config), whole_folder(config.output) as folder:
            with cluster_of(config):
                train, test = tables or _made(config, folder)
                report = _fit(config, train, test, going_on)
                with held(), storage_errors(config.output):  # there are imports in it
                    _write(config, report, folder)
            end.enter_context(held(drop=True))  # too late to stop: the folder appears
    return report


def _made(config: RunConfig, folder: Path) -> tuple[Table, Table | None]:
    return make_tables(config.data, folder, progress=config.estimator.verbose)


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
        tables = open_tables(config.data)
        train, test = tables or _made(config, Path(folder))
        watched = None if estimator.early_stopping else test
        project = estimator._plan_on(machine or current_machine(), train, eval_set=watched)
        return project, project.plan()


@contextmanager
def _planned(config: RunConfig) -> Iterator[Machine | None]:
    """The machine of a run that starts its own workers; else within its scheduler, None."""
    if config.workers is not None:
        yield Machine(1, config.workers)
        return
    with cluster_of(config):
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
    title = f"{type(estimator).__name__} on {config.data.title}"
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
    for key, places in config.data.places.items():
        for place in places:
            if "://" not in place and Path(place).resolve().is_relative_to(output.resolve()):
                raise InputError(f"{key} lies in the run folder {output}. Name another output.")

"""One configured run, from data to a complete run folder."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from daskalt.compute.signals import held
from daskalt.data.table import Table
from daskalt.estimators.model import save
from daskalt.memory.peaks import Machine
from daskalt.memory.planning import Plan, Project, current_machine
from daskalt.runs.advice import advise
from daskalt.runs.clusters import cluster_of
from daskalt.runs.config import RunConfig
from daskalt.runs.folder import CONFIG, REPORT, RunFolder
from daskalt.runs.journal import Journal, json_text, now, write_metrics
from daskalt.runs.page import render
from daskalt.runs.report import assess, describe_data, describe_fit, describe_run, measure
from daskalt.runs.rows import check_labels, make_tables, open_tables
from daskalt.solvers.base import RowVariables
from daskalt.storage.folders import write_whole
from daskalt.storage.locks import locked
from daskalt.storage.store import absolute, storage_errors

__all__ = ["plan_run", "run"]


def run(config: RunConfig, *, overwrite: bool = False, resume: bool = False) -> dict[str, Any]:
    """Train as configured, leave the run folder, and return its report.

    From the first moment the folder holds ``config.yaml`` (every parameter, defaults too),
    ``report.json`` with the status of the run, ``log.txt`` and, for rows that are not in Zarr,
    ``data``; during the fit, ``metrics.csv`` (a row a pass) and in ``model`` the best so far; and
    at the end ``report.html``.

    Parameters
    ----------
    config : RunConfig
        What to do; its estimator is fitted.
    overwrite : bool
        Whether a finished run in the same folder may be replaced. It is moved aside meanwhile, as
        ``.OUTPUT.before``.
    resume : bool
        Whether to resume from the checkpoint of an interrupted run, or of a finished one to a
        larger ``max_iter``. Unless the configuration names another place, it is in the run folder;
        from another place a finished run is resumed with `overwrite` only.

    Raises
    ------
    DaskaltError
        Of the kind that says what is wrong. If nothing was trained that could be resumed, all is as
        it was before.
    """
    # With overwrite a run starts anew; without, it does not replace an interrupted one.
    going_on = True if resume else (False if overwrite else None)
    folder = RunFolder(config)
    with ExitStack() as end, locked(absolute(config.output)):
        folder.settle()
        folder.check(overwrite=overwrite, resume=resume)
        tables = open_tables(config.data)
        resumed = folder.goes_on(resume)
        text = yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True)
        report = _first_report(config, folder if resumed else None)
        files = {CONFIG: text, REPORT: json_text(report)}
        with folder.opened(files, resume=resume) as place:
            journal = Journal(place, report, text, resumed=resumed)
            with journal.kept():
                with cluster_of(config):
                    train, test = tables or _made(config, place, resumed)
                    check_labels(config.estimator, train, test)
                    _fit(config, train, test, folder, journal, going_on)
                    with held(), storage_errors(config.output):  # there are imports in it
                        _write(config, journal, train, test)
                end.enter_context(held(drop=True))  # too late to stop: the run is complete
                _complete(journal, folder)
    return journal.report


def _made(config: RunConfig, folder: Path, resumed: bool = False) -> tuple[Table, Table | None]:
    return make_tables(config.data, folder, resumed=resumed, progress=config.estimator.verbose)


def _first_report(config: RunConfig, left: RunFolder | None) -> dict[str, Any]:
    """The report of a run that begins, or of one that is resumed."""
    facts = {"status": "running", "began": now(), "passes": 0, **describe_run(config)}
    if left is None:
        return facts
    before = left.report()
    resumed = [*before.get("resumed", []), facts["began"]]
    kept = {name: before[name] for name in ("began", "passes", "plan") if name in before}
    return facts | kept | {"resumed": resumed}


def _fit(
    config: RunConfig,
    train: Table,
    test: Table | None,
    folder: RunFolder,
    journal: Journal,
    resume: bool | None,
) -> None:
    estimator = config.estimator
    # Rows that choose the weights cannot judge them: early stopping holds out rows of its own.
    watched = None if estimator.early_stopping else test
    journal.report |= describe_data(config, train, test)
    with _kept(estimator, folder, journal):
        estimator.fit(train, eval_set=watched, resume=resume)
    # What is kept for each row goes when the fit is over.
    journal.report["resumable"] = folder.own and not isinstance(estimator._solver, RowVariables)
    journal.take_over()  # the fit may have ended before


@contextmanager
def _kept(estimator: Any, folder: RunFolder, journal: Journal) -> Iterator[None]:
    """Have the fit report to the journal, and keep its checkpoints in the run folder.

    The configuration does not name that folder, which other runs would then use, too.
    """
    estimator._listeners = [journal]
    if folder.own:
        estimator.checkpoint = folder.checkpoints.location
    try:
        yield
    finally:
        del estimator._listeners
        if folder.own:
            estimator.checkpoint = None


def _write(config: RunConfig, journal: Journal, train: Table, test: Table | None) -> None:
    """Write the results of a run that has been fitted."""
    estimator, place = config.estimator, journal.folder
    measured = measure()
    save(estimator, place / "model")
    write_metrics(place / "metrics.csv", estimator.history_)
    journal.report |= describe_fit(estimator) | {"measured": measured}
    journal.report |= assess(estimator, train, test)
    journal.report |= {"status": "complete", "ended": now(), "warnings": journal.warned}
    journal.report |= advise(journal.report, estimator.history_)
    write_whole(place / "report.html", render(journal.report, estimator.history_))
    journal.log(f"{journal.report['headline']}; {estimator.stop_reason_}")


def _complete(journal: Journal, folder: RunFolder) -> None:
    """Say that the run is complete: from then on it is not resumed."""
    journal.log("complete")
    journal.write()
    folder.complete()


def plan_run(config: RunConfig) -> tuple[Project, Plan]:
    """Return a configured run as a project, and its plan; no workers are started.

    A bundled data set is laid out in a temporary folder, as a run lays it out in its own.
    """
    estimator = config.estimator
    with tempfile.TemporaryDirectory(prefix="daskalt-plan-") as folder, _planned(config) as machine:
        tables = open_tables(config.data)
        train, test = tables or _made(config, Path(folder))
        watched = None if estimator.early_stopping else test
        project = estimator._project(machine or current_machine(), train, eval_set=watched)
        return project, project.plan()


@contextmanager
def _planned(config: RunConfig) -> Iterator[Machine | None]:
    """The machine of a run that starts its own workers; else within its scheduler, None."""
    if config.workers is not None:
        yield Machine(1, config.workers)
        return
    with cluster_of(config):
        yield None

"""The journal of a run: a log, metrics of each pass, the best model, its status."""

import csv
import json
import math
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from daskalt.compute.signals import Terminated, held
from daskalt.errors import DaskaltError
from daskalt.estimators.model import save
from daskalt.runs.folder import CONFIG, REPORT
from daskalt.storage.folders import whole_file, write_whole
from daskalt.storage.store import storage_errors
from daskalt.training.listeners import Listener, Underway, describe_pass
from daskalt.versions import versions
from daskalt.wording import plural

__all__ = ["Journal", "json_text", "now", "write_metrics"]

SHARE = 0.03  # most of the time for writing the models of passes
GLANCE_SECONDS = 1.0  # between two reports of a running fit


def now() -> str:
    """Return the time as reports have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def json_text(document: Any) -> str:
    """Return a JSON file's text; NumPy numbers become plain ones, NaN and infinity null."""
    return json.dumps(_plain(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


class Journal(Listener):
    """Keeps the journal of a run in its folder.

    Parameters
    ----------
    folder : Path
        The run folder, which exists.
    report : dict
        The report before the fit.
    config : str
        The configuration, written once it turns out that the run can be trained.
    resumed : bool
        Whether the run resumes what is in the folder.
    """

    def __init__(self, folder: Path, report: dict[str, Any], config: str, *, resumed: bool) -> None:
        self.folder, self.report, self._config = folder, report, config
        self.begun = not resumed  # whether what is in the folder is of this run
        self.warned: list[dict[str, str]] = []
        self._metrics: _Metrics | None = None
        self._fit: Underway | None = None
        self._saved: Any = None  # the state that the model in the folder has
        self._model_due = self._glance_due = 0.0

    # The fit

    def begin(self, fit: Underway, rows: int) -> None:
        """Start to write to the folder: the fit can be trained."""
        self.take_over()
        self._fit = fit
        if fit.training.plan is not None:
            self.report["plan"] = fit.training.plan.as_dict()
        history = [record.as_dict() for record in fit.monitor.history]
        self._metrics = _Metrics(self.folder / "metrics.csv", history)
        self._tell_beginning(fit)
        self._glance(fit)

    def take_over(self) -> None:
        """Mark the content of the folder as that of this run, which can be resumed from there."""
        if not self.begun:
            write_whole(self.folder / CONFIG, self._config)
        self.begun = True

    def passed(self, fit: Underway) -> None:
        """Record a pass."""
        assert self._metrics is not None
        record = fit.monitor.history[-1]
        self.log(describe_pass(record, fit.passes))
        with held():
            self._metrics.add(record.as_dict())
            self._keep_best(fit)
            if time.monotonic() >= self._glance_due:
                self._glance(fit)

    def end(self, fit: Underway) -> None:
        """Close the metrics."""
        if self._metrics is not None:
            self._metrics.close()
        if fit.monitor.end is not None:
            self.log(f"after pass {len(fit.monitor.history)}: {fit.monitor.end.words}")

    def _keep_best(self, fit: Underway) -> None:
        """Save the best model, if it is a new one and writing takes a small share of the time."""
        best = fit.monitor.best[0] if fit.monitor.best else None
        began = time.monotonic()
        if best is None or best is self._saved or began < self._model_due:
            return
        save(fit.model(), self.folder / "model")
        self._saved = best
        ended = time.monotonic()
        self._model_due = ended + (ended - began) / SHARE

    # The account

    def log(self, words: str) -> None:
        """Add lines to the log."""
        stamp = now()
        lines = "".join(f"{stamp}  {line}\n" for line in words.splitlines())
        path = self.folder / "log.txt"
        with storage_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(lines)

    def _tell_beginning(self, fit: Underway) -> None:
        names = ", ".join(f"{name} {version}" for name, version in versions().items())
        self.log(f"{names}, on {platform.platform()}")
        for name, rows in self.report["data"].items():
            shape = f"{rows['rows']:,} × {rows['features']:,} {rows['type']}"
            self.log(f"{name} rows: {shape} in {rows['place']}".replace("_", "-", 1))
        given = ", ".join(f"{k}={v!r}" for k, v in self.report["parameters"]["changed"].items())
        self.log(f"{self.report['estimator']}({given})")
        if fit.training.plan is not None:
            self.log(str(fit.training.plan))
        done = len(fit.monitor.history)
        self.log(f"continuing after pass {done}" if done else f"{fit.passes} passes to make")

    def _glance(self, fit: Underway) -> None:
        history = fit.monitor.history
        self.report |= {"status": "running", "passes": len(history)}
        if history:
            self.report["last_pass"] = history[-1].as_dict()
        self.write()
        self._glance_due = time.monotonic() + GLANCE_SECONDS

    def write(self, **facts: Any) -> None:
        """Write the report as far as it goes."""
        self.report |= facts
        write_whole(self.folder / REPORT, json_text(self.report))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Record the warnings inside, and how the run ended if not as planned."""
        show = warnings.showwarning

        def take(message: Any, category: Any, *place: Any, **more: Any) -> None:
            self.log(f"warning: {message}")
            if category.__module__ != "daskalt.errors":
                show(message, category, *place, **more)
                return
            self.warned.append({"kind": category.__name__, "words": str(message)})
            print(f"warning: {message}", file=sys.stderr, flush=True)

        warnings.showwarning = take
        try:
            yield
        except BaseException as error:
            with held():
                if self.begun and self.folder.is_dir():
                    self._tell_end(error)
            raise
        finally:
            warnings.showwarning = show

    def _tell_end(self, error: BaseException) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        if self._fit is not None:
            self.report["passes"] = len(self._fit.monitor.history)
        words = f"{type(error).__name__}: {error}"
        if not isinstance(error, DaskaltError):
            words = "".join(traceback.format_exception(error))
        if stopped:
            by = "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
            self.log(f"stopped by {by} after {plural(self.report['passes'], 'pass', 'passes')}")
            self.write(status="stopped", ended=now())
        else:
            self.log(f"failed: {words}")
            self.write(status="failed", ended=now(), error=str(error))


def write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    """Write a CSV file with a row for each pass, in one step."""
    _Metrics(path, history).close()


class _Metrics:
    """A CSV file that grows by a row for each pass."""

    def __init__(self, path: Path, history: list[dict[str, Any]]) -> None:
        self._path = path
        self._rows = list(history)
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._rewrite()

    def add(self, record: dict[str, Any]) -> None:
        """Append a row; if it has new columns, the file is written anew."""
        self._rows.append(record)
        if set(record) - set(self._columns):
            self._rewrite()
            return
        assert self._file is not None
        with storage_errors(self._path):
            csv.DictWriter(self._file, self._columns).writerow(record)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _rewrite(self) -> None:
        self.close()
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with storage_errors(self._path):
            with whole_file(self._path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns)
                if self._columns:
                    writer.writeheader()
                writer.writerows(self._rows)
            self._file = self._path.open("a", newline="", encoding="utf-8")

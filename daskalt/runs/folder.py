"""The life of a run folder: new, resumed, moved aside for another, complete."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from daskalt.compute.signals import held
from daskalt.errors import InputError
from daskalt.runs.config import RunConfig
from daskalt.storage.folders import check_replaceable, whole_folder
from daskalt.storage.store import absolute, storage_errors
from daskalt.training.checkpoint import Checkpoints
from daskalt.training.job import store_of
from daskalt.wording import plural

__all__ = ["CONFIG", "REPORT", "RunFolder"]

CONFIG, REPORT = "config.yaml", "report.json"
MARKS = (CONFIG, REPORT)  # of every run, from its first moment


class RunFolder:
    """The folder of a run, from its start on.

    A finished run that is to be replaced is moved aside as ``.OUTPUT.before``, and moved back if
    the new one ends before it can be resumed. Only a complete run replaces it for good.

    Parameters
    ----------
    config : RunConfig
        The run.
    """

    def __init__(self, config: RunConfig) -> None:
        self.place = Path(config.output).resolve()
        self.before = self.place.with_name(f".{self.place.name}.before")
        named = config.estimator.checkpoint or store_of(config.estimator._solver)
        named = getattr(named, "location", named)
        self.own = named is None  # whether checkpoints are in the folder, and of this run alone
        place = self.place / "checkpoint" if named is None else named
        self.checkpoints = Checkpoints(absolute(str(place)))
        self._shown = config.output
        self._config = config

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint of the run in it."""
        return self.checkpoints.there and (self.own or _passes(self.place) > 0)

    def goes_on(self, resume: bool) -> bool:
        """Say whether a run that may resume continues the run in the folder.

        A finished run is continued, too, to make more passes.
        """
        status = _status(self.place)
        trained_on = self.own and self.checkpoints.there
        return resume and status is not None and (status != "complete" or trained_on)

    def report(self) -> dict[str, Any]:
        """Return the report of the run in it."""
        return json.loads((self.place / REPORT).read_text(encoding="utf-8"))

    def settle(self) -> None:
        """Remove what a killed run left between two states."""
        if not all((self.before / mark).is_file() for mark in MARKS):
            return
        with storage_errors(self.place):
            if _status(self.place) == "complete":
                shutil.rmtree(self.before)
            elif not self.resumable:
                self._put_back()

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Raise InputError if the run may not have the folder.

        That is so if it holds another run, unless that is to be replaced or, being incomplete,
        resumed; if it holds anything else; or if the data is in it.
        """
        check_replaceable(self.place, MARKS)
        check_replaceable(self.before, MARKS)
        status = _status(self.place)
        if status == "complete" and not overwrite:
            self._refuse_finished(resume)
        if not (overwrite or resume):
            self._refuse_unfinished(status)
        for key, places in self._config.data.places.items():
            for place in places:
                if "://" not in place and Path(place).resolve().is_relative_to(self.place):
                    raise InputError(
                        f"{key} lies in the run folder {self._shown}. Name another output."
                    )

    def _refuse_finished(self, resume: bool) -> None:
        cure = "Pass --overwrite to replace it, or --output to write elsewhere."
        report = self.report()
        if resume and report.get("stop_kind", "all made") != "all made":
            reason = report["stop_reason"]
            cure = f"It ended by itself ({reason}), so more passes change nothing. {cure}"
        elif resume and not self.checkpoints.there:
            cure = f"There is no checkpoint to train on from. {cure}"
        elif self._end() != self._config.estimator.max_iter:
            if resume and self.own:
                return
            how = "--resume" if self.own else "--resume and --overwrite"
            cure = f"Pass {how} to train on to the new number of passes. {cure}"
        elif resume:
            cure = f"To train on, ask for more passes, as in --passes 40. {cure}"
        passes = plural(_passes(self.place), "pass", "passes")
        raise InputError(f"{self._shown} holds a finished run of {passes}. {cure}")

    def _end(self) -> Any:
        """The most passes that the run in the folder was to make."""
        with suppress(OSError, yaml.YAMLError, AttributeError):
            tree = yaml.safe_load((self.place / CONFIG).read_text(encoding="utf-8"))
            return tree["parameters"].get("max_iter")
        return None

    def _refuse_unfinished(self, status: str | None) -> None:
        self.checkpoints.refuse_unfinished()
        if self.resumable:
            raise InputError(
                f"{self._shown} holds a run that was interrupted after its last pass. Pass "
                "--resume to complete it, --overwrite to start anew in its place, or name another "
                "output."
            )
        if _passes(self.place):
            raise InputError(
                f"{self._shown} holds a run that was not completed (status: {status}). Pass "
                "--overwrite to replace it, or --output to write elsewhere."
            )

    @contextmanager
    def opened(self, files: dict[str, str], *, resume: bool) -> Iterator[Path]:
        """Own the folder while inside: as it is, or new with some files in it.

        After an error from which the run cannot be resumed, the folder is as it was before.
        """
        goes_on = self.goes_on(resume)
        if not goes_on:
            self._put_aside()
        try:
            if not goes_on:
                with whole_folder(self.place) as work, storage_errors(self.place):
                    for name, text in files.items():
                        (work / name).write_text(text, encoding="utf-8")
            yield self.place
        except BaseException:
            with held():
                if not goes_on:
                    self._give_up()
            raise

    def _put_aside(self) -> None:
        with held(), storage_errors(self.place):
            if not self.place.exists():
                return
            if self.before.exists() or not any(self.place.iterdir()):
                shutil.rmtree(self.place)
            else:
                self.place.rename(self.before)

    def _put_back(self) -> None:
        """Move the run that was moved aside back to the folder, in place of what is there."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.before.rename(self.place)

    def _give_up(self) -> None:
        """Keep what can be resumed, or what took passes; else restore what was there."""
        if self.resumable:
            return
        if self.before.exists():
            self._put_back()
        elif not _passes(self.place):
            shutil.rmtree(self.place, ignore_errors=True)

    def complete(self) -> None:
        """Remove what is no longer needed: all checkpoints but the last, the run moved aside."""
        if self.own:
            self.checkpoints.keep_last()
        shutil.rmtree(self.before, ignore_errors=True)


def _status(folder: Path) -> str | None:
    """The report of a run; None where there is none."""
    try:
        return json.loads((folder / REPORT).read_text(encoding="utf-8")).get("status", "complete")
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):  # no report of ours, or a damaged one
        return "damaged"


def _passes(folder: Path) -> int:
    try:
        return json.loads((folder / REPORT).read_text(encoding="utf-8")).get("passes", 0)
    except (OSError, ValueError, AttributeError):
        return 0

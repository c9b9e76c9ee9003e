"""Listeners, which follow the progress of a fit, and the one that draws a bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from daskalt.compute.bars import Bar, describe_count, describe_seconds, shown_bar
from daskalt.compute.progress import Done, listen
from daskalt.training.history import PassRecord, Quality
from daskalt.training.monitor import Monitor

__all__ = ["SCORES", "Listener", "PassBar", "Underway", "describe_pass", "telling"]

SCORES = {"accuracy": "accuracy", "r2": "R²"}  # in the history, and in words


@dataclass(frozen=True)
class Underway:
    """A fit as its listeners see it.

    Attributes
    ----------
    training : Training
        The job and what belongs to it.
    monitor : Monitor
        The history so far, and why the fit ended.
    passes : int
        Number of passes, unless it stops before.
    rows : int
        Rows of a pass.
    model : callable
        Returns an estimator with the best weights so far.
    """

    training: Any
    monitor: Monitor
    passes: int
    rows: int
    model: Callable[[], Any]


class Listener:
    """Follows a fit. All methods but `step` are called by the thread that fits."""

    steps = False  # whether `step` is to be called

    def begin(self, fit: Underway, rows: int) -> None:
        """A fit begins, or resumes after ``rows`` rows of the pass that follows its history."""

    def step(self, done: Done) -> None:
        """Some rows of a pass are mapped; called by any thread."""

    def halt(self, rows: int) -> None:
        """So many rows of the pass are done."""

    def passed(self, fit: Underway) -> None:
        """A pass is done, and is the last of the history."""

    def end(self, fit: Underway) -> None:
        """The fit has ended, whatever the reason."""


class _Told:
    """The listeners of a fit, called in turn."""

    def __init__(self, listeners: Sequence[Listener], fit: Underway) -> None:
        self._listeners, self._fit = listeners, fit
        self.topic: str | None = None

    def begin(self, rows: int) -> None:
        for listener in self._listeners:
            listener.begin(self._fit, rows)

    def step(self, done: Done) -> None:
        for listener in self._listeners:
            listener.step(done)

    def halt(self, rows: int) -> None:
        for listener in self._listeners:
            listener.halt(rows)

    def passed(self) -> None:
        for listener in self._listeners:
            listener.passed(self._fit)

    def end(self) -> None:
        for listener in self._listeners:
            listener.end(self._fit)


@contextmanager
def telling(listeners: Sequence[Listener], fit: Underway) -> Iterator[_Told]:
    """Call the listeners of a fit while inside, for steps only those that want them."""
    told = _Told(listeners, fit)
    try:
        if any(listener.steps for listener in listeners):
            with listen(told.step) as told.topic:
                yield told
        else:
            yield told
    finally:
        told.end()


class PassBar(Listener):
    """Shows the passes of a fit on a bar, and prints a line for each."""

    steps = True

    def __init__(self) -> None:
        self._shown: AbstractContextManager[Bar] = shown_bar()
        self._lock = threading.Lock()
        self._bar = Bar()
        self._fit: Underway | None = None
        self._loss = (0.0, 0.0)  # weight and sum of this pass
        self._began = 0.0
        self._at_first = 0  # rows of the pass that were done before this fit
        self._pace: float | None = None  # duration of the last pass, with all until the next

    def begin(self, fit: Underway, rows: int) -> None:
        """Show the bar."""
        self._bar = self._shown.__enter__()
        self._fit = fit
        if fit.monitor.history:
            self._tell(fit, "going on after ")
        self._start(rows)

    def _start(self, rows: int = 0) -> None:
        """A pass begins."""
        assert self._fit is not None
        with self._lock:
            number, passes = len(self._fit.monitor.history) + 1, self._fit.passes
            self._bar.words = f"pass {number}/{passes}" if number <= passes else ""
            self._bar.total, self._bar.done = self._fit.rows, rows
            self._loss, self._at_first = (0.0, 0.0), rows
            self._bar.facts = []
            self._began = time.perf_counter()

    def step(self, done: Done) -> None:
        """Move the bar."""
        fit = self._fit
        if fit is None or done.number != len(fit.monitor.history):
            return  # a late message of an earlier pass
        with self._lock:
            self._bar.done = min(self._bar.done + done.rows, self._bar.total)
            self._loss = (self._loss[0] + done.weight, self._loss[1] + done.loss)
            self._show(fit)

    def _show(self, fit: Underway) -> None:
        seconds = time.perf_counter() - self._began
        here = self._bar.done - self._at_first
        facts = []
        if self._loss[0] > 0:
            facts.append(f"loss {self._loss[1] / self._loss[0]:.4g}")
        if seconds > 0 and here > 0:
            facts.append(f"{describe_count(here / seconds)} rows/s")
        if fit.monitor.history:
            facts += _validation(fit.monitor.history[-1].validation, whole=False)
        self._bar.facts = facts
        if here > 0:
            share, pace = self._bar.share, seconds * self._bar.total / here
            if self._pace is not None:  # the first seconds of a pass predict little
                pace = share * pace + (1 - share) * self._pace
            self._bar.left = pace * (fit.passes - len(fit.monitor.history) - share)

    def halt(self, rows: int) -> None:
        """Correct the bar: messages may have come twice, or too late."""
        with self._lock:
            self._bar.done = rows

    def passed(self, fit: Underway) -> None:
        """Leave a line."""
        if self._at_first == 0:
            self._pace = time.perf_counter() - self._began
        self._start()  # so that the bar beneath the line shows the next pass
        self._tell(fit)

    def _tell(self, fit: Underway, before: str = "") -> None:
        columns = self._bar.columns
        room = None if columns is None else columns - len(before)
        self._bar.tell(before + describe_pass(fit.monitor.history[-1], fit.passes, room))

    def end(self, fit: Underway) -> None:
        """Print why it ended, and remove the bar."""
        self._fit = None
        self._bar.words = ""
        if fit.monitor.end is not None:
            passes = len(fit.monitor.history)
            self._bar.tell(f"Stopped after pass {passes}: {fit.monitor.end.words}.")
        self._shown.__exit__(None, None, None)


def describe_pass(record: PassRecord, passes: int, columns: int | None = None) -> str:
    """Return the result of a pass as one line, shortened to the columns that there are."""
    lines = ["  ".join(_facts(record, passes, detail)) for detail in (3, 2, 1, 0)]
    return next((line for line in lines if columns is None or len(line) <= columns), lines[-1])


def _facts(record: PassRecord, passes: int, detail: int) -> list[str]:
    width = len(str(passes))
    training, refused = record.training, record.report.refused
    facts = [f"pass {record.number:>{width}}/{passes}", f"loss {training.loss:.4g}"]
    held = _validation(record.validation, detail > 2) if detail else []
    if detail > 1 or (detail and not held):
        facts += [f"{words} {score:.4f}" for words, score in _scores(training)]
    facts += held
    if refused:
        facts.append(f"refused {refused}")
    return [*facts, describe_seconds(record.seconds)]


def _scores(quality: Quality) -> list[tuple[str, float]]:
    """The scores beside the loss, each with its name in words."""
    known = quality.as_dict()
    return [(words, known[name]) for name, words in SCORES.items() if name in known]


def _validation(quality: Quality | None, whole: bool = True) -> list[str]:
    """The score of the held-out rows after a pass, and if ``whole`` their loss."""
    if quality is None:
        return []
    loss = f"loss {quality.loss:.4g}"
    scores = _scores(quality)
    if not scores:
        return [f"validation {loss}"]
    return [f"validation {scores[0][1]:.4f}{f' ({loss})' if whole else ''}"]

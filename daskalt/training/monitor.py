"""The history of a fit, and when it should stop."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daskalt.errors import (
    DivergenceWarning,
    ObjectiveWarning,
    RefusalWarning,
)
from daskalt.training.history import End, PassRecord
from daskalt.training.job import Pass
from daskalt.training.keeping import Standing
from daskalt.training.ruin import FAR, FAR_OF_TRIVIAL
from daskalt.wording import plural

__all__ = ["Monitor"]

PARTED_PASSES, PARTED_RISE = 5, 1.1  # passes, and rise of the loss, that are more than chance


@dataclass
class Monitor:
    """Keeps the history of a fit and says when to stop.

    It monitors the loss of the forward pass: of the held-out rows if `early_stopping`, else of the
    training rows, each under the weights of its step. Of held-out rows with labels it is the share
    of wrong ones, and the best pass is the last that is within a standard error of the least: as
    steps shrink, the weights get better than such a share can tell. Where the loss is `divergence`
    times its best or more, or where the solver gives up, the fit diverges: it ends with its best
    weights.
    """

    tol: float
    patience: int
    early_stopping: bool
    divergence: float = np.inf
    held_rows: int = 0  # of early stopping
    start: Any = None  # the state before the first pass
    state: Any = None  # the last
    trivial: float = 0.0
    # The states after and, without held-out rows, before the best pass; of an erratic fit the state
    # that is best for all training rows, and its worth.
    best: tuple = ()
    worth: Any = None
    end: End | None = None  # why the fit ended before its last pass
    history: list[PassRecord] = field(default_factory=list)
    best_loss: float = np.inf
    best_error: float = np.inf
    stale: int = 0
    warned: bool = False  # of refused steps
    parted: bool = False  # whether the objective has fallen without the loss

    def begin(self, state: Any, trivial: float) -> None:
        """Take in the state before the first pass, and the loss of a network of zero outputs."""
        self.start = self.state = state
        self.trivial = trivial

    def recall(self, history: list[PassRecord], best: tuple, end: End | None) -> None:
        """Take in the history and the best states of the fit that this one resumes."""
        for record in history:
            self._judge(record)
        self.best, self.end = best, end
        if self.diverged:
            self._warn()

    def met(self, state: Any) -> Standing:
        """Return what a checkpoint keeps of the fit, with its present state."""
        return Standing(state, self.best, self.history, self.end)

    def see(self, result: Pass, record: PassRecord) -> End | None:
        """Take in a pass; return why the fit ends with it, or None."""
        if self._judge(record) and record.report.given_up is None:
            if self.early_stopping:
                self.best = (result.state,)
            elif not self.erratic:
                self.best = (result.state, self.state)
        self._compare_objective()
        self.state = result.state
        self.end = self._stop(record)
        return self.end

    def _stop(self, record: PassRecord) -> End | None:
        report = record.report
        if report.given_up is not None:
            return self.fall_back(report.given_up.rstrip("."))
        self._tell_of_refusals(record)
        loss = record.watched_loss(self.early_stopping)
        if not self._sound(loss) and not record.unscored:
            return self.fall_back(f"the forward loss rose from {self.best_loss:.3g} to {loss:.3g}")
        if report.converged:
            return End("converged", "the solver has converged")
        if self.stale >= self.patience:
            where = "validation" if self.early_stopping else "training"
            what = "loss" if record.watched_error(self.early_stopping) == loss else "error rate"
            passes = plural(self.stale, "pass", "passes")
            return End("settled", f"{where} {what} fell by less than tol={self.tol} for {passes}")
        return None

    @property
    def diverged(self) -> bool:
        """Whether the fit ends, or has ended, with its best weights."""
        return self.end is not None and self.end.kind == "diverged"

    def fall_back(self, reason: str) -> End:
        """Return the end of a fit whose method diverged, and take it in."""
        self.end = End("diverged", f"the method diverged: {reason}")
        return self.end

    def conclude(self, state: Any) -> None:
        """Take in the state that the fit ends with; warn if the method diverged."""
        if self.end is not None and self.end.kind == "diverged":
            words = f"{self.end.words}; the weights are those {self._words_of(state)}"
            self.end = End("diverged", words)
            self._warn()

    def _warn(self) -> None:
        assert self.end is not None
        words = self.end.words[0].upper() + self.end.words[1:]
        cure = (
            "Take smaller steps (a lower learning rate, more damping), or look for outliers in X."
        )
        warnings.warn(f"{words}. {cure}", DivergenceWarning, stacklevel=5)

    def _words_of(self, state: Any) -> str:
        if state is self.start:
            return "that the fit started from"
        if not any(state is best for best in self.best):
            return "of the last sound step"
        return f"{'after' if state is self.best[0] else 'before'} the best pass"

    @property
    def erratic(self) -> bool:
        """Whether the loss of some pass is far above that of an earlier one.

        Then the loss of a pass says little about the weights after it.
        """
        losses = np.array([record.training.loss for record in self.history])
        losses = losses[~np.isnan(losses)]
        least = np.minimum.accumulate(losses)
        return bool((losses > FAR * least + FAR_OF_TRIVIAL * self.trivial).any())

    def _tell_of_refusals(self, record: PassRecord) -> None:
        """Warn, once, of steps that were refused."""
        report = record.report
        if self.warned or not report.refused:
            return
        self.warned = True
        warnings.warn(
            f"In pass {record.number} the solver met numbers that were not finite "
            f"{plural(report.refused, 'time')}, and left these steps out. {report.refusal}",
            RefusalWarning,
            stacklevel=4,
        )

    def _compare_objective(self) -> None:
        """Warn, once, when a solver's objective falls for some passes and the loss does not."""
        recent = self.history[-PARTED_PASSES - 1 :]
        figures = [record.report.figures for record in recent]
        if self.parted or len(recent) <= PARTED_PASSES or "objective" not in figures[0]:
            return
        objectives = [each["objective"] for each in figures]
        losses = [record.training.loss for record in recent]
        if max(np.diff(objectives)) < 0 and min(losses[1:]) > PARTED_RISE * losses[0]:
            self.parted = True
            warnings.warn(
                f"In {PARTED_PASSES} passes the objective fell from {objectives[0]:.3g} to "
                f"{objectives[-1]:.3g}, but the loss of the forward pass rose from {losses[0]:.3g} "
                f"to {losses[-1]:.3g}: z drifts away from what the weights predict. Raise mu of "
                "the solver.",
                ObjectiveWarning,
                stacklevel=4,
            )

    def _judge(self, record: PassRecord) -> bool:
        """Add a pass to the history; say whether it is the best so far."""
        self.history.append(record)
        loss = record.watched_loss(self.early_stopping)
        error = record.watched_error(self.early_stopping)
        self.stale = self.stale + 1 if error > self.best_error - self.tol else 0
        lower, sound = error < self.best_error, self._sound(loss)
        self.best_loss, self.best_error = min(self.best_loss, loss), min(self.best_error, error)
        held = record.validation if self.early_stopping and self.held_rows else None
        if held is None or held.accuracy is None:
            return lower
        least = self.best_error
        return sound and error <= least + np.sqrt(least * (1 - least) / self.held_rows)

    def _sound(self, loss: float) -> bool:
        """Say whether a loss is not so far above the least that the method diverges."""
        return loss < self.divergence * max(self.best_loss, 1e-300)

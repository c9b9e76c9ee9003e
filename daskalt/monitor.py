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
from daskalt.keeping import Standing
from daskalt.scoring import Sample
from daskalt.solvers.loop import Pass
from daskalt.wording import plural

__all__ = [
    "Monitor",
]

PARTED_PASSES, PARTED_RISE = 5, 1.1  # passes and rise of the loss that are no chance
# A loss is far above another where it is more than so many times that, and this share of the loss
# of a network that says nothing.
FAR, FAR_OF_TRIVIAL = 2.0, 0.05


@dataclass
class Monitor:
    """Keeps the history of a fit and says when to stop.

    What is watched is the loss of the forward pass: of the held-out rows if `early_stopping`,
    else of the training rows as the passes met them. Where that is `divergence` times its best or
    more, or where the solver gives up, the fit diverges: it ends, with the best weights that it has
    had. Which these are is told by the held-out rows under early stopping; else by a sample of the
    training rows that is scored at the start and after every pass.
    """

    tol: float
    patience: int
    early_stopping: bool
    divergence: float = np.inf
    state: Any = None  # the last
    diverged: bool = False
    reason: str | None = None  # why the fit ended before its last pass
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = np.inf  # of what is watched
    start: Any = None  # the state before the first pass
    start_loss: float = np.nan  # of the sample
    trivial_loss: float = 0.0  # of the sample, where all outputs are zero
    most: float = np.inf  # that the sample can lose
    best_state: Any = None
    least: float = np.inf  # loss that chose it
    stale: int = 0
    warned: bool = False  # of steps that were refused
    parted: bool = False  # whether the objective has fallen without the loss

    def begin(self, state: Any, loss: float, sample: Sample) -> None:
        """Take in the state before the first pass, and its loss on a sample of the rows."""
        self.state, self.start, self.start_loss = state, state, loss
        self.trivial_loss, self.most = sample.trivial, sample.most
        self._choose(state, np.inf if self.early_stopping else loss)

    def recall(self, history: list[dict[str, Any]], best_state: Any) -> None:
        """Take in the passes of the fit that this one goes on from, and its best state."""
        for record in history:
            self._judge(record)
            self._choose(best_state, self._choice(record))

    def met(self, state: Any) -> Standing:
        """Return what of the fit has to be kept, with the state that it is in now."""
        return Standing(state, self.best_state, self.history)

    def see(self, result: Pass, record: dict[str, Any]) -> str | None:
        """Take in a pass; return the reason to stop, or None."""
        self._judge(record)
        self._compare_objective()
        self._choose(result.state, self._choice(record))
        self.state = result.state
        self.reason = self._stop(record)
        return self.reason

    def _stop(self, record: dict[str, Any]) -> str | None:
        given_up = record.get("given_up")
        if given_up:
            return self.fall_back(given_up.rstrip("."))
        self._tell_of_refusals(record)
        loss = record["validation_loss" if self.early_stopping else "loss"]
        if not loss < self.divergence * max(self.best_loss, 1e-300) and not _unscored(record):
            return self.fall_back(f"the forward loss rose from {self.best_loss:.3g} to {loss:.3g}")
        if record.get("converged"):
            return "the solver has converged"
        if self.stale >= self.patience:
            where = "validation" if self.early_stopping else "training"
            passes = plural(self.stale, "pass", "passes")
            return f"{where} loss fell by less than tol={self.tol} for {passes}"
        return None

    def fall_back(self, reason: str, state: Any = None) -> str:
        """Return why the fit ends with its best weights or others, and warn of it."""
        self.diverged = True
        left = self._words_of(self.best_state if state is None else state)
        self.reason = f"the method diverged: {reason}; the weights are those {left}"
        words = self.reason[0].upper() + self.reason[1:]
        warnings.warn(f"{words}.", DivergenceWarning, stacklevel=4)
        return self.reason

    def _words_of(self, state: Any) -> str:
        if state is self.start:
            return "that the fit started from"
        if state is not self.best_state:
            return "before the last sound step"
        losses = [self._choice(record) for record in self.history]
        number = "" if np.isnan(losses).all() else f", {1 + int(np.nanargmin(losses))}"
        return f"of the best pass{number}"

    def is_ruin(self, loss: float) -> bool:
        """Say whether a loss of the sample is far above one that the fit has had.

        Weights that held-out rows have chosen may well fit the sample worse than others.
        """
        losses = [self.start_loss]
        if not self.early_stopping:
            losses += [self._choice(record) for record in self.history]
        least = min((each for each in losses if np.isfinite(each)), default=np.inf)
        return loss > min(FAR * least + FAR_OF_TRIVIAL * self.trivial_loss, 0.99 * self.most)

    def _choice(self, record: dict[str, Any]) -> float:
        """The loss of a pass that says how good the weights are that it led to."""
        return record.get("validation_loss" if self.early_stopping else "sample_loss", np.nan)

    def _choose(self, state: Any, loss: float) -> None:
        if self.best_state is None or loss < self.least:
            self.best_state = state
            self.least = loss if np.isfinite(loss) else np.inf

    def _tell_of_refusals(self, record: dict[str, Any]) -> None:
        """Warn, once, of steps that left no trace in the weights."""
        if self.warned or not record.get("refused"):
            return
        self.warned = True
        warnings.warn(
            f"In pass {record['pass']} the solver met numbers that were not finite "
            f"{plural(record['refused'], 'time')}, and left these steps out. {record['refusal']}",
            RefusalWarning,
            stacklevel=4,
        )

    def _compare_objective(self) -> None:
        """Warn, once, when a solver's objective falls for some passes and the loss does not."""
        recent = self.history[-PARTED_PASSES - 1 :]
        if self.parted or len(recent) <= PARTED_PASSES or "objective" not in recent[0]:
            return
        objectives = [record["objective"] for record in recent]
        losses = [record["loss"] for record in recent]
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

    def _judge(self, record: dict[str, Any]) -> None:
        """Add a pass to the history, and to the passes without progress if it made none."""
        self.history.append(record)
        loss = record["validation_loss" if self.early_stopping else "loss"]
        self.stale = self.stale + 1 if loss > self.best_loss - self.tol else 0
        self.best_loss = min(loss, self.best_loss)


def _unscored(record: dict[str, Any]) -> bool:
    """Say whether a pass has no forward loss, since each of its steps was refused."""
    return "refused" in record and bool(np.isnan(record["loss"]))

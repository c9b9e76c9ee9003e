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
from daskalt.solvers.loop import Pass
from daskalt.wording import plural

__all__ = [
    "Monitor",
]

PARTED_PASSES, PARTED_RISE = 5, 1.1  # passes and rise of the loss that are no chance


@dataclass
class Monitor:
    """Keeps the history of a fit and says when to stop.

    What is watched is the loss of the forward pass: of the held-out rows if `early_stopping`,
    else of the training rows as the passes met them. Where that is `divergence` times its best or
    more, or where the solver gives up, the fit has come apart: it ends, with the weights of the
    best pass.
    """

    tol: float
    patience: int
    early_stopping: bool
    divergence: float = np.inf
    scores_start: bool = False  # whether the loss of a pass is of the weights before it
    before: Any = None  # the state that the next pass starts from
    diverged: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = np.inf
    best_state: Any = None
    stale: int = 0
    warned: bool = False  # of steps that were refused
    parted: bool = False  # whether the objective has fallen without the loss

    def recall(self, history: list[dict[str, Any]], best_state: Any) -> None:
        """Take in the passes of the fit that this one goes on from, and its best state."""
        for record in history:
            self._judge(record)
        self.best_state = best_state

    def met(self, state: Any) -> Standing:
        """Return what of the fit has to be kept, with the state that it is in now."""
        return Standing(state, self.best_state, self.history)

    def see(self, result: Pass, record: dict[str, Any]) -> str | None:
        """Take in a pass; return the reason to stop, or None."""
        best = self._judge(record)
        self._compare_objective()
        given_up = record.get("given_up")
        if best and not given_up:  # nor is what is left of such a pass comparable
            # The mean loss of several steps vouches for the weights that they led to.
            of_start = self.scores_start or result.steps == 1
            earlier = of_start and not self.early_stopping
            self.best_state = self.before if earlier else result.state
        self.before = result.state
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

    def fall_back(self, reason: str) -> str:
        """Return why the fit ends with its best weights, and warn of it."""
        self.diverged = True
        left = "before the last sound step" if self.best_state is None else "of the best pass"
        reason = f"the method diverged: {reason}; the weights are those {left}"
        warnings.warn(reason[0].upper() + reason[1:] + ".", DivergenceWarning, stacklevel=4)
        return reason

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

    def _judge(self, record: dict[str, Any]) -> bool:
        """Add a pass to the history; say whether it is the best so far."""
        self.history.append(record)
        loss = record["validation_loss" if self.early_stopping else "loss"]
        self.stale = self.stale + 1 if loss > self.best_loss - self.tol else 0
        best = loss < self.best_loss
        if best:
            self.best_loss = loss
        return best


def _unscored(record: dict[str, Any]) -> bool:
    """Say whether a pass has no forward loss, since each of its steps was refused."""
    return "refused" in record and bool(np.isnan(record["loss"]))

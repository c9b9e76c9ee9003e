"""The record of each pass of a fit, and why the fit ended."""

from typing import Any, Literal, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.network.problem import Problem
from daskalt.solvers.base import Report

__all__ = ["ALL_MADE", "RECORD_TYPES", "UNDER_WAY", "End", "PassRecord", "Quality", "quality_of"]


class Quality(NamedTuple):
    """How well a network does on some rows: the loss, and the score of its kind of target."""

    loss: float
    accuracy: float | None = None
    r2: float | None = None

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return the fields that are set, by name."""
        known = self._asdict().items()
        return {f"{prefix}{name}": value for name, value in known if value is not None}


def quality_of(problem: Problem, score: Score) -> Quality:
    """Return the quality that follows from sums over rows; no loss if no step counts."""
    if not score.weight > 0:
        return Quality(np.nan)
    if problem.classifies:
        return Quality(score.mean_loss, accuracy=score.accuracy)
    return Quality(score.mean_loss, r2=None if score.target is None else score.r2)


class PassRecord(NamedTuple):
    """The record of one pass of a fit.

    Attributes
    ----------
    number : int
        Number of the pass, from 1.
    training : Quality
        Of the training rows, each under the weights of its step.
    report : Report
        The solver's report.
    seconds : float
        Duration of the pass.
    validation : Quality or None
        Of the held-out rows after the pass, if there are any.
    bytes_read, bytes_written : int
        Bytes of the pass.
    total_seconds : float
        Time since the fit began, including what is between passes.
    """

    number: int
    training: Quality
    report: Report
    seconds: float
    validation: Quality | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    total_seconds: float = 0.0

    def watched_loss(self, held_out: bool) -> float:
        """Return the forward loss by which a fit is judged: of held-out or of training rows."""
        if not held_out:
            return self.training.loss
        assert self.validation is not None
        return self.validation.loss

    def watched_error(self, held_out: bool) -> float:
        """Return what the best pass has least of: wrong labels of held-out rows, else the loss.

        The loss of labels rises with a network's confidence while more of them come right.
        """
        loss, held = self.watched_loss(held_out), self.validation if held_out else None
        if held is None or held.accuracy is None or np.isnan(loss):
            return loss
        return 1.0 - held.accuracy

    @property
    def unscored(self) -> bool:
        """Whether the pass has no forward loss, since each of its steps was refused."""
        return self.report.refused > 0 and bool(np.isnan(self.training.loss))

    def as_dict(self) -> dict[str, Any]:
        """Return the record as `history_` has it."""
        held = {} if self.validation is None else self.validation.as_dict("validation_")
        return {
            "pass": self.number,
            **self.training.as_dict(),
            **self.report.as_dict(),
            "seconds": self.seconds,
            **held,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "total_seconds": self.total_seconds,
        }


class End(NamedTuple):
    """Why a fit ended, for programs and for people."""

    kind: Literal["all made", "converged", "settled", "diverged", "under way"]
    words: str


ALL_MADE = End("all made", "all passes were made")
UNDER_WAY = End("under way", "the fit has not ended yet")

RECORD_TYPES = (PassRecord, Quality, Report, End)  # the named tuples of a history

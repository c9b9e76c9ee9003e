"""Putting a fit down as it goes, in time and when it is told to stop."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from daskalt.checkpoint import Checkpoint, Checkpoints
from daskalt.data.watch import Watch
from daskalt.errors import CheckpointWarning, ClusterError
from daskalt.reduction import fetch
from daskalt.signals import terminable
from daskalt.solvers.base import Solver
from daskalt.solvers.loop import HALT_SECONDS, Pace, fetched
from daskalt.solvers.pass_graph import Branch, Position
from daskalt.versions import versions

__all__ = ["Keeper", "Standing", "checkpoint_types", "stoppable"]


class Standing(NamedTuple):
    """A fit between two graphs: handles of its state and of the best one, and its history."""

    state: Any
    best: Any
    history: list[dict[str, Any]]


class Keeper:
    """Puts a fit down as it goes, so that it can go on from there.

    Parameters
    ----------
    checkpoints : Checkpoints
        Where, and how often.
    solver : Solver
        Whose states they are.
    identity : dict
        What the fit is known by.
    watch : Watch
        Over the rows.
    """

    def __init__(
        self, checkpoints: Checkpoints, solver: Solver, identity: dict[str, Any], watch: Watch
    ) -> None:
        self.checkpoints = checkpoints
        self.solver = solver
        self.identity = identity
        self.storage: Any = None  # what the solver keeps for each row
        self.watch = watch
        self._saved = time.monotonic()
        self._unsaved: tuple[Standing, Position | None] | None = None

    @property
    def pace(self) -> Pace:
        """How often the fit should stand where it can be put down."""
        minutes = self.checkpoints.every_minutes
        seconds = HALT_SECONDS if minutes is None else min(HALT_SECONDS, 60 * minutes)
        return Pace(self.checkpoints.every_steps, seconds)

    def resume(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, if there is one."""
        saved = self.checkpoints.load(checkpoint_types(self.solver), self.identity)
        if saved is not None and saved.versions != versions():
            others = {k: v for k, v in saved.versions.items() if versions().get(k) != v}
            warnings.warn(
                f"The checkpoint in {self.checkpoints.location} was made with {others}; the bits "
                "of the result may differ from those of a fit that was never cut short.",
                CheckpointWarning,
                stacklevel=3,
            )
        return saved

    def halt(self, fit: Standing, position: Position) -> None:
        """Take note of where the fit stands within a pass, and put that down if it is time."""
        fit = fit._replace(history=list(fit.history))  # which grows before the next halt
        self._unsaved = (fit, position)
        every, minutes = self.checkpoints.every_steps, self.checkpoints.every_minutes
        old = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        if old or (every is not None and position.steps % every == 0 and not position.blocks):
            self.save(fit, position)

    def save(
        self, fit: Standing, position: Position | None = None, *, finished: bool = False
    ) -> None:
        """Put the fit down; without a position it stands between two passes."""
        self._unsaved = (fit, position)
        self.watch.check()  # what changed rows led to must not be gone on from
        state = fetch(fit.state)
        best = state if fit.best is fit.state else fetch(fit.best)
        passed = position is None and self.storage is not None
        if passed:
            self.storage.commit(len(fit.history))
        elif self.storage is not None:
            self.storage.flush()
        self.checkpoints.save(
            Checkpoint(
                self.identity,
                self.solver.detach(state),
                fit.history,
                None if position is None else fetched(position),
                None if best is None else self.solver.detach(best),
                finished,
                versions(),
            ),
            alone=passed,  # the variables of earlier iterations are overwritten from now on
        )
        self._unsaved = None
        self._saved = time.monotonic()

    def rescue(self) -> str:
        """Put down what has not been yet, and say where the fit can go on."""
        if self._unsaved is not None:
            with suppress(ClusterError):  # an earlier checkpoint has to do
                self.save(*self._unsaved)
        return (
            f"stopped; the checkpoint in {self.checkpoints.location} is where "
            "fit(..., resume=True) goes on"
        )


def checkpoint_types(solver: Solver) -> tuple[type, ...]:
    """Return the named tuples that a solver's checkpoints are made of."""
    return (*solver.state_types, Position, Branch)


@contextmanager
def stoppable(keeper: Keeper | None) -> Iterator[None]:
    """Put a fit down before Ctrl-C or SIGTERM ends it."""
    if keeper is None:
        yield
        return
    try:
        with terminable():
            yield
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(keeper.rescue()) from interrupt

"""Writing checkpoints during a fit, at intervals and when it is stopped; resuming from them."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from daskalt.compute.graph import fetch
from daskalt.compute.signals import held, patient, stop_here, terminable
from daskalt.compute.statistics import Score
from daskalt.data.watch import Watch
from daskalt.errors import CheckpointWarning, ClusterError, InputError
from daskalt.solvers.base import Budget, Solver
from daskalt.storage.variables import ZStore
from daskalt.training.checkpoint import END, Checkpoint, Checkpoints
from daskalt.training.history import End, PassRecord
from daskalt.training.job import Branch, Pace, Position
from daskalt.training.synchronous import fetched
from daskalt.versions import versions
from daskalt.wording import plural

__all__ = ["Keeper", "Standing", "checkpoint_types", "stoppable"]


REST_SECONDS = 3.0  # duration of a graph, about: what Ctrl-C waits for


class Standing(NamedTuple):
    """A fit between two graphs: its state and the best ones, as handles or values; its history."""

    state: Any
    best: tuple
    history: list[PassRecord]
    end: End | None = None  # why it ended
    chosen: Any = None  # the state that it ended with, once it has


class Keeper:
    """Writes checkpoints during a fit, from which it can be resumed.

    Parameters
    ----------
    checkpoints : Checkpoints
        Where they are written, and how often.
    solver : Solver
        The solver whose states they hold.
    identity : dict
        What identifies the fit.
    watch : Watch
        Checks that the rows have not changed.
    """

    def __init__(
        self, checkpoints: Checkpoints, solver: Solver, identity: dict[str, Any], watch: Watch
    ) -> None:
        self.checkpoints = checkpoints
        self.solver = solver
        self.identity = identity
        self.variables: ZStore | None = None  # row variables
        self.watch = watch
        self.resumed: Checkpoint | None = None  # from which the fit continues
        self._limit = "max_iter"  # the parameter that sets its end
        self._saved = time.monotonic()
        self._unsaved: tuple[Standing, Position | None] | None = None  # no handles
        self._best: list[tuple[Any, Any]] = []  # handles of the best states, and their values

    @property
    def pace(self) -> Pace:
        """How often graphs should end, so that a checkpoint can be written."""
        minutes = self.checkpoints.every_minutes
        seconds = REST_SECONDS if minutes is None else min(REST_SECONDS, 60 * minutes)
        return Pace(self.checkpoints.every_steps, seconds)

    def resume(self, passes: int, limit: str = "max_iter") -> Checkpoint | None:
        """Return the checkpoint to continue from, with its end after ``passes``, if there is one.

        Parameters
        ----------
        passes : int
            Most passes of the fit.
        limit : str
            The parameter that sets them.

        Raises
        ------
        InputError
            If it belongs to another fit, or has made more passes.
        """
        self._limit = limit
        saved = self.checkpoints.load(checkpoint_types(self.solver), self.identity)
        if saved is not None and saved.versions != versions():
            others = {k: v for k, v in saved.versions.items() if versions().get(k) != v}
            warnings.warn(
                f"The checkpoint in {self.checkpoints.location} was made with {others}; the bits "
                "of the result may differ from those of an uninterrupted fit.",
                CheckpointWarning,
                stacklevel=3,
            )
        if saved is not None and not self.solver.reproducible:
            warnings.warn(
                f"{type(self.solver).__name__} gives other results in each run: the resumed fit is "
                "no exact continuation.",
                CheckpointWarning,
                stacklevel=3,
            )
        self.resumed = saved
        if saved is None or saved.identity[END] == self.identity[END]:
            return saved
        return self._with_end(saved, passes)

    def _with_end(self, saved: Checkpoint, passes: int) -> Checkpoint:
        """The checkpoint of a fit with another number of passes, with this fit's end."""
        fit, made = f"the fit in {self.checkpoints.location}", len(saved.history)
        if made + (saved.position is not None) > passes:
            raise InputError(
                f"{self._limit}={passes}: {fit} has made {saved.place} already. Raise "
                f"{self._limit} to train on, or pass resume=False to start anew."
            )
        if saved.end is not None:
            warnings.warn(
                f"{self._limit}={passes}: {fit} ended by itself after {saved.place}: "
                f"{saved.end.words}. It is not trained further; warm_start=True continues from the "
                "weights of a fitted estimator.",
                CheckpointWarning,
                stacklevel=6,
            )
            return saved
        return saved._replace(
            state=self._ending(saved.state),
            best=tuple(map(self._ending, saved.best)),
            finished=False,
        )

    def _ending(self, state: Any) -> Any:
        """The state with this fit's end, at the same step of a longer or shorter fit."""
        return state._replace(budget=state.budget._replace(steps=self.identity[END]))

    def check_end(self, passes: int) -> None:
        """Warn if the end of the fit has changed and its steps depend on it.

        Raises
        ------
        InputError
            If the row variables were removed when the fit ended.
        """
        saved = self.resumed
        if saved is None or saved.identity[END] == self.identity[END]:
            return
        fit = f"the fit in {self.checkpoints.location}"
        gone = self.variables is not None and self.variables.generation is None
        if saved.finished and gone:
            raise InputError(
                f"{self._limit}: {fit} is finished, and z is no longer kept. Name a store of the "
                "solver to keep it in another fit, or continue from the weights by warm_start=True."
            )
        if self.solver.anneals:
            before = saved.identity[END] // saved.state.budget.pass_steps
            warnings.warn(
                f"{self._limit}: {fit}, {saved.place} on its way, ends after {passes} passes "
                f"instead of {before}. Steps shrink towards the end, so the result differs from "
                f"that of a fit of {plural(passes, 'pass', 'passes')} from the start.",
                CheckpointWarning,
                stacklevel=5,
            )

    def earlier(self, cost: dict[str, Any]) -> dict[str, Any]:
        """Return the changes of ``cost_`` for a resumed fit, which includes the earlier part."""
        if self.resumed is None:
            return {}
        history, position = self.resumed.history, self.resumed.position
        seconds = history[-1].total_seconds if history else 0.0
        seconds += 0.0 if position is None else position.seconds
        return {"seconds": cost["seconds"] + seconds, "resumed_after": len(history)}

    def halt(self, fit: Standing, position: Position) -> None:
        """Note the position within a pass, and write a checkpoint if one is due.

        Raises
        ------
        KeyboardInterrupt
            If the program has received a signal to stop: here it can.
        """
        self._unsaved = (self._values(fit), fetched(position))
        every, minutes = self.checkpoints.every_steps, self.checkpoints.every_minutes
        old = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        if old or (every is not None and position.steps % every == 0 and not position.blocks):
            self._write(*self._unsaved)
        stop_here()

    def save(self, fit: Standing) -> None:
        """Write a checkpoint between two passes, and stop here after a signal."""
        self._unsaved = (self._values(fit), None)
        self._write(*self._unsaved)
        stop_here()

    def _values(self, fit: Standing) -> Standing:
        """The fit with values in place of handles, and the history as it is now."""
        state = fetch(fit.state)
        known = [*self._best, (fit.state, state)]
        for handle in (*fit.best, *([] if fit.chosen is None else [fit.chosen])):
            if not any(handle is other for other, _ in known):
                known.append((handle, fetch(handle)))
        self._best = [pair for pair in known if any(pair[0] is handle for handle in fit.best)]
        values = {id(handle): value for handle, value in known}
        best = tuple(values[id(handle)] for handle in fit.best)
        chosen = values.get(id(fit.chosen))
        return Standing(state, best, list(fit.history), fit.end, chosen)

    def _write(self, fit: Standing, position: Position | None) -> None:
        """Write a checkpoint, which no signal interrupts."""
        self.watch.check()  # nothing learnt from changed rows may be resumed
        passed = position is None and self.variables is not None
        with held():
            if self.variables is not None:
                if passed:
                    self.variables.commit(len(fit.history))
                else:
                    self.variables.flush()
            self.checkpoints.save(
                Checkpoint(
                    self.identity,
                    fit.state,
                    fit.history,
                    position,
                    fit.best,
                    fit.chosen is not None,
                    versions(),
                    fit.end,
                    fit.chosen,
                ),
                alone=passed,  # the variables of earlier iterations are overwritten from now on
            )
            self._unsaved = None
            self._saved = time.monotonic()

    def rescue(self) -> str:
        """Write what is unsaved, and return a message on how to resume."""
        if self._unsaved is not None:
            self._write(*self._unsaved)
        return (
            f"stopped; fit(..., resume=True) continues from the checkpoint in "
            f"{self.checkpoints.location}"
        )


def checkpoint_types(solver: Solver) -> tuple[type, ...]:
    """Return the named tuples in a solver's checkpoints."""
    return (*solver.state_types, Budget, Score, Position, Branch)


@contextmanager
def stoppable(keeper: Keeper | None) -> Iterator[None]:
    """Write a checkpoint before Ctrl-C or SIGTERM ends a fit, of its next or last position."""
    if keeper is None:
        yield
        return
    try:
        with terminable(), patient():
            try:
                yield
            except ClusterError:
                stop_here()  # the signal has reached the workers, too
                raise
    except KeyboardInterrupt as interrupt:
        with held(drop=True):
            told = keeper.rescue()
        raise type(interrupt)(told) from interrupt

"""What a solver does about a step whose numbers are not finite: it goes back and treads softly."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

from daskalt.errors import DivergenceError
from daskalt.network.network import Weights
from daskalt.network.problem import Problem
from daskalt.solvers.base import Report, Solver

__all__ = ["CALM", "LEAST_TRUST", "LIMIT", "RAISE", "Caution", "CautiousSolver"]

LIMIT = 5  # refused steps, with no calm between them, after which a solver gives up
CALM = 10  # sound steps in a row that make the refusals before them forgotten
RAISE = 10.0  # factor on the damping, and on the inverse of the step, at a refusal
RELAX = 0.5  # factor on it while steps are sound, until it is 1 again
LEAST_TRUST = 1e-4


class Caution(NamedTuple):
    """What a solver remembers of refused steps; nothing of it changes a fit that has none.

    Attributes
    ----------
    before : Weights or None
        The weights before the last sound step, None before the first one. The loss may overflow
        only at the step after the one that did the harm, so a refusal goes back to these.
    factor : float
        Factor on the damping.
    refusals : int
        Refused steps with no calm between them.
    since : int
        Number of the first step after the last refused one.
    refused : int
        Refused steps of the pass.
    reason : str or None
        Why the last refused step was.
    """

    before: Weights | None = None
    factor: float = 1.0
    refusals: int = 0
    since: int = 0
    refused: int = 0
    reason: str | None = None

    def after(self, weights: Weights, step: int) -> Caution:
        """Return the caution after a sound step number ``step`` that started from ``weights``."""
        refusals = 0 if step - self.since >= CALM else self.refusals
        return self._replace(before=weights, refusals=refusals)

    def relaxed(self) -> Caution:
        """Return the caution with its factor part of the way back to 1."""
        return self._replace(factor=max(1.0, RELAX * self.factor))

    def noting(self, error: DivergenceError) -> Caution:
        """Return the caution after something was refused that no step depends on."""
        return self._replace(refused=self.refused + 1, reason=str(error))

    def raised(self, step: int, error: DivergenceError) -> Caution:
        """Return the caution after step number ``step`` was refused."""
        return self.noting(error)._replace(
            factor=self.factor * RAISE, refusals=self.refusals + 1, since=step + 1
        )

    @property
    def given_up(self) -> bool:
        """Whether there have been too many refusals."""
        return self.refusals >= LIMIT


class CautiousSolver(Solver):
    """A solver that refuses a step with non-finite numbers and goes on; its states hold `Caution`.

    A refused step leaves no trace in what the solver has summed. The weights go back to those
    before the last sound step, come to rest, and the damping rises by a factor of `RAISE`, which
    sound steps take back. After `LIMIT` refusals with no calm between them the solver gives up:
    the state then stays as it is, and the fit ends.
    """

    @abstractmethod
    def settle(self, problem: Problem, state: Any) -> Any:
        """Return a state whose weights have just gone back, at rest and damped by its caution."""

    def refuse(self, problem: Problem, state: Any, error: DivergenceError) -> Any:
        """Return the state after a refused step."""
        caution = state.caution.raised(state.step, error)
        weights = state.weights if caution.before is None else caution.before
        return self.settle(
            problem, state._replace(weights=weights, caution=caution, step=state.step + 1)
        )

    def gave_up(self, state: Any) -> bool:
        """Say whether there have been too many refusals."""
        return state.caution.given_up

    def last_sound(self, state: Any) -> Weights | None:
        """Return the weights before the last sound step; None before the first one."""
        return state.caution.before

    def renew(self, state: Any) -> Any:
        """Return the state with no refused step; a solver that gave up may try on."""
        caution = state.caution
        if not caution.refused and not caution.given_up:
            return state
        refusals = 0 if caution.given_up else caution.refusals
        return state._replace(caution=caution._replace(refused=0, refusals=refusals))

    def report(self, state: Any) -> Report:
        """Return the number of refused steps and why the solver gave up, where there is any.

        Raises
        ------
        DivergenceError
            If every step since the start was refused: there are no weights to fall back on.
        """
        caution = state.caution
        if not caution.refused:
            return Report()
        if caution.before is None:
            raise DivergenceError(f"No step of the fit had finite numbers. {caution.reason}")
        given_up = None
        if caution.given_up:
            given_up = (
                f"{LIMIT} steps with non-finite numbers were refused, fewer than {CALM} steps "
                f"apart, the last at step {caution.since}: {caution.reason}"
            )
        return Report(refused=caution.refused, refusal=caution.reason, given_up=given_up)

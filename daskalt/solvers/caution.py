"""Recovery from a step with non-finite numbers: the solver goes back and takes smaller ones."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

from daskalt.errors import DivergenceError
from daskalt.network.network import Weights
from daskalt.network.problem import Problem
from daskalt.solvers.base import Report, Solver

__all__ = ["CALM", "LEAST_TRUST", "LIMIT", "RAISE", "Caution", "CautiousSolver"]

LIMIT = 5  # refused steps, fewer than CALM steps apart, after which a solver gives up
CALM = 10  # sound steps in a row after which earlier refusals no longer count
RAISE = 10.0  # factor on the damping, and on the inverse of the step, at a refusal
RELAX = 0.5  # factor on it while steps are sound, until it is 1 again
LEAST_TRUST = 1e-4


class Caution(NamedTuple):
    """What a solver remembers of refused steps; a fit without any does not depend on it.

    Attributes
    ----------
    before : Weights or None
        The weights before the last sound step, None before the first one. The loss may overflow
        only one step after the harmful one, so a refusal goes back to these.
    factor : float
        Factor on the damping.
    refusals : int
        Refused steps, fewer than `CALM` steps apart.
    since : int
        Number of the first step after the last refused one.
    refused : int
        Refused steps of the pass.
    reason : str or None
        Why the last refused step was refused.
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
        """Return the caution with its factor closer to 1."""
        return self._replace(factor=max(1.0, RELAX * self.factor))

    def raised(self, step: int, error: DivergenceError) -> Caution:
        """Return the caution after step number ``step`` was refused."""
        return self._replace(
            factor=self.factor * RAISE,
            refusals=self.refusals + 1,
            since=step + 1,
            refused=self.refused + 1,
            reason=str(error),
        )

    @property
    def given_up(self) -> bool:
        """Whether there have been too many refusals."""
        return self.refusals >= LIMIT


class CautiousSolver(Solver):
    """A solver that refuses steps with non-finite numbers; its states hold a `Caution`.

    A refused step is left out of the running sums. The weights go back to those before the last
    sound step, their motion is set to zero, and the damping rises by a factor of `RAISE`, which
    sound steps undo. After `LIMIT` refusals, fewer than `CALM` steps apart, the solver gives up:
    the state no longer changes, and the fit ends.
    """

    @abstractmethod
    def settle(self, problem: Problem, state: Any) -> Any:
        """Return a state whose weights have gone back, without motion and damped by its caution."""

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

    def last_sound(self, problem: Problem, state: Any) -> Any:
        """Return the state back at the start of the last sound step; None before the first one."""
        before = state.caution.before
        return None if before is None else self.settle(problem, state._replace(weights=before))

    def renew(self, state: Any) -> Any:
        """Return the state with no refused step; a solver that gave up may try again."""
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

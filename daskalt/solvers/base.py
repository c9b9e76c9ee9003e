"""What a solver is: pure functions `map`, `combine` and `update` over a state that they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from sklearn.base import BaseEstimator

from daskalt.compute.statistics import Score, combine
from daskalt.errors import DivergenceError
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows

__all__ = [
    "Budget",
    "Growing",
    "Recovering",
    "Report",
    "Reporting",
    "RowVariables",
    "Selective",
    "Solver",
    "State",
    "Surveying",
    "Variables",
]

Variables = Sequence[np.ndarray]

ROWS_IN_ALL, FLOPS_IN_ALL = 100_000, 1.6e11  # of the passes of a fit, forwards, unless told


class Budget(NamedTuple):
    """How long a solver will run, as far as that is known when it starts.

    Attributes
    ----------
    steps : int or None
        Steps of the whole fit; None in a fit without an end (``partial_fit``).
    first_pass : int or None
        Steps of the first pass of a fit with an end.
    pass_steps : int or None
        Steps of a pass.
    """

    steps: int | None = None
    first_pass: int | None = None
    pass_steps: int | None = None


class State(Protocol):
    """What every state has beside the solver's own memory; a state is an immutable named tuple.

    Attributes
    ----------
    weights : Weights
        Those that a fit which ended now would return.
    budget : Budget
        As given to `Solver.start`; a fit that is given another end replaces it.
    score : Score
        Sums of the forward loss over the steps of this pass, which the loop keeps.
    """

    @property
    def weights(self) -> Weights: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def score(self) -> Score: ...


class Solver(BaseEstimator, ABC):
    """A training method as pure functions: map, combine and update. Nothing is changed in place.

    A fit is ``state = update(state, combine(map(rows, state), map(rows, state), ...))``, step by
    step, whoever runs it. States are like `State`; statistics are named tuples of what adds, with
    the forward `Score` as ``score``. What only some solvers have is told by protocols: `Selective`,
    `RowVariables`, `Surveying`, `Recovering`, `Reporting`, `Growing`.

    Attributes
    ----------
    full_batch : bool
        Whether a step has all rows, in their order.
    tasks : int or "auto"
        Tasks that share the rows of a mini-batch.
    blas_threads : int
        Of a task.
    state_types : tuple of type
        The named tuples that states and statistics are made of.
    divergence : float
        A fit ends when the forward loss is this many times its best.
    driver : str
        Who runs it, a key of `daskalt.training.drivers.DRIVERS`.
    reproducible : bool
        Whether the same fit has the same bits every time, on any number of workers.
    """

    full_batch = False
    tasks: int | str = "auto"
    blas_threads = 1
    state_types: tuple[type, ...] = ()
    divergence = np.inf
    driver = "synchronous"
    reproducible = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the classes whose memory a state holds: another's cannot go on from it."""
        return (type(self).__name__,)

    @property
    def anneals(self) -> bool:
        """Whether steps depend on how many there will be."""
        return False

    @abstractmethod
    def check(self) -> None:
        """Raise InputError if a parameter is out of its range; called before any data is read."""

    @abstractmethod
    def start(self, problem: Problem, weights: Weights, budget: Budget) -> Any:
        """Return the state before the first step."""

    @abstractmethod
    def map(
        self, problem: Problem, state: Any, rows: Rows, variables: Variables | None = None
    ) -> tuple[Any, Variables | None]:
        """Return the statistics of one task's rows, and the rows' own variables after the step.

        ``variables`` are those of the step before, in the order of `RowVariables.variables`; None
        before the first, and for solvers that have none. Those returned may lie in the thread's
        workspace: they are to be used before its next map.
        """

    @abstractmethod
    def update(self, problem: Problem, state: Any, statistics: Any) -> Any:
        """Return the state after a step, from the combined statistics of its rows.

        Raises
        ------
        DivergenceError
            If the statistics are not finite.
        """

    def combine(self, a: Any, b: Any) -> Any:
        """Return the sum of two statistics, of which None is the zero."""
        return combine(a, b)

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the passes that a fit makes unless told, 2 to 20.

        They are 100,000 rows' worth, or some seconds' where rows and network are small: a table's
        pass takes milliseconds, and two of them leave much to be learnt.
        """
        rows = max(ROWS_IN_ALL, FLOPS_IN_ALL / network.flops)
        return int(np.clip(round(rows / n_rows), 2, 20))

    def batch_rows(self, n_rows: int) -> int:
        """Return the rows of a mini-batch unless told: a fortieth, between 100 and 2,000."""
        return min(int(np.clip(n_rows // 40, 100, 2000)), n_rows)

    def flops(self, network: Network) -> float:
        """Return the floating-point operations that a pass takes for each row.

        They are those of the matrix products: by default of the pass forward, of the pass of
        residuals back, and of the moments of the weights.
        """
        return 2 * network.flops + network.pull_back_flops


class Report(NamedTuple):
    """What a solver has to tell of a pass beside the forward score.

    Attributes
    ----------
    figures : dict
        The solver's own numbers by name, such as an objective.
    refused : int
        Steps that left no trace, since their numbers were not finite.
    refusal : str or None
        Why the last of them was refused.
    given_up : str or None
        Why the solver takes no further steps, if it gave up.
    converged : bool or None
        Whether there is nothing left to gain; None of a solver that cannot tell.
    """

    figures: dict[str, float] = {}  # noqa: RUF012  never changed
    refused: int = 0
    refusal: str | None = None
    given_up: str | None = None
    converged: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what there is, by name."""
        rest = self._asdict() | {"refused": self.refused or None}
        figures = rest.pop("figures")
        return figures | {name: value for name, value in rest.items() if value is not None}


@runtime_checkable
class Selective(Protocol):
    """A solver that cannot solve every problem."""

    def validate(self, problem: Problem) -> None:
        """Raise InputError if the method, as its parameters have it, cannot solve a problem."""


@runtime_checkable
class RowVariables(Protocol):
    """A full-batch solver that keeps variables of every row from one step to the next.

    Attributes
    ----------
    store : str, Path or None
        Where they outlive the fit; None for a place of the fit's own.
    """

    store: Any

    def variables(self, problem: Problem) -> dict[str, int]:
        """Return the name and width of every array of them."""


@runtime_checkable
class Surveying(Protocol):
    """A solver that sums a statistic of the inputs alone in the first pass, beside its steps."""

    def surveys(self, problem: Problem, budget: Budget) -> bool:
        """Say whether it does in such a fit."""

    def survey(self, problem: Problem, rows: Rows) -> Any:
        """Return the statistic of some rows, which no step has to wait for."""

    def adopt(self, problem: Problem, state: Any, total: Any) -> Any:
        """Return the state after the first pass with the sum over all rows."""


@runtime_checkable
class Recovering(Protocol):
    """A solver that goes on after a step with numbers that are not finite."""

    def refuse(self, problem: Problem, state: Any, error: DivergenceError) -> Any:
        """Return the state after a step that `update` found non-finite numbers in."""

    def gave_up(self, state: Any) -> bool:
        """Say whether the solver takes no further steps in this pass."""

    def renew(self, state: Any) -> Any:
        """Return the state at the beginning of a pass, in which a solver that gave up tries on."""

    def last_sound(self, state: Any) -> Weights | None:
        """Return the weights before the last sound step; None before the first one."""


@runtime_checkable
class Reporting(Protocol):
    """A solver that has more to tell of a pass than the forward score."""

    def report(self, state: Any) -> Report:
        """Return what there is to tell after a pass."""


@runtime_checkable
class Growing(Protocol):
    """A solver whose states grow with the passes."""

    def memory_bytes(self, problem: Problem, passes: int) -> int:
        """Return the bytes that they come to hold beside what they have after a few steps."""

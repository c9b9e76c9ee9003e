"""What a solver is: pure functions `map`, `combine` and `update` over a state that they share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from sklearn.base import BaseEstimator

from daskalt.compute.statistics import Score, combine
from daskalt.errors import DivergenceError, InputError
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
    "Variables",
    "check_abilities",
    "check_state",
]

Variables = Sequence[np.ndarray]

ROWS_IN_ALL, FLOPS_IN_ALL = 100_000, 1.6e11  # forward work of all passes of a fit, by default
ENOUGH_ROWS = 5_000_000  # for a single pass
LARGE = 1_000_000  # weights of a network, more than caches hold beside what a step needs


class Budget(NamedTuple):
    """How long a solver will run, as far as is known at the start.

    Attributes
    ----------
    steps : int or None
        Steps of the whole fit; None in a fit without an end (``partial_fit``).
    first_pass : int or None
        Steps of the first pass of a fit with an end.
    pass_steps : int or None
        Steps of a pass.
    weight : float or None
        Weight of the rows of a pass, or the number of those that have any where that is more.
    """

    steps: int | None = None
    first_pass: int | None = None
    pass_steps: int | None = None
    weight: float | None = None


class State(Protocol):
    """What every state has beside the solver's own variables; it is an immutable named tuple.

    Attributes
    ----------
    weights : Weights
        Those that the fit would return if it ended now.
    budget : Budget
        As given to `Solver.start`; replaced when a resumed fit has another end.
    score : Score
        Sums of the forward loss over the steps of this pass, added up by the driver.
    """

    @property
    def weights(self) -> Weights: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def score(self) -> Score: ...


class Solver(BaseEstimator, ABC):
    """A training method as pure functions: map, combine and update. They change no argument.

    A fit is ``state = update(state, combine(map(rows, state), map(rows, state), ...))``, step by
    step, whichever driver runs it. States are like `State`; statistics are named tuples that can be
    added, with the forward `Score` as ``score``. What only some solvers have is in protocols:
    `Selective`, `RowVariables`, `Recovering`, `Reporting`, `Growing`.

    Weights are matrices [W b], (units, inputs + 1), of the type of `Problem`, which a method keeps.
    ``problem.inputs(rows.X)`` are the scaled rows with a column of ones, ``problem.network`` has
    `trace`, `pull_back` and `pairs`, and ``problem.network.loss`` the residual of the outputs;
    `daskalt.solvers.z_step.gradient_step` is made of them. Moments are sums over rows: an update
    divides by ``statistics.score.weight``. The score of the pass is added up for the solver.

    Attributes
    ----------
    full_batch : bool
        Whether a step takes all rows, in their order.
    tasks : int or "auto"
        Tasks that share the rows of a mini-batch.
    blas_threads : int
        BLAS threads of a task.
    state_types : tuple of type
        The named tuples that states and statistics are made of, beside Budget and Score.
    divergence : float
        A fit ends when the forward loss is this many times its best.
    driver : str
        The driver that runs it, a key of `daskalt.training.drivers.DRIVERS`.
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
        """Names of the classes whose variables a state holds; others cannot continue from it."""
        return (type(self).__name__,)

    @property
    def anneals(self) -> bool:
        """Whether steps depend on the number of steps of the fit."""
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
        workspace, and are valid until its next map.
        """

    @abstractmethod
    def update(self, problem: Problem, state: Any, statistics: Any) -> Any:
        """Return the state after a step, from the combined statistics of its rows.

        Raises
        ------
        DivergenceError
            If the statistics are not finite.
        """

    def continued(self, state: Any, budget: Budget) -> Any:
        """Return the state of an earlier fit, for a call that continues it."""
        return state._replace(budget=budget)

    def combine(self, a: Any, b: Any) -> Any:
        """Return the sum of two statistics; None is the zero."""
        return combine(a, b)

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the default number of passes of a fit, 2 to 20; 1 over very many rows.

        They amount to 100,000 rows, or to some seconds where rows and network are small: a pass
        over a small table takes milliseconds, and two of them are too few.
        """
        rows = max(ROWS_IN_ALL, FLOPS_IN_ALL / network.flops)
        return int(np.clip(round(rows / n_rows), 1 if n_rows >= ENOUGH_ROWS else 2, 20))

    def batch_rows(self, n_rows: int, network: Network, passes: int | None = None) -> int:
        """Return the default rows of a mini-batch of a fit of so many passes, if it has an end.

        A fortieth of all, or a hundredth if each comes once; between 100 and 2,000. The least are
        200 for a network whose weights outgrow the caches, since an update then takes as long as
        to map so many rows; the most, of very many rows, five times their square root, so that
        steps and their number grow alike.
        """
        share, most = 100 if passes == 1 else 40, max(2000, int(5 * np.sqrt(n_rows)))
        least = 100 if sum(network.sizes) < LARGE else 200
        return min(int(np.clip(n_rows // share, least, most)), n_rows)

    def flops(self, network: Network) -> float:
        """Return the floating-point operations that a pass takes for each row.

        Only matrix products are counted: by default those of the forward pass, of the backward
        pass of residuals, and of the moments of the weights.
        """
        return 2 * network.flops + network.pull_back_flops


class Report(NamedTuple):
    """What a solver reports of a pass beside the forward score.

    Attributes
    ----------
    figures : dict
        The solver's own numbers by name, such as an objective.
    refused : int
        Steps that were left out, since their numbers were not finite.
    refusal : str or None
        Why the last of them was refused.
    given_up : str or None
        Why the solver takes no further steps, if it gave up.
    converged : bool or None
        Whether no further step would lower the loss; None if the solver cannot tell.
    """

    figures: dict[str, float] = {}  # noqa: RUF012  never changed
    refused: int = 0
    refusal: str | None = None
    given_up: str | None = None
    converged: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, by name."""
        rest = self._asdict() | {"refused": self.refused or None}
        figures = rest.pop("figures")
        return figures | {name: value for name, value in rest.items() if value is not None}


@runtime_checkable
class Selective(Protocol):
    """A solver that cannot solve every problem."""

    def validate(self, problem: Problem) -> None:
        """Raise InputError if the method, with these parameters, cannot solve a problem."""


@runtime_checkable
class RowVariables(Protocol):
    """A full-batch solver that keeps variables of every row from one step to the next.

    Attributes
    ----------
    store : str, Path or None
        Where they are kept after the fit; None for a temporary place.
    """

    store: Any

    def variables(self, problem: Problem) -> dict[str, int]:
        """Return the name and width of each of their arrays."""


@runtime_checkable
class Recovering(Protocol):
    """A solver that continues after a step whose numbers are not finite."""

    def refuse(self, problem: Problem, state: Any, error: DivergenceError) -> Any:
        """Return the state after a step in which `update` found non-finite numbers."""

    def gave_up(self, state: Any) -> bool:
        """Say whether the solver takes no further steps in this pass."""

    def renew(self, state: Any) -> Any:
        """Return the state at the start of a pass, in which a solver that gave up tries again."""

    def last_sound(self, problem: Problem, state: Any) -> Any:
        """Return the state back at the start of the last sound step; None before the first one."""


@runtime_checkable
class Reporting(Protocol):
    """A solver that reports more of a pass than the forward score."""

    def report(self, state: Any) -> Report:
        """Return the report of a pass."""


@runtime_checkable
class Growing(Protocol):
    """A solver whose states grow with the passes."""

    def memory_bytes(self, problem: Problem, passes: int) -> int:
        """Return the bytes by which they grow beyond their size after a few steps."""


def check_abilities(solver: Solver) -> None:
    """Raise InputError if a solver has some of a protocol's members and lacks others."""
    name = type(solver).__name__
    members = {
        "Recovering": ("refuse", "gave_up", "renew", "last_sound"),
        "RowVariables": ("variables", "store"),
    }
    for protocol, wanted in members.items():
        lacking = [member for member in wanted if not hasattr(solver, member)]
        if 0 < len(lacking) < len(wanted):
            raise InputError(
                f"{name} has {', '.join(m for m in wanted if m not in lacking)} of the protocol "
                f"{protocol} and lacks {', '.join(lacking)}: add them, or rename what it has."
            )
    if isinstance(solver, RowVariables) and not solver.full_batch:
        raise InputError(
            f"{name} keeps variables of the rows, which needs full_batch = True: a mini-batch "
            "leaves no place for them."
        )


def check_state(solver: Solver, state: Any) -> None:
    """Raise InputError if the state of a solver is not like `State`, or of undeclared types."""
    name, kind = type(solver).__name__, type(state).__name__
    lacking = [field for field in ("weights", "budget", "score") if not hasattr(state, field)]
    if lacking or not hasattr(state, "_replace"):
        raise InputError(
            f"{name}.start must return a named tuple with weights, budget and score; {kind} lacks "
            f"{', '.join(lacking) or 'what makes it one'}."
        )
    unknown = {part.__name__ for part in _named_tuples(state)} - {
        part.__name__ for part in (*solver.state_types, Budget, Score)
    }
    if unknown:
        raise InputError(
            f"{name}.state_types lacks {', '.join(sorted(unknown))}, of which its state is made: "
            "checkpoints could not be read."
        )


def _named_tuples(value: Any) -> Iterator[type]:
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            yield type(value)
        for part in value:
            yield from _named_tuples(part)

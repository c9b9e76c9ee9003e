"""What a solver is: pure functions `map`, `combine` and `update` over a state that they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from daskalt.data.scaling import Scaling
from daskalt.data.table import Block
from daskalt.data.targets import ClassTargets, RealTargets, Targets
from daskalt.errors import DivergenceError
from daskalt.kernels.scale import scale_rows
from daskalt.kernels.workspace import Workspace
from daskalt.network import Network, Weights
from daskalt.statistics import Score, combine

__all__ = ["Budget", "Problem", "Rows", "Solver"]

ROWS_IN_ALL, FLOPS_IN_ALL = 100_000, 1.6e11  # of the passes of a fit, forwards, unless told


class Rows(NamedTuple):
    """Rows in memory, ready for a solver: raw features, encoded targets, weights."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    place: int = 0  # of the first row, in the order of a pass over whole blocks

    def part(self, start: int, stop: int) -> "Rows":
        """Return a view of some of the rows."""
        weight = None if self.weight is None else self.weight[start:stop]
        return Rows(self.X[start:stop], self.y[start:stop], weight, self.place + start)

    @property
    def total_weight(self) -> float:
        """Sum of the row weights."""
        if self.weight is None:
            return float(len(self.X))
        return float(self.weight.sum(dtype=np.float64))


@dataclass(frozen=True)
class Problem:
    """What is minimised: a network on scaled inputs and encoded targets, with an L2 penalty.

    The objective is the weighted mean of the loss plus ``penalty / 2`` times the squared weights
    (biases excepted).
    """

    network: Network
    scaling: Scaling
    targets: Targets
    penalty: float
    dtype: np.dtype
    class_factors: np.ndarray | None = None  # weight of each class's rows

    def inputs(self, X: np.ndarray, workspace: Workspace | None = None) -> np.ndarray:
        """Return the scaled inputs with a last column of ones."""
        scaling = self.scaling
        out = None
        if workspace is not None:
            out = workspace.take("inputs", (X.shape[0], X.shape[1] + 1), self.dtype)
        return scale_rows(X, scaling.shift, scaling.factor, self.dtype, out=out)

    def rows(self, block: Block) -> Rows:
        """Return a block with its targets encoded and its weights in floating point."""
        assert block.y is not None
        y = self.targets.encode(block.y, self.dtype)
        weight = block.weight
        if weight is not None:
            weight = np.ascontiguousarray(weight.ravel(), dtype=self.dtype)
        if self.class_factors is not None:
            assert isinstance(self.targets, ClassTargets)
            by_class = self.class_factors[self.targets.codes(block.y)].astype(self.dtype)
            weight = by_class if weight is None else weight * by_class
        return Rows(block.X, y, weight)

    def correct(self, z: np.ndarray, rows: Rows) -> float:
        """Return the weight of the rows predicted right; 0 where targets are numbers."""
        loss = self.network.loss
        # Among one-hot outputs the largest counts, whatever the units say by themselves.
        if loss.classifies and not getattr(self.targets, "one_hot", False):
            return loss.correct(z, rows.y, rows.weight)
        hits = self.targets.hits(loss.link(z), rows.y)
        if hits is None:
            return 0.0
        return float(hits.sum() if rows.weight is None else rows.weight[hits].sum())

    @property
    def classifies(self) -> bool:
        """Whether the targets are labels."""
        return not isinstance(self.targets, RealTargets)


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

    steps: int | None
    first_pass: int | None
    pass_steps: int | None = None


class Solver(BaseEstimator, ABC):
    """A training method as map, combine and update; :mod:`daskalt.solvers.loop` runs them.

    The state is an immutable named tuple with the fields ``weights`` and ``score``, the latter
    the sums of the forward loss over the steps since :meth:`begin_pass`.
    """

    full_batch = False  # whether a step has all rows, in their order
    state_types: tuple[type, ...] = ()  # the named tuples that states are made of
    blas_threads = 1  # of a task
    divergence = np.inf  # a fit ends when the forward loss is this many times its best

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

    def validate(self, problem: Problem) -> None:
        """Raise InputError if the method, as its parameters have it, cannot solve a problem."""

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

    def variable_bytes(self, problem: Problem) -> int:
        """Return the bytes of what the solver keeps for each row."""
        return 0

    def memory_bytes(self, problem: Problem, passes: int) -> int:
        """Return what states come to hold in some passes beside what they have after a few steps.

        In bytes.
        """
        return 0

    def allocate(
        self, problem: Problem, rows: int, block_rows: int, scratch: Any, place: str | None = None
    ) -> Any:
        """Return the storage of what the solver keeps for each row; None if nothing.

        It lies where the solver's parameters say, else at ``place``, else under ``scratch``.
        """
        return None

    @abstractmethod
    def start(self, problem: Problem, weights: Weights, budget: Budget, storage: Any = None) -> Any:
        """Return the state before the first step."""

    @abstractmethod
    def map(self, problem: Problem, state: Any, rows: Rows) -> Any:
        """Return the statistics of one task's rows."""

    @abstractmethod
    def update(self, problem: Problem, state: Any, statistics: Any) -> Any:
        """Return the state after a step, from the combined statistics of its rows.

        Raises
        ------
        DivergenceError
            If the statistics are not finite.
        """

    def refuse(self, problem: Problem, state: Any, error: DivergenceError) -> Any:
        """Return the state after a step that `update` found non-finite numbers in.

        Raises
        ------
        DivergenceError
            The ``error`` itself, from solvers that cannot go on.
        """
        raise error

    def gave_up(self, state: Any) -> bool:
        """Say whether the solver takes no further steps in this pass."""
        return False

    def surveys(self, budget: Budget) -> bool:
        """Say whether the first pass is to sum `survey` over all rows, beside the steps."""
        return False

    def survey(self, problem: Problem, rows: Rows) -> Any:
        """Return a statistic of the inputs alone, which no step has to wait for."""
        raise NotImplementedError

    def adopt(self, state: Any, total: Any) -> Any:
        """Return the state after the first pass with the sum of `survey` over all rows."""
        raise NotImplementedError

    def report(self, state: Any) -> dict[str, Any]:
        """Return what the solver has to tell of a pass, beside the forward score."""
        return {}

    @property
    def kept_at(self) -> str | None:
        """Where checkpoints of the fit are kept; None if nowhere."""
        return None

    def detach(self, state: Any) -> Any:
        """Return the state as it can be put down."""
        return state

    def attach(self, state: Any, storage: Any) -> Any:
        """Return a state that was put down, with what `allocate` returned."""
        return state

    @abstractmethod
    def flops(self, network: Network) -> float:
        """Return the floating-point operations that a pass takes for each row."""

    @staticmethod
    def combine(a: Any, b: Any) -> Any:
        """Return the sum of two statistics."""
        return combine(a, b)

    def begin_pass(self, state: Any) -> Any:
        """Return the state with an empty score."""
        return state._replace(score=Score(0.0, 0.0, 0.0))

"""Gradient descent by map and reduce: partial gradients of rows, their sum, a rule's step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError
from daskalt.kernels.step import mean_gradient
from daskalt.kernels.workspace import recycled, thread_workspace
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_parameters, choice, integer
from daskalt.rules import RULES, SCHEDULES, Rule, Schedule, choose
from daskalt.solvers.base import Budget, Report, Variables
from daskalt.solvers.caution import Caution, CautiousSolver
from daskalt.solvers.z_step import Step, gradient_step

__all__ = ["GradientDescent", "GradientState"]

# Entries of a piece of a weight matrix, whose gradient stays in cache until the rule has used it.
_PIECE = 1 << 17


class GradientState(NamedTuple):
    """Weights and what the rule remembers."""

    weights: Weights
    slots: tuple[tuple[np.ndarray, ...], ...]  # one for each layer
    step: int
    budget: Budget
    score: Score = Score()
    caution: Caution = Caution()  # its factor divides the learning rate


class GradientDescent(CautiousSolver):
    """Mini-batch or full-batch gradient descent with a rule and a schedule of its rate.

    The gradient of a step is the sum of the partial gradients of its tasks, each of which
    back-propagates its own rows. A sub-gradient is taken where there is no derivative: at the
    kinks of relu, of the hinge and of the absolute loss.

    A step with non-finite numbers is refused: the weights go back one step, the rule starts anew,
    and the learning rate is a tenth of its value for a while.

    Parameters
    ----------
    rule : {"sgd", "adagrad", "rmsprop", "adadelta", "adam"} or Rule, default="sgd"
        How a gradient becomes a step. An object, such as ``Adam(learning_rate=3e-3)`` of
        `daskalt.rules`, has parameters of its own; "sgd" has Nesterov's momentum.
    schedule : str or Schedule, default="constant"
        Factor on the learning rate as the passes go by: "constant", "step", "exponential",
        "inverse_time", "inverse_scaling" or "cosine_restarts", or an object such as
        ``StepDecay(every=5)``.
    full_batch : bool, default=False
        Whether a step takes all rows, rather than the estimator's `batch_size`.
    tasks : int or "auto", default="auto"
        Tasks that share the rows of a mini-batch. "auto" chooses by the work of a step.
    blas_threads : int, default=1
        Threads of the matrix products inside a task. Tasks times threads should not exceed the
        number of cores; the threaded scheduler runs fewer tasks at once to ensure this.
    """

    def __init__(
        self,
        rule: str | Rule = "sgd",
        *,
        schedule: str | Schedule = "constant",
        full_batch: bool = False,
        tasks: int | str = "auto",
        blas_threads: int = 1,
    ) -> None:
        self.rule = rule
        self.schedule = schedule
        self.full_batch = full_batch
        self.tasks = tasks
        self.blas_threads = blas_threads

    state_types = (GradientState, Caution, Step, Score, Budget)

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            full_batch=choice(True, False),
            tasks=integer(at_least=1, or_word="auto"),
            blas_threads=integer(at_least=1),
        )
        self._rule.check()
        self._schedule.check()

    @property
    def _rule(self) -> Rule:
        return choose("rule", self.rule, RULES, Rule)  # type: ignore[type-abstract]

    @property
    def _schedule(self) -> Schedule:
        return choose("schedule", self.schedule, SCHEDULES, Schedule)  # type: ignore[type-abstract]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the classes of the method and of its rule."""
        return (*super().parts, type(self._rule).__name__)

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the default number of passes: 10 to 200, fewer the more rows."""
        return 200 if self.full_batch else int(np.clip(500_000 // n_rows, 10, 200))

    def batch_rows(self, n_rows: int, network: Network, passes: int | None = None) -> int:
        """Return the default rows of a mini-batch."""
        return min(200, n_rows)

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> GradientState:
        """Return the state before the first step."""
        slots = tuple(self._rule.init(w) for w in weights)
        return GradientState(weights, slots, 0, budget)

    def map(
        self,
        problem: Problem,
        state: GradientState,
        rows: Rows,
        variables: Variables | None = None,
    ) -> tuple[Step, None]:
        """Return the negative sum of the rows' gradients."""
        return gradient_step(problem, state.weights, rows), None

    def update(self, problem: Problem, state: GradientState, statistics: Step) -> GradientState:
        """Return the state after a step of the rule."""
        score = statistics.score
        if not np.isfinite(score.loss):
            raise DivergenceError(
                f"The loss is not finite at step {state.step + 1}: lower the learning rate of the "
                "rule; and look for extreme values in X."
            )
        if not score.weight > 0:  # rows of weight zero change nothing
            return state._replace(step=state.step + 1)
        rule, caution = self._rule, state.caution
        t = state.step / (state.budget.pass_steps or 1)
        rate, step = rule.learning_rate * self._schedule(t) / caution.factor, state.step + 1
        weights, slots, square = [], [], 0.0
        for w, own, total in zip(state.weights, state.slots, statistics.moments, strict=True):
            new = tuple(recycled(w.shape, w.dtype) for _ in range(1 + len(own)))
            height = max(1, _PIECE // w.shape[1])
            for start in range(0, len(w), height):
                part = slice(start, start + height)
                g = thread_workspace().take("gradient", w[part].shape, w.dtype)
                mean_gradient(total[part], w[part], -score.weight, -problem.penalty, out=g)
                square += float(np.dot(g.ravel(), g.ravel()))
                own_part, new_part = tuple(s[part] for s in own), tuple(s[part] for s in new)
                rule.update(w[part], g, own_part, rate, step - caution.since, new_part)
            weights.append(new[0])
            slots.append(new[1:])
        # Rules square the gradient: where that overflows, weights would never move again.
        if not np.isfinite(square):
            raise DivergenceError(
                f"The gradient is not finite at step {step}: lower the learning rate of the rule; "
                "and look for extreme values in X."
            )
        return state._replace(
            weights=tuple(weights),
            slots=tuple(slots),
            step=step,
            caution=caution.after(state.weights, state.step).relaxed(),
        )

    def settle(self, problem: Problem, state: GradientState) -> GradientState:
        """Return the state with the rule started anew."""
        return state._replace(slots=tuple(self._rule.init(w) for w in state.weights))

    def report(self, state: GradientState) -> Report:
        """Return the learning rate of the last step, and what was refused."""
        t = max(state.step - 1, 0) / (state.budget.pass_steps or 1)
        rate = self._rule.learning_rate * self._schedule(t)
        return super().report(state)._replace(figures={"learning_rate": rate})

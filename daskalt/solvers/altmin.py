"""Stochastic alternating minimisation: z for the rows of a step, then W by least squares."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError, InputError
from daskalt.kernels.gram import gram_matrix
from daskalt.kernels.step import running_mean
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_of_layers, check_parameters, choice, integer, real
from daskalt.solvers.base import Budget, Variables
from daskalt.solvers.caution import LEAST_TRUST, RAISE, Caution, CautiousSolver
from daskalt.solvers.descent import FALLS, Limits, Motion, at_rest, descend, fall
from daskalt.solvers.least_squares import DampedGram, damp, ridge_solve
from daskalt.solvers.local_steps import LocalSteps, failed_steps, merge_steps, take_steps
from daskalt.solvers.z_step import Step, gradient_step, newton_step

__all__ = ["StochasticAltMin"]


class InputGram(NamedTuple):
    """Σ ã ãᵀ over rows, and their weight, for matrices whose inputs depend on the data alone."""

    weight: float
    grams: tuple[Any, ...]  # None for the others


class State(NamedTuple):
    """Weights and what the solver remembers of earlier steps."""

    weights: Weights
    motion: Motion
    grams: tuple[Any, ...]  # running mean Gram matrix of each layer's inputs; None before the first
    damped: tuple[Any, ...]  # the same as DampedGram, ready for solves
    step: int
    budget: Budget
    score: Score = Score()
    caution: Caution = Caution()


class StochasticAltMin(CautiousSolver):
    """Alternating minimisation on the rows of one step at a time; the flagship solver.

    Every step computes the auxiliary variables z of its own rows only, moved from the forward
    pass towards a lower loss, then fits the weights to them by least squares with the ridge
    centred on the current weights: W + s D with

        D_l = G_l (A_l + damping · mean(diag A_l) · I)⁻¹,   G_l = mean(r_l ãᵀ),  A_l = mean(ã ãᵀ),

    r_L = -∂ℓ/∂z_L and r_l = φ'(z_l) ∘ W_{l+1}ᵀ r_{l+1}. The step s is the largest, up to
    `step_limit`, whose predicted change of z, s² Σ_l⟨D_l, G_l⟩, stays within `change_limit`; both
    limits anneal along `schedule`, and shrink while the gradient after a step points back along
    it. No learning rate is left to tune. A step with non-finite numbers is refused: the weights go
    back one step, the motion is set to zero, and the damping is ten times as high for a while.

    Parameters
    ----------
    damping : float, default=7.0
        Ridge on the Gram matrices, in units of their mean diagonal.
    step_limit : float, default=15.0
        Largest step along D, in units of `damping`.
    change_limit : float, default=0.25
        Bound on the predicted change of a unit's z in a step, as a root mean square over the
        rows and the units of the widest layer.
    momentum : float, default=0.6
        Weight of earlier steps in the direction (Nesterov's form).
    schedule : {"linear", "cosine", "constant"}, default="linear"
        How the two limits fall from their full value at the first step to zero at the last.
        On MNIST the straight line left a lower training loss than the cosine at every step size
        from 1,000 to 5,000 rows, at the same held-out accuracy or better.
    gram_memory : float, default=0.95
        Share of the old value in the running mean of the hidden layers' Gram matrices.
    gram_every : int, default=10
        Steps between renewals of the hidden layers' Gram matrices. The input's Gram matrix is
        constant: it is renewed like the others in the first pass, which also sums it exactly for
        all that follow.
    rank : int or None, default=32
        Leading eigenvectors kept of a Gram matrix wider than four times this; the rest of its
        spectrum is taken as flat. None always solves exactly.
    local_steps : int, default=1
        Updates that every task makes on its own rows before the results are combined, weighted
        by their Gram matrices: W = (Σ A_c)⁻¹ Σ A_c W_c. Fewer, larger exchanges, for clusters.
    tasks : int or "auto", default="auto"
        Tasks that share the rows of a step. "auto" chooses by the rows of a step and the network.
    z_step : {"gradient", "newton"}, default="gradient"
        "newton" minimises ℓ(z_L, y) + Σ μ ‖z_l - W_l ã_{l-1}‖² over the z of each row by damped
        Newton steps, layer by layer from the output back, instead of one gradient step.
    ridge_centre : {"current", "zero"}, default="current"
        "zero" is the literal least-squares problem, nW = (Σ z ãᵀ)(Σ ã ãᵀ + (n·penalty/2μ) I)⁻¹ on
        the step's own rows, averaged as W ← average · W + (1 - average) · nW.
    average : float, default=0.9
        Share of the old weights in that average.
    mu : float or sequence of float, default=1.0
        Penalty weight of each layer's coupling in the Newton step; of layers that share a weight
        matrix one.
    sweeps : int, default=1
        Newton sweeps over the layers.

    Notes
    -----
    With ``z_step="newton", ridge_centre="zero"`` the solver is the stochastic method of its source
    in its literal form.
    """

    state_types = (State, Motion, DampedGram, Caution, InputGram, Step, LocalSteps, Score, Budget)

    def __init__(
        self,
        *,
        damping: float = 7.0,
        step_limit: float = 15.0,
        change_limit: float = 0.25,
        momentum: float = 0.6,
        schedule: str = "linear",
        gram_memory: float = 0.95,
        gram_every: int = 10,
        rank: int | None = 32,
        local_steps: int = 1,
        tasks: int | str = "auto",
        z_step: str = "gradient",
        ridge_centre: str = "current",
        average: float = 0.9,
        mu: float | tuple[float, ...] = 1.0,
        sweeps: int = 1,
    ) -> None:
        self.damping = damping
        self.step_limit = step_limit
        self.change_limit = change_limit
        self.momentum = momentum
        self.schedule = schedule
        self.gram_memory = gram_memory
        self.gram_every = gram_every
        self.rank = rank
        self.local_steps = local_steps
        self.tasks = tasks
        self.z_step = z_step
        self.ridge_centre = ridge_centre
        self.average = average
        self.mu = mu
        self.sweeps = sweeps

    @property
    def anneals(self) -> bool:
        """Whether steps depend on how many there will be."""
        return self.schedule != "constant"

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range or does not suit another."""
        check_parameters(
            self,
            damping=real(above=0),
            step_limit=real(above=0),
            change_limit=real(above=0),
            momentum=real(at_least=0, below=1),
            schedule=choice(*FALLS),
            gram_memory=real(at_least=0, below=1),
            gram_every=integer(at_least=1),
            rank=integer(at_least=1, or_none=True),
            local_steps=integer(at_least=1),
            tasks=integer(at_least=1, or_word="auto"),
            z_step=choice("gradient", "newton"),
            ridge_centre=choice("current", "zero"),
            average=real(at_least=0, below=1),
            mu=real(above=0, or_sequence=True),
            sweeps=integer(at_least=1),
        )
        if self.ridge_centre == "zero" and self.z_step == "gradient":
            raise InputError(
                "ridge_centre='zero' refits W to z itself, which only z_step='newton' computes: "
                "set z_step='newton', or leave ridge_centre='current'."
            )
        if self.z_step == "newton" and self.local_steps > 1:
            raise InputError(
                "local_steps > 1 needs z_step='gradient': with z_step='newton' set local_steps=1."
            )

    def validate(self, problem: Problem) -> None:
        """Raise InputError unless there is one mu, or one for each weight matrix."""
        check_of_layers(len(problem.network.shapes), mu=self.mu)

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> State:
        """Return the state before the first step."""
        matrices = len(weights)
        return State(
            weights=weights,
            motion=at_rest(weights),
            grams=(None,) * matrices,
            damped=(None,) * matrices,
            step=0,
            budget=budget,
        )

    def map(
        self, problem: Problem, state: State, rows: Rows, variables: Variables | None = None
    ) -> tuple[Any, None]:
        """Return the Step of some rows, or the LocalSteps of a task that updates on its own."""
        return self._statistics(problem, state, rows), None

    def _statistics(self, problem: Problem, state: State, rows: Rows) -> Any:
        if self.z_step == "newton":
            return newton_step(problem, state.weights, rows, self._mu(problem), self.sweeps)
        if self.local_steps > 1:
            try:
                return self._local_steps(problem, state, rows)
            except DivergenceError:  # which `update` reports
                return failed_steps(state.weights, rows)
        return gradient_step(problem, state.weights, rows, self._wanted(problem, state))

    def update(self, problem: Problem, state: State, statistics: Any) -> State:
        """Return the state after fitting W to the step's z."""
        score = statistics.score
        if not np.isfinite(score.loss):
            raise DivergenceError(
                f"The loss is not finite at step {state.step + 1}: lower step_limit or "
                "change_limit, or raise damping, of the solver; and look for extreme values in X."
            )
        if not score.weight > 0:  # rows of weight zero change nothing
            return state._replace(step=state.step + 1)
        before = state.weights
        state = self._renew_grams(state, statistics)
        if isinstance(statistics, LocalSteps):
            weights, motion = merge_steps(state.weights, state.motion, statistics)
        elif self.ridge_centre == "zero":
            weights, motion = self._refit(problem, state, statistics), state.motion
        else:
            weights, motion = self._step(problem, state, statistics)
        return state._replace(
            weights=weights,
            motion=motion,
            step=state.step + 1,
            caution=state.caution.after(before, state.step),
        )

    def settle(self, problem: Problem, state: State) -> State:
        """Return the state without motion, its Gram matrices damped anew."""
        trust = max(state.motion.trust / RAISE, LEAST_TRUST)
        state = state._replace(motion=at_rest(state.weights)._replace(trust=trust))
        try:
            return state._replace(damped=self._damp_all(state))
        except DivergenceError:  # out of range: the old ones are kept
            return state

    def flops(self, network: Network) -> float:
        """Return the floating-point operations of a pass for each row: all matrix products."""
        renewed = 1.0 if self.z_step == "newton" else 1.0 / self.gram_every
        return super().flops(network) + renewed * network.gram_flops

    def _step(self, problem: Problem, state: State, step: Step) -> tuple[Weights, Motion]:
        """W + s D with momentum, s bounded by the predicted change."""
        return self._descend(
            problem, state.weights, state.motion, state.damped, step, self._anneal(state)
        )

    def _descend(
        self,
        problem: Problem,
        weights: Weights,
        motion: Motion,
        damped: Sequence[DampedGram],
        step: Step,
        anneal: float,
    ) -> tuple[Weights, Motion]:
        """One bounded step from ``weights`` along the damped least-squares directions."""
        limits = Limits.of(self, weights, anneal)
        divisors = (step.score.weight,) * len(weights)
        return descend(weights, motion, damped, step.moments, divisors, problem.penalty, limits)

    def _wanted(self, problem: Problem, state: State) -> tuple[bool, ...]:
        """Which Gram matrices a step renews; those of the data alone only in the first pass."""
        hidden = state.damped[0] is None or state.step % self.gram_every == 0
        first = state.budget.first_pass
        inputs = hidden and (first is None or state.step < first or state.damped[0] is None)
        return tuple(inputs if fixed else hidden for fixed in problem.network.fixed)

    def _local_steps(self, problem: Problem, state: State, rows: Rows) -> LocalSteps:
        """Several steps on one task's own rows."""
        anneal = self._anneal(state)

        def advance(weights: Weights, motion: Motion, part: Step) -> tuple[Weights, Motion]:
            damped = state.damped
            if damped[0] is None:  # the very first step has no Gram matrices but its own
                damped = tuple(
                    self._damp(g / g.dtype.type(part.score.weight), None, state.caution)
                    for g in part.grams
                )
            return self._descend(problem, weights, motion, damped, part, anneal)

        return take_steps(problem, state.weights, state.motion, rows, self.local_steps, advance)

    def _refit(self, problem: Problem, state: State, step: Step) -> Weights:
        """The least-squares weights of this step's own z, averaged with the current ones."""
        weights = []
        for w, r, a, mu in zip(
            state.weights, step.moments, step.grams, self._mu(problem), strict=True
        ):
            ridge = step.score.weight * problem.penalty / (2 * mu)
            fitted = ridge_solve(r + w @ a, a, ridge)
            more = (1 - self.average) * (1 - 1 / state.caution.factor)
            share = w.dtype.type(self.average + more)
            weights.append(share * w + (1 - share) * fitted)
        return tuple(weights)

    def surveys(self, problem: Problem, budget: Budget) -> bool:
        """Say whether the first pass sums what depends on data alone, as in a fit with an end."""
        fixed = any(problem.network.fixed)
        return fixed and budget.first_pass is not None and self.z_step == "gradient"

    def survey(self, problem: Problem, rows: Rows) -> InputGram:
        """Return the Gram matrices of some rows that depend on the data alone."""
        network, workspace = problem.network, thread_workspace()
        inputs = network.data(problem.inputs(rows.X, workspace), workspace)
        grams = tuple(
            gram_matrix(own, rows.weight) if fixed else None
            for own, fixed in zip(network.by_matrix(inputs), network.fixed, strict=True)
        )
        return InputGram(rows.total_weight, grams)

    def adopt(self, problem: Problem, state: State, total: InputGram) -> State:
        """Return the state with exact Gram matrices of the data in place of the running means.

        Where a sum has overflowed, the mean over the steps that were not refused is kept.
        """
        if not total.weight > 0:
            return state
        grams, damped = list(state.grams), list(state.damped)
        for number, gram in enumerate(total.grams):
            if gram is None:
                continue
            mean = gram * gram.dtype.type(1.0 / total.weight)
            try:
                damped[number] = self._damp(mean, damped[number], state.caution)
            except DivergenceError as error:
                return state._replace(caution=state.caution.noting(error))
            grams[number] = mean
        return state._replace(grams=tuple(grams), damped=tuple(damped))

    def _renew_grams(self, state: State, step: Step) -> State:
        """Average this step's Gram matrices into the running means."""
        grams, caution = list(state.grams), state.caution
        # A plain mean at first, so that the first step has no larger weight than the next.
        renewals = state.step // self.gram_every + 1
        keep = min(self.gram_memory, 1.0 - 1.0 / (renewals + 1))
        for layer, total in enumerate(step.grams):
            if total is None:
                continue
            grams[layer] = running_mean(grams[layer], total, keep, step.score.weight)
        renewed = [total is not None for total in step.grams]
        if caution.factor > 1 and any(renewed):
            caution, renewed = caution.relaxed(), [True] * len(renewed)
        state = state._replace(grams=tuple(grams), caution=caution)
        if self.ridge_centre == "zero":
            return state
        return state._replace(damped=self._damp_all(state, renewed))

    def _damp_all(self, state: State, which: Sequence[bool] | None = None) -> tuple[Any, ...]:
        """The damped Gram matrices, some of them renewed; None where there is none yet."""
        return tuple(
            self._damp(gram, old, state.caution) if anew and gram is not None else old
            for gram, old, anew in zip(
                state.grams, state.damped, which or [True] * len(state.grams), strict=True
            )
        )

    def _damp(self, gram: np.ndarray, old: DampedGram | None, caution: Caution) -> DampedGram:
        basis = None if old is None else old.basis
        return damp(gram, self.damping * caution.factor, self.rank, basis)

    def _anneal(self, state: State) -> float:
        return fall(self.schedule, state.step, state.budget.steps)

    def _mu(self, problem: Problem) -> tuple[float, ...]:
        return tuple(np.broadcast_to(self.mu, len(problem.network.shapes)).tolist())

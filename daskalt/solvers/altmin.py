"""Stochastic alternating minimisation: z for the rows of a step, then W by least squares."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError, InputError
from daskalt.kernels.step import averaged
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_of_layers, check_parameters, choice, integer, real
from daskalt.solvers.base import Budget, Variables
from daskalt.solvers.caution import LEAST_TRUST, RAISE, Caution, CautiousSolver
from daskalt.solvers.descent import FALLS, Limits, Motion, at_rest, descend, fall
from daskalt.solvers.factors import Factors, evidence, steps_between
from daskalt.solvers.least_squares import DampedGram, ridge_solve
from daskalt.solvers.local_steps import LocalSteps, failed_steps, merge_steps, take_steps
from daskalt.solvers.z_step import InputGram, Step, gradient_step, input_gram, newton_step

__all__ = ["StochasticAltMin"]

# Gram matrices are gathered from this share of all rows, and from so many of a task at least.
GATHERED_SHARE, GATHERED_ROWS = 0.05, 128
MANY_STEPS = 80  # of a fit, or so far of one without an end: fewer may change z by more
YOUNG = 10  # steps, each of which renews the Gram matrices: those of a few rows say little
EVIDENCE_EVERY = 10  # renewals of the Gram matrices between those of the weight decay


class State(NamedTuple):
    """Weights and what the solver remembers of earlier steps."""

    weights: Weights  # running mean of the points
    point: Weights  # where the next step starts
    motion: Motion
    inputs: Factors  # A of each layer
    residuals: Factors  # C of each layer
    decay: tuple[float, ...]  # penalty of each weight matrix, beside that of the problem
    seen: float  # weight of the rows of all steps
    step: int
    budget: Budget
    score: Score = Score()
    caution: Caution = Caution()


class StochasticAltMin(CautiousSolver):
    """Alternating minimisation on the rows of one step at a time.

    Every step moves the z of its own rows from the forward pass by a damped Newton step, with the
    curvature C that all rows share, then fits the weights to them by least squares with the ridge
    centred on the current weights: W + s D with

        D_l = (C_l + z_damping · mean(diag C_l) · I)⁻¹ G_l (A_l + damping · mean(diag A_l) · I)⁻¹,
        G_l = mean(r_l ãᵀ),   C_l = mean(r_l r_lᵀ),   A_l = mean(ã ãᵀ),

    r_L = -∂ℓ/∂z_L and r_l = φ'(z_l) ∘ W_{l+1}ᵀ r_{l+1}; D_l is multiplied by the mean diagonal of
    its first factor, and A's bias does not count in a mean. The step s is the largest, up to
    `step_limit`, whose predicted change of z, s² Σ_l⟨D_l, G_l⟩, stays within `change_limit`; both
    limits anneal along `schedule`, and shrink while the gradient after a step points back along
    it. The result is a running mean of the weights. A step with non-finite numbers is refused: the
    weights go back one step, the motion is set to zero, and the damping is raised for a while.

    Parameters
    ----------
    damping : float, default=2.0
        Ridge on the Gram matrices, in units of their mean diagonal.
    step_limit : float, default=15.0
        Largest step along D, in units of `damping`.
    change_limit : float, default=0.1
        Bound on the predicted change of a unit's z in a step, as a root mean square over the
        rows and the units of the widest layer; up to three times as much in less than 80 steps.
    momentum : float, default=0.6
        Weight of earlier steps in the direction (Nesterov's form).
    schedule : {"linear", "cosine", "constant"}, default="linear"
        How the two limits fall from their full value at the first step to zero at the last.
    gram_memory : float, default=0.9
        Share of the old value in the running means of the Gram matrices A and C.
    gram_every : int or "auto", default="auto"
        Steps between their renewals, from some of a step's rows; by default as few as cost little.
        The first pass also sums the Gram matrix of the inputs, which is constant.
    rank : int or None, default=32
        Leading eigenvectors kept of a Gram matrix wider than four times this; the rest of its
        spectrum is taken as flat. None always solves exactly.
    local_steps : int, default=1
        Updates that every task makes on its own rows before the results are combined, weighted
        by their Gram matrices: W = (Σ A_c)⁻¹ Σ A_c W_c. Larger exchanges, for clusters, without C.
    tasks : int or "auto", default="auto"
        Tasks that share the rows of a step. "auto" chooses by the rows of a step and the network.
    z_step : {"shared", "gradient", "newton"}, default="shared"
        "gradient" leaves out C. "newton" minimises ℓ(z_L, y) + Σ μ ‖z_l - W_l ã_{l-1}‖² over the z
        of each row by damped Newton steps, layer by layer from the output back.
    z_damping : float, default=0.1
        Damping of the shared curvature, in units of its mean diagonal.
    window : float, default=0.15
        Width of the running mean of the weights, as a share of the steps so far; 0 for the weights
        after the last step.
    evidence : float, default=0.2
        Weight decay of each layer, beside `alpha`: so many times the penalty under which the
        weights are most probable given A and C, after MacKay's evidence framework, so that noise
        is not learnt by heart. Only with the shared curvature.
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
    With ``z_step="newton", ridge_centre="zero", window=0`` the solver is the stochastic method of
    its source in its literal form.
    """

    state_types = (
        *(State, Motion, Factors, DampedGram, Caution),
        *(InputGram, Step, LocalSteps, Score, Budget),
    )

    def __init__(
        self,
        *,
        damping: float = 2.0,
        step_limit: float = 15.0,
        change_limit: float = 0.1,
        momentum: float = 0.6,
        schedule: str = "linear",
        gram_memory: float = 0.9,
        gram_every: int | str = "auto",
        rank: int | None = 32,
        local_steps: int = 1,
        tasks: int | str = "auto",
        z_step: str = "shared",
        z_damping: float = 0.1,
        window: float = 0.15,
        evidence: float = 0.2,
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
        self.z_damping = z_damping
        self.window = window
        self.evidence = evidence
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
            gram_every=integer(at_least=1, or_word="auto"),
            rank=integer(at_least=1, or_none=True),
            local_steps=integer(at_least=1),
            tasks=integer(at_least=1, or_word="auto"),
            z_step=choice("shared", "gradient", "newton"),
            z_damping=real(above=0),
            window=real(at_least=0, below=1),
            evidence=real(at_least=0),
            ridge_centre=choice("current", "zero"),
            average=real(at_least=0, below=1),
            mu=real(above=0, or_sequence=True),
            sweeps=integer(at_least=1),
        )
        if self.ridge_centre == "zero" and self.z_step != "newton":
            raise InputError("ridge_centre='zero' refits W to z itself: set z_step='newton'.")
        if self.z_step == "newton" and self.local_steps > 1:
            raise InputError("z_step='newton' takes no local steps: set local_steps=1, or z_step.")

    def validate(self, problem: Problem) -> None:
        """Raise InputError unless there is one mu, or one for each weight matrix."""
        check_of_layers(len(problem.network.shapes), mu=self.mu)

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> State:
        """Return the state before the first step."""
        decay, nothing = (0.0,) * len(weights), Factors.none(len(weights))
        motion = at_rest(weights)
        return State(weights, weights, motion, nothing, nothing, decay, 0.0, 0, budget)

    def map(
        self, problem: Problem, state: State, rows: Rows, variables: Variables | None = None
    ) -> tuple[Any, None]:
        """Return the Step of some rows, or the LocalSteps of a task that updates on its own."""
        return self._statistics(problem, state, rows), None

    def _statistics(self, problem: Problem, state: State, rows: Rows) -> Any:
        if self.z_step == "newton":
            return newton_step(problem, state.point, rows, self._mu(problem), self.sweeps)
        if self.local_steps > 1:
            try:
                return self._local_steps(problem, state, rows)
            except DivergenceError:  # which `update` reports
                return failed_steps(state.point, rows)
        n, wanted = len(rows.X), self._wanted(problem, state)
        curved = self.z_step == "shared" and self._due(problem.network, state)
        share = GATHERED_SHARE * self._every(problem.network, state.budget)
        count = min(n, max(GATHERED_ROWS, int(np.ceil(share * n))))
        count = n if state.inputs.damped[0] is None else count  # at first some may have no weight
        return gradient_step(problem, state.point, rows, wanted, curved=curved, count=count)

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
        before = state.point
        state = self._renew(problem, state._replace(seen=state.seen + score.weight), statistics)
        if isinstance(statistics, LocalSteps):
            point, motion = merge_steps(state.point, state.motion, statistics)
        elif self.ridge_centre == "zero":
            point, motion = self._refit(problem, state, statistics), state.motion
        else:
            point, motion = self._descend(
                problem, state, state.point, state.motion, state.inputs.damped, statistics
            )
        # Weights of earlier steps fall with a power of their number: a mean that needs no end.
        share = 1 / max(1.0, self.window * (state.step - state.caution.since + 1))
        return state._replace(
            weights=tuple(averaged(*w, share) for w in zip(state.weights, point, strict=True)),
            point=point,
            motion=motion,
            step=state.step + 1,
            caution=state.caution.after(before, state.step),
        )

    def settle(self, problem: Problem, state: State) -> State:
        """Return the state without motion, its Gram matrices damped anew."""
        trust = max(state.motion.trust / RAISE, LEAST_TRUST)
        motion = at_rest(state.weights)._replace(trust=trust)
        state, every = (
            state._replace(point=state.weights, motion=motion),
            (True,) * len(state.decay),
        )
        try:
            return state._replace(inputs=self._damp_inputs(state.inputs, state.caution, every))
        except DivergenceError:  # out of range: the old ones are kept
            return state

    def flops(self, network: Network) -> float:
        """Return the floating-point operations of a pass for each row: all matrix products."""
        if self.z_step == "newton":
            return super().flops(network) + network.gram_flops
        curved = network.residual_gram_flops if self.z_step == "shared" else 0
        return super().flops(network) + GATHERED_SHARE * (network.gram_flops + curved)

    def _descend(
        self,
        problem: Problem,
        state: State,
        weights: Weights,
        motion: Motion,
        damped: Sequence[DampedGram],
        step: Step,
    ) -> tuple[Weights, Motion]:
        """One bounded step from ``weights`` along the damped least-squares directions."""
        left = fall(self.schedule, state.step, state.budget.steps)
        steps = state.budget.steps if self.anneals else None
        few = np.clip(np.sqrt(MANY_STEPS / (steps or state.step + 1)), 1.0, 3.0)
        limits = Limits.of(self, weights, left, left * float(few))
        divisors = (step.score.weight,) * len(weights)
        penalties = [problem.penalty + own for own in state.decay]
        curved = state.residuals.damped if self.z_step == "shared" else None
        return descend(weights, motion, damped, step.moments, divisors, penalties, limits, curved)

    def _due(self, network: Network, state: State) -> bool:
        """Whether a step renews Gram matrices."""
        young = state.inputs.damped[0] is None or state.step < YOUNG
        return young or state.step % self._every(network, state.budget) == 0

    def _every(self, network: Network, budget: Budget) -> int:
        """Steps between renewals of Gram matrices."""
        if isinstance(self.gram_every, int):
            return self.gram_every
        return steps_between(network, budget if self.anneals else budget._replace(steps=None))

    def _wanted(self, problem: Problem, state: State) -> tuple[bool, ...]:
        """Which Gram matrices a step renews; those of the data alone only in the first pass."""
        due, first = self._due(problem.network, state), state.budget.first_pass
        early = first is None or state.step < first or state.inputs.damped[0] is None
        return tuple(due and (early or not fixed) for fixed in problem.network.fixed)

    def _local_steps(self, problem: Problem, state: State, rows: Rows) -> LocalSteps:
        """Several steps on one task's own rows."""

        def advance(weights: Weights, motion: Motion, part: Step) -> tuple[Weights, Motion]:
            damped = state.inputs.damped
            if damped[0] is None:  # the very first step has no Gram matrices but its own
                own = Factors.none(len(weights)).renewed(part.grams, 0.0, part.score.weight)
                damped = self._damp_inputs(own, state.caution, (True,) * len(weights)).damped
            return self._descend(problem, state, weights, motion, damped, part)

        return take_steps(problem, state.point, state.motion, rows, self.local_steps, advance)

    def _refit(self, problem: Problem, state: State, step: Step) -> Weights:
        """The least-squares weights of this step's own z, averaged with the current ones."""
        share = 1 - (1 - self.average) / state.caution.factor
        ridges = [step.score.weight * problem.penalty / (2 * mu) for mu in self._mu(problem)]
        parts = zip(state.point, step.moments, step.grams, ridges, strict=True)
        return tuple(averaged(ridge_solve(r + w @ a, a, d), w, share) for w, r, a, d in parts)

    def surveys(self, problem: Problem, budget: Budget) -> bool:
        """Say whether the first pass sums what depends on data alone, as in a fit with an end."""
        return bool(budget.first_pass) and any(problem.network.fixed) and self.z_step != "newton"

    def survey(self, problem: Problem, rows: Rows) -> InputGram:
        """Return the Gram matrices of some rows that depend on the data alone."""
        return input_gram(problem, rows)

    def adopt(self, problem: Problem, state: State, total: InputGram) -> State:
        """Return the state with exact Gram matrices of the data in place of the running means.

        Where a sum has overflowed, the mean over the steps that were not refused is kept.
        """
        if not total.weight > 0:
            return state
        exact = [gram is not None for gram in total.grams]
        inputs = state.inputs.renewed(total.grams, 0.0, total.weight)
        try:
            return state._replace(inputs=self._damp_inputs(inputs, state.caution, exact))
        except DivergenceError as error:
            return state._replace(caution=state.caution.noting(error))

    def _renew(self, problem: Problem, state: State, step: Any) -> State:
        """Average the Gram matrices of a step into the running means, and renew what follows."""
        # A plain mean at first, so that the first step has no larger weight than the next.
        late = max(state.step - YOUNG, 0) // self._every(problem.network, state.budget)
        renewals = min(state.step, YOUNG) + late + 1
        keep = min(self.gram_memory, 1.0 - 1.0 / (renewals + 1))
        local = isinstance(step, LocalSteps)
        weight = step.score.weight if local else step.gathered
        curved = not local and step.curvatures[0] is not None
        renewed = [total is not None for total in step.grams]
        if not weight > 0 or not (curved or any(renewed)):
            return state
        inputs = state.inputs.renewed(step.grams, keep, weight)
        if curved:
            residuals = state.residuals.renewed(step.curvatures, keep, weight)
            every = (True,) * len(renewed)
            residuals = residuals.damped_anew(every, self.z_damping, self.rank, bias=False)
            state = state._replace(residuals=residuals)
        if state.caution.factor > 1:
            state, renewed = state._replace(caution=state.caution.relaxed()), [True] * len(renewed)
        if self.ridge_centre == "zero":  # which solves with the step's own
            return state._replace(inputs=inputs)
        state = state._replace(inputs=self._damp_inputs(inputs, state.caution, renewed))
        if (renewals - 1) % EVIDENCE_EVERY == 0:
            state = state._replace(decay=self._decay(problem, state))
        return state

    def _decay(self, problem: Problem, state: State) -> tuple[float, ...]:
        """The weight decay of each weight matrix, by its evidence."""
        network, budget = problem.network, state.budget
        rows = max(state.seen if budget.steps is None else 0.0, budget.weight or 0.0)
        ready = None not in (*state.inputs.damped, *state.residuals.damped)
        if not (self.z_step == "shared" and self.evidence > 0 and ready and rows):
            return (0.0,) * len(state.decay)
        # A mean square of residuals: a gross error in a target has no more than its pull in it.
        outputs = state.residuals.damped[network.layers[-1].weights]
        noise = 1.0 if network.loss.classifies else max(outputs.size, 1e-150)
        found = evidence(state.point, state.inputs, state.residuals, rows, noise)
        return tuple(self.evidence * penalty for penalty in found)

    def _damp_inputs(self, inputs: Factors, caution: Caution, which: Sequence[bool]) -> Factors:
        return inputs.damped_anew(which, self.damping * caution.factor, self.rank, bias=True)

    def _mu(self, problem: Problem) -> tuple[float, ...]:
        return tuple(np.broadcast_to(self.mu, len(problem.network.shapes)).tolist())

"""Stochastic alternating minimisation: z for the rows of a step, then W by least squares."""

import math
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError, InputError
from daskalt.kernels.gram import Sketch
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_of_layers, check_parameters, choice, integer, real
from daskalt.solvers.base import Budget, Variables
from daskalt.solvers.caution import LEAST_TRUST, RAISE, Caution, CautiousSolver
from daskalt.solvers.descent import FALLS, Limits, Motion, at_rest, descend, fall, mean_of
from daskalt.solvers.evidence import weight_decay
from daskalt.solvers.grams import ExactGram, Gram, LowRankGram, renewed, unknown
from daskalt.solvers.least_squares import ridge_solve
from daskalt.solvers.local_steps import LocalSteps, failed_steps, merge_steps, take_steps
from daskalt.solvers.z_step import Step, gradient_step, newton_step

__all__ = ["StochasticAltMin"]

# Gram matrices are gathered from this share of all rows, and from so many of a task at least.
GATHERED_SHARE, GATHERED_ROWS = 0.05, 128
MANY_STEPS = 80  # of a fit, or so far of one without an end: fewer may change z by more
CONSTANT = 0.99  # share of the old value in a mean of what is constant
YOUNG = 10  # steps, each of which renews the Gram matrices: those of a few rows say little
OLD = 100  # steps that the mean of a fit counts as in a later call without an end
EVIDENCE_EVERY = 10  # renewals of the Gram matrices between those of the weight decay
RENEWALS = 80  # of the Gram matrices, about, in a fit with an end


class State(NamedTuple):
    """Weights and what the solver remembers of earlier steps."""

    weights: Weights  # running mean of the points
    point: Weights  # where the next step starts
    motion: Motion
    inputs: tuple[Gram, ...]  # A of each weight matrix
    residuals: tuple[Gram, ...]  # C of each
    decay: tuple[float, ...]  # penalty of each weight matrix, beside that of the problem
    seen: float  # weight of the rows of all steps
    step: int
    begun: int  # number of the first step whose weights are in the running mean
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
        Steps between their renewals, from some of a step's rows; by default 3 to 10.
        That of the inputs, which is constant, in the first pass alone.
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
        *(State, Motion, ExactGram, LowRankGram, Caution),
        *(Step, Sketch, LocalSteps, Score, Budget),
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
        inputs = tuple(unknown(w.shape[1], self.rank, w.dtype, bias=True) for w in weights)
        residuals = tuple(unknown(w.shape[0], self.rank, w.dtype, bias=False) for w in weights)
        decay, motion = (0.0,) * len(weights), at_rest(weights)
        return State(weights, weights, motion, inputs, residuals, decay, 0.0, 0, 0, budget)

    def continued(self, state: State, budget: Budget) -> State:
        """Return the state of an earlier fit, whose running mean a call without an end leaves."""
        annealed, state = state.budget.steps is not None, state._replace(budget=budget)
        if budget.steps is not None or not annealed:
            return state
        w = state.weights
        return state._replace(point=w, motion=at_rest(w), begun=max(state.step - OLD, 0))

    def map(
        self, problem: Problem, state: State, rows: Rows, variables: Variables | None = None
    ) -> tuple[Any, None]:
        """Return the Step of some rows, or the LocalSteps of a task that updates on its own."""
        return self._statistics(problem, state, rows), None

    def _statistics(self, problem: Problem, state: State, rows: Rows) -> Any:
        sought = self._sought(problem, state)
        if self.z_step == "newton":
            return newton_step(problem, state.point, rows, self._mu(problem), self.sweeps, sought)
        if self.local_steps > 1:
            try:
                return self._local_steps(problem, state, rows)
            except DivergenceError:  # which `update` reports
                return failed_steps(state.point, rows)
        curved: tuple[Any, ...] = ()
        if self.z_step == "shared" and self._due(state):
            curved = tuple(gram.sought for gram in state.residuals)
        n, share = len(rows.X), GATHERED_SHARE * self._every(state.budget)
        count = min(n, max(GATHERED_ROWS, int(np.ceil(share * n))))
        count = count if state.inputs[0].known else n  # at first some may have no weight
        return gradient_step(problem, state.point, rows, sought, curved, count)

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
        asked = state
        state = self._renew(problem, state._replace(seen=state.seen + score.weight), statistics)
        if isinstance(statistics, LocalSteps):
            point, motion = merge_steps(state.point, state.motion, asked.inputs, statistics)
        elif self.ridge_centre == "zero":
            point, motion = self._refit(problem, state, statistics), state.motion
        else:
            point, motion = self._descend(
                problem, state, state.point, state.motion, state.inputs, statistics
            )
        # Weights of earlier steps fall with a power of their number: a mean that needs no end.
        share = 1 / max(1.0, self.window * (state.step + 1 - max(state.begun, state.caution.since)))
        return state._replace(
            weights=mean_of(state.weights, point, share),
            point=point,
            motion=motion,
            step=state.step + 1,
            caution=state.caution.after(asked.point, state.step),
        )

    def settle(self, problem: Problem, state: State) -> State:
        """Return the state without motion, its Gram matrices damped anew."""
        trust = max(state.motion.trust / RAISE, LEAST_TRUST)
        motion = at_rest(state.weights)._replace(trust=trust)
        state = state._replace(point=state.weights, motion=motion)
        damping = self.damping * state.caution.factor
        try:
            inputs = tuple(gram.damped(damping) if gram.known else gram for gram in state.inputs)
            return state._replace(inputs=inputs)
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
        inputs: tuple[Gram, ...],
        step: Step,
    ) -> tuple[Weights, Motion]:
        """One bounded step from ``weights`` along the damped least-squares directions."""
        left = fall(self.schedule, state.step, state.budget.steps)
        steps = state.budget.steps if self.anneals else None
        few = min(max(1.0, math.sqrt(MANY_STEPS / (steps or state.step + 1))), 3.0)
        limits = Limits.of(self, weights, left, left * few)
        divisors = (step.score.weight,) * len(weights)
        penalties = [problem.penalty + own for own in state.decay]
        curved = state.residuals if self.z_step == "shared" and self.local_steps == 1 else None
        return descend(weights, motion, inputs, step.moments, divisors, penalties, limits, curved)

    def _due(self, state: State) -> bool:
        """Whether a step renews Gram matrices."""
        young = not state.inputs[0].known or state.step < YOUNG
        return young or state.step % self._every(state.budget) == 0

    def _every(self, budget: Budget) -> int:
        """Steps between renewals of Gram matrices: few of many, more of few."""
        if isinstance(self.gram_every, int):
            return self.gram_every
        steps = budget.steps if self.anneals else None
        return min(max((steps or 0) // RENEWALS, 3), 10)

    def _sought(self, problem: Problem, state: State) -> tuple[Any, ...]:
        """How a step gathers each Gram matrix; those of the data alone only in the first pass."""
        if self.ridge_centre == "zero":
            return (True,) * len(state.inputs)
        due, early = self._due(state), state.step < (state.budget.first_pass or math.inf)
        return tuple(
            gram.sought if due and (early or not fixed or not gram.known) else None
            for gram, fixed in zip(state.inputs, problem.network.fixed, strict=True)
        )

    def _local_steps(self, problem: Problem, state: State, rows: Rows) -> LocalSteps:
        """Several steps on one task's own rows."""

        def advance(weights: Weights, motion: Motion, part: Step) -> tuple[Weights, Motion]:
            inputs = state.inputs
            if not inputs[0].known:  # the very first step has no Gram matrices but its own
                own = zip(inputs, part.grams, strict=True)
                inputs = tuple(
                    gram.renewed(a, 0.0, part.score.weight).damped(self.damping) for gram, a in own
                )
            return self._descend(problem, state, weights, motion, inputs, part)

        start = state.point, state.motion, state.inputs
        return take_steps(problem, *start, rows, self.local_steps, advance)

    def _refit(self, problem: Problem, state: State, step: Step) -> Weights:
        """The least-squares weights of this step's own z, averaged with the current ones."""
        share = 1 - (1 - self.average) / state.caution.factor
        ridges = [step.score.weight * problem.penalty / (2 * mu) for mu in self._mu(problem)]
        parts = zip(state.point, step.moments, step.grams, ridges, strict=True)
        fitted = tuple(ridge_solve(r + w @ a, a, d) for w, r, a, d in parts)
        return mean_of(fitted, state.point, share)

    def _renew(self, problem: Problem, state: State, step: Any) -> State:
        """Average the Gram matrices of a step into the running means, and renew what follows."""
        local = isinstance(step, LocalSteps)
        weight = step.score.weight if local else step.gathered
        if not weight > 0:
            return state
        # A plain mean at first, so that the first step has no larger weight than the next.
        late = max(state.step - YOUNG, 0) // self._every(state.budget)
        renewals = min(state.step, YOUNG) + late + 1
        steady = 1.0 - 1.0 / (renewals + 1)
        keep = min(self.gram_memory, steady)
        caution = state.caution.relaxed()
        if self.ridge_centre == "zero":  # which solves with the step's own
            return state._replace(caution=caution)
        curvatures = (None,) * len(step.grams) if local else step.curvatures
        # What depends on the data alone is constant, and hardly forgotten.
        keeps = [max(keep, min(CONSTANT, steady)) if own else keep for own in problem.network.fixed]
        n = len(keeps)
        found = renewed(
            (*state.inputs, *state.residuals),
            (*step.grams, *curvatures),
            (*keeps, *[keep] * n),
            weight,
            (*[self.damping * caution.factor] * n, *[self.z_damping] * n),
            caution.factor != state.caution.factor,
        )
        state = state._replace(inputs=found[:n], residuals=found[n:], caution=caution)
        if (renewals - 1) % EVIDENCE_EVERY == 0:
            state = state._replace(decay=self._decay(problem, state))
        return state

    def _decay(self, problem: Problem, state: State) -> tuple[float, ...]:
        """The weight decay of each weight matrix, by its evidence."""
        network, budget = problem.network, state.budget
        rows = max(state.seen if budget.steps is None else 0.0, budget.weight or 0.0)
        ready = all(gram.known for gram in (*state.inputs, *state.residuals))
        if not (self.z_step == "shared" and self.evidence > 0 and ready and rows):
            return (0.0,) * len(state.decay)
        found = weight_decay(network, state.point, state.inputs, state.residuals, rows)
        return tuple(self.evidence * penalty for penalty in found)

    def _mu(self, problem: Problem) -> tuple[float, ...]:
        return tuple(np.broadcast_to(self.mu, len(problem.network.shapes)).tolist())

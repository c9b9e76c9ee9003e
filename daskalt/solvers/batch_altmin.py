"""Full-batch alternating minimisation: every row keeps its own z for the whole fit, on disk."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError
from daskalt.kernels.step import mean_gradient
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_of_layers, check_parameters, choice, instance, integer, real
from daskalt.solvers.base import Budget, Report, Variables
from daskalt.solvers.batch_z_step import BatchStep, Split, ZStep, batch_step
from daskalt.solvers.caution import LEAST_TRUST, RAISE, Caution, CautiousSolver
from daskalt.solvers.descent import FALLS, Limits, Motion, at_rest, descend, fall
from daskalt.solvers.full_batch import FullBatch
from daskalt.solvers.least_squares import damp

__all__ = ["BatchAltMin", "BatchState"]


class BatchState(NamedTuple):
    """Weights, their motion, and the generation of z that belongs to them."""

    weights: Weights
    motion: Motion
    grams: tuple[np.ndarray | None, ...]  # mean Gram matrix of each layer's inputs
    step: int  # iterations made, and the generation of z
    budget: Budget
    objective: float  # of the last z-step, a mean over the rows
    couplings: tuple[float, ...]  # mean ‖z_l - W_l ã_{l-1}‖² of each layer after it
    restarted: float  # share of the rows whose z started from the forward pass
    score: Score = Score()
    caution: Caution = Caution()


class BatchAltMin(CautiousSolver, FullBatch):
    """Full-batch alternating minimisation with an L2 or an L1 relaxation.

    Minimises, over the weights and over auxiliary variables z of every row and layer,

        (1/n) Σ_k ℓ(z_L^k, y_k) + (1/n) Σ_k Σ_l μ_l ‖z_l^k - W_l ã_{l-1}^k‖² + penalty / 2 Σ ‖W_l‖².

    An iteration is one pass over the rows, which are independent of each other. Each starts from
    its own z or from the forward pass. In the second case a joint step along the back-propagated
    gradient first moves the z of all layers at once. Then damped Newton steps move them layer by
    layer, from the output back; a row's objective never rises. Then W moves towards the
    least-squares fit to all z, from Gram matrices summed over the rows. An iteration with
    non-finite numbers is refused: the weights go back to those before, every row starts anew, and
    the damping is ten times as high for a while. There is no sampling, so the result depends
    neither on the order of the rows nor on a seed other than that of the initial weights.

    Parameters
    ----------
    mu : float or sequence of float, default=10.0
        Weight of each layer's coupling. A small one lets z move far from what the weights predict.
    coupling : {"l2", "l1"}, default="l2"
        "l1" takes μ_l ‖z_l - W_l ã_{l-1}‖₁ instead of the square, which is robust to
        gross outliers. Each residual is then a variable of its own
        with a scaled dual, and both are kept beside z.
    rho : float, default=1.0
        Weight of the quadratic penalty that ties such a residual to its variable.
    mu_growth : float, default=1.0
        Factor on mu from one iteration to the next.
    sweeps : int, default=1
        Newton steps of each layer's z in an iteration.
    restart : bool, default=True
        Whether each row starts an iteration anew, from the forward pass of the current weights,
        where that has a lower objective than its own z. This allows the weights long steps.
    acceleration : {"momentum", None}, default="momentum"
        How W moves. "momentum" takes bounded, extrapolated steps along the damped least-squares
        directions, as `StochasticAltMin` does, stops the motion when the objective rises, and is
        much faster. None fits W exactly, and the objective never rises.
    damping : float, default=3.0
        Ridge around the current weights, in units of the Gram matrices' mean diagonal.
    step_limit : float, default=30.0
        Largest accelerated step, in units of `damping`.
    change_limit : float, default=0.7
        Bound on the predicted change of a unit's z in an accelerated step, as a root mean square
        over the rows and the units of the widest layer.
    momentum : float, default=0.8
        Weight of earlier steps in an accelerated step.
    schedule : {"linear", "cosine", "constant"}, default="linear"
        How the two limits fall from the first iteration to the last.
    gram_every : int, default=1
        Iterations between renewals of the hidden layers' Gram matrices under acceleration.
    cg_iterations : int, default=3
        Most iterations of conjugate gradients in a Newton step of a hidden layer. They are used
        where neither the layer nor the next has 16 units or fewer; elsewhere steps are exact.
    store : str, Path or None, default=None
        Path or fsspec URL where z and, after every iteration, a checkpoint are kept, so that
        ``fit(..., resume=True)`` continues from there. By default z is kept in the estimator's
        `scratch` and removed after the fit.
    """

    state_types = (BatchState, BatchStep, Motion, Caution, Score, Budget)

    def __init__(
        self,
        *,
        mu: float | tuple[float, ...] = 10.0,
        coupling: str = "l2",
        rho: float = 1.0,
        mu_growth: float = 1.0,
        sweeps: int = 1,
        restart: bool = True,
        acceleration: str | None = "momentum",
        damping: float = 3.0,
        step_limit: float = 30.0,
        change_limit: float = 0.7,
        momentum: float = 0.8,
        schedule: str = "linear",
        gram_every: int = 1,
        cg_iterations: int = 3,
        store: str | None = None,
    ) -> None:
        self.mu = mu
        self.coupling = coupling
        self.rho = rho
        self.mu_growth = mu_growth
        self.sweeps = sweeps
        self.restart = restart
        self.acceleration = acceleration
        self.damping = damping
        self.step_limit = step_limit
        self.change_limit = change_limit
        self.momentum = momentum
        self.schedule = schedule
        self.gram_every = gram_every
        self.cg_iterations = cg_iterations
        self.store = store

    @property
    def anneals(self) -> bool:
        """Whether steps depend on the number of steps of the fit."""
        return self.schedule != "constant" and self.acceleration is not None

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            mu=real(above=0, or_sequence=True),
            coupling=choice("l2", "l1"),
            rho=real(above=0),
            mu_growth=real(above=0),
            sweeps=integer(at_least=1),
            restart=choice(True, False),
            acceleration=choice("momentum", None),
            damping=real(above=0),
            step_limit=real(above=0),
            change_limit=real(above=0),
            momentum=real(at_least=0, below=1),
            schedule=choice(*FALLS),
            gram_every=integer(at_least=1),
            cg_iterations=integer(at_least=1),
            store=instance("a path, a URL or None", str, Path, NoneType),
        )

    def validate(self, problem: Problem) -> None:
        """Raise InputError unless there is one mu, or one for each weight matrix."""
        check_of_layers(len(problem.network.shapes), mu=self.mu)

    def variables(self, problem: Problem) -> dict[str, int]:
        """Return the name and width of every array: z, under an L1 coupling also r and its dual."""
        kinds = ("z",) if self.coupling == "l2" else ("z", "residual", "dual")
        units = problem.network.units
        return {f"{kind}{i}": n for kind in kinds for i, n in enumerate(units, start=1)}

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> BatchState:
        """Return the state before the first iteration."""
        return BatchState(
            weights=weights,
            motion=at_rest(weights),
            grams=(None,) * len(weights),
            step=0,
            budget=budget,
            objective=np.inf,
            couplings=(0.0,) * problem.network.n_layers,
            restarted=1.0,
        )

    def map(
        self, problem: Problem, state: BatchState, rows: Rows, variables: Variables | None = None
    ) -> tuple[BatchStep, Variables]:
        """Return the statistics of some rows, and their moved z, with r and u of a split."""
        z: list[np.ndarray] | None = None
        r: Variables = ()
        u: Variables = ()
        # z of a refused iteration may be unusable, so every row starts from the forward pass.
        if variables is not None and state.step != state.caution.since:
            layers = problem.network.n_layers
            z, r, u = (list(variables[k * layers : (k + 1) * layers]) for k in range(3))
        own = self._own_mu(problem, state.step)
        moved, statistics = batch_step(
            problem,
            state.weights,
            rows,
            z,
            ZStep(self._mu(problem, state.step), self.sweeps, self.cg_iterations, self.restart),
            wanted=self._wanted(problem, state),
            split=None if self.coupling == "l2" else Split(own, r, u),
        )
        return statistics, moved

    def update(self, problem: Problem, state: BatchState, statistics: BatchStep) -> BatchState:
        """Return the state after fitting W to the z of all rows."""
        score = statistics.score
        n = score.weight
        if not np.isfinite(score.loss) or not np.isfinite(statistics.objective):
            raise DivergenceError(
                f"The loss is not finite at iteration {state.step + 1}: lower step_limit or "
                "change_limit, or raise damping, of the solver; and look for extreme values in X."
            )
        grams = tuple(
            old if total is None else total * total.dtype.type(1.0 / n)
            for old, total in zip(state.grams, statistics.grams, strict=True)
        )
        mu = self._mu(problem, state.step)
        squares = sum(float(np.vdot(w[:, :-1], w[:, :-1])) for w in state.weights)
        objective = statistics.objective / n + problem.penalty / 2 * squares
        divisors = [n / (2 * m) for m in mu]
        damping = self.damping * state.caution.factor
        if self.acceleration is None:
            fitted = self._fit(problem, state.weights, statistics, grams, mu, n, damping)
            weights, motion = fitted, None
        else:
            motion = state.motion
            if objective > state.objective:
                motion = at_rest(state.weights)._replace(trust=0.5 * motion.trust)
            weights, motion = descend(
                state.weights,
                motion,
                [damp(a, damping) for a in grams if a is not None],
                statistics.moments,
                divisors,
                (problem.penalty,) * len(state.weights),
                Limits.of(self, state.weights, fall(self.schedule, state.step, state.budget.steps)),
            )
        return state._replace(
            weights=weights,
            motion=motion or state.motion,
            grams=grams,
            step=state.step + 1,
            objective=objective,
            couplings=tuple((statistics.couplings / n).tolist()),
            restarted=statistics.restarted / n,
            caution=state.caution.after(state.weights, state.step).relaxed(),
        )

    def settle(self, problem: Problem, state: BatchState) -> BatchState:
        """Return the state without motion; Gram matrices are damped at every iteration anyway."""
        trust = max(state.motion.trust / RAISE, LEAST_TRUST)
        return state._replace(motion=at_rest(state.weights)._replace(trust=trust))

    def report(self, state: BatchState) -> Report:
        """Return the objective, mean squares of the couplings, share of restarts, and refusals."""
        couplings = {f"coupling_{i}": value for i, value in enumerate(state.couplings, start=1)}
        figures = {"objective": state.objective, "restarted": state.restarted, **couplings}
        return super().report(state)._replace(figures=figures)

    def flops(self, network: Network) -> float:
        """Return the operations of a pass for each row: its matrix products.

        Those of Newton steps are left out, since few rows take one after the joint step.
        """
        grams, inner = network.gram_flops, network.pull_back_flops
        # The joint step takes two products of every layer but the first, the comparison with the
        # rows' own z one, and the gradients of a sweep one.
        return 2 * network.flops + grams / self.gram_every + (3 + self.sweeps) * inner

    def _fit(
        self,
        problem: Problem,
        weights: Weights,
        statistics: BatchStep,
        grams: tuple[np.ndarray | None, ...],
        mu: tuple[float, ...],
        n: float,
        damping: float,
    ) -> Weights:
        """The least-squares weights, with the ridge centred on the current ones."""
        fitted = []
        for w, total, a, m in zip(weights, statistics.moments, grams, mu, strict=True):
            assert a is not None
            g = mean_gradient(total, w, n / (2 * m), problem.penalty, out=np.empty_like(w))
            damped = damp(a, damping, ridge=problem.penalty / (2 * m))
            fitted.append(w + damped.solve(g) * w.dtype.type(1 / (2 * m)))
        return tuple(fitted)

    def _wanted(self, problem: Problem, state: BatchState) -> tuple[bool, ...]:
        """Which Gram matrices this iteration gathers; those of data alone never change."""
        first = state.grams[0] is None
        hidden = first or self.acceleration is None or state.step % self.gram_every == 0
        return tuple(first if fixed else hidden for fixed in problem.network.fixed)

    def _mu(self, problem: Problem, step: int) -> tuple[float, ...]:
        """The weights of the quadratic couplings in the z-step and in the fit of W."""
        if self.coupling == "l1":
            return (self.rho / 2,) * len(problem.network.shapes)
        return self._own_mu(problem, step)

    def _own_mu(self, problem: Problem, step: int) -> tuple[float, ...]:
        """The current mu of each weight matrix, after its growth."""
        grown = np.broadcast_to(self.mu, len(problem.network.shapes)) * self.mu_growth**step
        return tuple(grown.tolist())

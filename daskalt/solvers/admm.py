"""Three-block ADMM for neural networks, full batch, for comparison."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.errors import DivergenceError, InputError
from daskalt.kernels.admm import fit_pre_activations
from daskalt.kernels.damped_newton import output_newton
from daskalt.kernels.gram import cross, weighted_gram
from daskalt.kernels.rowwise import square_norms
from daskalt.kernels.workspace import thread_workspace
from daskalt.network.network import Network, Weights
from daskalt.network.problem import Problem, Rows
from daskalt.parameters import check_parameters, instance, integer, real
from daskalt.solvers.base import Budget, Report, Variables
from daskalt.solvers.full_batch import FullBatch
from daskalt.solvers.least_squares import ridge_solve
from daskalt.solvers.z_step import score_residual

__all__ = ["ADMM", "ADMMState"]


class ADMMState(NamedTuple):
    """Weights, and the generation of the variables that belongs to them."""

    weights: Weights
    step: int
    budget: Budget
    couplings: tuple[float, ...]  # mean ‖z_l - W_l ã_{l-1}‖² of each layer
    activations: tuple[float, ...]  # mean ‖a_l - φ(z_l)‖² of each hidden layer
    dual: float  # mean ‖λ‖²
    score: Score = Score()


class ADMMStep(NamedTuple):
    """Statistics of a block after its updates."""

    score: Score
    moments: Any
    grams: Any
    couplings: np.ndarray
    activations: np.ndarray
    dual: float


class ADMM(FullBatch):
    """The alternating direction method of multipliers of Taylor et al. (2016), full batch.

    Splits every layer by two constraints, z_l = W_l a_{l-1} + b_l and a_l = φ(z_l), both with
    quadratic penalties, and gives only the last a Lagrange multiplier λ. One iteration is one pass:
    for each row and hidden layer

        a_l = (β W_{l+1}ᵀ W_{l+1} + γ I)⁻¹ (β W_{l+1}ᵀ (z_{l+1} - b_{l+1}) + γ φ(z_l)),
        z_l = argmin γ (a_l - φ(z))² + β (z - W_l ã_{l-1})²    entry by entry,

    at the output z_L = argmin ℓ(z, y) + λᵀ z + β ‖z - W_L ã_{L-1}‖² and λ += β (z_L - W_L ã_{L-1}),
    then all W_l = (Σ z_l ãᵀ)(Σ ã ãᵀ)⁻¹. The method has no guarantee to converge and often does not:
    a fit stops with the best weights when the forward loss is far above its best.

    Parameters
    ----------
    beta : float, default=1.0
        Penalty weight of z_l = W_l ã_{l-1}.
    gamma : float, default=10.0
        Penalty weight of a_l = φ(z_l).
    warm_up : int, default=10
        Iterations before the multiplier moves.
    divergence : float, default=3.0
        A fit ends when the forward loss is this many times its best.
    store : str, Path or None, default=None
        Path or fsspec URL where the variables and, after every iteration, a checkpoint are kept,
        so that ``fit(..., resume=True)`` continues from there. By default they are kept in the
        estimator's `scratch` and removed after the fit.

    References
    ----------
    Taylor, Burmeister, Xu, Singh, Patel, Goldstein: Training Neural Networks Without Gradients:
    A Scalable ADMM Approach. ICML 2016, algorithm 1.
    """

    state_types = (ADMMState, ADMMStep, Score, Budget)

    def __init__(
        self,
        *,
        beta: float = 1.0,
        gamma: float = 10.0,
        warm_up: int = 10,
        divergence: float = 3.0,
        store: str | None = None,
    ) -> None:
        self.beta = beta
        self.gamma = gamma
        self.warm_up = warm_up
        self.divergence = divergence
        self.store = store

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            beta=real(above=0),
            gamma=real(above=0),
            warm_up=integer(at_least=0),
            divergence=real(above=1),
            store=instance("a path, a URL or None", str, Path, NoneType),
        )

    def validate(self, problem: Problem) -> None:
        """Raise InputError unless the network is a chain whose φ has an inverse or closed form."""
        network = problem.network
        if not network.is_chain:
            raise InputError(
                "ADMM needs a chain of layers, each with weights of its own: use "
                "solver='batch-altmin' or 'altmin' for other networks."
            )
        phi = network.phi  # one for all hidden layers
        if network.n_layers > 1 and phi.inverse is None and phi.fit is None:
            raise InputError(
                f"ADMM needs the inverse of the activation, and {phi.name!r} has none: "
                "give it one, or use BatchAltMin()."
            )

    def variables(self, problem: Problem) -> dict[str, int]:
        """Return the name and width of every array: z, a and λ."""
        units = problem.network.units
        z = {f"z{i}": n for i, n in enumerate(units, start=1)}
        a = {f"a{i}": n for i, n in enumerate(units[:-1], start=1)}
        return z | a | {"dual": units[-1]}

    def start(self, problem: Problem, weights: Weights, budget: Budget) -> ADMMState:
        """Return the state before the first iteration."""
        layers = problem.network.n_layers
        return ADMMState(
            weights=weights,
            step=0,
            budget=budget,
            couplings=(0.0,) * layers,
            activations=(0.0,) * (layers - 1),
            dual=0.0,
        )

    def map(
        self, problem: Problem, state: ADMMState, rows: Rows, variables: Variables | None = None
    ) -> tuple[ADMMStep, Variables]:
        """Return the statistics of some rows, and their z, a and λ."""
        network, workspace = problem.network, thread_workspace()
        weights, layers = state.weights, network.n_layers
        x = problem.inputs(rows.X, workspace)
        ahead = network.trace(weights, x, workspace, apart=True).z
        score, _ = score_residual(problem, ahead[-1].copy(), rows)
        if variables is None:
            z = ahead
            a = [network.phi.value(each) for each in z[:-1]]
            dual = np.zeros_like(z[-1])
        else:
            z, a = list(variables[:layers]), list(variables[layers:-1])
            dual = variables[-1]
        below, inputs, residuals, splits = x, [], [], []
        for layer, w in enumerate(weights[:-1]):
            m = below @ w.T
            a[layer] = self._activations(z[layer + 1], network.phi.value(z[layer]), weights, layer)
            z[layer] = fit_pre_activations(a[layer], m, self.gamma, self.beta, network.phi)
            inputs.append(below)
            residuals.append(z[layer] - m)
            splits.append(a[layer] - network.phi.value(z[layer]))
            below = _with_ones(a[layer])
        m = below @ weights[-1].T
        centre = m - dual / dual.dtype.type(2 * self.beta)
        z[-1] = output_newton(z[-1], centre, rows.y, self.beta, network.loss, 3)
        inputs.append(below)
        residuals.append(z[-1] - m)
        if state.step >= self.warm_up:
            dual = dual + dual.dtype.type(self.beta) * residuals[-1]
        weight = np.ones(len(x)) if rows.weight is None else rows.weight.astype(np.float64)
        couplings = np.array([weight @ square_norms(r) for r in residuals])
        if rows.weight is not None:
            residuals = [r * rows.weight[:, None] for r in residuals]
        statistics = ADMMStep(
            score,
            tuple(cross(r, each) for r, each in zip(residuals, inputs, strict=True)),
            tuple(weighted_gram(each, rows.weight) for each in inputs),
            couplings,
            np.array([weight @ square_norms(split) for split in splits]),
            float(weight @ square_norms(dual)),
        )
        return statistics, [*z, *a, dual]

    def update(self, problem: Problem, state: ADMMState, statistics: ADMMStep) -> ADMMState:
        """Return the state with the least-squares weights of all z."""
        score = statistics.score
        n = score.weight
        weights = []
        for w, r, a in zip(state.weights, statistics.moments, statistics.grams, strict=True):
            fitted = ridge_solve(r + w @ a, a, n * problem.penalty / (2 * self.beta))
            weights.append(fitted)
        if not np.isfinite(score.loss) or not all(np.isfinite(w).all() for w in weights):
            raise DivergenceError(
                f"ADMM's numbers are not finite at iteration {state.step + 1}: raise gamma or "
                "warm_up, or use solver='batch-altmin'."
            )
        return state._replace(
            weights=tuple(weights),
            step=state.step + 1,
            couplings=tuple((statistics.couplings / n).tolist()),
            activations=tuple((statistics.activations / n).tolist()),
            dual=statistics.dual / n,
        )

    def report(self, state: ADMMState) -> Report:
        """Return the mean squares of both kinds of coupling, and of the multiplier."""
        couplings = {f"coupling_{i}": value for i, value in enumerate(state.couplings, start=1)}
        splits = {f"activation_{i}": value for i, value in enumerate(state.activations, start=1)}
        return Report({"dual": state.dual, **couplings, **splits})

    def flops(self, network: Network) -> float:
        """Return the operations of a pass for each row: all matrix products."""
        return 5 * network.flops + sum(columns**2 for _, columns in network.shapes)

    def _activations(
        self, z_next: np.ndarray, target: np.ndarray, weights: Weights, layer: int
    ) -> np.ndarray:
        """The closed form of a_l, by a system of the narrower of the two layers."""
        w, b = weights[layer + 1][:, :-1], weights[layer + 1][:, -1]
        ratio = w.dtype.type(self.gamma / self.beta)
        pulled = (z_next - b) @ w + ratio * target
        if len(w) < w.shape[1]:  # Woodbury
            small = np.linalg.inv(ratio * np.eye(len(w), dtype=w.dtype) + w @ w.T)
            return (pulled - ((pulled @ w.T) @ small) @ w) / ratio
        return pulled @ np.linalg.inv(w.T @ w + ratio * np.eye(w.shape[1], dtype=w.dtype))


def _with_ones(a: np.ndarray) -> np.ndarray:
    """Return [a, 1]."""
    return np.concatenate([a, np.ones((len(a), 1), a.dtype)], axis=1)

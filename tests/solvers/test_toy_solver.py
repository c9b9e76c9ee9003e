"""Sign descent: a method of a user's own, unknown to the package."""

from typing import NamedTuple

import numpy as np

from daskalt.compute.statistics import Score
from daskalt.network.network import Weights
from daskalt.solvers import Solver
from daskalt.solvers.base import Budget
from daskalt.solvers.z_step import Step, gradient_step
from tests.conformance import Case, Conformance


class SignState(NamedTuple):
    weights: Weights
    budget: Budget
    score: Score = Score()


class SignDescent(Solver):
    state_types = (SignState, Budget, Score, Step)

    def check(self):
        pass  # it has no parameters

    def start(self, problem, weights, budget):
        return SignState(weights, budget)

    def map(self, problem, state, rows, variables=None):
        return gradient_step(problem, state.weights, rows), None

    def update(self, problem, state, statistics):
        pairs = zip(state.weights, statistics.moments, strict=True)
        return state._replace(weights=tuple(w + w.dtype.type(0.01) * np.sign(g) for w, g in pairs))


class TestSignDescent(Conformance):
    case = Case(SignDescent())

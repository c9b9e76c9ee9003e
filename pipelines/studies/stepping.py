"""Single steps of a solver on rows in memory, for studies that look at every one of them."""

import numpy as np

from daskalt.data.scaling import Scaling
from daskalt.data.targets import RealTargets
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.network.network import dense
from daskalt.network.problem import Problem, Rows
from daskalt.solvers.base import Budget

__all__ = ["linear_problem", "path"]


def linear_problem(features, penalty=0.0):
    """Linear regression on the features as they are, with weights of zero to start from."""
    problem = Problem(
        network=dense((features, 1), ACTIVATIONS["identity"], get_loss("squared", "identity")),
        scaling=Scaling(np.zeros(features), np.ones(features)),
        targets=RealTargets(np.zeros(1), np.ones(1), one_dimensional=True),
        penalty=penalty,
        dtype=np.dtype(np.float64),
    )
    return problem, (np.zeros((1, features + 1)),)


def path(solver, problem, weights, X, y, batches, pass_steps):
    """Yield the weights after each step; ``batches`` are slices of the rows."""
    rows = Rows(X, y[:, None], None)
    state = solver.start(problem, weights, Budget(None, None, pass_steps))
    for batch in batches:
        part = rows.part(batch.start, batch.stop)
        statistics, _ = solver.map(problem, state, part)
        state = solver.update(problem, state, statistics)
        yield state.weights

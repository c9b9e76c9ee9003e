"""Small problems that the solver tests share."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from daskalt.data.scaling import Scaling
from daskalt.data.targets import ClassTargets, RealTargets
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.kernels.gram import Sketch
from daskalt.network.network import dense
from daskalt.network.problem import Problem, Rows
from daskalt.solvers.grams import unknown
from daskalt.training.job import Job


def make_problem(
    pair=("cross_entropy", "softmax"),
    activation="tanh",
    *,
    features=4,
    hidden=(3,),
    outputs=3,
    n=30,
    dtype="float64",
    weighted=False,
    penalty=0.01,
    seed=0,
):
    """A problem on inputs that are not scaled, its rows, and weights to start from."""
    rng = np.random.default_rng(seed)
    loss = get_loss(*pair)
    network = dense((features, *hidden, outputs), ACTIVATIONS[activation], loss)
    X = rng.standard_normal((n, features)).astype(dtype)
    if loss.coded:
        y, targets = rng.integers(0, outputs, n).astype(np.int32), ClassTargets(np.arange(outputs))
    else:
        y = rng.random((n, outputs)).astype(dtype)
        targets = RealTargets(np.zeros(outputs), np.ones(outputs), one_dimensional=False)
    weight = rng.uniform(0.5, 2, n).astype(dtype) if weighted else None
    problem = Problem(
        network=network,
        scaling=Scaling(np.zeros(features), np.ones(features)),
        targets=targets,
        penalty=penalty,
        dtype=np.dtype(dtype),
    )
    widths = network.widths
    weights = tuple(
        (rng.standard_normal((out, width + 1)) / np.sqrt(width + 1)).astype(dtype)
        for width, out in pairwise(widths)
    )
    return SimpleNamespace(
        problem=problem,
        rows=Rows(X, y, weight),
        weights=weights,
        x=np.column_stack([X, np.ones(n)]).astype(dtype),
        row_weight=np.ones(n) if weight is None else weight.astype(float),
        kinds=(activation, *pair),
    )


def job_of(solver, case, table, reading, passes, budget, rows=10):
    """What a driver runs, over blocks of so many rows."""
    bounds = np.array(table.block_bounds(rows))
    return Job(solver, case.problem, table, bounds, reading, passes, budget)


def map_rows(solver, problem, state, rows):
    """The statistics of rows that have no variables yet."""
    statistics, _ = solver.map(problem, state, rows)
    return statistics


def known_gram(matrix, rank=None, *, bias, damping=0.5, renewals=6):
    """A damped Gram matrix that equals a given one, as far as its rank lets it, met so often."""
    gram = unknown(len(matrix), rank, matrix.dtype, bias=bias)
    for _ in range(renewals):
        gram = gram.renewed(shown(matrix, gram.sought), 0.0, 1.0)
    return gram.damped(damping)


def shown(matrix, sought):
    """What a step gathers of a matrix."""
    if sought is True:
        return matrix
    rest = float(np.trace(matrix[:-1, :-1]))
    return Sketch(matrix @ sought, rest, float(matrix[-1, -1]))


def turned(*spectrum, seed=0):
    """A matrix of some eigenvalues, and its eigenvectors."""
    size = len(spectrum)
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return q @ np.diag(spectrum) @ q.T, q


# Spectra of five directions, without and with a flat rest, and ranks to see them with.
FEW = (90.0, 50, 30, 20, 10, *[0.0] * 25)  # five directions
FLAT = (90.0, 50, 30, 20, 10, *[0.3] * 25)
KINDS = {"exact": None, "low rank": 5, "wider": 7}

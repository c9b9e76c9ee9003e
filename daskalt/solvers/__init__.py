"""Training methods: one file each, all run by the same drivers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from daskalt.errors import InputError
from daskalt.solvers.admm import ADMM
from daskalt.solvers.altmin import StochasticAltMin
from daskalt.solvers.base import Solver
from daskalt.solvers.batch_altmin import BatchAltMin
from daskalt.solvers.conjugate import ConjugateGradient
from daskalt.solvers.equivalents import BORROWED, with_borrowed
from daskalt.solvers.gradient import GradientDescent
from daskalt.solvers.lbfgs import LBFGS
from daskalt.solvers.newton import Newton
from daskalt.solvers.searching import SteepestDescent

__all__ = [
    "ADMM",
    "BORROWED",
    "LBFGS",
    "SOLVERS",
    "BatchAltMin",
    "ConjugateGradient",
    "GradientDescent",
    "Newton",
    "Solver",
    "SteepestDescent",
    "StochasticAltMin",
    "get_solver",
]

SOLVERS: dict[str, Callable[[], Solver]] = {
    "altmin": StochasticAltMin,
    "batch-altmin": BatchAltMin,
    "admm": ADMM,
    "sgd": GradientDescent,
    "adagrad": partial(GradientDescent, rule="adagrad"),
    "rmsprop": partial(GradientDescent, rule="rmsprop"),
    "adadelta": partial(GradientDescent, rule="adadelta"),
    "adam": partial(GradientDescent, rule="adam"),
    "gd": SteepestDescent,
    "cg": ConjugateGradient,
    "lbfgs": LBFGS,
    "newton": Newton,
}


def get_solver(solver: Any, borrowed: Mapping[str, Any] | None = None) -> Solver:
    """Return the solver that a name or an object stands for.

    Parameters
    ----------
    solver : str or Solver
        The name or the object.
    borrowed : mapping, optional
        Parameters of scikit-learn's perceptrons, by name; None means not given.

    Raises
    ------
    InputError
        If it is neither, or has no such parameters.
    """
    if not isinstance(solver, Solver) and not (isinstance(solver, str) and solver in SOLVERS):
        raise InputError(
            f"The parameter solver must be one of {', '.join(map(repr, SOLVERS))} or a solver "
            f"object such as StochasticAltMin(); got {solver!r}."
        )
    made = SOLVERS[solver]() if isinstance(solver, str) else solver
    return with_borrowed(solver, made, borrowed or {})

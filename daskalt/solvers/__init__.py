"""Training methods: one file each, run by one loop."""

from typing import Any

from daskalt.errors import InputError
from daskalt.solvers.admm import ADMM
from daskalt.solvers.altmin import StochasticAltMin
from daskalt.solvers.base import Solver
from daskalt.solvers.batch import BatchAltMin

__all__ = ["ADMM", "SOLVERS", "BatchAltMin", "Solver", "StochasticAltMin", "get_solver"]

SOLVERS: dict[str, type[Solver]] = {
    "altmin": StochasticAltMin,
    "batch-altmin": BatchAltMin,
    "admm": ADMM,
}


def get_solver(solver: Any) -> Solver:
    """Return the solver that a name or an object stands for."""
    if isinstance(solver, Solver):
        return solver
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]()
    raise InputError(
        f"The parameter solver must be one of {', '.join(map(repr, SOLVERS))} or a solver object "
        f"such as StochasticAltMin(); got {solver!r}."
    )

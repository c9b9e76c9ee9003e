"""Drivers, which run solvers. A solver names the driver that it needs."""

from collections.abc import Callable, Iterator
from typing import Any

from daskalt.errors import InputError
from daskalt.solvers.base import Solver
from daskalt.training.job import Halt, Job, Pass, Position
from daskalt.training.synchronous import run_synchronously

__all__ = ["DRIVERS", "Driver", "check_driver", "run"]

# A driver yields a `Pass` for each of ``job.passes``, in order, and a `Halt` wherever a fit may
# stop within one; their states are values or handles.
Driver = Callable[[Job, Any, Position], Iterator[Pass | Halt]]

DRIVERS: dict[str, Driver] = {"synchronous": run_synchronously}


def check_driver(solver: Solver) -> None:
    """Raise InputError if nobody knows the driver that a solver names."""
    if solver.driver not in DRIVERS:
        raise InputError(
            f"{type(solver).__name__} needs the driver {solver.driver!r}, and there are "
            f"{', '.join(map(repr, DRIVERS))}: add it to daskalt.training.drivers.DRIVERS, or "
            "name another."
        )


def run(job: Job, state: Any, position: Position) -> Iterator[Pass | Halt]:
    """Run a job from a state and a position by its solver's driver; yield its passes and halts."""
    return DRIVERS[job.solver.driver](job, state, position)

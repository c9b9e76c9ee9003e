"""Drivers, which run solvers. A solver names the driver that it needs."""

from collections.abc import Callable, Iterator
from typing import Any

from daskalt.training.job import Job
from daskalt.training.pass_graph import Position
from daskalt.training.synchronous import Halt, Pass, run_synchronously

__all__ = ["DRIVERS", "Driver", "run"]

Driver = Callable[[Job, Any, Position], Iterator[Pass | Halt]]

DRIVERS: dict[str, Driver] = {"synchronous": run_synchronously}


def run(job: Job, state: Any, position: Position) -> Iterator[Pass | Halt]:
    """Run a job from a state and a position by its solver's driver; yield its passes and halts."""
    return DRIVERS[job.solver.driver](job, state, position)

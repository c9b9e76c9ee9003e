"""What a driver runs and yields: a job, its passes, and positions within them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskalt.compute.graph import Handle
from daskalt.compute.statistics import Score
from daskalt.data.passes import count_rows
from daskalt.data.table import Table
from daskalt.network.problem import Problem
from daskalt.solvers.base import Budget, Report, RowVariables, Solver
from daskalt.storage.store import absolute
from daskalt.storage.variables import ZStore
from daskalt.training.reading import Reading, WholeBlocks

__all__ = [
    "Branch",
    "Halt",
    "Job",
    "Pace",
    "Pass",
    "Position",
    "lay_out_variables",
    "planned_variables",
    "store_of",
]


@dataclass(frozen=True)
class Pace:
    """How often graphs end within a pass, so that a checkpoint can be written.

    Attributes
    ----------
    steps : int or None
        After every so many steps of a pass.
    seconds : float or None
        After about so many seconds.
    """

    steps: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """What a driver runs.

    Attributes
    ----------
    solver, problem : Solver, Problem
        The method, and what it minimises.
    table : Table
        The rows in the order of the fit.
    bounds : ndarray, (blocks, 2)
        First and last row of each block to train on.
    reading : Reading or WholeBlocks
        How the rows are divided into steps and tasks.
    passes : range
        Numbers of the passes to make.
    budget : Budget
        The length of the fit.
    variables : ZStore or None
        The store of the rows' own variables.
    pace : Pace or None
        How often graphs end within a pass; by default only where they must.
    topic : str or None
        Topic of the progress messages; see `daskalt.compute.progress`.
    """

    solver: Solver
    problem: Problem
    table: Table
    bounds: np.ndarray
    reading: Reading | WholeBlocks
    passes: range
    budget: Budget
    variables: ZStore | None = None
    pace: Pace | None = None
    topic: str | None = None


class Branch(NamedTuple):
    """The combined statistics of ``FAN_IN ** level`` blocks, or fewer at the end of a pass."""

    level: int
    value: Any


class Position(NamedTuple):
    """The position of a fit between two graphs: what is done, and the sums so far."""

    number: int  # of the pass
    steps: int = 0  # of the pass that are done
    blocks: int = 0  # of a step of all rows that are done
    branches: tuple[Branch, ...] = ()  # their sums
    seconds: float = 0.0  # of the pass so far
    rows: int = 0  # read so far

    @property
    def begun(self) -> bool:
        """Whether anything of the pass is done."""
        return self.steps > 0 or self.blocks > 0


@dataclass(frozen=True)
class Halt:
    """The state and the position of a fit within a pass, as handles."""

    state: Handle
    position: Position


@dataclass(frozen=True)
class Pass:
    """The result of one pass: a handle of the state, the forward score and the cost."""

    number: int
    state: Handle
    score: Score
    report: Report
    seconds: float
    steps: int
    rows: int  # rows read


def store_of(solver: Solver) -> str | None:
    """Return where a solver keeps row variables and checkpoints after a fit; or None."""
    kept = isinstance(solver, RowVariables) and solver.store is not None
    return str(solver.store) if kept else None  # type: ignore[attr-defined]


def planned_variables(
    solver: Solver, problem: Problem, rows: int, block_rows: int, location: str
) -> ZStore | None:
    """Return the store of a solver's row variables, not created yet; None if it has none."""
    if not isinstance(solver, RowVariables):
        return None
    arrays = solver.variables(problem)
    return ZStore(
        location=location,
        rows=rows,
        names=tuple(arrays),
        widths=tuple(arrays.values()),
        chunk_rows=block_rows,
        dtype=np.dtype(problem.dtype).name,
        kept=store_of(solver) is not None,
    )


def lay_out_variables(job: Job, scratch: Any, place: str | None) -> ZStore | None:
    """Return the store of a job's row variables, not created yet; None if there are none.

    Its place is the solver's parameter, else ``place``, else a folder in ``scratch``.
    """
    if not isinstance(job.solver, RowVariables):
        return None
    location = absolute(store_of(job.solver) or place or ZStore.place(scratch))
    rows = count_rows(job.bounds)
    return planned_variables(job.solver, job.problem, rows, job.reading.block_rows, location)

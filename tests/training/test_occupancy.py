"""Predicted memory of a pass against that of a running one."""

import threading
import weakref

import dask
import numpy as np
import pytest
from dask.callbacks import Callback

from daskalt.data.readers import MemorySource, Source
from daskalt.data.table import Table
from daskalt.solvers import LBFGS, StochasticAltMin
from daskalt.solvers.base import Budget
from daskalt.training.drivers import run
from daskalt.training.job import Job, Position
from daskalt.training.occupancy import count_tasks, occupancy
from daskalt.training.pass_graph import Scheduler
from daskalt.training.reading import Reading, WholeBlocks
from tests.solvers.problems import make_problem

ROWS, CHUNK = 2000, 10


class Seen:
    """The largest of some counts, of calls that run at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.read = self.mapped = self.held = self.most_held = 0

    def alive(self, rows):
        """Count the rows of an array for as long as it lives."""
        self._add(len(rows))
        weakref.finalize(rows, self._add, -len(rows))

    def _add(self, rows):
        with self.lock:
            self.held += rows
            self.most_held = max(self.most_held, self.held)


def watched(case, solver, seen):
    """A table, and a solver of the same steps, that report their reads and maps."""

    class Watched(Source):
        def __init__(self, array, name):
            self.array, self.name = array, name
            self.shape, self.dtype, self.chunk_rows = array.shape, array.dtype, CHUNK

        def read(self, start, stop):
            seen.read = max(seen.read, stop - start)
            return self.array[start:stop].copy()

    class Telling(type(solver)):
        def map(self, problem, state, rows, variables=None):
            seen.mapped = max(seen.mapped, len(rows.X))
            return super().map(problem, state, rows, variables)

    class Counting(type(case.problem)):
        def rows(self, block):
            seen.alive(block.X)
            return super().rows(block)

    table = Table(Watched(case.rows.X, "X"), MemorySource(case.rows.y, "y"))
    return Counting(**vars(case.problem)), Telling(**solver.get_params()), table


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("solver", "reading"),
    [
        (StochasticAltMin(), Reading(100, 1, 400, seed=0)),
        (StochasticAltMin(), Reading(100, 3, 400, seed=0)),
        (StochasticAltMin(), Reading(90, 6, 90, seed=None)),
        (LBFGS(), WholeBlocks(50)),
        (LBFGS(), WholeBlocks(7)),
        (LBFGS(), WholeBlocks(ROWS)),
    ],
    ids=["one lane", "lanes", "a step a group", "blocks", "many blocks", "one block"],
)
def test_a_pass_has_what_is_said(solver, reading, threads):
    seen, graphs = Seen(), []
    problem, solver, table = watched(case := make_problem(n=ROWS), solver, seen)
    bounds = np.array(table.block_bounds(CHUNK))
    plan = reading.plan(table, bounds, 0)
    budget = Budget(plan.steps, plan.steps, plan.steps)
    job = Job(solver, problem, table, bounds, reading, range(1), budget)
    said = occupancy(plan, threads, None)
    tasks = count_tasks(job, plan, Scheduler(threads, cluster=False, here=True))
    state = solver.start(problem, case.weights, budget)
    counted = Callback(start=lambda graph: graphs.append(len(graph)))
    with dask.config.set(scheduler="threads", num_workers=threads), counted:
        list(run(job, state, Position(0)))
    assert (seen.mapped, seen.read) == (said.mapped, said.read)
    assert said.held / 4 < seen.most_held <= said.held
    assert graphs == [tasks + 1]  # and the score


@pytest.mark.parametrize(("lanes", "workers", "here"), [(4, 2, 2), (4, 3, 2), (3, 8, 1)])
def test_workers_share_the_lanes(lanes, workers, here):
    case = make_problem(n=ROWS)
    table = Table(MemorySource(case.rows.X, "X"), MemorySource(case.rows.y, "y"))
    plan = Reading(100, lanes, 400, seed=0).plan(table, np.array(table.block_bounds(CHUNK)), 0)
    alone, shared = occupancy(plan, 1, None), occupancy(plan, 1, workers)
    assert (alone.lanes, shared.lanes) == (lanes, here)
    assert alone.held * here / lanes <= shared.held < alone.held * here / lanes + 1
    assert shared.statistics == alone.statistics + lanes  # roots, as they were sent

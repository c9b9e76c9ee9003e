"""The yardstick of the scheduler check: the solver's kernels driven by a plain loop."""

import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import daskalt
from daskalt.compute.graph import fold
from daskalt.compute.statistics import combine
from daskalt.compute.threads import blas_threads
from daskalt.data.passes import read_lane
from daskalt.training import tasks
from daskalt.training.drivers import DRIVERS
from daskalt.training.job import Pass

THREADS = 2


def plain_loop_seconds(setting, seed, passes, batch_size):
    """Wall seconds of `passes` passes over `setting.store` without any Dask.

    The work of `MLPClassifier(setting.hidden, max_iter=passes, batch_size=batch_size,
    random_state=seed).fit(setting.store)`, step by step in the same order and from the same
    store: the solver's own map on the same row ranges on a thread pool, its combine, its update.
    What `fit` does before and after the passes belongs to it too, so that the two times differ
    by the scheduler alone.
    """
    model = daskalt.MLPClassifier(
        setting.hidden, max_iter=passes, batch_size=batch_size, random_state=seed
    )
    began = time.perf_counter()
    with (
        blas_threads(),
        ThreadPoolExecutor(THREADS) as pool,
        patch.dict(DRIVERS, synchronous=_plain(pool)),
    ):
        model.fit(str(setting.store))
    return time.perf_counter() - began


def _plain(pool):
    """A driver that calls the same functions in a row."""

    def run(job, state, position):
        shared = tasks.Shared(job.solver, job.problem, None)
        for number in job.passes:
            began = time.perf_counter()
            plan = job.reading.plan(job.table, job.bounds, number)
            state = _make_pass(pool, job, plan, tasks.begin(shared, state))
            score, report = tasks.score(shared, state)
            seconds = time.perf_counter() - began
            rows = sum(group.rows for group in plan.groups)
            yield Pass(number, state, score, report, seconds, plan.steps, rows)

    return run


def _make_pass(pool, job, plan, state):
    """The state after the steps of a plan."""
    solver, problem = job.solver, job.problem
    for group in plan.groups:
        read = [pool.submit(read_lane, job.table, lane) for lane in group.lanes]
        lanes = [problem.rows(future.result()) for future in read]
        shares = [lane.shares(group.steps) for lane in group.lanes]
        for step in range(group.steps):
            parts = [
                pool.submit(solver.map, problem, state, rows.part(*share[step]))
                for rows, share in zip(lanes, shares, strict=True)
            ]
            total = fold(combine, [part.result()[0] for part in parts])
            score = combine(state.score, total.score)
            state = solver.update(problem, state, total)._replace(score=score)
    return state

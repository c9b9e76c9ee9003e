"""The yardstick of the scheduler check: the solver's kernels driven by a plain loop."""

import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import daskalt
from daskalt.data.passes import read_lane
from daskalt.kernels.threads import blas_threads
from daskalt.reduction import fold
from daskalt.solvers import loop, pass_graph
from daskalt.statistics import combine

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
        patch.object(loop, "run_graph", _plain(pool)),
    ):
        model.fit(str(setting.store))
    return time.perf_counter() - began


def _plain(pool):
    """A stand-in for the loop's graph, of a whole pass, that calls the same functions in a row."""

    def run_graph(job, plan, spans, states, position, check):
        solver, problem, table = job.solver, job.problem, job.table
        state, sums = solver.begin_pass(states[0]), []
        for group in plan.groups:
            read = [pool.submit(read_lane, table, lane) for lane in group.lanes]
            lanes = [problem.rows(future.result()) for future in read]
            shares = [lane.shares(group.steps) for lane in group.lanes]
            if job.surveys and position.number == 0:
                parts = [
                    pool.submit(solver.survey, problem, rows.part(*share[step]))
                    for rows, share in zip(lanes, shares, strict=True)
                    for step in range(group.steps)
                ]
                sums.extend(part.result() for part in parts)
            for step in range(group.steps):
                parts = [
                    pool.submit(solver.map, problem, state, rows.part(*share[step]))
                    for rows, share in zip(lanes, shares, strict=True)
                ]
                total = fold(combine, [part.result() for part in parts])
                state = solver.update(problem, state, total)
        if sums:
            state = solver.adopt(state, fold(combine, sums))
        return pass_graph.End([state], position), (state.score, solver.report(state))

    return run_graph

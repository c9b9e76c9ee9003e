"""Checks of what the machinery costs: `storage`, `scheduler`, `processes`."""

from contextlib import contextmanager

import dask

import daskalt
from daskalt.runs.clusters import NO_PROFILER
from pipelines.benchmark import ours
from pipelines.benchmark.alternate import alternate
from pipelines.benchmark.curves import median_of, paired_ratio
from pipelines.benchmark.plain_loop import plain_loop_seconds
from pipelines.benchmark.tables import Table, at_most

OVERHEAD = 1.10  # of the store over memory, and of the scheduler over a plain loop
PROCESSES = 1.25  # of two worker processes over two threads
# Rows of a step, local steps, tasks of a step.
STEP_SETTINGS = ((1_000, 1, 2), (5_000, 1, 2), (12_500, 1, 2), (12_500, 8, 2))


def check_storage(setting):
    """A fit from Zarr against the same fit from arrays in memory."""
    images, passes = setting.images, setting.passes(3)

    def memory(setting, seed):
        data = setting.images.x_train, setting.images.y_train
        return ours.timed_fit(setting, seed, passes, data=data).wall

    def store(setting, seed):
        return ours.timed_fit(setting, seed, passes).wall

    results = alternate({"memory": memory, "Zarr": store}, setting)
    title = f"fit of {len(images.x_train):,} uint8 rows in {passes} passes, by where they lie"
    return overhead_table("storage", title, results, "memory")


def check_scheduler(setting):
    """The fit on Dask's threads against a plain loop over the same kernels."""
    passes, batch_size = setting.passes(3), 1_000

    def threads(setting, seed):
        return ours.timed_fit(setting, seed, passes, batch_size=batch_size).wall

    def loop(setting, seed):
        return plain_loop_seconds(setting, seed, passes, batch_size)

    results = alternate({"plain loop": loop, "Dask threads": threads}, setting)
    title = f"fit in {passes} passes at {batch_size:,} rows a step, by who drives the kernels"
    return overhead_table("scheduler", title, results, "plain loop")


def overhead_table(check, title, results, baseline):
    """A table of seconds, each over the baseline's."""
    table = Table(check, title)
    for name, seconds in results.items():
        ratio = paired_ratio(seconds, results[baseline])
        target = None if name == baseline else at_most(ratio, OVERHEAD, " ×")
        table.add(target, run=name, seconds=median_of(seconds), ratio=ratio)
    table.notes.append("Wall seconds of `fit`; the ratio is the median of the seeds' own ratios.")
    return table


@contextmanager
def two_processes():
    """A client of two worker processes with one thread each, closed at the end."""
    from distributed import Client, LocalCluster

    with (
        dask.config.set(NO_PROFILER),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        # Not the default client: fits that are given none must stay on threads.
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def check_processes(setting):
    """Two worker processes against two threads, by rows a step and local steps."""
    settings = STEP_SETTINGS[:1] if setting.quick else STEP_SETTINGS
    with two_processes() as client, dask.config.set(scheduler="threads", num_workers=2):
        jobs = {
            (where, *step): step_job(setting.passes(4), chosen, *step)
            for step in settings
            for where, chosen in (("threads", None), ("processes", client))
        }
        results = alternate(jobs, setting)
    rows = [step_row(setting, results, step) for step in settings]
    best = recommended(rows)
    table = Table("processes", "two worker processes (one thread each) against two threads")
    for row in rows:
        table.add(at_most(row["ratio"], PROCESSES, " ×") if row is best else None, **row)
    table.notes.append(
        f"Held to the target is the recommended setting: the lowest loss within {PROCESSES} ×, "
        "else the lowest ratio. Wall seconds of `fit` on a cluster that is already up."
    )
    return table


def step_job(passes, client, batch_size, local_steps, tasks):
    """A job for `alternate`: (wall seconds, model) at this step."""

    def job(setting, seed):
        solver = daskalt.StochasticAltMin(local_steps=local_steps, tasks=tasks)
        fit = ours.timed_fit(
            setting, seed, passes, client=client, batch_size=batch_size, solver=solver
        )
        return fit.wall, ours.loss_on_training(fit.model, setting.images)

    return job


def step_row(setting, results, step):
    """The line of one setting: seconds on both, their ratio, and the loss after the fit."""
    threads, _ = zip(*results["threads", *step], strict=True)
    processes, losses = zip(*results["processes", *step], strict=True)
    return {
        "rows_a_step": step[0],
        "local_steps": step[1],
        "tasks": step[2],
        "seconds_on_threads": median_of(threads),
        "seconds_on_processes": median_of(processes),
        "ratio": paired_ratio(processes, threads),
        f"loss_after_{setting.passes(4)}_passes": median_of(losses),
    }


def recommended(rows):
    """The line with the lowest loss among those that meet the target, else of lowest ratio."""
    loss = list(rows[0])[-1]
    good = [row for row in rows if row["ratio"] <= PROCESSES]
    return min(good, key=lambda row: row[loss]) if good else min(rows, key=lambda r: r["ratio"])

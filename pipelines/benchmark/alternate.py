"""Run several methods on several seeds in turn, so that they share the machine's noise."""

import sys

from pipelines.benchmark.environment import blas_threads


def alternate(jobs, setting):
    """Results by name, one a seed, of `jobs[name](setting, seed)`.

    Every job is first run on a few rows and that result dropped, so that no method is
    charged for compilation, imports or the first start of its thread pools. Within a
    seed the jobs follow each other; which goes first rotates from seed to seed.

    Raises
    ------
    RuntimeError
        If a job leaves the process with another number of BLAS threads, which would
        slow down or speed up the jobs after it.
    """
    names = list(jobs)
    if not setting.quick:
        with setting.shortened() as small:
            for name in names:
                run_one(jobs[name], name, small, setting.seeds[0])
    results = {name: [] for name in names}
    for turn, seed in enumerate(setting.seeds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            print(f"  seed {seed}: {name}", file=sys.stderr, flush=True)
            results[name].append(run_one(jobs[name], name, setting, seed))
    return results


def run_one(job, name, setting, seed):
    """Result of one job, after which the BLAS threads must be what they were."""
    before = blas_threads()
    result = job(setting, seed)
    after = blas_threads()
    changed = [path for path in before if after.get(path) != before[path]]
    if changed:
        raise RuntimeError(f"{name} left another number of threads in {changed}")
    return result

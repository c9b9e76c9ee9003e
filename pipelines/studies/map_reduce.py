"""How full-batch gradient passes speed up with the cores that share the rows."""

import os
from statistics import median

import dask
import numpy as np

import daskalt
from pipelines.benchmark.picture import PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.study import run

WIDTHS = (64, 256, 1024)


def study(options):
    """Passes of map-reduced gradients on 1, 2, 4 ... threads, by the width of the network.

    The result has the same bits for any number of them, which is checked.
    """
    rows, passes = (2_000, 2) if options.quick else (40_000, 6)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, 256)).astype(np.float32)
    y = rng.integers(0, 10, rows)
    cores = [2**k for k in range(10) if 2**k <= (os.cpu_count() or 1)]
    table = Table("map-reduce", f"full-batch gradient passes over {rows} rows of 256 features")
    speed_ups = {}
    for width in WIDTHS:
        solver = daskalt.GradientDescent(full_batch=True)
        seconds, expected = {}, None
        for threads in cores:
            with dask.config.set(scheduler="threads", num_workers=threads):
                model = daskalt.MLPClassifier(
                    (width,), solver=solver, max_iter=passes, tol=0, random_state=0
                ).fit(X, y)
            seconds[threads] = median(record["seconds"] for record in model.history_[1:])
            expected = model.coefs_[0] if expected is None else expected
            if not np.array_equal(model.coefs_[0], expected):
                raise RuntimeError(f"{threads} threads gave other bits than one")
            flops = solver.flops(model._fitted.problem.network) * rows
            table.add(
                network=f"256-{width}-10",
                threads=threads,
                seconds_a_pass=seconds[threads],
                gflops_per_second=flops / seconds[threads] / 1e9,
                speed_up=seconds[1] / seconds[threads],
            )
        speed_ups[f"256-{width}-10"] = [seconds[1] / seconds[n] for n in cores]

    def draw(figure):
        axes = figure.add_subplot()
        axes.plot(cores, cores, "--", color="0.6", label="ideal")
        for (name, values), colour in zip(speed_ups.items(), PALETTE, strict=False):
            axes.plot(cores, values, "o-", color=colour, label=name)
        axes.set(xlabel="threads", ylabel="speed-up", xticks=cores, xscale="log", yscale="log")
        axes.set_yticks(cores, [str(n) for n in cores])
        axes.set_xticks(cores, [str(n) for n in cores])
        axes.minorticks_off()
        axes.legend()

    return table, draw


if __name__ == "__main__":
    raise SystemExit(run(study))

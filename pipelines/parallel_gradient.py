"""Parallel gradient descent on MNIST: over examples, over matrix products, and over both.

`python -m pipelines.parallel_gradient --data FILE.npz` trains 784-1024-10 and 784-1024-1024-10 by
mini-batch gradient descent, with the batch size as the x axis, in up to four ways: serial; the
rows of a batch shared out over tasks; the threads of BLAS inside one task; both. It writes a table
(Markdown and JSON) and a picture of seconds an epoch, GFLOP/s and speed-up over serial. `--data
synthetic --quick` tries the code in seconds. The file is as for `pipelines.benchmark_mnist`.
"""

import argparse
import os
from pathlib import Path
from statistics import median

import dask

import daskalt
from daskalt.rules import SGD
from pipelines.benchmark.data import load_images, prepared
from pipelines.benchmark.picture import MARKERS, PALETTE
from pipelines.benchmark.tables import Table, markdown, write
from pipelines.studies.study import save

BATCHES = (100, 1_000, 10_000)
# The loss of the source, squared error of logistic units and one-hot targets, and today's.
LOSSES = {
    "squared": {
        "activation": "logistic",
        "loss": "squared",
        "output_activation": "logistic",
    },
    "cross-entropy": {"activation": "relu", "loss": "cross_entropy"},
}


def main(arguments=None):
    """Run the experiment; 0."""
    options = parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with prepared(load_images(options.data), [0], quick=options.quick) as setting:
        table, runs = experiment(setting, options)
    print(markdown(table))
    write(table, options.out, {k: str(v) for k, v in vars(options).items()}, [table.check])
    save(lambda figure: draw(figure, runs), options.out / "parallel-gradient.png")
    return 0


def parser():
    """The command's argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.parallel_gradient",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="the npz file, or 'synthetic'")
    parser.add_argument(
        "--cores",
        type=int,
        nargs="+",
        default=[min(2, os.cpu_count() or 1)],
        help="numbers of cores beside one (default: 2)",
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=BATCHES, help="rows a step (default %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=2, help="timed epochs of a run (default 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/parallel"), help="results folder")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the code")
    return parser


def ways(cores):
    """(tasks, BLAS threads) by name, on some cores."""
    found = {"examples": (cores, 1), "products": (1, cores)}
    inner = 2
    if cores >= 4:
        found["both"] = (cores // inner, inner)
    return found


def experiment(setting, options):
    """The table, and its runs as (network, loss, way, batch, seconds, GFLOP/s, speed-up)."""
    width = setting.hidden[0]
    table = Table("parallel-gradient", "seconds an epoch of mini-batch gradient descent")
    runs = []
    for hidden in ((width,), (width, width)):
        network = "-".join(map(str, (784, *hidden, 10)))
        for loss, parameters in LOSSES.items():
            for batch in options.batches:
                serial = None
                plan = {"serial": (1, 1, 1)}
                for cores in options.cores:
                    plan |= {
                        f"{name}, {cores} cores": (cores, *split)
                        for name, split in ways(cores).items()
                    }
                for way, (cores, tasks, threads) in plan.items():
                    seconds, rate, accuracy = epoch(
                        setting, options, hidden, parameters, batch, cores, tasks, threads
                    )
                    serial = serial or seconds
                    runs.append((network, loss, way, batch, seconds, rate, serial / seconds))
                    table.add(
                        network=network,
                        loss=loss,
                        rows_a_step=batch,
                        way=way,
                        tasks=tasks,
                        blas_threads=threads,
                        seconds_an_epoch=seconds,
                        gflops_per_second=rate,
                        speed_up=serial / seconds,
                        accuracy=accuracy,
                    )
    table.notes.append(
        f"Median of {options.epochs} epochs after a first one, plain SGD; rows from Zarr. GFLOP/s: "
        "matrix products counted, everything timed. Accuracy: on the training rows, as the last "
        "epoch met them; it says that the ways train the same, not how far one gets."
    )
    return table, runs


def epoch(setting, options, hidden, parameters, batch, cores, tasks, threads):
    """Median seconds of an epoch, its GFLOP/s, and the accuracy of the last."""
    rows = len(setting.images.x_train)
    solver = daskalt.GradientDescent(
        SGD(0.1, momentum=0.0), tasks=min(tasks, batch), blas_threads=threads
    )
    with dask.config.set(scheduler="threads", num_workers=cores):
        model = daskalt.MLPClassifier(
            hidden,
            solver=solver,
            batch_size=min(batch, rows),
            max_iter=setting.passes(1 + options.epochs),
            tol=0,
            random_state=0,
            **parameters,
        ).fit(setting.store)
    seconds = median(record["seconds"] for record in model.history_[1:])
    flops = solver.flops(model._fitted.problem.network) * rows
    return seconds, flops / seconds / 1e9, model.history_[-1]["accuracy"]


def draw(figure, runs):
    """Seconds and speed-up by batch size: a column a network, a line a way."""
    networks = list(dict.fromkeys(run[0] for run in runs))
    names = list(dict.fromkeys(run[2] for run in runs))
    panels = figure.subplots(2, len(networks), sharex=True, squeeze=False)
    for column, network in enumerate(networks):
        for name, colour, marker in zip(names, PALETTE, MARKERS, strict=False):
            for loss, line in zip(LOSSES, ("-", "--"), strict=True):
                chosen = [run for run in runs if run[:3] == (network, loss, name)]
                style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
                batches = [run[3] for run in chosen]
                panels[0][column].plot(
                    batches, [run[4] for run in chosen], label=f"{name}, {loss}", **style
                )
                panels[1][column].plot(batches, [run[6] for run in chosen], **style)
        panels[0][column].set(title=network, xscale="log", ylim=(0, None))
        panels[1][column].set(xlabel="rows a step", ylim=(0, None))
    panels[0][0].set_ylabel("seconds an epoch")
    panels[1][0].set_ylabel("speed-up over serial")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right", fontsize="small")


if __name__ == "__main__":
    raise SystemExit(main())

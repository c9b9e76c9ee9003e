"""Training methods side by side on MNIST: test accuracy against time, as a picture.

`python -m pipelines.compare_methods --data FILE.npz` trains one network by every method from the
same Zarr store and writes a table (Markdown and JSON) and a picture. `--data synthetic --quick`
tries the code in seconds. The file is as for `pipelines.benchmark_mnist`.
"""

import argparse
from pathlib import Path

import daskalt
from pipelines.benchmark import ours
from pipelines.benchmark.alternate import alternate
from pipelines.benchmark.curves import median_of
from pipelines.benchmark.data import load_images, prepared
from pipelines.benchmark.picture import draw
from pipelines.benchmark.tables import Table, at_least, at_most, markdown, write

FLAGSHIP, BATCH = "altmin", "batch-altmin"
# Name, solver, passes. The plain one fits W exactly in every iteration: what acceleration buys.
METHODS = {
    FLAGSHIP: ("altmin", None),
    BATCH: ("batch-altmin", None),
    "batch-altmin, coupling='l1'": (daskalt.BatchAltMin(coupling="l1", mu=0.1), 30),
    "batch-altmin, acceleration=None": (
        daskalt.BatchAltMin(acceleration=None, damping=0.1, mu=(0.3, 0.1), restart=False),
        30,
    ),
    "admm": ("admm", None),  # ends early where it diverges
}
ACCURACY, PASSES, COST = 0.965, 30, 2.0


def main(arguments=None):
    """Run the study; always 0, the verdicts are in the table."""
    options = parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with prepared(load_images(options.data), range(options.seeds), quick=options.quick) as setting:
        table = compare(setting, options.only)
    print(markdown(table))
    arguments = {name: str(value) for name, value in vars(options).items()}
    write(table, options.out, arguments, ["methods"])
    draw(table.curves, options.out / "accuracy.png", target=ACCURACY)
    return 0


def parser():
    """The command's argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare_methods", description=__doc__
    )
    parser.add_argument("--data", required=True, help="the npz file, or 'synthetic'")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), help="methods to run"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="results folder")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the code")
    return parser


def compare(setting, methods=tuple(METHODS)):
    """The table and the curves of some methods."""
    results = alternate({name: job(name) for name in methods}, setting)
    table = Table("methods", f"test accuracy of 784-{setting.hidden[0]}-10 by method")
    table.curves = [curve for curves in results.values() for curve in curves]
    for name, curves in results.items():
        last = median_of(curve.accuracy[-1] for curve in curves)
        table.add(
            at_least(last, ACCURACY) if name == BATCH else None,
            method=name,
            passes=len(curves[0].seconds),
            seconds=median_of(curve.elapsed[-1] for curve in curves),
            seconds_a_pass=seconds_a_pass(curves),
            last_accuracy=last,
            best_accuracy=median_of(max(curve.accuracy) for curve in curves),
        )
    if {BATCH, FLAGSHIP} <= set(methods):
        ratio = seconds_a_pass(results[BATCH]) / seconds_a_pass(results[FLAGSHIP])
        table.add(
            at_most(ratio, COST, " ×"),
            **dict.fromkeys(table.rows[0].cells, "")
            | {"method": f"a pass of {BATCH} over one of {FLAGSHIP}", "seconds_a_pass": ratio},
        )
    table.notes.append(ours.CHARGED)
    return table


def seconds_a_pass(curves):
    """Median seconds of a pass."""
    return median_of(second for curve in curves for second in curve.seconds)


def job(name):
    """A job for `alternate`: the curve of one method."""
    solver, passes = METHODS[name]

    def run(setting, seed):
        number = 2 if setting.quick else passes
        return ours.curve(setting, seed, number, method=name, solver=solver, tol=0.0)

    return run


if __name__ == "__main__":
    raise SystemExit(main())

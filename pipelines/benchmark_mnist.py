"""daskalt beside its peers on MNIST: speed, convergence, cost of the machinery, memory.

`python -m pipelines.benchmark_mnist --data FILE.npz` runs every check on an otherwise idle
machine and writes tables (Markdown and JSON) and a picture. `--only NAME ...` runs some of them,
`--data synthetic --quick` tries the code in seconds. The file holds x_train, y_train, x_val,
y_val, x_test and y_test: uint8 images (rows, 28, 28) or (rows, 784) and their digits.
"""

import sys
import traceback
from functools import partial

from pipelines.benchmark.data import load_images, prepared
from pipelines.benchmark.gradient import check_gradient
from pipelines.benchmark.memory import check_batch_memory, check_memory
from pipelines.benchmark.picture import draw
from pipelines.benchmark.quality import check_batch_deep, check_deep, check_small
from pipelines.benchmark.speed import check_accuracy, check_pass, check_steps
from pipelines.benchmark.systems import check_processes, check_scheduler, check_storage
from pipelines.benchmark.tables import markdown, write
from pipelines.checks import parser_of

CHECKS = {
    "pass": check_pass,
    "accuracy": check_accuracy,
    "steps": check_steps,
    "storage": check_storage,
    "scheduler": check_scheduler,
    "processes": check_processes,
    "deep": check_deep,
    "small": check_small,
    "gradient": check_gradient,
    "memory": check_memory,
    "batch-memory": check_batch_memory,
    "batch-deep": check_batch_deep,
}


def parser():
    """The command's argument parser."""
    parser = parser_of("benchmark_mnist", __doc__, CHECKS, "runs/benchmark")
    parser.add_argument("--data", required=True, help="the npz file, or 'synthetic'")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the code")
    parser.add_argument(
        "--memory-gb",
        type=float,
        default=8.0,
        help="gigabytes of the memory check's first store; its second is twice it",
    )
    parser.add_argument("--memory-dtype", choices=("float32", "uint8"), default="float32")
    return parser


def main(arguments=None):
    """Run the checks asked for; the exit status, 1 if one of them could not be run."""
    options = parser().parse_args(arguments)
    if options.seeds < 1:
        raise SystemExit("--seeds: give at least 1")
    memory = partial(check_memory, gigabytes=options.memory_gb, dtype=options.memory_dtype)
    checks = CHECKS | {"memory": memory}
    failed = []
    with prepared(load_images(options.data), range(options.seeds), quick=options.quick) as setting:
        for name in [name for name in CHECKS if name in options.only]:
            print(f"check {name}", file=sys.stderr, flush=True)
            try:
                report(checks[name](setting), options)
            except Exception:
                # The other checks may have taken an hour: one that breaks must not lose them.
                traceback.print_exc()
                failed.append(name)
    for name in failed:
        print(f"check {name} could not be run: see the traceback above", file=sys.stderr)
    return 1 if failed else 0


def report(table, options):
    """Print a table and write it, and a plot if the check has curves."""
    if options.quick:
        table.notes.append("--quick: tiny sizes to try the code; these numbers mean nothing")
    table.notes.append(f"seeds: {options.seeds}; medians over them unless said otherwise")
    arguments = {name: str(value) for name, value in vars(options).items() if name != "data"}
    write(table, options.out, arguments, CHECKS)
    print(markdown(table), flush=True)
    if table.curves:
        draw(table.curves, options.out / f"{table.check}.png")


if __name__ == "__main__":
    sys.exit(main())

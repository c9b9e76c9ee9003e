"""What the studies share: their options, and a table and a picture as their result."""

import argparse
from pathlib import Path

import matplotlib

from pipelines.benchmark.tables import markdown, write


def run(make, arguments=None):
    """Run a study and write its table and picture; 0.

    Parameters
    ----------
    make : callable
        ``make(options)`` returns a `Table` and a function that draws on a matplotlib figure. Its
        module's docstring describes the command.
    arguments : list of str, optional
        The command line; by default that of the process.
    """
    name = make.__module__.rsplit(".", 1)[-1]
    options = parser(make, name).parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    table, draw = make(options)
    print(markdown(table))
    values = {key: str(value) for key, value in vars(options).items()}
    write(table, options.out, values, [table.check])
    save(draw, options.out / f"{name}.png")
    return 0


def parser(make, name):
    """The argument parser of a study."""
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.studies.{name}",
        description=make.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default 5)")
    parser.add_argument("--out", type=Path, default=Path(f"runs/{name}"), help="results folder")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the code")
    return parser


def save(draw, path):
    """Save the picture that ``draw(figure)`` makes."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 4.5), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

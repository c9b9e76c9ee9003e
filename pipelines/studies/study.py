"""What the studies share: their options, and a table and a picture as their result."""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from pipelines.benchmark.tables import markdown, write


def run(make, arguments=None):
    """Run a study and write its table and plot; return 0.

    Parameters
    ----------
    make : callable
        ``make(options)`` returns a `Table` and a function that draws on a matplotlib figure. Its
        module's docstring describes the command.
    arguments : list of str, optional
        The command line; by default that of the process.
    """
    # The module's name where it is run by `python -m`, and is __main__, too.
    name = make.__globals__["__spec__"].name.rsplit(".", 1)[-1]
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
    """Save the plot that ``draw(figure)`` makes."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 4.5), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_regions(axes, model, X, y, title):
    """Draw the probability of the second class over the plane, and the rows."""
    low, high = X.min(axis=0) - 0.5, X.max(axis=0) + 0.5
    a, b = np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 120))
    p = model.predict_proba(np.column_stack([a.ravel(), b.ravel()]))[:, 1].reshape(a.shape)
    axes.contourf(a, b, p, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
    axes.contour(a, b, p, levels=[0.5], colors="k", linewidths=1)
    axes.scatter(*X.T, c=y, cmap="RdBu_r", edgecolor="k", linewidth=0.3, s=max(12, 200 // len(X)))
    axes.set_title(title, fontsize="medium")

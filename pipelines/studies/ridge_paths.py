"""The error surface of ridge regression, and the ways that methods take down it."""

import numpy as np

import daskalt
from daskalt.rules import SGD, Adam
from pipelines.benchmark.picture import MARKERS, PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.stepping import linear_problem, path
from pipelines.studies.study import run

PENALTY, START = 0.05, (-2.0, 0.5)
METHODS = {  # solver, rows of a step
    "gradient descent": (daskalt.GradientDescent(SGD(0.4, momentum=0.0)), None),
    "momentum": (daskalt.GradientDescent(SGD(0.1, momentum=0.8, nesterov=False)), None),
    "SGD, 10 rows": (daskalt.GradientDescent(SGD(0.2, momentum=0.0)), 10),
    "Adam": (daskalt.GradientDescent(Adam(0.2)), None),
    "exact line search": (daskalt.SteepestDescent("exact"), None),
    "Newton": (daskalt.Newton(), None),
}


def study(options):
    """Two correlated features, so that the surface is a long valley, from one start."""
    rng = np.random.default_rng(0)
    rows, steps = 200, 10 if options.quick else 60
    X = rng.standard_normal((rows, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    y = X @ np.array([1.5, -0.5]) + 0.5 * rng.standard_normal(rows)
    y -= y.mean()
    X -= X.mean(axis=0)
    best = np.linalg.solve(X.T @ X / rows + PENALTY * np.eye(2), X.T @ y / rows)
    problem, weights = linear_problem(2, PENALTY)
    weights[0][0, :2] = START
    paths = {}
    table = Table("ridge-paths", f"steps down the error surface of ridge regression, {rows} rows")
    for name, (solver, batch) in METHODS.items():
        batches = list(cut(rows, batch, steps))
        count = rows // (batch or rows)
        taken = [START]
        taken += [w[0][0, :2] for w in path(solver, problem, weights, X, y, batches, count)]
        paths[name] = np.array(taken)
        far = np.linalg.norm(paths[name] - best, axis=1)
        near = np.flatnonzero(far < 0.05)
        table.add(
            method=name,
            steps_to_within_0_05=float(near[0]) if len(near) else np.inf,
            distance_at_the_end=float(far[-1]),
        )
    table.notes.append("The steps of the line searches are trials, one gradient of all rows each.")

    def surface(a, b):
        errors = y - a[..., None] * X[:, 0] - b[..., None] * X[:, 1]
        return 0.5 * np.mean(errors**2, axis=-1) + PENALTY / 2 * (a**2 + b**2)

    def draw(figure):
        axes = figure.add_subplot()
        a, b = np.meshgrid(np.linspace(-2.2, 3.2, 150), np.linspace(-2.2, 3.2, 150))
        levels = surface(*best) + np.geomspace(0.005, 8, 14)
        axes.contour(a, b, surface(a, b), levels=levels, colors="0.8", linewidths=0.8)
        for (name, way), colour, marker in zip(paths.items(), PALETTE, MARKERS, strict=False):
            axes.plot(*way.T, color=colour, marker=marker, markersize=3, linewidth=1, label=name)
        axes.plot(*best, "k*", markersize=12, label="ridge regression")
        axes.set(xlabel="first weight", ylabel="second weight", aspect="equal")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))

    return table, draw


def cut(rows, batch, steps):
    """The batches of some steps, in order, round and round."""
    for step in range(steps):
        if batch is None:
            yield slice(0, rows)
        else:
            start = step * batch % rows
            yield slice(start, start + batch)


if __name__ == "__main__":
    raise SystemExit(run(study))

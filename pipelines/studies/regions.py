"""A nonlinear classification in the plane, and the regions that every method draws."""

import numpy as np
from sklearn.datasets import make_moons

import daskalt
from pipelines.benchmark.tables import Table
from pipelines.studies.study import draw_regions, run

METHODS = ("altmin", "batch-altmin", "gd", "adam", "cg", "lbfgs")


def study(options):
    """Two interlocked half moons with noise, by networks of 2-32-1 units; and a straight line."""
    rows = 120 if options.quick else 600
    X, y = make_moons(2 * rows, noise=0.25, random_state=0)
    table = Table("regions", f"two moons, {rows} rows to train on and {rows} others")
    models = {}
    for name in ("no hidden layer", *METHODS):
        hidden, solver = ((), "newton") if name == "no hidden layer" else ((32,), name)
        fits = [
            daskalt.MLPClassifier(hidden, solver=solver, max_iter=100, random_state=seed).fit(
                X[:rows], y[:rows]
            )
            for seed in range(options.seeds)
        ]
        models[name] = fits[0]
        table.add(
            method=name,
            accuracy=float(np.median([model.score(X[rows:], y[rows:]) for model in fits])),
            training_accuracy=float(np.median([m.score(X[:rows], y[:rows]) for m in fits])),
            passes=float(np.median([model.n_iter_ for model in fits])),
        )

    def draw(figure):
        panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
        for axes, (name, model) in zip(panels, models.items(), strict=False):
            draw_regions(axes, model, X[:rows], y[:rows], name)
        for axes in panels[len(models) :]:
            axes.set_axis_off()

    return table, draw


if __name__ == "__main__":
    raise SystemExit(run(study))

"""What an L1 coupling buys where targets hold gross outliers."""

import numpy as np

import daskalt
from pipelines.benchmark.picture import MARKERS, PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.study import run

SHARES = (0.0, 0.05, 0.1, 0.2)
METHODS = {
    "altmin": daskalt.StochasticAltMin(),
    "batch-altmin, l2": daskalt.BatchAltMin(mu=1.0),
    "batch-altmin, l1": daskalt.BatchAltMin(coupling="l1", mu=0.1),
}


def study(options):
    """Networks on a smooth function of six inputs, some of whose targets are far off.

    The error is that of the predictions on new rows without noise or outliers.
    """
    rows, passes = (300, 3) if options.quick else (4_000, 60)
    table = Table("outliers", f"error on clean rows, {rows} rows, {passes} passes")
    errors = {name: [] for name in METHODS}
    for share in SHARES:
        for name, solver in METHODS.items():
            runs = [error_of(solver, share, seed, rows, passes) for seed in range(options.seeds)]
            errors[name].append(float(np.median(runs)))
        table.add(outliers=f"{share:.0%}", **{name: values[-1] for name, values in errors.items()})
    table.notes.append(
        "Root mean square error, median over the seeds; the function's standard deviation is 1.8. "
        "Outliers lie 15 or 25 above."
    )

    def draw(figure):
        axes = figure.add_subplot()
        for (name, values), colour, marker in zip(errors.items(), PALETTE, MARKERS, strict=False):
            axes.plot(SHARES, values, color=colour, marker=marker, label=name)
        axes.set(xlabel="share of outliers in y", ylabel="error on clean rows", ylim=(0, None))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.legend()

    return table, draw


def error_of(solver, share, seed, rows, passes):
    """The error of one network."""
    rng = np.random.default_rng(seed)
    X, new = rng.uniform(-2, 2, (2, rows, 6))
    y = function(X) + 0.1 * rng.standard_normal(rows)
    spoilt = rng.random(rows) < share
    y[spoilt] += rng.choice([15.0, 25.0], np.count_nonzero(spoilt))
    model = daskalt.MLPRegressor(
        (64,), solver=solver, max_iter=passes, tol=0, n_iter_no_change=passes, random_state=seed
    )
    prediction = model.fit(X, y).predict(new)
    return float(np.sqrt(np.mean((prediction - function(new)) ** 2)))


def function(X):
    """What there is to learn."""
    return np.sin(2 * X[:, 0]) * X[:, 1] + np.abs(X[:, 2]) - 0.5 * X[:, 3] ** 2


if __name__ == "__main__":
    raise SystemExit(run(study))

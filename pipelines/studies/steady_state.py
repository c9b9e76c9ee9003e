"""Where stochastic gradient descent ends up: constant against decaying steps, and the theory."""

import numpy as np

import daskalt
from daskalt.rules import SGD, InverseTimeDecay
from pipelines.benchmark.picture import PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.stepping import linear_problem, path
from pipelines.studies.study import run

FEATURES, NOISE = 10, 0.5
CONSTANT = (0.02, 0.01, 0.005)


def study(options):
    """Linear regression on white inputs, a row a step: mean-square deviation and excess risk.

    With a constant step m, inputs of variance 1, M weights and noise of variance s², the deviation
    E‖w - w*‖² settles at m M s² / (2 - m (M + 2)), as of Gaussian inputs (Sayed, Adaptive Filters,
    section 15.3), and the excess of the risk ½ E(y - xᵀw)² at half of it. Steps that fall like
    1/t let it go to zero, like M s² / t.
    """
    steps = 500 if options.quick else 6_000
    settings = {f"step {m:g}": (m, "constant") for m in CONSTANT}
    settings["0.05 / (1 + 0.05 t)"] = (0.05, InverseTimeDecay(0.05))
    table = Table("steady-state", f"SGD a row a step, {steps} steps, {options.seeds} seeds")
    curves = {}
    for name, (rate, schedule) in settings.items():
        solver = daskalt.GradientDescent(SGD(rate, momentum=0.0), schedule=schedule)
        runs = [deviations(solver, seed, steps) for seed in range(4 * options.seeds)]
        curves[name] = np.mean(runs, axis=0)
        tail = float(np.mean(curves[name][-steps // 4 :]))
        if schedule == "constant":
            theory = rate * FEATURES * NOISE**2 / (2 - rate * (FEATURES + 2))
        else:  # over the last quarter
            t = np.arange(3 * steps // 4, steps) + 1 / 0.05
            theory = float(np.mean(FEATURES * NOISE**2 / t))
        table.add(
            steps=name,
            deviation=tail,
            theory=theory,
            excess_risk=tail / 2,
            ratio=tail / theory,
        )
    table.notes.append(
        f"Means of the last quarter over {4 * options.seeds} runs; {FEATURES} weights, noise "
        f"{NOISE}. The bias is not trained: inputs and targets have mean zero."
    )

    def draw(figure):
        axes = figure.add_subplot()
        for (name, curve), colour, row in zip(curves.items(), PALETTE, table.rows, strict=False):
            axes.plot(np.arange(1, steps + 1), curve, color=colour, linewidth=1, label=name)
            if name.startswith("step"):
                axes.axhline(row.cells["theory"], color=colour, linestyle="--", linewidth=1)
        t = np.arange(100, steps + 1)
        axes.plot(t, FEATURES * NOISE**2 / (t + 20), "k--", linewidth=1, label="theory")
        axes.set(xlabel="step", ylabel="mean-square deviation", xscale="log", yscale="log")
        axes.legend()

    return table, draw


def deviations(solver, seed, steps):
    """‖w - w*‖² after each step of one run."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(FEATURES)
    truth /= np.linalg.norm(truth)
    X = rng.standard_normal((steps, FEATURES))
    y = X @ truth + NOISE * rng.standard_normal(steps)
    problem, weights = linear_problem(FEATURES)
    batches = [slice(k, k + 1) for k in range(steps)]
    return [
        float(np.sum((w[0][0, :-1] - truth) ** 2))
        for w in path(solver, problem, weights, X, y, batches, 1)
    ]


if __name__ == "__main__":
    raise SystemExit(run(study))

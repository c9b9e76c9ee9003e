"""XOR: which methods find it, how fast, and what they draw."""

import warnings

import numpy as np

import daskalt
from daskalt.rules import Adam
from pipelines.benchmark.picture import PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.study import draw_regions, run

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([0, 1, 1, 0])
METHODS = {
    "gd": daskalt.SteepestDescent(),
    "sgd": daskalt.GradientDescent(full_batch=True),
    "adam": daskalt.GradientDescent(Adam(0.05), full_batch=True),
    "cg": daskalt.ConjugateGradient(),
    "lbfgs": daskalt.LBFGS(),
    "batch-altmin": daskalt.BatchAltMin(),
    "altmin": daskalt.StochasticAltMin(),
}


def study(options):
    """A network of 2-3-1 units with tanh on the four rows of XOR, from several seeds."""
    passes = 10 if options.quick else 300
    table = Table("xor", f"XOR by 2-3-1 tanh units, {passes} passes, {options.seeds} seeds")
    curves, kept = {}, None
    for name, solver in METHODS.items():
        models = [fit(solver, seed, passes) for seed in range(options.seeds)]
        curves[name] = [model.loss_curve_ for model in models]
        solved = [model.score(X, Y) == 1 for model in models]
        if name == "lbfgs":
            kept = models[int(np.argmax(solved))]
        first = [first_below(losses, 0.1) for losses in curves[name]]
        table.add(
            method=name,
            solved=f"{sum(solved)} of {len(solved)}",
            passes_to_a_loss_of_0_1=float(np.median(first)),
            last_loss=float(np.median([losses[-1] for losses in curves[name]])),
        )
    table.notes.append(
        "Every pass is one step on all four rows; of the line-search methods, one trial. Medians "
        "over the seeds; never: more than half of the seeds did not get there."
    )

    def draw(figure):
        left, right = figure.subplots(1, 2)
        for (name, losses), colour in zip(curves.items(), PALETTE, strict=False):
            shown = np.median(padded(losses), axis=0)
            left.plot(np.arange(1, len(shown) + 1), shown, color=colour, label=name)
        left.set(xscale="log", yscale="log", xlabel="pass", ylabel="loss", ylim=(1e-4, 3))
        left.legend(fontsize="small")
        draw_regions(right, kept, X, Y, "lbfgs")

    return table, draw


def fit(solver, seed, passes):
    """One network."""
    model = daskalt.MLPClassifier(
        (3,),
        activation="tanh",
        solver=solver,
        alpha=0.0,
        max_iter=passes,
        tol=0,
        n_iter_no_change=passes,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, Y)


def first_below(losses, level):
    """The first pass with a loss below a level."""
    below = np.flatnonzero(np.asarray(losses) < level)
    return float(below[0] + 1) if len(below) else np.inf


def padded(curves):
    """Curves of one length, their last values repeated."""
    longest = max(map(len, curves))
    return [[*curve, *[curve[-1]] * (longest - len(curve))] for curve in curves]


if __name__ == "__main__":
    raise SystemExit(run(study))

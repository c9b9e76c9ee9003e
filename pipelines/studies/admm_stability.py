"""How often three-block ADMM diverges, by its penalty weights and the warm-up."""

import warnings

import numpy as np
from sklearn.datasets import load_digits

import daskalt
from daskalt.errors import DivergenceError, DivergenceWarning
from pipelines.benchmark.picture import PALETTE
from pipelines.benchmark.tables import Table
from pipelines.studies.study import run

SETTINGS = [
    {"beta": beta, "gamma": gamma, "warm_up": warm_up}
    for beta, gamma in ((1.0, 10.0), (1.0, 1.0), (10.0, 1.0), (0.1, 1.0))
    for warm_up in (0, 10)
]


def study(options):
    """ADMM on scikit-learn's digits, 64 tanh units, by penalty weights, warm-up and seed.

    The guard of the solver is on: a fit ends when its forward loss is three times its best. Beside
    it full-batch alternating minimisation, which has an objective that falls.
    """
    passes = 3 if options.quick else 60
    X, y = load_digits(return_X_y=True)
    rows = (X[:1_300].astype(np.uint8), y[:1_300], X[1_300:], y[1_300:])
    table = Table("admm-stability", f"fits of {passes} iterations at most, {options.seeds} seeds")
    curves = {}
    for setting in [*SETTINGS, None]:
        solver = daskalt.BatchAltMin() if setting is None else daskalt.ADMM(**setting)
        runs = [fit(solver, rows, seed, passes) for seed in range(options.seeds)]
        name = (
            "batch-altmin" if setting is None else ", ".join(f"{k} {v}" for k, v in setting.items())
        )
        curves[name] = [run["losses"] for run in runs]
        table.add(
            method=name,
            came_apart=f"{sum(run['apart'] for run in runs)} of {len(runs)}",
            best_loss=float(np.median([min(run["losses"]) for run in runs])),
            last_loss=float(np.median([run["losses"][-1] for run in runs])),
            loss_rises=float(np.median([rises(run["losses"]) for run in runs])),
            test_accuracy=float(np.median([run["accuracy"] for run in runs])),
        )
    table.notes.append(
        "Loss rises: the share of iterations after which the forward loss was higher than before. "
        "The accuracy is that of the weights that the guard keeps."
    )

    def draw(figure):
        panels = figure.subplots(1, 2, sharey=True)
        for axes, warm_up in zip(panels, (0, 10), strict=True):
            chosen = [name for name in curves if name.endswith(f"warm_up {warm_up}")]
            for name, colour in zip([*chosen, "batch-altmin"], PALETTE, strict=False):
                for number, losses in enumerate(curves[name]):
                    label = name.rsplit(", ", 1)[0] if number == 0 else None
                    axes.plot(losses, color=colour, linewidth=1, alpha=0.8, label=label)
            axes.set(xlabel="iteration", yscale="log", title=f"multiplier after {warm_up}")
            axes.legend(fontsize="small")
        panels[0].set_ylabel("forward loss")

    return table, draw


def fit(solver, rows, seed, passes):
    """The losses of one fit, its accuracy, and whether it diverged."""
    X, y, new, labels = rows
    model = daskalt.MLPClassifier(
        (64,),
        activation="tanh",
        solver=solver,
        max_iter=passes,
        tol=0,
        n_iter_no_change=passes,
        random_state=seed,
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", DivergenceWarning)
        try:
            model.fit(X, y)
        except DivergenceError:  # in the first iterations, with nothing to fall back on
            return {"losses": [np.inf], "apart": True, "accuracy": 0.1}
    apart = any(issubclass(warning.category, DivergenceWarning) for warning in seen)
    return {"losses": model.loss_curve_, "apart": apart, "accuracy": model.score(new, labels)}


def rises(losses):
    """Share of the steps that go up."""
    return float(np.mean(np.diff(losses) > 0)) if len(losses) > 1 else 0.0


if __name__ == "__main__":
    raise SystemExit(run(study))

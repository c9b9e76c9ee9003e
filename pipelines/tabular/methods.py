"""The methods that are compared on tables, each fitted whole and timed."""

import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn import ensemble, neural_network
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import daskalt
from pipelines.peers import TORCH, TorchTrainer, skipped

# Of PyTorch: the highest rate of its schedule, and rows a step. On held-out training rows of ten
# tables, 20 passes at 2e-2 were on average .009 better than at 1e-2, .001 than at 4e-2.
RATE, BATCH = 2e-2, 256


@dataclass(frozen=True)
class Method:
    """A method to compare.

    Attributes
    ----------
    fit : callable
        (setting, seed) -> a function from raw rows to predictions.
    told : str
        What it does, for the reader of the tables.
    is_network, is_ours : bool
        Trees are no network and so have no rank.
    requires : tuple of (module, requirement), optional
        The package it needs, and what `pip install` calls it.
    """

    fit: Callable
    told: str
    is_network: bool = True
    is_ours: bool = False
    requires: tuple | None = None


@dataclass(frozen=True)
class Run:
    """One fit of one method on one table.

    Attributes
    ----------
    table, method : str
    seed : int
    seconds : float
        Of the whole fit with all its preparation of the rows; nan where it failed.
    score : float
        Accuracy or R² on the test rows; minus infinity where the fit failed.
    failure : str
        Why it failed, else empty.
    """

    table: str
    method: str
    seed: int
    seconds: float
    score: float
    failure: str = ""


def job(name):
    """A job for `alternate`: the `Run` of a method, also where that breaks down."""

    def run(setting, seed):
        try:
            start = time.perf_counter()
            predict = METHODS[name].fit(setting, seed)
            seconds = time.perf_counter() - start
            score = score_of(setting.data, predict(setting.data.x_test))
        except Exception as error:
            # The other fits may take an hour: one that breaks must not lose them.
            traceback.print_exc(file=sys.stderr)
            failure = f"{type(error).__name__}: {error}"
            return Run(setting.data.name, name, seed, np.nan, -np.inf, failure)
        return Run(setting.data.name, name, seed, seconds, score)

    return run


def score_of(data, predictions):
    """Accuracy, or R² in the targets' own units."""
    score = accuracy_score if data.is_classification else r2_score
    return float(score(data.y_test, np.ravel(predictions)))


def fit_daskalt(setting, seed, **parameters):
    """daskalt on the rows as they are."""
    kind = daskalt.MLPClassifier if setting.data.is_classification else daskalt.MLPRegressor
    model = kind((setting.hidden,), random_state=seed, **parameters)
    return model.fit(setting.data.x_train, setting.data.y_train).predict


def fit_daskalt_passes(setting, seed):
    """daskalt told how many passes to make."""
    return fit_daskalt(setting, seed, max_iter=setting.passes)


def fit_sklearn(setting, seed, **parameters):
    """scikit-learn's network on standardised rows."""
    if setting.quick:
        parameters["max_iter"] = 10
    kind = "MLPClassifier" if setting.data.is_classification else "MLPRegressor"
    parameters |= {"hidden_layer_sizes": (setting.hidden,), "random_state": seed}
    network = getattr(neural_network, kind)(**parameters)
    with warnings.catch_warnings():
        # Its default of 200 epochs is what its user gets, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_standardised(setting, network)


def fit_torch(setting, seed):
    """PyTorch's network on standardised rows."""
    return fit_standardised(setting, TorchNetwork(setting.hidden, setting.passes, seed))


def fit_trees(setting, seed):
    """scikit-learn's boosted trees on the rows as they are."""
    kind = "Classifier" if setting.data.is_classification else "Regressor"
    trees = getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=seed)
    return trees.fit(setting.data.x_train, setting.data.y_train).predict


def fit_standardised(setting, network):
    """Predictions of `network`, fitted to standardised rows and, for regression, targets."""
    single = FunctionTransformer(partial(np.asarray, dtype=np.float32))
    model = make_pipeline(StandardScaler(), single, network)
    if not setting.data.is_classification:
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return model.fit(setting.data.x_train, setting.data.y_train).predict


class TorchNetwork(BaseEstimator):
    """A PyTorch network trained by Adam on a one-cycle schedule."""

    def __init__(self, hidden, passes, seed, rate=RATE, batch=BATCH):
        self.hidden, self.passes, self.seed = hidden, passes, seed
        self.rate, self.batch = rate, batch

    def fit(self, X, y):
        """Train on class codes, or on floating-point targets."""
        self.trainer_ = TorchTrainer(
            X,
            y,
            (self.hidden,),
            self.seed,
            rate=self.rate,
            batch=self.batch,
            cycle=self.passes,
            fused=True,
        )
        for _ in range(self.passes):
            self.trainer_.train_pass()
        return self

    def predict(self, X):
        """Class codes, or predictions."""
        outputs = self.trainer_.outputs(X).numpy()
        is_regression = self.trainer_.targets.is_floating_point()
        return outputs[:, 0] if is_regression else outputs.argmax(axis=1)


METHODS = {
    "daskalt": Method(fit_daskalt, "defaults", is_ours=True),
    "daskalt-passes": Method(
        fit_daskalt_passes, "defaults but `max_iter`, the --passes", is_ours=True
    ),
    "daskalt-early": Method(
        partial(fit_daskalt, early_stopping=True),
        "defaults but `early_stopping=True`",
        is_ours=True,
    ),
    "sklearn-early": Method(
        partial(fit_sklearn, early_stopping=True),
        "scikit-learn's MLP on standardised rows, defaults but `early_stopping=True`",
    ),
    "sklearn": Method(fit_sklearn, "the same with its defaults: at most 200 epochs"),
    "torch": Method(
        fit_torch,
        f"PyTorch on standardised rows, Adam (fused) with OneCycle to {RATE:g}, {BATCH} rows a "
        "step, --passes epochs, all cores",
        requires=TORCH,
    ),
    "trees": Method(
        fit_trees, "scikit-learn's HistGradientBoosting, defaults, raw rows", is_network=False
    ),
}


def absent(names):
    """How to install what each method among `names` misses, by method."""
    lines = {name: skipped(name, METHODS[name].requires) for name in names}
    return {name: line for name, line in lines.items() if line}

"""daskalt's side of the benchmark: fits from the store, timed from outside."""

import time
from dataclasses import dataclass

import numpy as np

import daskalt
from pipelines.benchmark.curves import Curve, accuracy_of, cross_entropy_of, in_blocks

CHARGED = (
    "daskalt is charged the wall time of the whole `fit` call from the Zarr path (planning, "
    "reading, scaling, the input's Gram matrix, every pass), in a fit that evaluates nothing; "
    "what lies outside the passes counts before the first. Its accuracies come from a second fit "
    "with the same seed and an `eval_set`, checked to end in the same weights. Its training loss "
    "after the last pass is measured on all training rows like the peers'; earlier ones are those "
    "of `history_`. Peers are charged their passes alone: data already in memory as float32 "
    "(except dask-ml, which reads the same Zarr), networks built, evaluation left out."
)


@dataclass(frozen=True)
class TimedFit:
    """A fitted model, the wall seconds of its `fit`, and the seconds of each pass."""

    model: object
    wall: float
    passes: tuple

    @property
    def before(self):
        """Seconds of the fit outside its passes."""
        return max(0.0, self.wall - sum(self.passes))

    @property
    def seconds_a_pass(self):
        """Seconds of the whole fit shared out over its passes."""
        return self.wall / len(self.passes)


def timed_fit(setting, seed, passes, *, data=None, client=None, **parameters):
    """Fit a classifier of `setting.hidden` for `passes` passes and time it.

    Parameters
    ----------
    data : tuple, optional
        Arguments of `fit`; the path of the store when left out.
    client : distributed.Client, optional
    **parameters
        Constructor arguments other than the defaults.
    """
    parameters = {"hidden_layer_sizes": setting.hidden} | parameters
    model = daskalt.MLPClassifier(max_iter=passes, random_state=seed, **parameters)
    start = time.perf_counter()
    model.fit(*(data or (setting.store,)), client=client)
    wall = time.perf_counter() - start
    return TimedFit(model, wall, tuple(float(entry["seconds"]) for entry in model.history_))


def loss_on_training(model, images):
    """Mean cross-entropy of the fitted model over all training rows."""
    return cross_entropy_of(in_blocks(model.predict_proba, images.x_train), images.y_train)


def accuracy_on_test(model, images):
    """Accuracy of the fitted model on the test rows."""
    return accuracy_of(in_blocks(model.predict_proba, images.x_test), images.y_test)


def curve(setting, seed, passes, *, method="daskalt", **parameters):
    """The `Curve` of a fit: seconds from a fit that evaluates nothing, accuracies from a second.

    Raises
    ------
    RuntimeError
        If watching the fit changed its weights, for then the two do not belong together.
    """
    images = setting.images
    fit = timed_fit(setting, seed, passes, **parameters)
    parameters = {"hidden_layer_sizes": setting.hidden} | parameters
    watched = daskalt.MLPClassifier(max_iter=passes, random_state=seed, **parameters)
    watched.fit(setting.store, eval_set=[(images.x_test, images.y_test)])
    if not all(map(np.array_equal, fit.model.coefs_, watched.coefs_)):
        raise RuntimeError("the fit with an eval_set ended in other weights than the timed one")
    accuracy = [float(entry["validation_accuracy"]) for entry in watched.history_]
    loss = [float(entry["loss"]) for entry in watched.history_]
    accuracy[-1], loss[-1] = (
        accuracy_on_test(fit.model, images),
        loss_on_training(fit.model, images),
    )
    return Curve(method, seed, fit.passes, tuple(accuracy), tuple(loss), fit.before)

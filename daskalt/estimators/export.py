"""A fitted daskalt network as a fitted scikit-learn one."""

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer

from daskalt.data.targets import MultilabelTargets
from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.links import SOFTMAX

__all__ = ["to_sklearn"]

# Activations that scikit-learn has, too, by the same names.
SHARED = {ACTIVATIONS[name] for name in ("identity", "relu", "tanh", "logistic")}


def to_sklearn(estimator: Any) -> MLPClassifier | MLPRegressor:
    """Return a scikit-learn estimator with the same weights and, within the limits, predictions."""
    link = estimator.out_activation_
    classifier = hasattr(estimator, "classes_")
    network = estimator._fitted.problem.network  # the parameters may be others now
    if not network.is_chain:
        raise InputError(
            "scikit-learn's networks are chains of layers with weights of their own: this one has "
            "other sources or shares weights. Save or pickle it instead."
        )
    links = {*SHARED, SOFTMAX} if classifier else {ACTIVATIONS["identity"]}
    if network.phi not in SHARED or network.loss.link not in links:
        name = link if network.phi in SHARED else network.phi.name
        raise InputError(f"scikit-learn's networks have no activation {name!r} in this place.")
    kind = MLPClassifier if classifier else MLPRegressor
    model = kind(
        hidden_layer_sizes=tuple(len(b) for b in estimator.intercepts_[:-1]),
        activation=network.phi.name,
        alpha=estimator.alpha,
        early_stopping=False,
    )
    model.coefs_ = [c.copy() for c in estimator.coefs_]
    model.intercepts_ = [b.copy() for b in estimator.intercepts_]
    for name in (
        "n_features_in_",
        "feature_names_in_",
        "n_layers_",
        "n_outputs_",
        "loss_",
        "best_loss_",
        "validation_scores_",
        "best_validation_score_",
        "n_iter_",
    ):
        if hasattr(estimator, name):
            setattr(model, name, getattr(estimator, name))
    model.loss_curve_ = list(estimator.loss_curve_)
    model.out_activation_ = link
    model.t_ = 0
    if classifier:
        model.classes_ = estimator.classes_
        binarizer = LabelBinarizer()
        width = estimator.n_outputs_
        if isinstance(estimator._fitted.problem.targets, MultilabelTargets):
            binarizer.fit(np.eye(width, dtype=int))
        else:
            binarizer.fit(estimator.classes_)
        model._label_binarizer = binarizer
    return model

"""A fitted daskalt network as a fitted scikit-learn one."""

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer

from daskalt.data.targets import MultilabelTargets
from daskalt.errors import InputError

__all__ = ["to_sklearn"]


def to_sklearn(estimator: Any) -> MLPClassifier | MLPRegressor:
    """Return a scikit-learn estimator with the same weights and the same predictions."""
    link = estimator.out_activation_
    classifier = hasattr(estimator, "classes_")
    activation = estimator._fitted.problem.network.phi.name  # the parameter may be another now
    if activation == "softplus" or (link != "identity" and not classifier):
        name = activation if activation == "softplus" else link
        raise InputError(f"scikit-learn's networks have no activation {name!r} in this place.")
    kind = MLPClassifier if classifier else MLPRegressor
    model = kind(
        hidden_layer_sizes=tuple(len(b) for b in estimator.intercepts_[:-1]),
        activation=activation,
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

"""What a fit to labels learns of them before it starts."""

from dataclasses import replace
from typing import Any

import numpy as np

from daskalt.data.staging import Promised
from daskalt.data.survey import survey_labels, survey_numbers
from daskalt.data.table import Table
from daskalt.data.targets import BinaryTargets, ClassTargets, MultilabelTargets, class_factors
from daskalt.errors import InputError
from daskalt.estimators.goals import Goal
from daskalt.estimators.perceptron import BaseMLP
from daskalt.functions.loss import Loss
from daskalt.functions.losses import get_loss

__all__ = ["LabelledMLP"]


class LabelledMLP(BaseMLP):
    """An estimator whose targets are labels."""

    loss: str | Loss
    output_activation: str
    class_weight: Any

    def _learn_targets(self, table: Table, classes: Any = None) -> Goal:
        assert table.y is not None
        if len(table.y.shape) == 2 and table.y.shape[1] > 1:
            if self.class_weight is not None:
                raise InputError(
                    "class_weight cannot be used with a multilabel y: give sample_weight instead."
                )
            self.classes_ = np.arange(table.y.shape[1])
            loss = self._chosen_loss(units=True)
            if loss.coded:
                raise InputError(
                    f"The loss {loss.name!r} on {loss.link.name!r} takes one class a row, and y "
                    "holds several labels: use one on 'logistic'."
                )
            indicators = MultilabelTargets(table.y.shape[1])
            if table.y.in_memory:  # stored ones are checked block by block
                indicators.check(table.y.read(0, table.n_rows))
            # The first rows of many say little; what is no number is refused later.
            if classes is not None or table.y.dtype.kind not in "fiub":
                return Goal(indicators, loss)
            return Goal(indicators, loss, mean=survey_numbers(table).mean)
        labels, counts = None, None
        if classes is None:
            labels = survey_labels(table)
            classes, counts = labels.classes, labels.counts
        if len(classes) < 2:
            raise InputError(
                "The number of classes has to be greater than one; y holds 1 class only: "
                f"{classes.tolist()}."
            )
        self.classes_ = classes
        loss = self._chosen_loss(units=len(classes) == 2)
        binary = len(classes) == 2 and not loss.coded
        targets = BinaryTargets(classes) if binary else ClassTargets(classes, not loss.coded)
        factors = class_factors(self.class_weight, classes, counts)
        if labels is None:  # the first rows of many may lack some
            return Goal(targets, loss, factors)
        shares = labels.shares(factors)
        mean = shares[1:] if binary and shares is not None else shares
        return Goal(targets, loss, factors, labels.clustering(), mean)

    def _chosen_loss(self, units: bool) -> Loss:
        """The loss of units that are independent (yes or no), or of exclusive classes."""
        if isinstance(self.loss, Loss):
            return self.loss
        name = "cross_entropy" if self.loss == "auto" else self.loss
        link = self.output_activation
        if link == "auto":
            own = {"squared": "logistic", "hinge": "margin"}
            link = own.get(name, "logistic" if units else "softmax")
        return get_loss(name, link)

    def _expect_targets(self, table: Table, classes: np.ndarray | None) -> Goal:
        assert table.y is not None
        lazy = isinstance(table.y, Promised)
        width = int(np.prod(table.y.shape[1:], dtype=int))
        table = replace(table, weight=None)  # which may still have to be computed
        if width > 1:  # with the classes given nothing is read to count them
            return self._learn_targets(table, np.arange(width))
        if classes is None and not lazy:
            return self._learn_targets(table)
        if classes is None:
            raise InputError(
                "y would have to be computed to know its labels, and plan computes nothing: give "
                "them by classes=."
            )
        weighted, self.class_weight = self.class_weight is not None, None
        goal = self._learn_targets(table, classes)
        return goal._replace(class_factors=np.ones(len(classes)) if weighted else None)

    def _labels(self, table: Table) -> np.ndarray | None:
        if table.y is None or np.prod(table.y.shape[1:]) > 1 or isinstance(table.y, Promised):
            return None
        return table.y.read(0, table.n_rows).ravel()

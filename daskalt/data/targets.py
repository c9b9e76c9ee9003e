"""Targets: labels or numbers of any kind, encoded for a loss and decoded again."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from daskalt.errors import InputError
from daskalt.parameters import real

__all__ = [
    "BinaryTargets",
    "ClassTargets",
    "MultilabelTargets",
    "RealTargets",
    "Targets",
    "centre_and_scale",
    "check_shares",
    "class_factors",
]

# Numbers up to here can be standardised, and the weights in their units are finite.
LARGEST_TARGET = {"float32": 1e30, "float64": 1e100}


class Targets(ABC):
    """Encodes the targets of a block for the loss and decodes the outputs of the network."""

    width: int  # outputs of the network

    @abstractmethod
    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the targets as the loss expects them."""

    @abstractmethod
    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predictions for outputs that have passed the loss's link."""

    def hits(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Return which rows are predicted right, given encoded targets; None for numbers."""
        return None

    def fold(self, w: np.ndarray) -> np.ndarray:
        """Return last-layer weights that give the user's own units."""
        return w.astype(np.float64)

    def unfold(self, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the last-layer weights whose folded form is ``w``."""
        return np.ascontiguousarray(w.astype(dtype))


class ClassTargets(Targets):
    """One label of several: integer codes, or one column a class where the loss needs numbers."""

    def __init__(self, classes: np.ndarray, one_hot: bool = False) -> None:
        self.classes = classes
        self.one_hot = one_hot
        self.width = len(classes)

    def codes(self, y: np.ndarray) -> np.ndarray:
        """Return the positions of the labels in ``classes``."""
        y = _column(y)
        if y.ndim != 1:
            raise InputError(
                f"y must be one label a row, as in the fit; it has {y.shape[1]} columns. Give the "
                "column of the labels."
            )
        position = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
        known = self.classes[position] == y
        if not np.all(known):
            unknown = np.unique(y[~np.asarray(known)])[:5]
            raise InputError(
                f"y holds labels that are not among the classes of this fit: {unknown.tolist()}; "
                f"the classes are {self.classes[:10].tolist()}. Give all of them to the first "
                "partial_fit by classes=, or leave these rows out."
            )
        return position

    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return int32 codes of shape (rows,), or indicators of shape (rows, classes)."""
        codes = self.codes(y).astype(np.int32)
        if not self.one_hot:
            return codes
        indicators = np.zeros((len(codes), self.width), dtype)
        indicators[np.arange(len(codes)), codes] = 1
        return indicators

    def hits(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return where the largest output is the target's."""
        codes = y.argmax(axis=1) if y.ndim == 2 else y
        return outputs.argmax(axis=1) == codes

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the labels of the largest outputs."""
        return self.classes[outputs.argmax(axis=1)]


class BinaryTargets(ClassTargets):
    """One label of two on a single unit, as in scikit-learn."""

    def __init__(self, classes: np.ndarray) -> None:
        super().__init__(classes)
        self.width = 1

    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return 0.0 or 1.0, of shape (rows, 1)."""
        return self.codes(y).astype(dtype)[:, None]

    def hits(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return where the probability of the target is above one half."""
        return (outputs[:, 0] > 0.5) == (y[:, 0] > 0.5)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the second label where its probability is above one half."""
        return self.classes[(outputs[:, 0] > 0.5).astype(int)]


class MultilabelTargets(Targets):
    """A 0/1 indicator matrix: each unit a yes or no of its own."""

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the indicators of shape (rows, width)."""
        y = np.asarray(y)
        self.check(y)
        return np.ascontiguousarray(y.astype(dtype))

    def check(self, y: np.ndarray) -> None:
        """Raise InputError if these are no such indicators."""
        if y.ndim != 2 or y.shape[1] != self.width or not np.isin(y, (0, 1)).all():
            raise InputError(
                f"y must be a matrix of 0 and 1 with {self.width} columns, one for each label: "
                "convert it, with sklearn.preprocessing.MultiLabelBinarizer for example."
            )

    def hits(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return where all labels of a row are right."""
        return ((outputs > 0.5) == (y > 0.5)).all(axis=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return 1 where the probability of a label is above one half."""
        return (outputs > 0.5).astype(int)


class RealTargets(Targets):
    """One or several numbers a row, centred and scaled for training.

    With ``shares`` they are from 0 to 1, for a cross-entropy.
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, one_dimensional: bool, shares: bool = False
    ) -> None:
        self.mean = mean
        self.scale = scale
        self.one_dimensional = one_dimensional
        self.shares = shares
        self.width = len(mean)

    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return standardised targets of shape (rows, width)."""
        return np.ascontiguousarray(((self.numbers(y) - self.mean) / self.scale).astype(dtype))

    def numbers(self, y: np.ndarray) -> np.ndarray:
        """Return targets in their own units, as float64 of shape (rows, width)."""
        y = np.asarray(y)
        if y.dtype.kind not in "fiub":
            raise InputError(
                f"y must be numbers for a regressor; it is of type {y.dtype}. Convert it, or use "
                "MLPClassifier for labels."
            )
        y = y.astype(np.float64, copy=False)
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.width:
            raise InputError(
                f"y must have {self.width} columns, as in the fit; it has {y.shape[1]}. Give a "
                "column for each target."
            )
        if self.shares:
            check_shares(y.min(), y.max())
        return y

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions in the shape of the y that was fitted; units are folded in."""
        return outputs[:, 0] if self.one_dimensional else outputs

    def fold(self, w: np.ndarray) -> np.ndarray:
        """Return last-layer weights that give the user's own units."""
        folded = w.astype(np.float64) * self.scale[:, None]
        folded[:, -1] += self.mean
        return folded

    def unfold(self, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the last-layer weights whose folded form is ``w``."""
        scaled = w.astype(np.float64)
        scaled[:, -1] -= self.mean
        return np.ascontiguousarray((scaled / self.scale[:, None]).astype(dtype))


def class_factors(given: Any, classes: np.ndarray, counts: np.ndarray | None) -> np.ndarray | None:
    """Return the factors of ``class_weight`` on the weights of each class; None for none.

    Raises
    ------
    InputError
        If it is of another kind, or "balanced" where the classes' ``counts`` are not known.
    """
    if given is None:
        return None
    if isinstance(given, str) and given == "balanced":
        if counts is None:
            raise InputError(
                "class_weight='balanced' needs all rows at once: in partial_fit give a dict."
            )
        return counts.sum() / (len(classes) * counts)
    if not isinstance(given, dict):
        raise InputError(
            f"class_weight must be None, 'balanced' or a dict of labels to weights; got {given!r}."
        )
    unknown = sorted(map(str, set(given) - set(classes.tolist())))
    if unknown:
        raise InputError(f"class_weight names labels that y does not hold: {unknown}.")
    _, allows = real(at_least=0)
    if not all(map(allows, given.values())):
        raise InputError(f"class_weight must hold finite numbers of zero or more; got {given!r}.")
    factors = np.array([float(given.get(label, 1.0)) for label in classes.tolist()])
    if not factors.any():
        raise InputError(f"class_weight is zero for every label of y; got {given!r}.")
    return factors


def centre_and_scale(numbers: Any, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return what standardises surveyed targets.

    It is the mean and the standard deviation, or where the survey has a sample the median and the
    spread of the quartiles. A constant target has the scale one.

    Raises
    ------
    InputError
        Where targets are too large, or too far out in units of the scale.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        centre, deviation = numbers.mean, np.sqrt(numbers.variance)
        size = np.max(np.abs(centre) + deviation)
    scale = deviation
    if numbers.sample is not None:
        centre, spread = numbers.sample.centre_and_spread()
        scale = np.where(_varies(spread, centre), spread, deviation)
    kind = "float64" if dtype == np.float64 else "float32"  # of training
    limit = LARGEST_TARGET[kind]
    if not size <= limit:
        raise InputError(
            f"y is too large to train on in {kind}: mean and standard deviation may reach "
            f"{limit:g}. Divide y by its scale, for example with "
            "sklearn.compose.TransformedTargetRegressor."
        )
    scale = np.where(_varies(scale, centre), scale, 1.0)
    reach = np.max(np.maximum(numbers.high - centre, centre - numbers.low) / scale)
    if not reach <= limit:  # which robust scales alone allow
        raise InputError(
            f"y is too far out to train on in {kind}: it reaches {reach:.3g} times the spread of "
            f"its quartiles from its median, and may reach {limit:g}. Clip y."
        )
    return centre, scale


def _varies(scale: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Where targets are not constant but for rounding."""
    return scale > 1e-12 * np.maximum(np.abs(centre), 1e-300)


def check_shares(low: Any, high: Any) -> None:
    """Raise InputError unless the least and greatest of some targets suit a cross-entropy."""
    low, high = float(np.min(low)), float(np.max(high))
    if low < 0 or high > 1:
        raise InputError(
            f"y must be from 0 to 1 for loss='cross_entropy'; it reaches from {low:g} to "
            f"{high:g}. Scale y, or use loss='squared'."
        )


def _column(y: Any) -> np.ndarray:
    """One label a row, as a flat array."""
    y = np.asarray(y)
    return y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y

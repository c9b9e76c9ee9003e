"""Learning curves: what one method did on one seed, pass by pass."""

import math
from dataclasses import dataclass
from statistics import median

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One training run.

    Attributes
    ----------
    method : str
    seed : int
    seconds : tuple of float
        Training seconds of each pass; evaluation is never in it.
    accuracy, loss : tuple of float
        Test accuracy and training loss (mean cross-entropy, without penalty) after each pass.
    before : float
        Seconds charged before the first pass.
    """

    method: str
    seed: int
    seconds: tuple
    accuracy: tuple
    loss: tuple
    before: float = 0.0

    @property
    def elapsed(self):
        """Seconds charged until the end of each pass."""
        return self.before + np.cumsum(self.seconds)

    def first_reached(self, accuracy):
        """(passes, seconds) until the test accuracy first reaches `accuracy`; infinite if never."""
        for number, reached in enumerate(self.accuracy, start=1):
            # 0.98 of 10,000 rows is a whole number of rows: compare rows, not rounding errors.
            if reached >= accuracy - 1e-9:
                return number, float(self.elapsed[number - 1])
        return math.inf, math.inf

    def loss_after(self, number):
        """Training loss after pass `number`, nan when the run was shorter."""
        return self.loss[number - 1] if len(self.loss) >= number else math.nan


def accuracy_of(probabilities, labels):
    """Fraction of rows whose most probable class is `labels`."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy_of(probabilities, labels):
    """Mean of -log p[label] over rows, with probabilities kept off zero."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.mean(np.log(np.maximum(chosen, np.finfo(np.float32).tiny))))


def in_blocks(predict, rows, block=10_000):
    """`predict(rows)` computed block by block, so that evaluation needs little memory."""
    return np.concatenate([predict(rows[i : i + block]) for i in range(0, len(rows), block)])


def median_of(values):
    """Median as a float; infinite values are allowed and sort last."""
    return float(median(values))


def paired_ratio(numerators, denominators):
    """Median over seeds of the ratio within a seed, where both runs met the same machine noise.

    A run that never got there counts as infinite; two of them give nan.
    """
    pairs = zip(numerators, denominators, strict=True)
    ratios = [n / d if math.isfinite(n) or math.isfinite(d) else math.nan for n, d in pairs]
    return math.nan if any(map(math.isnan, ratios)) else median_of(ratios)

"""Statistics of blocks of rows: values that add, so that one tree reduces them all.

A statistic is a (nested) named tuple of numbers and arrays. `combine` is its associative sum and
None its zero, which also stands for "not gathered in this step" in any of its fields.
"""

from typing import Any, NamedTuple

import numpy as np

from daskalt.kernels.workspace import recycled

__all__ = ["Score", "combine"]


def combine(a: Any, b: Any) -> Any:
    """Return the sum of two statistics; None is the zero.

    New arrays are made: a retried task must find its inputs as they were.
    """
    if a is None:
        return b
    if b is None:
        return a
    if isinstance(a, tuple):
        parts = map(combine, a, b)
        return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
    if isinstance(a, np.ndarray):
        return np.add(a, b, out=recycled(a.shape, np.result_type(a, b)))
    return a + b


class Score(NamedTuple):
    """Sums from which the loss and the quality of predictions follow.

    The regression sums are per output; `squared_error / total` is 1 - R².
    """

    weight: float = 0.0
    loss: float = 0.0
    correct: float = 0.0
    squared_error: Any = None
    target: Any = None
    target_squared: Any = None

    @property
    def mean_loss(self) -> float:
        """Mean forward loss of a row."""
        return float(self.loss / self.weight)

    @property
    def accuracy(self) -> float:
        """Weighted share of the rows with the right label."""
        return float(self.correct / self.weight)

    @property
    def r2(self) -> float:
        """Coefficient of determination, the mean over the outputs, as scikit-learn defines it."""
        total = self.target_squared - self.target**2 / self.weight
        exact = self.squared_error <= 0
        # A constant target has no variance to explain: 1 when hit exactly, else 0.
        constant = total <= 1e-12 * np.maximum(self.target_squared, 1e-300)
        ratio = np.divide(self.squared_error, total, out=np.ones_like(total), where=~constant)
        return float(np.mean(np.where(constant, np.where(exact, 1.0, 0.0), 1.0 - ratio)))

"""The problem that a network is trained on, and rows in memory, ready for it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from daskalt.data.scaling import Scaling
from daskalt.data.table import Block
from daskalt.data.targets import ClassTargets, RealTargets, Targets
from daskalt.kernels.workspace import Workspace
from daskalt.network.network import Network

__all__ = ["Problem", "Rows"]


class Rows(NamedTuple):
    """Rows in memory, ready for a solver: raw features, encoded targets, weights."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    place: int = 0  # position of the first row in a pass over whole blocks

    def part(self, start: int, stop: int) -> "Rows":
        """Return a view of some of the rows."""
        weight = None if self.weight is None else self.weight[start:stop]
        return Rows(self.X[start:stop], self.y[start:stop], weight, self.place + start)

    @property
    def total_weight(self) -> float:
        """Sum of the row weights."""
        if self.weight is None:
            return float(len(self.X))
        return float(self.weight.sum(dtype=np.float64))


@dataclass(frozen=True)
class Problem:
    """What is minimised: a network on scaled inputs and encoded targets, with an L2 penalty.

    The objective is the weighted mean of the loss plus ``penalty / 2`` times the squared weights
    (biases excepted).
    """

    network: Network
    scaling: Scaling
    targets: Targets
    penalty: float
    dtype: np.dtype
    class_factors: np.ndarray | None = None  # weight of each class's rows

    def inputs(self, X: np.ndarray, workspace: Workspace | None = None) -> np.ndarray:
        """Return the scaled inputs with a last column of ones."""
        out = None
        if workspace is not None:
            out = workspace.take("inputs", (X.shape[0], X.shape[1] + 1), self.dtype)
        return self.scaling.apply(X, self.dtype, out)

    def rows(self, block: Block) -> Rows:
        """Return a block with its targets encoded and its weights in floating point."""
        assert block.y is not None
        y = self.targets.encode(block.y, self.dtype)
        weight = block.weight
        if weight is not None:
            weight = np.ascontiguousarray(weight.ravel(), dtype=self.dtype)
        if self.class_factors is not None:
            assert isinstance(self.targets, ClassTargets)
            by_class = self.class_factors[self.targets.codes(block.y)].astype(self.dtype)
            weight = by_class if weight is None else weight * by_class
        return Rows(block.X, y, weight)

    def correct(self, z: np.ndarray, rows: Rows) -> float:
        """Return the weight of the rows predicted correctly; 0 where targets are numbers."""
        loss = self.network.loss
        # Of one-hot outputs the largest decides, not each unit by itself.
        if loss.classifies and not getattr(self.targets, "one_hot", False):
            return loss.correct(z, rows.y, rows.weight)
        hits = self.targets.hits(loss.link(z), rows.y)
        if hits is None:
            return 0.0
        return float(hits.sum() if rows.weight is None else rows.weight[hits].sum())

    @property
    def classifies(self) -> bool:
        """Whether the targets are labels."""
        return not isinstance(self.targets, RealTargets)

"""What the targets of a fit ask for."""

from typing import NamedTuple

import numpy as np

from daskalt.data.targets import Targets
from daskalt.errors import InputError
from daskalt.functions.loss import Loss

__all__ = ["Goal", "check_same_labels"]


class Goal(NamedTuple):
    """What the targets ask for."""

    targets: Targets
    loss: Loss
    class_factors: np.ndarray | None = None
    clustering: float = 1.0  # of the targets in the blocks; about 1 when shuffled
    mean: np.ndarray | None = None  # of the targets as numbers: shares of classes; None if unknown


def check_same_labels(before: Targets, now: Targets) -> None:
    """Raise InputError if a fit is to continue on other labels than those of the fit before."""
    old, new = getattr(before, "classes", None), getattr(now, "classes", None)
    if old is not None and (new is None or not np.array_equal(old, new)):
        raise InputError(
            "warm_start continues a fit on the same labels only: y has "
            f"{np.asarray(new).tolist()[:10]}, the fit before had {old.tolist()[:10]}. "
            "Set warm_start=False to start anew."
        )

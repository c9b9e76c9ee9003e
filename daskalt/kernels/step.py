"""Element-wise passes over weight matrices, fused."""

import numpy as np

from daskalt.jit import compiled
from daskalt.kernels.workspace import recycled

__all__ = ["advance", "averaged", "difference_scaled", "mean_gradient", "running_mean"]


def mean_gradient(
    total: np.ndarray,
    w: np.ndarray,
    total_weight: float,
    penalty: float,
    bias: bool = True,
    *,
    out: np.ndarray,
) -> np.ndarray:
    """Return total / total_weight - penalty × w in ``out``.

    With ``bias`` the last column is that of the biases, which have no penalty.
    """
    kind = w.dtype.type
    penalised = w.shape[1] - bias
    _mean_gradient(total, w, kind(1.0 / total_weight), kind(penalty), penalised, out)
    return out


def running_mean(
    old: np.ndarray | None, total: np.ndarray, keep: float, total_weight: float
) -> np.ndarray:
    """Return keep × old + (1 - keep) × total / total_weight; the last alone if there is no old."""
    kind = total.dtype.type
    if old is None:
        return total * kind(1.0 / total_weight)
    out = recycled(total.shape, total.dtype)
    _weighted_sum(old, kind(keep), total, kind((1.0 - keep) / total_weight), out)
    return out


def averaged(old: np.ndarray, new: np.ndarray, share: float, out: np.ndarray) -> None:
    """Write (1 - share) × old + share × new."""
    kind = new.dtype.type
    _weighted_sum(old, kind(1.0 - share), new, kind(share), out)


def difference_scaled(b: np.ndarray, x: np.ndarray, scale: float) -> None:
    """Overwrite x by scale × (b - x)."""
    _difference_scaled(b, x, x.dtype.type(scale))


def advance(
    w: np.ndarray,
    v: np.ndarray,
    d: np.ndarray,
    momentum: float,
    step: float,
    new_w: np.ndarray,
    new_v: np.ndarray,
) -> None:
    """Write the weights and velocity after a step along ``d`` with Nesterov momentum m.

    v' = m v + (1 - m) s d, and w' = w + m v' + (1 - m) s d.
    """
    kind = w.dtype.type
    _advance(w, v, d, kind(momentum), kind((1.0 - momentum) * step), new_w, new_v)


@compiled
def _mean_gradient(total, w, scale, penalty, penalised, out):
    rows, columns = w.shape
    for i in range(rows):
        for j in range(penalised):
            out[i, j] = total[i, j] * scale - penalty * w[i, j]
        for j in range(penalised, columns):
            out[i, j] = total[i, j] * scale


@compiled
def _difference_scaled(b, x, scale):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = scale * (b[i, j] - x[i, j])


@compiled
def _advance(w, v, d, keep, take, new_w, new_v):
    rows, columns = w.shape
    for i in range(rows):
        for j in range(columns):
            change = take * d[i, j]
            velocity = keep * v[i, j] + change
            new_v[i, j] = velocity
            new_w[i, j] = w[i, j] + keep * velocity + change


@compiled
def _weighted_sum(a, p, b, q, out):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = p * a[i, j] + q * b[i, j]

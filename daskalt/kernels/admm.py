"""The entry-wise update of pre-activations in the three-block ADMM."""

from __future__ import annotations

import numpy as np

from daskalt.activations import Activation
from daskalt.jit import compiled

__all__ = ["fit_pre_activations"]

Array = np.ndarray

_POINTS = 17  # tried between the two minima of the terms, where the whole has all of its minima
_NEWTON = 4  # steps from the best of them
_FAR = 8.0  # where the squashing activations are flat to single precision


def fit_pre_activations(a: Array, m: Array, gamma: float, beta: float, phi: Activation) -> Array:
    """Return the z that minimises γ (a - φ(z))² + β (z - m)², entry by entry and globally.

    In closed form for the rectifier and the identity. For the others the minima lie between m and
    the z with φ(z) = a, since φ rises: the best of some points there starts a few safeguarded
    Newton steps.

    Parameters
    ----------
    a : ndarray, (rows, width)
        Activations to come near to.
    m : ndarray, (rows, width)
        The prediction W ã + b of the layer below.
    gamma, beta : float
        Multipliers γ, β > 0.
    phi : Activation
        φ of the layer.
    """
    if phi.name == "identity":
        return (gamma * a + beta * m) / a.dtype.type(gamma + beta)
    if phi.name == "relu":
        z = np.empty_like(m)
        _fit_rectified(a, m, gamma, beta, z)
        return z

    def objective(z: Array) -> Array:
        return gamma * (a - phi.value(z)) ** 2 + beta * (z - m) ** 2

    other = _inverse(a, phi)
    z, best = m.copy(), objective(m)
    for share in np.linspace(0, 1, _POINTS)[1:]:
        trial = m + a.dtype.type(share) * (other - m)
        z, best = _better(trial, objective(trial), z, best)
    for _ in range(_NEWTON):
        error, slope = a - phi.value(z), phi.derivative(z)
        gradient = beta * (z - m) - gamma * error * slope
        curvature = beta + gamma * slope**2 - gamma * error * phi.second_derivative(z)
        trial = z - gradient / np.maximum(curvature, a.dtype.type(0.1 * beta))
        z, best = _better(trial, objective(trial), z, best)
    return z


def _better(trial: Array, value: Array, z: Array, best: Array) -> tuple[Array, Array]:
    lower = value < best
    return np.where(lower, trial, z), np.where(lower, value, best)


def _inverse(a: Array, phi: Activation) -> Array:
    """The z with φ(z) = a, or far out on its side where there is none."""
    bounds = np.array([[-_FAR, _FAR]], a.dtype)
    low, high = phi.value(bounds)[0]
    if phi.name == "tanh":
        z = np.arctanh(np.clip(a, low, high))
    elif phi.name == "logistic":
        inside = np.clip(a, low, high)
        z = np.log(inside) - np.log1p(-inside)
    else:  # softplus has no upper end
        inside = np.maximum(a, low)
        z = inside + np.log(-np.expm1(-inside))
    return z.astype(a.dtype, copy=False)


@compiled
def _fit_rectified(a, m, gamma, beta, z):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            above = z.dtype.type((gamma * a[i, j] + beta * m[i, j]) / (gamma + beta))
            above = max(above, zero)
            below = min(m[i, j], zero)
            of_above = gamma * (a[i, j] - above) ** 2 + beta * (above - m[i, j]) ** 2
            of_below = gamma * a[i, j] ** 2 + beta * (below - m[i, j]) ** 2
            z[i, j] = above if of_above <= of_below else below

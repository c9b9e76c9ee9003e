"""The entry-wise update of pre-activations in the three-block ADMM."""

from __future__ import annotations

import numpy as np

from daskalt.functions.activations import Activation

__all__ = ["fit_pre_activations"]

Array = np.ndarray

_POINTS = 17  # candidates between the minima of the two terms, where all minima of the sum are
_NEWTON = 4  # Newton steps from the best candidate


def fit_pre_activations(a: Array, m: Array, gamma: float, beta: float, phi: Activation) -> Array:
    """Return the z that minimises γ (a - φ(z))² + β (z - m)², entry by entry and globally.

    In closed form where φ has one. Otherwise, as φ increases, the minima lie between m and the z
    with φ(z) = a: safeguarded Newton steps start from the best of some points there.

    Parameters
    ----------
    a : ndarray, (rows, width)
        Target activations.
    m : ndarray, (rows, width)
        The prediction W ã + b of the layer below.
    gamma, beta : float
        Multipliers γ, β > 0.
    phi : Activation
        φ of the layer, with an inverse or a closed form.
    """
    if phi.fit is not None:
        return phi.fit(a, m, gamma, beta)
    assert phi.inverse is not None

    def objective(z: Array) -> Array:
        return gamma * (a - phi.value(z)) ** 2 + beta * (z - m) ** 2

    other = phi.inverse(a).astype(a.dtype, copy=False)
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

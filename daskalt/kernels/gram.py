"""Second moments of one block: the statistics of every least-squares update."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from daskalt.jit import compiled
from daskalt.kernels.workspace import recycled

__all__ = [
    "Pair",
    "Sketch",
    "cross",
    "cross_moments",
    "gram",
    "gram_matrix",
    "sketch",
    "weighted_gram",
]

Pair = tuple[np.ndarray, np.ndarray]  # inputs ã and residuals r of one layer

_STRIP = 256
_FEW = 64  # columns of a for which BLAS is faster at aᵀ r than at rᵀ a, by a tenth to a quarter
_TILE = 64  # a tile and its mirror image stay in the nearest cache


def gram(a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return aᵀ a, exactly symmetric, for a (rows, columns).

    Products of column strips on and below the diagonal, then one copy of the other half. NumPy's
    own route over BLAS's syrk copies it entry by entry, which takes as long as the arithmetic once
    the matrix outgrows the cache; SciPy's syrk holds the interpreter's lock.
    """
    columns = a.shape[1]
    if out is None:
        out = recycled((columns, columns), a.dtype)
    if columns <= _STRIP:
        return np.matmul(a.T, a, out=out)
    for start in range(0, columns, _STRIP):
        strip = slice(start, min(start + _STRIP, columns))
        np.matmul(a[:, strip].T, a[:, : strip.stop], out=out[strip, : strip.stop])
    _mirror(out)
    return out


def cross(r: np.ndarray, a: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return rᵀ a, (columns of r, columns of a): the moments of residuals and inputs."""
    if out is None:
        out = recycled((r.shape[1], a.shape[1]), a.dtype)
    if a.shape[1] <= _FEW and a.shape[1] < r.shape[1]:
        np.copyto(out, np.matmul(a.T, r).T)
        return out
    return np.matmul(r.T, a, out=out)


def weighted_gram(a: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return Σ w ã ãᵀ over the rows."""
    if weight is None:
        return gram(a)
    return gram(a * np.sqrt(weight, dtype=a.dtype)[:, None])


def cross_moments(pairs: Iterable[Pair]) -> np.ndarray:
    """Return Σ r ãᵀ over the rows, and over the layers that share a weight matrix."""
    (a, r), *others = pairs
    total = cross(r, a)
    for a, r in others:
        total += cross(r, a)
    return total


def gram_matrix(inputs: Iterable[np.ndarray], weight: np.ndarray | None = None) -> np.ndarray:
    """Return Σ w ã ãᵀ over the rows, and over the layers that share a weight matrix."""
    a, *others = inputs
    total = weighted_gram(a, weight)
    for a in others:
        total += weighted_gram(a, weight)
    return total


class Sketch(NamedTuple):
    """What some directions U, as columns, show of a Gram matrix A = Σ w ã ãᵀ."""

    image: np.ndarray  # A U
    rest: float  # sum of the diagonal without its last entry: that of the bias may drown it
    last: float


def sketch(
    inputs: Iterable[np.ndarray], basis: np.ndarray, weight: np.ndarray | None = None
) -> Sketch:
    """Return what the directions show of Σ w ã ãᵀ, over the rows and the layers of a matrix.

    For p inputs and k directions that takes 4 p k operations a row, and the matrix 2 p².
    """
    image, rest, last = None, 0.0, 0.0
    for a in inputs:
        own = a if weight is None else a * np.sqrt(weight, dtype=a.dtype)[:, None]
        part = cross(own, own @ basis)
        image = part if image is None else np.add(image, part, out=image)
        rest += float(np.einsum("ij,ij->", own[:, :-1], own[:, :-1]))
        last += float(np.vdot(own[:, -1], own[:, -1]))
    assert image is not None
    return Sketch(image, rest, last)


@compiled
def _mirror(c):
    """Copy the lower triangle to the upper, tile by tile."""
    n = c.shape[0]
    for top in range(0, n, _TILE):
        for left in range(0, top + 1, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(left, min(left + _TILE, i)):
                    c[j, i] = c[i, j]

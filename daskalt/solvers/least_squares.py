"""From Gram matrices to weights: damped least-squares solves, exact or by a low-rank eigenbasis."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, qr

from daskalt.errors import DivergenceError
from daskalt.kernels.step import subtract_scaled

__all__ = ["DampedGram", "damp", "ridge_solve"]


class DampedGram(NamedTuple):
    """A Gram matrix A with damping d, ready to solve X (A + d I) = B.

    Either ``factor`` is the lower Cholesky factor of A + d I, or ``basis`` holds the leading
    eigenvectors U of A (as columns) and the rest of A is taken as ``tail`` times the identity.
    """

    damping: float
    factor: np.ndarray | None = None
    basis: np.ndarray | None = None
    eigenvalues: np.ndarray | None = None
    tail: float = 0.0

    def solve(self, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return X with X (A + d I) = B for B of shape (outputs, inputs), in ``out`` if given."""
        if self.basis is None:
            x = cho_solve((self.factor, True), b.T, check_finite=False).T
            return np.ascontiguousarray(x)
        assert self.eigenvalues is not None
        # Relative to the tail's 1/(t + d), a leading direction is divided by a further (e+d)/(t+d).
        shrink = (self.eigenvalues - self.tail) / (self.eigenvalues + self.damping)
        x = np.matmul((b @ self.basis) * shrink.astype(b.dtype), self.basis.T, out=out)
        return subtract_scaled(b, x, 1.0 / (self.tail + self.damping))


def damp(
    gram: np.ndarray,
    damping: float,
    rank: int | None = None,
    basis: np.ndarray | None = None,
) -> DampedGram:
    """Return ``gram`` + ``damping`` × its mean diagonal, ready for solves.

    Parameters
    ----------
    gram : ndarray of shape (inputs, inputs)
        Mean Gram matrix A of a layer's inputs.
    damping : float
        Damping in units of the mean diagonal of A.
    rank : int or None
        Keep this many leading eigenvectors and treat the rest of the spectrum as flat, at its
        mean. A solve for n outputs then takes 4 n·inputs·rank operations rather than
        2 n·inputs². None factorises A exactly by Cholesky.
    basis : ndarray of shape (inputs, rank), optional
        Eigenbasis of an earlier, similar A: one step of subspace iteration starts from it.

    Raises
    ------
    DivergenceError
        If A is not finite or, damped, not positive definite.
    """
    size = len(gram)
    mean_diagonal = float(np.trace(gram, dtype=np.float64)) / size
    d = damping * mean_diagonal
    _check_range(gram, size * mean_diagonal + d)
    if rank is None or size <= 4 * rank:
        damped = gram.copy()
        # An exactly zero Gram matrix (dead inputs) has no scale of its own.
        damped.flat[:: size + 1] += np.asarray(d or 1.0, gram.dtype)
        return DampedGram(d, factor=_cholesky(damped))
    sweeps = 1
    if basis is None:
        basis = np.random.default_rng(0).standard_normal((size, rank)).astype(gram.dtype)
        sweeps = 2
    for _ in range(sweeps):
        basis = qr(gram @ basis, mode="economic", check_finite=False)[0]
    image = basis.T @ (gram @ basis)
    _check_range(gram, float(np.trace(image, dtype=np.float64)))
    values, rotation = eigh(image, check_finite=False)
    values = np.maximum(values, 0)
    tail = max(mean_diagonal * size - float(values.sum(dtype=np.float64)), 0.0) / (size - rank)
    return DampedGram(
        d, basis=np.ascontiguousarray(basis @ rotation), eigenvalues=values, tail=tail
    )


def ridge_solve(cross: np.ndarray, gram: np.ndarray, ridge: float) -> np.ndarray:
    """Return W = C (A + r I)⁻¹, the least-squares weights of cross moments C on Gram matrix A.

    Parameters
    ----------
    cross : ndarray of shape (outputs, inputs)
        Σ z ãᵀ over the rows.
    gram : ndarray of shape (inputs, inputs)
        Σ ã ãᵀ over the rows.
    ridge : float
        Added to the diagonal, with a small multiple of the trace where A alone is singular.

    Raises
    ------
    DivergenceError
        If A is not finite or, with the ridge, not positive definite.
    """
    size = len(gram)
    # Rounding alone can make a singular A indefinite, by about eps times its largest eigenvalue.
    trace = float(np.trace(gram, dtype=np.float64))
    speck = 4 * trace * np.finfo(gram.dtype).eps
    _check_range(gram, trace + ridge + speck)
    damped = gram.copy()
    damped.flat[:: size + 1] += np.asarray(ridge + speck or 1.0, gram.dtype)
    x = cho_solve((_cholesky(damped), True), cross.T, check_finite=False)
    return np.ascontiguousarray(x.T)


def _check_range(gram: np.ndarray, bound: float) -> None:
    """Raise DivergenceError unless all entries of a damped Gram matrix are finite.

    No entry of a Gram matrix exceeds its trace, so all are finite where that is.
    An infinite diagonal would pass the Cholesky factorisation and solve to zeros.
    """
    if not bound < float(np.finfo(gram.dtype).max):
        raise DivergenceError("A Gram matrix has non-finite entries: the activations overflowed.")


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    try:
        return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)[0]
    except np.linalg.LinAlgError as error:
        raise DivergenceError(
            "A Gram matrix is not positive definite: raise the solver's damping, or the "
            "activations have overflowed."
        ) from error

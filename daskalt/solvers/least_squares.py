"""From Gram matrices to weights: damped least-squares solves, exact or by a low-rank eigenbasis."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, eigvalsh, qr

from daskalt.errors import DivergenceError
from daskalt.kernels.step import subtract_scaled

__all__ = ["DampedGram", "damp", "ridge_solve"]


class DampedGram(NamedTuple):
    """A Gram matrix A with damping d, ready to solve X (A + d I) = B and (A + d I) X = B.

    ``size`` is the mean of its diagonal, in which the damping was given. Either ``factor`` is the
    lower Cholesky factor of A + d I, or ``basis`` holds the leading eigenvectors U of A (as
    columns) and the rest of A is taken as ``tail`` times the identity.
    """

    damping: float
    size: float
    factor: np.ndarray | None = None
    basis: np.ndarray | None = None
    eigenvalues: np.ndarray | None = None
    tail: float = 0.0

    def solve(self, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return X with X (A + d I) = B for B of shape (outputs, inputs), in ``out`` if given."""
        if self.basis is None:
            x = cho_solve((self.factor, True), b.T, check_finite=False).T
            return np.ascontiguousarray(x)
        x = np.matmul((b @ self.basis) * self._shrink(b.dtype), self.basis.T, out=out)
        return subtract_scaled(b, x, 1.0 / (self.tail + self.damping))

    def solve_left(self, b: np.ndarray) -> np.ndarray:
        """Return X with (A + d I) X = B for B of shape (outputs, inputs)."""
        if self.basis is None:
            return np.ascontiguousarray(cho_solve((self.factor, True), b, check_finite=False))
        x = self.basis @ (self._shrink(b.dtype)[:, None] * (self.basis.T @ b))
        return subtract_scaled(b, x, 1.0 / (self.tail + self.damping))

    def _shrink(self, dtype: np.dtype) -> np.ndarray:
        """Relative to the tail's 1/(t + d), a leading direction is divided by another (e+d)/(t+d).

        What is left of 1 is subtracted from it.
        """
        assert self.eigenvalues is not None
        shrink = (self.eigenvalues - self.tail) / (self.eigenvalues + self.damping)
        return shrink.astype(dtype)

    def spectrum(self, gram: np.ndarray, *, bias: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the eigenvalues of A, given too, and how many times each occurs.

        With ``bias`` they are those of what the last input, the constant one, leaves of A. Of a
        basis, every eigenvector counts without its part in that input.
        """
        if self.basis is None:
            gram = gram.astype(np.float64)
            if bias:
                gram = gram[:-1, :-1] - np.outer(gram[:-1, -1], gram[-1, :-1]) / gram[-1, -1]
            values = eigvalsh(gram, check_finite=False)
            return np.maximum(values, 0), np.ones(len(values))
        assert self.eigenvalues is not None
        own = self.basis[-1].astype(np.float64) if bias else np.zeros(len(self.eigenvalues))
        times = 1 - own**2
        times = np.append(times, len(gram) - bias - times.sum())
        return np.append(self.eigenvalues, self.tail).astype(np.float64), times


def damp(
    gram: np.ndarray,
    damping: float,
    rank: int | None = None,
    basis: np.ndarray | None = None,
    *,
    bias: bool = True,
    ridge: float = 0.0,
) -> DampedGram:
    """Return ``gram`` + ``damping`` × its mean diagonal + ``ridge``, ready for solves.

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
    bias : bool
        Whether the last input is the constant one, whose 1 must not count in the mean diagonal:
        the units of the others would change the damping.
    ridge : float
        Added to the damping, in the units of A.

    Raises
    ------
    DivergenceError
        If A is not finite or, damped, not positive definite.
    """
    size = len(gram)
    trace = float(np.trace(gram, dtype=np.float64))
    units = (trace - float(gram[-1, -1])) / (size - 1) if bias and size > 1 else trace / size
    # An exactly zero Gram matrix (dead inputs) has no scale of its own.
    d = damping * units + ridge or 1.0
    _check_range(gram, trace + d)
    if rank is None or size <= 4 * rank:
        damped = gram.copy()
        damped.flat[:: size + 1] += np.asarray(d, gram.dtype)
        return DampedGram(d, units, factor=_cholesky(damped))
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
    tail = max(trace - float(values.sum(dtype=np.float64)), 0.0) / (size - rank)
    basis = np.ascontiguousarray(basis @ rotation)
    return DampedGram(d, units, basis=basis, eigenvalues=values, tail=tail)


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

"""From Gram matrices to weights: damped least-squares solves."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from daskalt.errors import DivergenceError

__all__ = ["DampedGram", "damp", "ridge_solve"]


class DampedGram(NamedTuple):
    """A Gram matrix A with damping d, ready to solve X (A + d I) = B: its lower Cholesky factor."""

    damping: float
    factor: np.ndarray

    def solve(self, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return X with X (A + d I) = B for B of shape (outputs, inputs), in ``out`` if given."""
        x = cho_solve((self.factor, True), b.T, check_finite=False).T
        if out is None:
            return np.ascontiguousarray(x)
        out[...] = x
        return out


def damp(gram: np.ndarray, damping: float, *, bias: bool = True, ridge: float = 0.0) -> DampedGram:
    """Return ``gram`` + ``damping`` × its mean diagonal + ``ridge``, ready for solves.

    Parameters
    ----------
    gram : ndarray of shape (inputs, inputs)
        Mean Gram matrix A of a layer's inputs.
    damping : float
        Damping in units of the mean diagonal of A.
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
    damped = gram.copy()
    damped.flat[:: size + 1] += np.asarray(d, gram.dtype)
    return DampedGram(d, _cholesky(damped))


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

"""Running means of Gram matrices, damped and ready for solves.

The curvature of the loss in the weights of a layer is about C ⊗ A, with A the mean Gram matrix of
its inputs and C that of its residuals. A narrow one is kept whole; of a wide one, the leading
eigenvectors and the trace. Both classes have the same methods.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, eigvalsh

from daskalt.errors import DivergenceError
from daskalt.kernels.gram import Sketch
from daskalt.kernels.step import difference_scaled, running_mean
from daskalt.network.network import Network
from daskalt.solvers.base import Budget
from daskalt.solvers.least_squares import damp, ridge_solve

__all__ = ["ExactGram", "Gram", "LowRankGram", "steps_between", "unknown"]

NARROW = 4  # times the rank: of matrices up to this size all eigenvectors are kept

# Added to A, as a share of ‖A U‖: rounding of the products must not make Uᵀ A U indefinite.
SHIFT = 2 * float(np.finfo(np.float32).eps)

# A renewal takes as long as so many operations for each entry of the matrices. It may take this
# share of the steps between two, unless there would be less than some hundreds of them.
RENEWAL_COST, RENEWAL_SHARE, RENEWALS = 800, 0.05, 200


class ExactGram(NamedTuple):
    """A running mean A of Gram matrices, and (A + d I)⁻¹; both None before any rows.

    Attributes
    ----------
    bias : bool
        Whether the last input is the constant one, whose 1 must not count in the mean diagonal:
        the units of the others would change the damping.
    mean, inverse : ndarray of shape (size, size), or None
        A and (A + d I)⁻¹.
    damping : float
        d.
    """

    bias: bool
    mean: Any = None
    inverse: Any = None
    damping: float = 0.0

    @property
    def sought(self) -> bool:
        """That a step gathers all of the matrix."""
        return True

    @property
    def known(self) -> bool:
        """Whether there have been rows."""
        return self.inverse is not None

    @property
    def mean_diagonal(self) -> float:
        """Mean of the diagonal, without that of the bias."""
        trace = float(np.trace(self.mean, dtype=np.float64))
        return _mean_diagonal(trace, float(self.mean[-1, -1]), len(self.mean), self.bias)

    def renewed(self, total: np.ndarray, keep: float, weight: float) -> ExactGram:
        """Return the mean with the sum over rows of some weight averaged in; not damped yet."""
        old = self.mean if self.known else None
        return self._replace(mean=running_mean(old, total, keep, weight))

    def damped(self, damping: float) -> ExactGram:
        """Return it with a damping in units of its mean diagonal.

        Raises
        ------
        DivergenceError
            If A is not finite or, damped, not positive definite.
        """
        found = damp(self.mean, damping, bias=self.bias)
        inverse = found.solve(np.eye(len(self.mean), dtype=self.mean.dtype))
        return self._replace(inverse=inverse, damping=found.damping)

    def solve(self, b: np.ndarray, out: np.ndarray) -> None:
        """Write B (A + d I)⁻¹ for B of shape (outputs, size)."""
        np.matmul(b, self.inverse, out=out)

    def project(self, b: np.ndarray) -> np.ndarray:
        """Return what `solve_left` needs of all rows of B, a column of it for each of B's."""
        return b

    def solve_left(
        self, b: np.ndarray, projection: np.ndarray, rows: slice, out: np.ndarray
    ) -> None:
        """Write some rows of (A + d I)⁻¹ B, times the mean diagonal of A + d I, given these of B.

        So an A without a direction changes nothing.
        """
        scaled = self.inverse[rows] * self.inverse.dtype.type(self.mean_diagonal + self.damping)
        np.matmul(scaled, projection, out=out)

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the eigenvalues of A and how many times each occurs.

        With a bias they are those of what the constant input leaves of A.
        """
        gram = self.mean.astype(np.float64)
        if self.bias:
            gram = gram[:-1, :-1] - np.outer(gram[:-1, -1], gram[-1, :-1]) / gram[-1, -1]
        values = eigvalsh(gram, check_finite=False)
        return np.maximum(values, 0), np.ones(len(values))

    def product(self, x: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return X S for a sum S that a step gathered."""
        return x @ total

    def quotient(self, b: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return X with X S = B."""
        return ridge_solve(b, total, 0.0)


class LowRankGram(NamedTuple):
    """A running mean of Gram matrices, taken as A = U Λ Uᵀ + t (I - U Uᵀ), and a damping d.

    U has the leading eigenvectors as columns; t, the mean of the other eigenvalues, follows from
    the trace. Rows are seen through their products with U alone, (A U, trace), so that p inputs
    take memory and operations in proportion to p. A step of subspace iteration at each renewal
    turns U towards the leading eigenvectors.

    Attributes
    ----------
    bias : bool
        As in `ExactGram`.
    basis : ndarray of shape (size, rank)
        U, orthonormal; random before any rows.
    values : ndarray of shape (rank,)
        Λ.
    trace, last : float
        Sum of the diagonal of A, and its last entry.
    damping : float
        d; 0 before any rows.
    """

    bias: bool
    basis: np.ndarray
    values: np.ndarray
    trace: float = 0.0
    last: float = 0.0
    damping: float = 0.0

    @property
    def sought(self) -> np.ndarray:
        """The directions along which a step sees the matrix."""
        return self.basis

    @property
    def known(self) -> bool:
        """Whether there have been rows."""
        return self.damping > 0

    @property
    def mean_diagonal(self) -> float:
        """Mean of the diagonal, without that of the bias."""
        return _mean_diagonal(self.trace, self.last, len(self.basis), self.bias)

    @property
    def tail(self) -> float:
        """Mean of the eigenvalues whose vectors are not known."""
        size, rank = self.basis.shape
        return max(self.trace - float(self.values.sum(dtype=np.float64)), 0.0) / (size - rank)

    def renewed(self, total: Sketch, keep: float, weight: float) -> LowRankGram:
        """Return the mean with the sum over rows of some weight averaged in.

        The matrix is found from Y = A U as Y (Uᵀ Y)⁻¹ Yᵀ, Nyström's approximation, with a shift
        against rounding (Tropp, Yurtsever, Udell and Cevher, "Fixed-rank approximation of a
        positive-semidefinite matrix from streaming data", 2017, algorithm 3).

        Raises
        ------
        DivergenceError
            If the sums are out of range.
        """
        take, keep = ((1.0 - keep) / weight, keep) if self.known else (1.0 / weight, 0.0)
        u = self.basis.astype(np.float64)
        y = u * (keep * self.values) + take * total.image
        new = self._replace(
            trace=keep * self.trace + take * total.trace,
            last=keep * self.last + take * total.last,
        )
        size = float(np.sqrt(np.vdot(y, y)))
        if not size + new.trace < float(np.finfo(self.basis.dtype).max):
            raise DivergenceError(
                "A Gram matrix has non-finite entries: the activations overflowed."
            )
        shift = SHIFT * size
        if shift == 0:
            return new._replace(values=np.zeros_like(self.values))
        y += shift * u
        core = u.T @ y
        values, rotation = eigh(0.5 * (core + core.T), check_finite=False)
        half = y @ (rotation / np.sqrt(np.maximum(values, shift)))  # A + shift I ≈ half halfᵀ
        values, rotation = eigh(half.T @ half, check_finite=False)
        basis = half @ (rotation / np.sqrt(np.maximum(values, shift * SHIFT)))
        return new._replace(
            basis=basis.astype(self.basis.dtype),
            values=np.maximum(values - shift, 0.0).astype(self.values.dtype),
        )

    def damped(self, damping: float) -> LowRankGram:
        """Return it with a damping in units of its mean diagonal."""
        return self._replace(damping=damping * self.mean_diagonal or 1.0)

    def solve(self, b: np.ndarray, out: np.ndarray) -> None:
        """Write B (A + d I)⁻¹ for B of shape (outputs, size)."""
        np.matmul((b @ self.basis) * self._shrink(b.dtype), self.basis.T, out=out)
        difference_scaled(b, out, 1.0 / (self.tail + self.damping))

    def project(self, b: np.ndarray) -> np.ndarray:
        """Return what `solve_left` needs of all rows of B, a column of it for each of B's."""
        return self.basis.T @ b

    def solve_left(
        self, b: np.ndarray, projection: np.ndarray, rows: slice, out: np.ndarray
    ) -> None:
        """Write some rows of (A + d I)⁻¹ B, times the mean diagonal of A + d I, given these of B.

        So an A without a direction changes nothing.
        """
        np.matmul(self.basis[rows] * self._shrink(b.dtype), projection, out=out)
        scale = (self.mean_diagonal + self.damping) / (self.tail + self.damping)
        difference_scaled(b, out, scale)

    def _shrink(self, dtype: np.dtype) -> np.ndarray:
        """Relative to the tail's 1/(t + d), a leading direction is divided by another (λ+d)/(t+d).

        What is left of 1 is subtracted from it.
        """
        values = self.values.astype(np.float64)
        return ((values - self.tail) / (values + self.damping)).astype(dtype)

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the eigenvalues of A and how many times each occurs.

        With a bias, every eigenvector counts without its part in the constant input.
        """
        times = 1 - (self.basis[-1].astype(np.float64) * self.bias) ** 2
        times = np.append(times, len(self.basis) - self.bias - times.sum())
        return np.append(self.values.astype(np.float64), self.tail), times

    def product(self, x: np.ndarray, total: Sketch) -> np.ndarray:
        """Return X S for a sum S that a step gathered, taken as U (Uᵀ S U) Uᵀ + t (I - U Uᵀ)."""
        core, tail = self._parts(total)
        inner = x @ self.basis
        return tail * x + (inner @ core - tail * inner) @ self.basis.T

    def quotient(self, b: np.ndarray, total: Sketch) -> np.ndarray:
        """Return X with X S = B."""
        core, tail = self._parts(total)
        inner = b @ self.basis
        return b / tail + (ridge_solve(inner, core, 0.0) - inner / tail) @ self.basis.T

    def _parts(self, total: Sketch) -> tuple[np.ndarray, Any]:
        """Uᵀ S U and t: sums over rows, as S is."""
        core = self.basis.T @ total.image
        size, rank = self.basis.shape
        rest = max(total.trace - float(np.trace(core, dtype=np.float64)), 0.0) / (size - rank)
        kind = core.dtype.type
        # Where nothing is left it must not be divided by zero.
        return 0.5 * (core + core.T), kind(rest + SHIFT * total.trace or 1.0)


Gram = ExactGram | LowRankGram


def unknown(size: int, rank: int | None, dtype: np.dtype, *, bias: bool) -> Gram:
    """Return a Gram matrix before any rows: of low rank if it is wide."""
    if rank is None or size <= NARROW * rank:
        return ExactGram(bias)
    directions = np.random.default_rng(0).standard_normal((size, rank), dtype=np.float32)
    basis = np.linalg.qr(directions.astype(dtype))[0]
    return LowRankGram(bias, basis, np.zeros(rank, dtype))


def steps_between(network: Network, budget: Budget) -> int:
    """Return how many steps there are between two renewals of Gram matrices, 1 to 10."""
    rows = max((budget.weight or 0.0) / (budget.pass_steps or 1), 1.0)
    renewal = RENEWAL_COST * (network.gram_flops + network.residual_gram_flops)
    cheap = round(renewal / (RENEWAL_SHARE * rows * 3 * network.flops))
    return int(np.clip(cheap, 1, np.clip((budget.steps or 0) // RENEWALS, 3, 10)))


def _mean_diagonal(trace: float, last: float, size: int, bias: bool) -> float:
    return (trace - last) / (size - 1) if bias and size > 1 else trace / size

"""Running means of Gram matrices, damped and ready for solves.

The curvature of the loss in the weights of a layer is about C ⊗ A, with A the mean Gram matrix of
its inputs and C that of its residuals. A narrow one is kept whole; of a wide one, the leading
eigenvectors and the trace. Both classes have the same methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from daskalt.compute.hands import spread
from daskalt.errors import DivergenceError
from daskalt.kernels.gram import Sketch
from daskalt.kernels.step import difference_scaled, running_mean
from daskalt.solvers.least_squares import damp, ridge_solve

__all__ = ["ExactGram", "Gram", "LowRankGram", "renewed", "unknown"]

NARROW = 4  # times the rank: of matrices up to this size all eigenvectors are kept

WORTH_SHARING = 1500  # rows of wide matrices; fewer are renewed sooner by one thread

# Added to A, as a share of ‖A U‖: rounding of the products must not make Uᵀ A U indefinite.
SHIFT = 2 * float(np.finfo(np.float32).eps)


class ExactGram(NamedTuple):
    """A running mean A of Gram matrices, and (A + d I)⁻¹; both None before any rows.

    Attributes
    ----------
    bias : bool
        Whether the last input is the constant one, whose 1 must not count in the mean diagonal:
        the units of the others would change the damping.
    mean, inverse : ndarray of shape (size, size), or None
        A and (A + d I)⁻¹.
    damping, unit : float
        d, and the mean diagonal of A + d I.
    """

    bias: bool
    mean: Any = None
    inverse: Any = None
    damping: float = 0.0
    unit: float = 0.0

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
        d = found.damping
        return self._replace(inverse=inverse, damping=d, unit=self.mean_diagonal + d)

    def solve(self, b: np.ndarray, out: np.ndarray) -> None:
        """Write B (A + d I)⁻¹ for B of shape (outputs, size)."""
        np.matmul(b, self.inverse, out=out)

    def seen_left(self, b: np.ndarray, rows: slice) -> None:
        """Return what `solve_left` needs to know of all rows of B: they are not divided."""

    def solve_left(self, b: np.ndarray, seen: None, rows: slice, out: np.ndarray) -> None:
        """Write (A + d I)⁻¹ B, times the mean diagonal of A + d I.

        So an A without a direction changes nothing.
        """
        np.matmul(self.inverse * b.dtype.type(self.unit), b, out=out)

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
    the trace. Rows are seen through A U and the diagonal's sum alone, so that p inputs take memory
    and operations in proportion to p. A step of subspace iteration at each renewal
    turns U towards the leading eigenvectors.

    Attributes
    ----------
    bias : bool
        As in `ExactGram`.
    basis : ndarray of shape (size, rank)
        U, orthonormal; random before any rows.
    values : ndarray of shape (rank,)
        Λ.
    rest, last : float
        Sum of the diagonal of A without its last entry, and that.
    damping : float
        d; 0 before any rows.
    tail : float
        t.
    shrink : ndarray of shape (rank,), or None
        Relative to the tail's 1/(t + d), a direction of (A + d I)⁻¹ is divided by another
        (λ + d)/(t + d): what is left of 1.
    """

    bias: bool
    basis: np.ndarray
    values: np.ndarray
    rest: float = 0.0
    last: float = 0.0
    damping: float = 0.0
    tail: float = 0.0
    shrink: Any = None

    @property
    def sought(self) -> np.ndarray:
        """The directions along which a step sees the matrix."""
        return self.basis

    @property
    def known(self) -> bool:
        """Whether there have been rows."""
        return self.shrink is not None

    @property
    def mean_diagonal(self) -> float:
        """Mean of the diagonal, without that of the bias."""
        size = len(self.basis)
        return self.rest / (size - 1) if self.bias else (self.rest + self.last) / size

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
            rest=keep * self.rest + take * total.rest,
            last=keep * self.last + take * total.last,
        )
        size = float(np.sqrt(np.vdot(y, y)))
        if not size + new.rest + new.last < float(np.finfo(self.basis.dtype).max):
            raise DivergenceError(
                "A Gram matrix has non-finite entries: the activations overflowed."
            )
        shift = SHIFT * size
        if shift == 0:
            return new._replace(values=np.zeros_like(self.values))
        y += shift * u
        half = y @ _inverse_root(u.T @ y, shift)  # A + shift I ≈ half halfᵀ
        values, rotation = np.linalg.eigh(half.T @ half)
        basis = half @ (rotation / np.sqrt(np.maximum(values, shift * SHIFT)))
        # Rounding: it must not let columns of zeros, as of dead units, and the bias touch.
        basis[np.abs(basis) < SHIFT] = 0
        return new._replace(
            basis=basis.astype(self.basis.dtype),
            values=np.maximum(values - shift, 0.0).astype(self.values.dtype),
        )

    def damped(self, damping: float) -> LowRankGram:
        """Return it with a damping in units of its mean diagonal."""
        size, rank = self.basis.shape
        d = damping * self.mean_diagonal or 1.0
        values = self.values.astype(np.float64)
        tail = max(self.rest + self.last - float(values.sum()), 0.0) / (size - rank)
        shrink = ((values - tail) / (values + d)).astype(self.basis.dtype)
        return self._replace(damping=d, tail=tail, shrink=shrink)

    def solve(self, b: np.ndarray, out: np.ndarray) -> None:
        """Write B (A + d I)⁻¹ for B of shape (outputs, size)."""
        self.solve_right(b, b @ self.basis, slice(None), out)

    def seen_right(self, b: np.ndarray, columns: slice) -> np.ndarray:
        """Return what some columns of B add to B U."""
        return b @ self.basis[columns]

    def solve_right(self, b: np.ndarray, seen: np.ndarray, columns: slice, out: np.ndarray) -> None:
        """Write some columns of B (A + d I)⁻¹, given these of B, and B U."""
        np.matmul(seen * self.shrink, self.basis[columns].T, out=out)
        difference_scaled(b, out, 1.0 / (self.tail + self.damping))

    def seen_left(self, b: np.ndarray, rows: slice) -> np.ndarray:
        """Return what some rows of B add to Uᵀ B."""
        return self.basis[rows].T @ b

    def solve_left(self, b: np.ndarray, seen: np.ndarray, rows: slice, out: np.ndarray) -> None:
        """Write some rows of (A + d I)⁻¹ B, times the mean diagonal of A + d I, given these of B.

        So an A without a direction changes nothing. ``seen`` is Uᵀ B.
        """
        np.matmul(self.basis[rows] * self.shrink, seen, out=out)
        scale = (self.mean_diagonal + self.damping) / (self.tail + self.damping)
        difference_scaled(b, out, scale)

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
        trace = total.rest + total.last
        rest = max(trace - float(np.trace(core, dtype=np.float64)), 0.0) / (size - rank)
        kind = core.dtype.type
        # Where nothing is left it must not be divided by zero.
        return 0.5 * (core + core.T), kind(rest + SHIFT * trace or 1.0)


Gram = ExactGram | LowRankGram


def unknown(size: int, rank: int | None, dtype: np.dtype, *, bias: bool) -> Gram:
    """Return a Gram matrix before any rows: of low rank if it is wide."""
    if rank is None or size <= NARROW * rank:
        return ExactGram(bias)
    directions = np.random.default_rng(0).standard_normal((size, rank), dtype=np.float32)
    basis = np.linalg.qr(directions.astype(dtype))[0]
    return LowRankGram(bias, basis, np.zeros(rank, dtype))


def renewed(
    grams: Sequence[Gram],
    totals: Sequence[Any],
    keeps: Sequence[float],
    weight: float,
    dampings: Sequence[float],
    anew: bool,
) -> tuple[Gram, ...]:
    """Return Gram matrices with sums over rows of some weight averaged in, where there are any.

    Parameters
    ----------
    grams, totals : sequence of Gram, sequence
        The running means, and the sums of a step or None.
    keeps : sequence of float
        Share of each old mean.
    weight : float
        Of the rows.
    dampings : sequence of float
        In units of the mean diagonals.
    anew : bool
        Whether to damp those without a sum, too, since dampings have changed.
    """

    def renew(gram: Gram, total: Any, keep: float, damping: float) -> Gram:
        if total is not None:
            return gram.renewed(total, keep, weight).damped(damping)
        return gram.damped(damping) if anew and gram.known else gram

    parts = list(zip(grams, totals, keeps, dampings, strict=True))
    wide = sum(len(own.basis) for own in grams if isinstance(own, LowRankGram))
    return tuple(spread(renew, parts) if wide >= WORTH_SHARING else starmap(renew, parts))


def _inverse_root(core: np.ndarray, least: float) -> np.ndarray:
    """Return R with R Rᵀ = K⁻¹ for a positive definite K, whose eigenvalues are ``least`` or more.

    By a Cholesky factor; by eigenvectors if rounding has made K indefinite after all.
    """
    try:
        return np.linalg.inv(np.linalg.cholesky(core)).T
    except np.linalg.LinAlgError:
        values, rotation = np.linalg.eigh(0.5 * (core + core.T))
        return rotation / np.sqrt(np.maximum(values, least))


def _mean_diagonal(trace: float, last: float, size: int, bias: bool) -> float:
    return (trace - last) / (size - 1) if bias and size > 1 else trace / size

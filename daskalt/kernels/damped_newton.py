"""Damped Newton steps of the auxiliary pre-activations of one block, for the L2 relaxation

    ℓ(z_L, y) + Σ_l μ_l ‖z_l - W_l a_{l-1} - b_l‖².

Rows are independent. The step of a row is shortened until its objective does not rise; a row that
no step improves does not move. Row sums are in float64.

The steps of a hidden layer solve one small system for each row, in the cheapest way: by the
Woodbury identity where the next layer is narrow, by Cholesky where the layer itself is narrow, else
by conjugate gradients, with products of whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from daskalt.functions.activations import Activation
from daskalt.functions.loss import Loss
from daskalt.jit import compiled
from daskalt.kernels.rowwise import square_norms
from daskalt.kernels.systems import (
    conjugate_gradients,
    solve_diagonal_less_rank_one,
    solve_directly,
    solve_packed,
)
from daskalt.kernels.workspace import Workspace, empty

__all__ = ["Coupling", "hidden_newton", "output_newton"]

Array = np.ndarray

_TRIALS, _SHORTER = 6, 0.25  # step lengths of a row: 1, 1/4, ... 1/1024
_NARROW = 16  # a row's system of up to so many unknowns is solved directly
_PIECE = 1 << 18  # entries of a piece of rows, so that its arrays stay in cache
_CURVATURE = 0.5  # least part of μ that φ'' may leave on the diagonal


def output_newton(z: Array, m: Array, y: Array, mu: float, loss: Loss, sweeps: int = 1) -> Array:
    """Return z after damped Newton steps on ℓ(z, y) + μ ‖z - m‖² in each row.

    The model of the Hessian is diag(d + 2μ) - u uᵀ, which Sherman and Morrison's formula inverts.

    Parameters
    ----------
    z : ndarray, (rows, K)
        Where to start; unchanged.
    m : ndarray, (rows, K)
        The prediction W a + b of the layer below.
    y : ndarray
        Targets, as `loss` takes them.
    mu : float
        Multiplier of the coupling, > 0.
    loss : Loss
        The loss with its link.
    sweeps : int
        Number of Newton steps.
    """

    def objective(z: Array, rows: Array) -> Array:
        return loss.value(z, y[rows]) + mu * square_norms(z - m[rows])

    def direction(z: Array) -> Array:
        # In float64, or a small μ would drown in the rounding of d - u².
        z = z.astype(np.float64)
        gradient = loss.gradient(z, y) + 2 * mu * (z - m)
        d, u = loss.hessian(z, y)
        return solve_diagonal_less_rank_one(d + 2 * mu, u, -gradient)

    return _descend(z, objective, direction, sweeps)


@dataclass(frozen=True)
class Coupling:
    """The terms of a hidden layer's z: μ ‖z - m‖² + μ' ‖z' - W' φ(z) - b'‖².

    Attributes
    ----------
    W : ndarray, (next width, width + 1)
        [W' b'] of the layer above.
    mu, mu_next : float
        The multipliers μ, μ' > 0.
    phi : Activation
        φ of this layer.
    """

    W: Array
    mu: float
    mu_next: float
    phi: Activation

    def errors(self, z_next: Array, a: Array, out: Array | None = None) -> Array:
        """Return z' - b' - W' a."""
        out = np.matmul(a, self.W[:, :-1].T, out=out)
        return np.subtract(z_next - self.W[:, -1], out, out=out)

    def objective(self, z: Array, m: Array, errors: Array) -> Array:
        """Return the value of each row, in float64."""
        return self.mu * square_norms(z, m) + self.mu_next * square_norms(errors)


def hidden_newton(
    z: Array,
    m: Array,
    z_next: Array,
    coupling: Coupling,
    sweeps: int = 1,
    *,
    iterations: int = 30,
    m_next: Array | None = None,
    out: Array | None = None,
    residual: Array | None = None,
    activation: Array | None = None,
    workspace: Workspace | None = None,
) -> tuple[Array, Array]:
    """Return z after damped Newton steps on a hidden layer's objective in each row,

        μ ‖z - m‖² + μ' ‖z' - W' φ(z) - b'‖²,

    and the residual z' - W' φ(z) - b' there.

    With e the residual and D = diag φ'(z), a step solves

        (diag(h) + μ' D W'ᵀ W' D) p = -gradient / 2,   h = μ - μ' φ''(z) ∘ W'ᵀ e,

    where φ'' is dropped, h = μ, for the units at which it leaves less than half of μ, so that the
    system is positive definite.

    Parameters
    ----------
    z : ndarray, (rows, width)
        Where to start; unchanged unless it is ``out``.
    m : ndarray, (rows, width)
        The prediction W a + b of the layer below.
    z_next : ndarray, (rows, next width)
        Pre-activations z' of the layer above.
    coupling : Coupling
        Weights above and multipliers.
    sweeps : int
        Number of Newton steps.
    iterations : int
        Most iterations of conjugate gradients for a step, where they are used.
    m_next : ndarray, (rows, next width), optional
        W' φ(z) + b' for the z given, if it is known.
    out : ndarray, (rows, width), optional
        Receives z.
    residual : ndarray, (rows, next width), optional
        Receives the residual.
    activation : ndarray, (rows, width), optional
        Receives φ of the z returned; it may be part of a wider array.
    workspace : Workspace, optional
        Holds temporary arrays.
    """
    out = np.empty_like(z) if out is None else out
    residual = np.empty_like(z_next) if residual is None else residual
    activation = np.empty_like(z) if activation is None else activation
    pairs = _outer_products(coupling.W) if _takes_woodbury(coupling.W) else None
    size = max(16, _PIECE // z.shape[1])
    for start in range(0, len(z), size):
        rows = slice(start, start + size)
        out[rows] = z[rows]
        piece = _Piece(
            coupling,
            z=out[rows],
            a=activation[rows],
            errors=residual[rows],
            m=m[rows],
            z_next=z_next[rows],
            workspace=workspace,
        )
        piece.begin(None if m_next is None else m_next[rows])
        for _ in range(sweeps):
            piece.step(pairs, iterations)
    return out, residual


@dataclass(frozen=True)
class _Piece:
    """Some rows of a block while their z moves; ``a`` and ``errors`` always belong to z."""

    coupling: Coupling
    z: Array
    a: Array
    errors: Array
    m: Array
    z_next: Array
    workspace: Workspace | None

    def begin(self, m_next: Array | None) -> None:
        """Fill a and errors."""
        np.copyto(self.a, self.z)
        self.coupling.phi.apply(self.a)
        if m_next is None:
            self.coupling.errors(self.z_next, self.a, out=self.errors)
        else:
            np.subtract(self.z_next, m_next, out=self.errors)

    def step(self, pairs: Array | None, iterations: int) -> None:
        """One damped Newton step of every row that can still improve."""
        c = self.coupling
        back = np.matmul(self.errors, c.W[:, :-1], out=self._take("back"))
        g = back  # becomes -gradient / 2
        if c.phi.bends:
            g = self._take("g")
            np.copyto(g, back)
        c.phi.backpropagate(g, self.a)
        _downhill(self.z, self.m, g, c.mu, c.mu_next)
        before = c.objective(self.z, self.m, self.errors)
        # Rounding errors: a smaller decrease counts as none.
        targets = square_norms(self.z_next)
        margin = 8 * np.finfo(g.dtype).eps * (before + c.mu_next * targets)
        # By its model no step lowers a row's objective by more than |g|² over the least of h.
        most = square_norms(g) / (c.mu * (_CURVATURE if c.phi.bends else 1))
        rows = np.flatnonzero(most > margin)
        goals = before[rows] - margin[rows]
        if len(rows) == len(g):
            self._move(self._direction(g, back, pairs, iterations), goals)
        elif len(rows):
            part = self._gather(rows)
            g = np.take(g, rows, axis=0)
            back = np.take(back, rows, axis=0) if c.phi.bends else g
            part._move(part._direction(g, back, pairs, iterations), goals)
            self.z[rows], self.a[rows], self.errors[rows] = part.z, part.a, part.errors

    def _gather(self, rows: Array) -> _Piece:
        """A copy of some rows."""
        return _Piece(
            self.coupling,
            z=self.z[rows],
            a=self.a[rows],
            errors=self.errors[rows],
            m=self.m[rows],
            z_next=self.z_next[rows],
            workspace=self.workspace,
        )

    def _direction(self, g: Array, back: Array, pairs: Array | None, iterations: int) -> Array:
        """The Newton step; ``back`` is W'ᵀ e, and g is overwritten."""
        c = self.coupling
        slope = self._take("slope")
        slope.fill(1)
        c.phi.backpropagate(slope, self.a)
        h = self._take("h")
        h.fill(c.mu)
        if c.phi.bends:
            _add_curvature(h, c.phi.second_derivative(self.z), back, c.mu, c.mu_next)
        p = self._take("p")
        if pairs is not None:
            self._solve_by_woodbury(slope, h, g, pairs, p)
        elif self.z.shape[1] <= _NARROW:
            W = np.ascontiguousarray(c.W[:, :-1])
            solve_directly(W.T @ W, slope, h, g, c.mu_next, p)
        else:
            self._solve_by_gradients(slope, h, g, iterations, p)
        return p

    def _solve_by_woodbury(self, slope: Array, h: Array, g: Array, pairs: Array, p: Array) -> None:
        """p = (diag(h) + μ' D WᵀW D)⁻¹ g by a system of the next layer's width."""
        W = self.coupling.W[:, :-1]
        s, q = self._take("s"), self._take("q")
        _divide(slope, h, g, s, p, q)  # s = slope²/h, p = g/h, q = slope ∘ p
        systems = s @ pairs.T
        y = q @ W.T
        solve_packed(systems, 1.0 / self.coupling.mu_next, y)
        np.matmul(y, W, out=q)
        _subtract_product(p, slope, h, q)

    def _solve_by_gradients(
        self, slope: Array, h: Array, g: Array, iterations: int, p: Array
    ) -> None:
        W, mu_next = self.coupling.W[:, :-1], self.coupling.mu_next
        image, scaled = self._take("s"), self._take("q")

        def apply(v: Array) -> Array:
            np.multiply(slope, v, out=scaled)
            np.matmul(scaled @ W.T, W, out=image)
            _add_diagonal(image, slope, h, v, mu_next)
            return image

        conjugate_gradients(apply, g, iterations, p)

    def _move(self, p: Array, goals: Array) -> None:
        """Take the steps p, each shortened until the row's objective is no more than its goal."""
        rows, share = np.arange(len(p)), 1.0
        for _ in range(_TRIALS):
            z = self.z[rows] + p[rows] * p.dtype.type(share)
            a = self.coupling.phi.value(z)
            errors = self.coupling.errors(self.z_next[rows], a)
            good = self.coupling.objective(z, self.m[rows], errors) <= goals[rows]
            chosen = rows[good]
            self.z[chosen], self.a[chosen], self.errors[chosen] = z[good], a[good], errors[good]
            rows = rows[~good]
            if not len(rows):
                break
            share *= _SHORTER

    def _take(self, name: str) -> Array:
        return empty(self.workspace, f"newton {name}", self.m.shape, self.m.dtype)


def _takes_woodbury(W: Array) -> bool:
    above, width = W.shape[0], W.shape[1] - 1
    return above <= _NARROW and above <= width


def _outer_products(W: Array) -> Array:
    """W_i ∘ W_j for j ≤ i, one a row: diag(s) between them gives the entries of W diag(s) Wᵀ."""
    i, j = np.tril_indices(len(W))
    return W[i, :-1] * W[j, :-1]


def _descend(
    z: Array,
    objective: Callable[[Array, Array], Array],
    direction: Callable[[Array], Array],
    sweeps: int,
) -> Array:
    """Return z after steps along `direction`, shortened in each row until its objective falls.

    ``objective(z, rows)`` takes the float64 pre-activations of some rows, given by number.
    """
    z = z.copy()
    for _ in range(sweeps):
        p = direction(z)
        rows, share = np.arange(len(z)), 1.0
        best = objective(z.astype(np.float64), rows)
        for _ in range(_TRIALS):
            trial = (z[rows] + share * p[rows]).astype(z.dtype, copy=False)
            # Written so that a row whose objective becomes NaN is not accepted.
            better = objective(trial.astype(np.float64), rows) <= best[rows]
            z[rows[better]] = trial[better]
            rows = rows[~better]
            if not len(rows):
                break
            share *= _SHORTER
    return z


# The element-wise passes. Constants take the type of the arrays, or float32 would be promoted.


@compiled
def _downhill(z, m, g, mu, mu_next):
    """g = mu_next g - mu (z - m)."""
    ours, theirs = z.dtype.type(mu), z.dtype.type(mu_next)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            g[i, j] = theirs * g[i, j] - ours * (z[i, j] - m[i, j])


@compiled
def _add_curvature(h, second, back, mu, mu_next):
    theirs, least = h.dtype.type(mu_next), h.dtype.type(_CURVATURE * mu)
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            curved = h[i, j] - theirs * second[i, j] * back[i, j]
            if curved >= least:
                h[i, j] = curved


@compiled
def _divide(slope, h, g, s, p, q):
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            inverse = 1 / h[i, j]
            s[i, j] = slope[i, j] * slope[i, j] * inverse
            p[i, j] = g[i, j] * inverse
            q[i, j] = slope[i, j] * p[i, j]


@compiled
def _subtract_product(p, slope, h, q):
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] -= slope[i, j] / h[i, j] * q[i, j]


@compiled
def _add_diagonal(image, slope, h, v, mu_next):
    theirs = image.dtype.type(mu_next)
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            image[i, j] = h[i, j] * v[i, j] + theirs * slope[i, j] * image[i, j]

"""Damped Newton steps of the auxiliary pre-activations of one block, for the L2 relaxation

    ℓ(z_L, y) + Σ_l μ_l ‖z_l - W_l a_{l-1} - b_l‖².

Rows are independent. A row moves only where its own objective does not rise: its step is halved
until then, and a row that no step improves stays where it is. Row sums are in float64.

The steps of a hidden layer solve one small system a row, by what is cheapest: by the Woodbury
identity where the next layer is narrow, by Cholesky where the layer itself is, else by conjugate
gradients, whose products are of whole blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from daskalt.activations import Activation
from daskalt.jit import compiled
from daskalt.kernels.workspace import Workspace, empty
from daskalt.losses import Loss

__all__ = ["Coupling", "hidden_newton", "output_newton", "square_norms"]

Array = np.ndarray

_HALVINGS = 20
# Conjugate gradients end where a row's residual is this part of its gradient. A direction that is
# not yet exact is a descent direction all the same.
_TOLERANCE = 1e-4
_NARROW = 16  # a row's system of so many unknowns is solved directly
_PIECE = 1 << 18  # entries of a piece of rows, so that its arrays stay in cache
_CURVATURE = 0.5  # least part of μ that φ'' may leave on the diagonal


def output_newton(z: Array, m: Array, y: Array, mu: float, loss: Loss, sweeps: int = 1) -> Array:
    """Return z after damped Newton steps on ℓ(z, y) + μ ‖z - m‖² in each row.

    The model of the Hessian is diag(d + 2μ) - u uᵀ, which Sherman and Morrison's formula inverts.

    Parameters
    ----------
    z : ndarray, (rows, K)
        Where to start; left as it is.
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
        return _solve_diagonal_less_rank_one(d + 2 * mu, u, -gradient)

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
    out: Array | None = None,
    residual: Array | None = None,
    workspace: Workspace | None = None,
) -> tuple[Array, Array]:
    """Return z after damped Newton steps on a hidden layer's objective in each row,

        μ ‖z - m‖² + μ' ‖z' - W' φ(z) - b'‖²,

    and the residual z' - W' φ(z) - b' there.

    With e the residual and D = diag φ'(z), a step solves

        (diag(h) + μ' D W'ᵀ W' D) p = -gradient / 2,   h = μ - μ' φ''(z) ∘ W'ᵀ e,

    where φ'' is dropped, h = μ, for the units at which it leaves less than half of μ: so the system
    is positive definite.

    Parameters
    ----------
    z : ndarray, (rows, width)
        Where to start; left as it is unless it is ``out``.
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
    out : ndarray, (rows, width), optional
        Receives z.
    residual : ndarray, (rows, next width), optional
        Receives the residual.
    workspace : Workspace, optional
        Holds what is needed for the moment.
    """
    out = np.empty_like(z) if out is None else out
    residual = np.empty_like(z_next) if residual is None else residual
    pairs = _outer_products(coupling.W) if _takes_woodbury(coupling.W) else None
    size = max(16, _PIECE // z.shape[1])
    for start in range(0, len(z), size):
        rows = slice(start, start + size)
        piece = _Piece(
            z[rows], m[rows], z_next[rows], coupling, out[rows], residual[rows], workspace
        )
        for _ in range(sweeps):
            piece.step(pairs, iterations)
    return out, residual


class _Piece:
    """Some rows of a block while their z moves in ``out``; ``errors`` are always those of out."""

    def __init__(
        self,
        z: Array,
        m: Array,
        z_next: Array,
        coupling: Coupling,
        out: Array,
        errors: Array,
        workspace: Workspace | None,
    ) -> None:
        self.z, self.m, self.z_next, self.coupling = out, m, z_next, coupling
        self.errors, self.workspace = errors, workspace
        if out is not z:
            out[:] = z
        self.a = self._take("a")
        self._activate(out)
        coupling.errors(z_next, self.a, out=errors)

    def step(self, pairs: Array | None, iterations: int) -> None:
        """One damped Newton step of every row."""
        c = self.coupling
        back = np.matmul(self.errors, c.W[:, :-1], out=self._take("back"))
        slope = self._take("slope")
        slope.fill(1)
        c.phi.backpropagate(slope, self.a)
        h = self._take("h")
        h.fill(c.mu)
        if c.phi.bends:
            _add_curvature(h, c.phi.second_derivative(self.z), back, c.mu, c.mu_next)
        g = back  # becomes -gradient / 2
        _downhill(self.z, self.m, slope, g, c.mu, c.mu_next)
        # By its model no step lowers a row's objective by more than this, since h ≥ μ / 2.
        most = 2 / c.mu * square_norms(g)
        p = self._take("p")
        if pairs is not None:
            self._solve_by_woodbury(slope, h, g, pairs, p)
        elif self.z.shape[1] <= _NARROW:
            W = np.ascontiguousarray(c.W[:, :-1])
            _solve_directly(W.T @ W, slope, h, g, c.mu_next, p)
        else:
            self._solve_by_gradients(slope, h, g, iterations, p)
        self._move(p, most)

    def _solve_by_woodbury(self, slope: Array, h: Array, g: Array, pairs: Array, p: Array) -> None:
        """p = (diag(h) + μ' D WᵀW D)⁻¹ g by a system of the next layer's width."""
        W = self.coupling.W[:, :-1]
        s, q = self._take("s"), self._take("q")
        _divide(slope, h, g, s, p, q)  # s = slope²/h, p = g/h, q = slope ∘ p
        systems = s @ pairs.T
        y = q @ W.T
        _solve_packed(systems, 1.0 / self.coupling.mu_next, y)
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

        _conjugate_gradients(apply, g, iterations, p)

    def _move(self, p: Array, most: Array) -> None:
        """Take the steps p, each halved until it does no harm."""
        c = self.coupling
        before = c.objective(self.z, self.m, self.errors)
        # Rounding of the errors: what is less than this is no fall.
        targets = square_norms(self.z_next)
        margin = 8 * np.finfo(self.z.dtype).eps * (before + c.mu_next * targets)
        before -= margin
        trial = np.add(self.z, p, out=self._take("s"))
        self._activate(trial)
        errors = c.errors(self.z_next, self.a)
        good = c.objective(trial, self.m, errors) <= before
        _copy_rows(good, trial, self.z)
        _copy_rows(good, errors, self.errors)
        rows = np.flatnonzero(~good & (most > margin))
        for halving in range(1, _HALVINGS):
            if not len(rows):
                break
            z = (self.z[rows] + 0.5**halving * p[rows]).astype(self.z.dtype, copy=False)
            errors = c.errors(self.z_next[rows], c.phi.value(z))
            good = c.objective(z, self.m[rows], errors) <= before[rows]
            self.z[rows[good]], self.errors[rows[good]] = z[good], errors[good]
            rows = rows[~good]
        self._activate(self.z)

    def _activate(self, z: Array) -> None:
        np.copyto(self.a, z)
        self.coupling.phi.apply(self.a)

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
    """Return z after steps along `direction`, each halved in every row until it does no harm.

    ``objective(z, rows)`` takes the float64 pre-activations of some rows, given by number.
    """
    z = z.copy()
    for _ in range(sweeps):
        p = direction(z)
        rows = np.arange(len(z))
        best = objective(z.astype(np.float64), rows)
        for halving in range(_HALVINGS):
            trial = (z[rows] + 0.5**halving * p[rows]).astype(z.dtype, copy=False)
            # Written so that a row whose objective becomes NaN is not accepted.
            better = objective(trial.astype(np.float64), rows) <= best[rows]
            z[rows[better]] = trial[better]
            rows = rows[~better]
            if not len(rows):
                break
    return z


def _solve_diagonal_less_rank_one(d: Array, u: Array | None, g: Array) -> Array:
    """Return the solution p of (diag(d) - u uᵀ) p = g in each row."""
    if u is None:
        return g / d
    scaled = u / d
    capacity = 1 - np.sum(scaled * u, axis=1, keepdims=True)
    return g / d + scaled * (np.sum(scaled * g, axis=1, keepdims=True) / capacity)


def _conjugate_gradients(
    apply: Callable[[Array], Array], g: Array, iterations: int, p: Array
) -> None:
    """Fill p with apply(p) ≈ g for every row at once, `apply` being positive definite in each.

    The products are of whole blocks, the step sizes of single rows; a row that has converged
    takes steps of size zero. g is overwritten.
    """
    p.fill(0)
    r = g
    q = r.copy()
    rr = square_norms(r)
    goal = _TOLERANCE**2 * rr
    for _ in range(min(iterations, g.shape[1] + 1)):
        active = rr > goal
        if not active.any():
            break
        Aq = apply(q)
        alpha = _ratio(rr, _dots(q, Aq), active).astype(g.dtype)
        _add_scaled(p, alpha, q)
        _add_scaled(r, -alpha, Aq)
        rr_new = square_norms(r)
        _scale_and_add(q, _ratio(rr_new, rr, active).astype(g.dtype), r)
        rr = np.where(active, rr_new, rr)


def _ratio(a: Array, b: Array, where: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=where)


def _dots(a: Array, b: Array) -> Array:
    return np.einsum("ij,ij->i", a, b, dtype=np.float64)


def square_norms(a: Array, b: Array | None = None) -> Array:
    """Return ‖a‖² of each row, or ‖a - b‖², in float64."""
    out = np.empty(len(a))
    _squares(a, b, out)
    return out


# The element-wise passes. Constants take the type of the arrays, or float32 would be promoted.


@compiled
def _squares(a, b, out):
    # Four sums, which do not wait for each other.
    for i in range(a.shape[0]):
        s0 = s1 = s2 = s3 = 0.0
        whole = a.shape[1] // 4 * 4
        for j in range(0, whole, 4):
            d0, d1, d2, d3 = a[i, j], a[i, j + 1], a[i, j + 2], a[i, j + 3]
            if b is not None:
                d0 -= b[i, j]
                d1 -= b[i, j + 1]
                d2 -= b[i, j + 2]
                d3 -= b[i, j + 3]
            s0 += np.float64(d0) * d0
            s1 += np.float64(d1) * d1
            s2 += np.float64(d2) * d2
            s3 += np.float64(d3) * d3
        for j in range(whole, a.shape[1]):
            d0 = a[i, j]
            if b is not None:
                d0 -= b[i, j]
            s0 += np.float64(d0) * d0
        out[i] = (s0 + s1) + (s2 + s3)


@compiled
def _downhill(z, m, slope, back, mu, mu_next):
    ours, theirs = z.dtype.type(mu), z.dtype.type(mu_next)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            back[i, j] = theirs * slope[i, j] * back[i, j] - ours * (z[i, j] - m[i, j])


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


@compiled
def _add_scaled(p, alpha, q):
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] += alpha[i] * q[i, j]


@compiled
def _scale_and_add(q, beta, r):
    for i in range(q.shape[0]):
        for j in range(q.shape[1]):
            q[i, j] = beta[i] * q[i, j] + r[i, j]


@compiled
def _copy_rows(chosen, source, target):
    for i in range(target.shape[0]):
        if chosen[i]:
            for j in range(target.shape[1]):
                target[i, j] = source[i, j]


@compiled
def _cholesky_solve(c, y):
    """Overwrite c by its lower Cholesky factor and y by the solution of c x = y."""
    n = len(y)
    for j in range(n):
        for i in range(j, n):
            total = c[i, j]
            for k in range(j):
                total -= c[i, k] * c[j, k]
            c[i, j] = math.sqrt(total) if i == j else total / c[j, j]
    for i in range(n):
        total = y[i]
        for k in range(i):
            total -= c[i, k] * y[k]
        y[i] = total / c[i, i]
    for i in range(n - 1, -1, -1):
        total = y[i]
        for k in range(i + 1, n):
            total -= c[k, i] * y[k]
        y[i] = total / c[i, i]


@compiled
def _solve_packed(systems, ridge, y):
    """Overwrite each row of y by the solution of its system, lower triangle packed, plus ridge."""
    n = y.shape[1]
    c = np.empty((n, n))
    x = np.empty(n)
    for row in range(y.shape[0]):
        k = 0
        for i in range(n):
            for j in range(i + 1):
                c[i, j] = systems[row, k]
                k += 1
            c[i, i] += ridge
            x[i] = y[row, i]
        _cholesky_solve(c, x)
        for i in range(n):
            y[row, i] = x[i]


@compiled
def _solve_directly(gram, slope, h, g, mu_next, p):
    """p = (diag(h) + μ' D gram D)⁻¹ g in each row."""
    n = g.shape[1]
    c = np.empty((n, n))
    x = np.empty(n)
    for row in range(g.shape[0]):
        for i in range(n):
            for j in range(i + 1):
                c[i, j] = mu_next * slope[row, i] * gram[i, j] * slope[row, j]
            c[i, i] += h[row, i]
            x[i] = g[row, i]
        _cholesky_solve(c, x)
        for i in range(n):
            p[row, i] = x[i]

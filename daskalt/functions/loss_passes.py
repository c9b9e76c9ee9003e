"""The losses of a block, compiled: (z, y, weight or None, out) -> sum, with r = -w ∂ℓ/∂z in out.

out may be z. Exponents are never positive: nothing overflows; a NaN in z, y or w reaches the sum,
which is in float64. Constants take the type of z, or float32 blocks would be promoted.
"""

import math

import numpy as np

from daskalt.jit import compiled

__all__ = [
    "absolute",
    "count_codes",
    "count_units",
    "difference",
    "hinge",
    "huber",
    "logistic_cross_entropy",
    "softmax_cross_entropy",
    "softmax_squared",
]


@compiled
def softmax_cross_entropy(z, y, weight, out):
    total_loss = 0.0
    for i in range(z.shape[0]):
        own = y[i]
        top = z[i, 0]
        for k in range(z.shape[1]):
            if z[i, k] > top:
                top = z[i, k]
        margin = np.float64(z[i, own]) - np.float64(top)
        total = 0.0
        for k in range(z.shape[1]):
            e = math.exp(z[i, k] - top)
            out[i, k] = e
            total += e
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        total_loss += w * (math.log(total) - margin)
        # The sum of the other classes rather than 1 - p: exact for a confident row.
        others = total - np.float64(out[i, own])
        pull = z.dtype.type(-w / total)
        for k in range(z.shape[1]):
            out[i, k] *= pull
        out[i, own] = w * others / total
    return total_loss


@compiled
def softmax_squared(z, y, weight, out):
    total_loss = 0.0
    for i in range(z.shape[0]):
        own = y[i]
        top = z[i, 0]
        for k in range(z.shape[1]):
            if z[i, k] > top:
                top = z[i, k]
        total = 0.0
        for k in range(z.shape[1]):
            e = math.exp(z[i, k] - top)
            out[i, k] = e
            total += e
        # With the error e = p - onehot, the loss is eᵀe / 2 and r = -p ∘ (e - pᵀe).
        squares = 0.0
        mean = 0.0
        for k in range(z.shape[1]):
            p = np.float64(out[i, k]) / total
            error = p - 1.0 if k == own else p
            squares += error * error
            mean += p * error
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        total_loss += 0.5 * w * squares
        for k in range(z.shape[1]):
            p = np.float64(out[i, k]) / total
            error = p - 1.0 if k == own else p
            out[i, k] = w * p * (mean - error)
    return total_loss


@compiled
def logistic_cross_entropy(z, y, weight, out):
    total_loss = 0.0
    zero = z.dtype.type(0)
    one = z.dtype.type(1)
    for i in range(z.shape[0]):
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        scale = z.dtype.type(w)
        row_loss = 0.0
        for k in range(z.shape[1]):
            v = z[i, k]
            t = z.dtype.type(y[i, k])
            e = math.exp(-abs(v))
            # y - p over a common denominator, so that nothing cancels when p is near y.
            if v > zero:
                row_loss += np.float64(v) * np.float64(one - t) + math.log1p(e)
                out[i, k] = scale * (((t - one) + t * e) / (one + e))
            else:
                row_loss += math.log1p(e) - np.float64(v) * np.float64(t)
                out[i, k] = scale * ((t - (one - t) * e) / (one + e))
        total_loss += w * row_loss
    return total_loss


@compiled
def difference(a, y, weight, out):
    total_loss = 0.0
    for i in range(a.shape[0]):
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        scale = a.dtype.type(w)
        row_loss = 0.0
        for k in range(a.shape[1]):
            d = a.dtype.type(y[i, k]) - a[i, k]
            row_loss += np.float64(d) * np.float64(d)
            out[i, k] = scale * d
        total_loss += 0.5 * w * row_loss
    return total_loss


@compiled
def hinge(z, y, weight, out):
    total_loss = 0.0
    zero = z.dtype.type(0)
    one = z.dtype.type(1)
    for i in range(z.shape[0]):
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        scale = z.dtype.type(w)
        row_loss = 0.0
        for k in range(z.shape[1]):
            side = z.dtype.type(2) * z.dtype.type(y[i, k]) - one
            short = one - side * z[i, k]
            # Written so that a NaN passes through.
            if short <= zero:
                out[i, k] = zero
            else:
                row_loss += np.float64(short)
                out[i, k] = scale * side
        total_loss += w * row_loss
    return total_loss


@compiled
def absolute(z, y, weight, out):
    total_loss = 0.0
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        scale = z.dtype.type(w)
        row_loss = 0.0
        for k in range(z.shape[1]):
            d = z.dtype.type(y[i, k]) - z[i, k]
            row_loss += np.float64(abs(d))
            out[i, k] = scale if d > zero else (-scale if d < zero else scale * d)
        total_loss += w * row_loss
    return total_loss


@compiled
def huber(z, y, weight, out, threshold):
    total_loss = 0.0
    most = z.dtype.type(threshold)
    for i in range(z.shape[0]):
        w = 1.0
        if weight is not None:
            w = np.float64(weight[i])
        scale = z.dtype.type(w)
        row_loss = 0.0
        for k in range(z.shape[1]):
            d = z.dtype.type(y[i, k]) - z[i, k]
            # Written so that a NaN passes through.
            pull = most if d > most else (-most if d < -most else d)
            row_loss += np.float64(pull) * (np.float64(d) - 0.5 * np.float64(pull))
            out[i, k] = scale * pull
        total_loss += w * row_loss
    return total_loss


@compiled
def count_codes(z, y, weight):
    count = 0.0
    for i in range(z.shape[0]):
        best = 0
        for k in range(1, z.shape[1]):
            if z[i, k] > z[i, best]:
                best = k
        if best == y[i]:
            count += 1.0 if weight is None else np.float64(weight[i])
    return count


@compiled
def count_units(z, y, weight):
    count = 0.0
    for i in range(z.shape[0]):
        right = True
        for k in range(z.shape[1]):
            right &= (z[i, k] > 0) == (y[i, k] > 0.5)
        if right:
            count += 1.0 if weight is None else np.float64(weight[i])
    return count

"""Slow, obvious versions of the kernels, in float64 and one number at a time: the tests' oracle."""

import math

import numpy as np


def logistic(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


# name: (φ, φ', φ'') of one number
ACTIVATIONS = {
    "identity": (lambda z: z, lambda z: 1.0, lambda z: 0.0),
    "relu": (lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 0.0, lambda z: 0.0),
    "tanh": (
        math.tanh,
        lambda z: 1 - math.tanh(z) ** 2,
        lambda z: -2 * math.tanh(z) * (1 - math.tanh(z) ** 2),
    ),
    "logistic": (
        logistic,
        lambda z: logistic(z) * logistic(-z),
        lambda z: logistic(z) * logistic(-z) * (logistic(-z) - logistic(z)),
    ),
    "softplus": (softplus, logistic, lambda z: logistic(z) * logistic(-z)),
}


def each(function, z):
    """Apply a function of one number to every entry."""
    result = np.empty(np.shape(z))
    for index in np.ndindex(*np.shape(z)):
        result[index] = function(float(z[index]))
    return result


def softmax(z):
    """The softmax of one row."""
    powers = [math.exp(float(v) - max(map(float, z))) for v in z]
    return np.array([power / sum(powers) for power in powers])


def link(name, z):
    """The outputs of one row of pre-activations."""
    return softmax(z) if name == "softmax" else each(ACTIVATIONS[name][0], z)


def loss(name, link_name, z, y):
    """ℓ(link(z), y) of one row; y is a class code if the link is softmax."""
    p = link(link_name, z)
    target = np.eye(len(z))[y] if link_name == "softmax" else y
    if name == "squared":
        return sum(0.5 * (float(p[k]) - float(target[k])) ** 2 for k in range(len(z)))
    total = 0.0
    for k in range(len(z)):
        total -= float(target[k]) * math.log(p[k]) if target[k] else 0.0
        if link_name == "logistic" and target[k] != 1:
            total -= (1 - float(target[k])) * math.log(1 - p[k])
    return total


def correct(link_name, z, y):
    """Whether one row is predicted right."""
    if link_name == "softmax":
        return int(np.argmax(z)) == y
    return all((logistic(float(v)) > 0.5) == (t > 0.5) for v, t in zip(z, y, strict=True))


def scale_rows(x, shift, factor):
    result = np.ones((x.shape[0], x.shape[1] + 1))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            result[i, j] = (float(x[i, j]) - float(shift[j])) * float(factor[j])
    return result


def first_bad_entry(x):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            if not math.isfinite(x[i, j]):
                return i, j
    return None


def matmul(a, b):
    result = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                result[i, j] += float(a[i, k]) * float(b[k, j])
    return result


def forward(weights, x, activation):
    """[ã_0, ..., ã_{L-1}, z_L] of rows x that end in a one."""
    activations = [np.asarray(x, float)]
    for W in weights[:-1]:
        a = each(ACTIVATIONS[activation][0], matmul(activations[-1], W.T))
        activations.append(np.column_stack([a, np.ones(len(x))]))
    return [*activations, matmul(activations[-1], weights[-1].T)]


def backward(weights, activations, r, activation):
    """[r_1, ..., r_L], with φ' at pre-activations that are computed again."""
    residuals = [np.asarray(r, float)]
    for layer in range(len(weights) - 1, 0, -1):
        z = matmul(activations[layer - 1], weights[layer - 1].T)
        slope = each(ACTIVATIONS[activation][1], z)
        residuals.insert(0, slope * matmul(residuals[0], weights[layer][:, :-1]))
    return residuals


def output_objective(z, m, y, mu, name, link_name):
    """ℓ(z, y) + μ ‖z - m‖² of one row."""
    return loss(name, link_name, z, y) + mu * sum(
        (float(z[k]) - float(m[k])) ** 2 for k in range(len(z))
    )


def hidden_objective(z, m, z_next, W_next, mu, mu_next, activation):
    """μ ‖z - m‖² + μ' ‖z' - W' [φ(z); 1]‖² of one row."""
    a = np.append(each(ACTIVATIONS[activation][0], z), 1.0)
    total = mu * sum((float(z[j]) - float(m[j])) ** 2 for j in range(len(z)))
    for k in range(len(z_next)):
        prediction = sum(float(W_next[k, j]) * a[j] for j in range(len(a)))
        total += mu_next * (float(z_next[k]) - prediction) ** 2
    return total

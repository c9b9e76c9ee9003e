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
    if name == "margin":
        return each(lambda v: (1 + v) / 2, z)
    return softmax(z) if name == "softmax" else each(ACTIVATIONS[name][0], z)


def loss(name, link_name, z, y):
    """ℓ(link(z), y) of one row; y is a class code if the link is softmax."""
    if name == "hinge":
        return sum(max(0.0, 1 - (2 * float(y[k]) - 1) * float(z[k])) for k in range(len(z)))
    if name == "absolute":
        return sum(abs(float(z[k]) - float(y[k])) for k in range(len(z)))
    if name == "huber":
        return sum(huber(float(z[k]) - float(y[k])) for k in range(len(z)))
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


def huber(d):
    """A parabola up to one half, and its tangents beyond."""
    return d * d / 2 if abs(d) <= 0.5 else 0.5 * abs(d) - 0.125


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


def residual(name, link_name, z, y, h=1e-5):
    """-∂ℓ/∂z of one row, by central differences."""
    r = np.zeros(len(z))
    for k in range(len(z)):
        bump = h * np.eye(len(z))[k]
        r[k] = loss(name, link_name, z - bump, y) - loss(name, link_name, z + bump, y)
    return r / (2 * h)


def altmin_step(
    weights,
    x,
    y,
    row_weight,
    kinds,
    *,
    damping,
    step_limit,
    change_limit,
    momentum,
    penalty,
    z_damping=None,
    matrices=None,
):
    """The first step of stochastic alternating minimisation; kinds = activation, loss, link.

    With ``z_damping`` z moves by the shared curvature; ``matrices`` has the weights of each layer.
    """
    activation, name, link_name = kinds
    matrices = range(len(weights)) if matrices is None else matrices
    layers = [weights[m] for m in matrices]
    a = forward(layers, x, activation)
    r = np.array([residual(name, link_name, a[-1][i], y[i]) for i in range(len(x))])
    residuals = backward(layers, a, r, activation)
    gradients, directions = [], []
    for own, W in enumerate(weights):
        G = np.zeros_like(W, dtype=float)
        A, C = np.zeros((W.shape[1], W.shape[1])), np.zeros((len(W), len(W)))
        for m, inputs, r_l in zip(matrices, a[:-1], residuals, strict=True):
            for i in range(len(x)) if m == own else ():
                G += row_weight[i] * np.outer(r_l[i], inputs[i]) / sum(row_weight)
                A += row_weight[i] * np.outer(inputs[i], inputs[i]) / sum(row_weight)
                C += row_weight[i] * np.outer(r_l[i], r_l[i]) / sum(row_weight)
        G[:, :-1] -= penalty * W[:, :-1]
        ridge = damping * np.mean(np.diag(A)[:-1])  # without the bias
        D = matmul(G, np.linalg.inv(A + ridge * np.eye(len(A))))
        if z_damping is not None:
            size = np.mean(np.diag(C))
            D = matmul(np.linalg.inv(C + z_damping * size * np.eye(len(C))), D)
            D *= size * (1 + z_damping)
        gradients.append(G)
        directions.append(D)
    slope = sum(np.sum(G * D) for G, D in zip(gradients, directions, strict=True))
    widest = max(len(W) for W in weights)
    s = min(step_limit * damping, change_limit * math.sqrt(widest) / math.sqrt(slope))
    moved = []
    for W, D in zip(weights, directions, strict=True):
        velocity = (1 - momentum) * s * D
        moved.append(W + momentum * velocity + (1 - momentum) * s * D)
    return moved


def output_hessian(name, link_name, z, y):
    """The positive semidefinite model of ∂²ℓ/∂z² of one row."""
    if name == "huber":
        return np.diag([float(abs(float(z[k]) - float(y[k])) <= 0.5) for k in range(len(z))])
    p = link(link_name, z)
    if name in ("hinge", "absolute"):
        return np.zeros((len(z), len(z)))
    if link_name == "softmax":
        return np.diag(p) - np.outer(p, p)
    slope = each(ACTIVATIONS[link_name][1], z)
    return np.diag(slope if name == "cross_entropy" else slope**2)


def newton_step(z, objective, gradient, hessian):
    """One Newton step, quartered until the objective does not rise, at most five times."""
    p = np.linalg.solve(hessian, -gradient)
    for power in range(6):
        if objective(z + p / 4**power) <= objective(z):
            return z + p / 4**power
    return z


def auxiliary(weights, x, y, kinds, mu, sweeps):
    """The z of one row x (which ends in a one), moved by damped Newton from the output back."""
    activation, name, link_name = kinds
    phi, slope, bend = ACTIVATIONS[activation]

    def extended(z):
        return np.append(each(phi, z), 1.0)

    z = [weights[0] @ x]
    for W in weights[1:]:
        z.append(W @ extended(z[-1]))
    last = len(weights) - 1
    for _ in range(sweeps):
        for layer in range(last, -1, -1):
            m = weights[layer] @ (extended(z[layer - 1]) if layer else x)
            pull = 2 * mu[layer] * (z[layer] - m)
            spring = 2 * mu[layer] * np.eye(len(m))
            if layer == last:
                z[layer] = newton_step(
                    z[layer],
                    lambda v, m=m: output_objective(v, m, y, mu[last], name, link_name),
                    pull - residual(name, link_name, z[layer], y),
                    spring + output_hessian(name, link_name, z[layer], y),
                )
                continue
            W, above, stiff = weights[layer + 1], z[layer + 1], mu[layer + 1]
            J = W[:, :-1] * each(slope, z[layer])
            error = above - W @ extended(z[layer])
            # φ'' is kept for the units whose diagonal it leaves at half of μ or more.
            bends = -stiff * each(bend, z[layer]) * (W[:, :-1].T @ error)
            bends[mu[layer] + bends < mu[layer] / 2] = 0
            z[layer] = newton_step(
                z[layer],
                lambda v, m=m, above=above, W=W, here=mu[layer], stiff=stiff: hidden_objective(
                    v, m, above, W, here, stiff, activation
                ),
                pull - 2 * stiff * J.T @ error,
                spring + 2 * np.diag(bends) + 2 * stiff * J.T @ J,
            )
    return z


def literal_step(weights, x, y, row_weight, kinds, *, mu, sweeps, average, penalty):
    """The stochastic method of the source: z by Newton, W by ridge at zero, then the average."""
    z = [auxiliary(weights, x[i], y[i], kinds, mu, sweeps) for i in range(len(x))]
    moved = []
    for layer, W in enumerate(weights):
        C = np.zeros_like(W, dtype=float)
        A = np.zeros((W.shape[1], W.shape[1]))
        for i in range(len(x)):
            phi = ACTIVATIONS[kinds[0]][0]
            a = np.append(each(phi, z[i][layer - 1]), 1.0) if layer else x[i]
            C += row_weight[i] * np.outer(z[i][layer], a)
            A += row_weight[i] * np.outer(a, a)
        ridge = sum(row_weight) * penalty / (2 * mu[layer])
        fitted = np.linalg.solve(A + ridge * np.eye(len(A)), C.T).T
        moved.append(average * W + (1 - average) * fitted)
    return moved

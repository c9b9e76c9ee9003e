"""Rules and schedules against recorded numbers of PyTorch and hand-worked ones."""

import math

import numpy as np
import pytest

from daskalt.errors import InputError
from daskalt.rules import (
    RULES,
    SCHEDULES,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Constant,
    CosineRestarts,
    ExponentialDecay,
    InverseScaling,
    InverseTimeDecay,
    RMSProp,
    StepDecay,
)

START = [0.5, -1.0, 2.0]
GRADIENTS = [[0.1, -0.2, 0.3], [-0.4, 0.5, 0.0], [0.7, 0.1, -0.6]]

# What torch.optim 2.13 makes of three steps from START with GRADIENTS, in double precision.
RECORDED = {
    "sgd": (
        SGD(0.1, momentum=0.0),
        [[0.49, -0.98, 1.97], [0.53, -1.03, 1.97], [0.46, -1.04, 2.03]],
    ),
    "momentum": (
        SGD(0.1, momentum=0.9, nesterov=False),
        [[0.49, -0.98, 1.97], [0.521, -1.012, 1.943], [0.4789, -1.0508, 1.9787]],
    ),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True),
        [[0.481, -0.962, 1.943], [0.5489, -1.0408, 1.9187], [0.44101, -1.08572, 2.01083]],
    ),
    "adagrad": (
        Adagrad(0.01),
        [
            [0.49000000001, -0.990000000005, 1.99000000000333],
            [0.4997014250091, -0.999284766912128, 1.99000000000333],
            [0.491085020641608, -1.00111050877015, 1.998944271912],
        ],
    ),
    "rmsprop": (
        RMSProp(0.001, decay=0.99),
        [
            [0.49000000999999, -0.990000004999998, 1.99000000333333],
            [0.499704287266865, -0.999291180101568, 1.99000000333333],
            [0.491076116785751, -1.0011270344378, 1.99896212631292],
        ],
    ),
    "adadelta": (
        Adadelta(1.0, decay=0.9, epsilon=1e-6),
        [
            [0.496839302293795, -0.996838117550439, 1.99683789800728],
            [0.501189513031441, -1.0010189932404, 1.99683789800728],
            [0.495810522067668, -1.00218694134164, 2.00081272118947],
        ],
    ),
    "adam": (
        Adam(0.001),
        [
            [0.4990000001, -0.99900000005, 1.99900000003333],
            [0.499559503574851, -0.999442215302172, 1.99832994181079],
            [0.49922841553047, -0.999894992139946, 1.9986699762724],
        ],
    ),
}


def take_steps(rule, w, gradients):
    """The weights after each of some steps."""
    slots, path = rule.init(w), []
    for step, g in enumerate(gradients, start=1):
        out = tuple(np.full_like(w, np.nan) for _ in range(1 + len(slots)))
        rule.update(
            w, np.asarray(g, w.dtype).reshape(w.shape), slots, rule.learning_rate, step, out
        )
        w, *slots = out
        slots = tuple(slots)
        path.append(w)
    return path


@pytest.mark.parametrize("name", RECORDED)
def test_steps_equal_those_that_pytorch_takes(name):
    rule, expected = RECORDED[name]
    path = take_steps(rule, np.array([START]), GRADIENTS)
    np.testing.assert_allclose(np.vstack(path), expected, rtol=0, atol=2e-14)


@pytest.mark.parametrize("name", RECORDED)
def test_steps_equal_those_of_the_pytorch_installed(name):
    torch = pytest.importorskip("torch", reason="install the extra 'benchmark'")
    optimisers = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001),
        "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
        "adam": lambda p: torch.optim.Adam(p, lr=0.001),
    }
    rng = np.random.default_rng(0)
    w, gradients = rng.standard_normal((4, 5)), rng.standard_normal((12, 4, 5))
    theirs = torch.tensor(w, requires_grad=True)
    optimiser = optimisers[name]([theirs])
    for ours, g in zip(take_steps(RECORDED[name][0], w, gradients), gradients, strict=True):
        theirs.grad = torch.tensor(g)
        optimiser.step()
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_is_changed_in_place_and_the_type_stays(name):
    rule = RECORDED[name][0]
    w, g = np.array([START], np.float32), np.array([GRADIENTS[0]], np.float32)
    slots = tuple(np.ones_like(s) for s in rule.init(w))
    before = [w.copy(), g.copy(), *(s.copy() for s in slots)]
    out = tuple(np.empty_like(w) for _ in range(1 + len(slots)))
    rule.update(w, g, slots, 0.1, 3, out)
    for now, then in zip([w, g, *slots], before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in out)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [0, -1.0, np.nan, "fast", True])
def test_learning_rates_are_checked(name, bad):
    with pytest.raises(InputError, match="learning_rate"):
        RULES[name](bad).check()


def test_cosine_restarts_are_those_of_pytorch():
    """CosineAnnealingWarmRestarts(T_0=3, T_mult=2, eta_min=0.1) at whole epochs."""
    recorded = [1.0, 0.775, 0.325, 1.0, 0.939711431703, 0.775, 0.55, 0.325]
    recorded += [0.160288568297, 1.0, 0.98466662183, 0.939711431703]
    schedule = CosineRestarts(3, growth=2, floor=0.1)
    np.testing.assert_allclose([schedule(t) for t in range(12)], recorded, atol=1e-12)


def test_restarts_of_equal_periods():
    schedule = CosineRestarts(4, growth=1)
    np.testing.assert_allclose([schedule(t) for t in (0, 2, 4, 6)], [1, 0.5, 1, 0.5], atol=1e-15)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), [1, 1, 1]),
        (StepDecay(2, factor=0.1), [1, 1, 0.01]),
        (ExponentialDecay(0.5), [1, math.exp(-0.75), math.exp(-2)]),
        (InverseTimeDecay(2.0), [1, 0.25, 1 / 9]),
        (InverseScaling(), [1, 1 / math.sqrt(2.5), 1 / math.sqrt(5)]),
    ],
)
def test_decays_by_hand(schedule, expected):
    np.testing.assert_allclose([schedule(t) for t in (0, 1.5, 4)], expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one(name):
    schedule = SCHEDULES[name]()
    schedule.check()
    assert schedule(0.0) == 1


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (StepDecay(0), "every"),
        (StepDecay(factor=-1), "factor"),
        (ExponentialDecay(-1), "decay"),
        (InverseTimeDecay(np.inf), "decay"),
        (InverseScaling(-0.5), "power"),
        (CosineRestarts(0), "period"),
        (CosineRestarts(growth=0.5), "growth"),
        (CosineRestarts(floor=1.0), "floor"),
    ],
)
def test_parameters_of_schedules_are_checked(schedule, named):
    with pytest.raises(InputError, match=named):
        schedule.check()

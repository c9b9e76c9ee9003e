import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS
from tests import naive

NAMES = sorted(ACTIVATIONS)
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}


@pytest.fixture(params=NAMES)
def activation(request):
    return ACTIVATIONS[request.param]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def block(dtype, rows=7, columns=5):
    return (3 * np.random.default_rng(0).standard_normal((rows, columns))).astype(dtype)


def test_the_five_activations_exist():
    assert sorted(naive.ACTIVATIONS) == NAMES
    assert all(ACTIVATIONS[name].name == name for name in NAMES)


def test_formulas_equal_the_naive_ones(activation, dtype):
    z = block(dtype)
    formulas = (activation.value, activation.derivative, activation.second_derivative)
    for formula, expected in zip(formulas, naive.ACTIVATIONS[activation.name], strict=True):
        result = formula(z)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, naive.each(expected, z), atol=TOLERANCE[dtype])


def test_derivatives_are_the_slopes_of_the_formulas(activation):
    z = block(np.float64)  # no entry is within a step of relu's kink
    step = 1e-5
    for formula, slope in (
        (activation.value, activation.derivative),
        (activation.derivative, activation.second_derivative),
    ):
        difference = (formula(z + step) - formula(z - step)) / (2 * step)
        np.testing.assert_allclose(slope(z), difference, atol=1e-9)


@pytest.mark.parametrize("columns", [5, 40_000])
def test_apply_overwrites_only_the_view(activation, dtype, columns):
    z = block(dtype, columns=columns)
    buffer = np.full((len(z), columns + 1), 7, dtype)
    buffer[:, :-1] = z
    activation.apply(buffer[:, :-1])
    np.testing.assert_allclose(buffer[:, :-1], activation.value(z), atol=TOLERANCE[dtype])
    assert (buffer[:, -1] == 7).all()


@pytest.mark.parametrize("ones", [0, 1])
def test_backpropagate_multiplies_by_the_derivative(activation, dtype, ones):
    z = block(dtype)
    r = np.random.default_rng(1).standard_normal(z.shape).astype(dtype)
    a = np.column_stack([activation.value(z), np.ones((len(z), ones), dtype)])
    expected = r * activation.derivative(z)
    activation.backpropagate(r, a)
    assert r.dtype == dtype
    np.testing.assert_allclose(r, expected, atol=10 * TOLERANCE[dtype])


def test_large_arguments_give_the_limits(activation, dtype):
    z = np.array([[-1e3, 0, 1e3]], dtype)
    a = z.copy()
    activation.apply(a)
    np.testing.assert_allclose(a, activation.value(z), rtol=1e-6)
    for formula in (activation.value, activation.derivative, activation.second_derivative):
        assert np.isfinite(formula(z)).all()
    low, high = {
        "identity": (-1e3, 1e3),
        "relu": (0, 1e3),
        "tanh": (-1, 1),
        "logistic": (0, 1),
        "softplus": (0, 1e3),
    }[activation.name]
    np.testing.assert_allclose(a[0, [0, 2]], [low, high], atol=1e-6)


def test_nan_stays_visible(activation, dtype):
    z = np.array([[np.nan, 1]], dtype)
    activation.apply(z)
    assert np.isnan(z[0, 0])
    assert np.isfinite(z[0, 1])


def test_inverses_give_back_z_and_stay_finite_beyond_the_range(activation, dtype):
    if activation.inverse is None:
        assert activation.name == "relu"
        return
    z = block(dtype)
    back = activation.inverse(activation.value(z))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, z, rtol=1e-3 if dtype == np.float32 else 1e-10)
    assert np.isfinite(activation.inverse(np.array([-9, -1, 0, 1, 9], dtype))).all()


def test_only_what_is_straight_between_its_kinks_does_not_bend(activation):
    assert activation.bends == (activation.name not in ("identity", "relu"))
    beside = 1e-9 * np.array([-1, 1])
    jumps = [k for k in (-1.0, 0.0, 1.0) if np.ptp(activation.derivative(k + beside)) > 1e-3]
    assert list(activation.kinks) == jumps
    activation.check()


def swish(z):
    return z * ACTIVATIONS["logistic"].value(z)


def swish_derivative(z):
    share = ACTIVATIONS["logistic"].value(z)
    return share * (1 + z * (1 - share))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"value": swish}, r"apply\(z\) must overwrite"),
        ({"derivative": swish_derivative}, "derivative must be the slope of value"),
        ({"second_derivative": np.ones_like}, "second_derivative must be the slope"),
        ({"backpropagate": lambda r, a: None}, ".*as a function of a"),
        ({"inverse": np.array}, r"value\(inverse\(a\)\) must be a"),
    ],
)
def test_functions_that_contradict_each_other_are_refused(changes, rule):
    with pytest.raises(InputError, match=rf"activation 'tanh' cannot be used: {rule}"):
        replace(ACTIVATIONS["tanh"], **changes).check()


def test_a_digest_is_of_name_and_formulas():
    tanh = ACTIVATIONS["tanh"]
    others = [
        replace(tanh, name="other"),
        replace(tanh, value=swish),
        replace(tanh, derivative=swish_derivative),
        replace(tanh, second_derivative=np.ones_like),
        *(ACTIVATIONS[name] for name in NAMES),
    ]
    assert len({each.digest for each in others}) == len(others)
    rounded = replace(tanh, value=lambda z: np.tanh(z) * (1 + 1e-12))
    assert rounded.digest == tanh.digest


def test_one_of_the_users_own_pickles_by_its_functions():
    own = replace(ACTIVATIONS["tanh"], value=swish)
    again = pickle.loads(pickle.dumps(own))
    assert again == own
    assert again.value is swish
    assert copy.deepcopy(own) is own


def test_any_shape_and_pickle(activation):
    assert activation.value(np.float64(0.5)).shape == ()
    assert activation.derivative(np.zeros((2, 3, 4))).shape == (2, 3, 4)
    assert pickle.loads(pickle.dumps(activation)) is activation

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import huber

from daskalt.errors import InputError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.links import Link
from daskalt.functions.loss import RAREST, Loss
from daskalt.functions.losses import HUBER_THRESHOLD, LOSSES, get_loss
from tests import naive

PAIRS = sorted(LOSSES)


@pytest.fixture(params=PAIRS, ids=[f"{loss}-{link}" for loss, link in PAIRS])
def loss(request):
    return get_loss(*request.param)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def problem(loss, dtype, rows=9, outputs=4):
    rng = np.random.default_rng(3)
    z = (2 * rng.standard_normal((rows, outputs))).astype(dtype)
    if loss.coded:
        return z, rng.integers(0, outputs, rows)
    return z, rng.random((rows, outputs)).astype(dtype)


def naive_values(loss, z, y):
    return np.array([naive.loss(loss.name, loss.link.name, z[i], y[i]) for i in range(len(z))])


@pytest.mark.parametrize("weighted", [False, True])
def test_residual_and_sum_equal_the_naive_loss(loss, dtype, weighted):
    z, y = problem(loss, dtype)
    weight = np.random.default_rng(4).random(len(z)) if weighted else None
    factor = weight if weighted else np.ones(len(z))
    residual, total = loss.residual(z, y, weight)
    assert isinstance(total, float)
    np.testing.assert_allclose(
        total, factor @ naive_values(loss, z, y), rtol=1e-6 if dtype == np.float32 else 1e-13
    )
    assert residual.dtype == dtype
    step = 1e-5
    for k in range(z.shape[1]):
        up, down = z.astype(float), z.astype(float)
        up[:, k] += step
        down[:, k] -= step
        slope = (naive_values(loss, up, y) - naive_values(loss, down, y)) / (2 * step)
        np.testing.assert_allclose(residual[:, k], -factor * slope, atol=2e-6)


def test_value_and_gradient_agree_with_the_residual(loss, dtype):
    z, y = problem(loss, dtype)
    values = loss.value(z, y)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, naive_values(loss, z, y), rtol=1e-6)
    gradient = loss.gradient(z, y)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, -loss.residual(z, y)[0])


def test_out_may_be_z(loss, dtype):
    z, y = problem(loss, dtype)
    before = z.copy()
    expected, total = loss.residual(z, y)
    np.testing.assert_array_equal(z, before)
    residual, same_total = loss.residual(z, y, out=z)
    assert residual is z
    assert same_total == total
    np.testing.assert_array_equal(residual, expected)


def test_link_gives_the_outputs(loss, dtype):
    z, _ = problem(loss, dtype)
    outputs = loss.link(z)
    assert outputs.dtype == dtype
    assert not np.shares_memory(outputs, z)
    expected = [naive.link(loss.link.name, row) for row in z]
    np.testing.assert_allclose(outputs, expected, rtol=2e-6, atol=1e-15)


def test_hessian_models_the_curvature(loss):
    """Exact for cross-entropies and huber; J Jᵀ for squares; at least that on a softmax."""
    exact = loss.name in ("cross_entropy", "huber")
    z, y = problem(loss, np.float64)
    d, u = loss.hessian(z, y)
    step = 1e-6
    for i in range(len(z)):
        model = np.diag(d[i]) - (0 if u is None else np.outer(u[i], u[i]))
        shifted = z[i] + step * np.vstack([np.eye(z.shape[1]), -np.eye(z.shape[1])])
        of = loss.gradient if exact else lambda z, y: loss.link(z)
        slopes = of(shifted, np.repeat(y[i : i + 1], len(shifted), axis=0))
        J = (slopes[: z.shape[1]] - slopes[z.shape[1] :]) / (2 * step)
        if not loss.smooth:  # straight but for its kinks
            assert not model.any()
        elif exact:
            np.testing.assert_allclose(model, J, atol=1e-8)
        elif u is None:
            np.testing.assert_allclose(model, J @ J.T, atol=1e-8)
        else:
            assert np.linalg.eigvalsh(model - J @ J.T).min() > -1e-8


def test_huber_is_that_of_scipy(dtype):
    z, y = problem(get_loss("huber", "identity"), dtype)
    expected = huber(HUBER_THRESHOLD, z.astype(float) - y).sum(axis=1)
    np.testing.assert_allclose(get_loss("huber", "identity").value(z, y), expected, rtol=1e-6)


@pytest.mark.parametrize("rare", [0.3, 0.01, 1e-3])
def test_fits_start_at_the_mean_target(loss, rare):
    mean = np.array([rare, 0.6 - rare, 0.4])
    z = loss.start(mean)
    assert z.shape == (3,)
    if loss.link.name == "margin":  # whose outputs are no shares
        np.testing.assert_array_equal(z, 0)
    else:
        found = naive.link(loss.link.name, z)
        np.testing.assert_allclose(found, mean, rtol=1e-6)


def test_shares_of_equal_classes_start_at_zero():
    np.testing.assert_allclose(get_loss("cross_entropy", "softmax").start(np.full(4, 0.25)), 0)
    np.testing.assert_allclose(get_loss("cross_entropy", "logistic").start(np.full(4, 0.5)), 0)


@pytest.mark.parametrize("link", ["softmax", "logistic"])
def test_absent_classes_start_as_rare_ones(link):
    loss = get_loss("cross_entropy", link)
    z = loss.start(np.array([0.0, 1.0]))
    assert np.isfinite(z).all()
    np.testing.assert_allclose(loss.link(z[None])[0], [RAREST, 1 - RAREST])


@pytest.mark.parametrize(("link", "mean"), [("relu", -2.0), ("softplus", 0.0), ("tanh", 1.5)])
def test_means_that_no_output_has_start_at_zero(link, mean):
    assert get_loss("squared", link).start(np.array([mean, 0.5]))[0] == 0


def test_large_arguments_give_finite_losses(loss, dtype):
    z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    y = np.array([0, 0]) if loss.coded else np.array([[1, 0], [1, 0]], dtype)
    residual, total = loss.residual(z, y)
    assert np.isfinite(residual).all()
    assert np.isfinite(total)
    values = loss.value(z, y)
    np.testing.assert_allclose(values.sum(), total)
    assert values[0] < values[1] or loss.link.name in ("relu", "softplus", "identity")
    assert np.isfinite(loss.link(z)).all()
    assert np.isfinite(loss.hessian(z, y)[0]).all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf, with the JIT off
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_bad_numbers_reach_the_sum(loss, dtype, bad, column):
    z = np.zeros((3, 2), dtype)
    z[1, column] = bad
    y = np.zeros(3, int) if loss.coded else np.zeros((3, 2), dtype)
    _, total = loss.residual(z, y)
    bounded = loss.name == "squared" and loss.link.name in ("logistic", "tanh")
    assert not np.isfinite(total) or (bounded and np.isinf(bad))


def test_confident_rows_keep_their_small_residual(dtype):
    """1 - p would round to zero in float32."""
    z = np.array([[25, 0]], dtype)
    residual, _ = get_loss("cross_entropy", "softmax").residual(z, np.array([0]))
    np.testing.assert_allclose(residual, [[np.exp(-25.0), -np.exp(-25.0)]], rtol=1e-5)
    residual, _ = get_loss("cross_entropy", "logistic").residual(z, np.array([[1, 0.5]], dtype))
    np.testing.assert_allclose(residual, [[np.exp(-25.0), 0]], rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_correct_counts_rows(loss, dtype, weighted):
    z, y = problem(loss, dtype, rows=200, outputs=2)
    weight = np.random.default_rng(5).random(len(z)) if weighted else None
    factor = weight if weighted else np.ones(len(z))
    count = loss.correct(z, y, weight)
    assert isinstance(count, float)
    if loss.classifies:
        right = [naive.correct(loss.link.name, z[i], y[i]) for i in range(len(z))]
        np.testing.assert_allclose(count, factor @ right)
        assert 0 < count < factor.sum()
    else:
        assert count == 0.0


def test_zero_weight_removes_a_row(loss, dtype):
    z, y = problem(loss, dtype)
    weight = np.ones(len(z))
    weight[2:] = 0
    residual, total = loss.residual(z, y, weight)
    first, first_total = loss.residual(z[:2], y[:2])
    assert total == first_total
    np.testing.assert_array_equal(residual, np.vstack([first, np.zeros_like(z[2:])]))


def test_pickle_is_small_and_equal(loss):
    text = pickle.dumps(loss)
    assert len(text) < 250
    assert pickle.loads(text) == loss


@pytest.mark.parametrize("codes", [np.int32, np.int64])
def test_code_types(codes):
    loss = get_loss("cross_entropy", "softmax")
    z, y = problem(loss, np.float32)
    assert loss.residual(z, y.astype(codes))[1] == loss.residual(z, y)[1]


@pytest.mark.parametrize("pair", [("cross_entropy", "tanh"), ("hinge", "identity")])
def test_unknown_pairs_are_named_with_the_known(pair):
    with pytest.raises(InputError, match=r"cross_entropy on softmax.*squared on identity") as error:
        get_loss(*pair)
    assert all(repr(name) in str(error.value) for name in pair)


def test_every_loss_has_a_digest_of_its_own():
    assert len({get_loss(*pair).digest for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        get_loss(*pair).check()
        assert pickle.loads(pickle.dumps(get_loss(*pair))).digest == get_loss(*pair).digest


@dataclass(frozen=True)
class Quartic(Loss):
    """Σ (z - y)⁴ / 4 by its formulas alone."""

    name: str = "quartic"
    link: Link = ACTIVATIONS["identity"]
    slope: float = 1.0

    def value(self, z, y):
        return np.sum((z.astype(float) - y) ** 4, axis=1) / 4

    def gradient(self, z, y):
        return z.dtype.type(self.slope) * (z - y) ** 3

    def hessian(self, z, y):
        return 3 * (z - y) ** 2, None


@pytest.mark.parametrize("weighted", [False, True])
def test_formulas_are_enough_for_a_loss(dtype, weighted):
    loss = Quartic()
    loss.check()
    z, y = problem(loss, dtype)
    weight = np.random.default_rng(4).random(len(z)).astype(dtype) if weighted else None
    factor = weight if weighted else np.ones(len(z), dtype)
    before = z.copy()
    residual, total = loss.residual(z, y, weight)
    assert residual.dtype == dtype
    np.testing.assert_array_equal(z, before)
    np.testing.assert_allclose(residual, -factor[:, None] * (z - y) ** 3, rtol=1e-5)
    assert total == pytest.approx(float(factor @ loss.value(z, y)), rel=1e-6)
    again, _ = loss.residual(z, y, weight, out=z)
    assert again is z
    np.testing.assert_array_equal(again, residual)


def test_a_link_without_an_inverse_starts_at_zero_or_the_mean():
    cube = Link(name="cube", value=lambda z: z**3)
    np.testing.assert_array_equal(Quartic(link=cube).start(np.array([0.3, 0.9])), [0, 0])
    np.testing.assert_array_equal(Quartic().start(np.array([0.3, 0.9])), [0.3, 0.9])


def test_a_gradient_that_is_no_slope_is_refused():
    with pytest.raises(InputError, match="loss 'quartic' cannot be used: its gradient is not"):
        Quartic(slope=0.5).check()
    assert Quartic(slope=0.5).digest != Quartic().digest

"""Estimators take activations and losses as objects wherever they take names."""

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.base import clone

import daskalt
from daskalt import ADMM, Loss, MLPClassifier, MLPRegressor
from daskalt.errors import InputError, StorageError
from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.links import SOFTMAX, Link
from daskalt.functions.losses import LOSSES
from daskalt.kernels.admm import fit_pre_activations
from daskalt.training.preparing import identity_of
from tests.functions.test_toy_activation import ASINH
from tests.functions.test_toy_loss import PseudoHuber

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4)).astype("float32")
CODES = np.digitize(X[:, 0] + X[:, 1] ** 2, [0.5, 1.5])
Y = {"two": CODES > 0, "three": CODES, "labels": np.stack([CODES > 0, X[:, 2] > 0], axis=1) * 1}


@dataclass(frozen=True)
class Focal(Loss):
    """(1 - p_y)^power (-log p_y) on a softmax."""

    name: str = "focal"
    link: Link = SOFTMAX
    power: int = 2
    coded = True

    def value(self, z, y):
        p = np.take_along_axis(self.link(z.astype(float)), y[:, None], axis=1)[:, 0]
        return -((1 - p) ** self.power) * np.log(p)

    def gradient(self, z, y):
        p = self.link(z)
        own = np.take_along_axis(p, y[:, None], axis=1)
        factor = self.power * own * np.log(own) - (1 - own)
        factor *= (1 - own) ** (self.power - 1)
        return factor * (np.eye(z.shape[1], dtype=z.dtype)[y] - p)

    def hessian(self, z, y):
        p = self.link(z)
        return p, p


@dataclass(frozen=True)
class Units(PseudoHuber):
    """Each class by itself, on outputs from 0 to 1."""

    name: str = "units"


def steeper(phi):
    """The activation φ(2z) of the same name."""
    return replace(
        phi,
        apply=lambda z: phi.apply(np.multiply(z, 2, out=z)),
        backpropagate=lambda r, a: phi.backpropagate(np.multiply(r, 2, out=r), a),
        value=lambda z: phi.value(2 * z),
        derivative=lambda z: 2 * phi.derivative(2 * z),
        second_derivative=lambda z: 4 * phi.second_derivative(2 * z),
    )


def classifier(**options):
    given = {"solver": "adam", "max_iter": 15, "random_state": 0, "batch_size": 20}
    return MLPClassifier((8,), **given | options)


@pytest.mark.parametrize("kind", ["two", "three", "labels"])
@pytest.mark.parametrize("loss", [Focal(), Units()], ids=["coded", "units"])
def test_classes_follow_from_what_the_loss_takes(kind, loss):
    model = classifier(loss=loss)
    if kind == "labels" and loss.coded:
        with pytest.raises(InputError, match="'focal' on 'softmax' takes one class a row"):
            model.fit(X, Y[kind])
        return
    model.fit(X, Y[kind])
    assert model.n_outputs_ == {"two": 2 if loss.coded else 1, "three": 3, "labels": 2}[kind]
    baseline = max(np.mean((Y[kind] == row).reshape(len(X), -1).all(1)) for row in Y[kind][:50])
    assert model.score(X, Y[kind]) > baseline + 0.15
    p = model.predict_proba(X)
    assert ((p >= 0) & (p <= 1)).all()
    if kind != "labels":
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    decision = model.decision_function(X)
    if kind == "two":
        np.testing.assert_array_equal(model.predict(X), decision > 0)


def test_numbers_are_standardised_where_the_link_is_the_identity():
    y = 1e3 + 100 * np.tanh(X[:, 0])
    model = MLPRegressor((8,), ASINH, loss=PseudoHuber(), random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    with pytest.raises(InputError, match="loss 'focal' on 'softmax' is for classes"):
        MLPRegressor(loss=Focal()).fit(X, y)


@pytest.mark.parametrize("solver", ["altmin", "batch-altmin", "admm", "sgd", "lbfgs"])
def test_built_in_objects_are_what_their_names_are(solver):
    options = {"solver": solver, "max_iter": 2}
    by_name = classifier(activation="tanh", **options).fit(X, CODES)
    objects = {"activation": ACTIVATIONS["tanh"], "loss": LOSSES["cross_entropy", "softmax"]}
    model = classifier(**objects, **options).fit(X, CODES)
    for a, b in zip(model.coefs_, by_name.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.out_activation_ == "softmax"


def test_objects_are_parameters_like_others():
    model = classifier(activation=ASINH, loss=Focal())
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert "activation=Activation('asinh')" in repr(model)
    assert model.plan(X, CODES).peak_bytes == again.plan(X, CODES).peak_bytes
    first = model.partial_fit(X, CODES, classes=[0, 1, 2])
    copied = pickle.loads(pickle.dumps(first))
    assert copied.activation == ASINH
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    copied.partial_fit(X, CODES)
    model.partial_fit(X, CODES)
    np.testing.assert_array_equal(copied.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"activation": "swish"},
            r"one of 'identity', .*'softplus', or an Activation; got 'swish'",
        ),
        ({"activation": np.tanh}, "or an Activation; got <ufunc"),
        ({"activation": replace(ASINH, value=np.sinh)}, "activation 'asinh' cannot be used: apply"),
        ({"loss": Focal}, "or a Loss; got <class"),
        ({"loss": Focal(), "output_activation": "softmax"}, "must be 'auto' beside a loss object"),
        (
            {"activation": ASINH, "solver": ADMM()},
            "inverse of the activation, and 'asinh' has none",
        ),
    ],
)
def test_what_cannot_be_used_is_said_before_a_fit(options, words):
    for call in (classifier(**options).fit, classifier(**options).plan):
        with pytest.raises(InputError, match=words):
            call(X, CODES)


def of_one_type(r, a):
    r /= np.cosh(a[:, : r.shape[1]]) if r.dtype == np.float64 else 1


def only_whole(r, a):
    r /= np.cosh(a)


def only_contiguous(z):
    np.arcsinh(z, out=z.reshape(-1).reshape(z.shape))


def fails(*blocks):
    raise ValueError("no such block")


@pytest.mark.parametrize("phi", ACTIVATIONS.values(), ids=str)
def test_copies_of_built_in_activations_pass(phi):
    replace(phi).check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"backpropagate": only_whole},
            r"backpropagate.*, in a strided view.*raises ValueError",
        ),
        ({"backpropagate": of_one_type}, r"backpropagate.*, in float32\. At z"),
        (
            {"apply": only_contiguous},
            r"apply\(z\) must.*, in a strided view of float64\. At z",
        ),
        ({"apply": fails}, r"apply\(z\) must.*raises ValueError: no such block\. Correct"),
        ({"value": fails}, "raises ValueError: no such block"),
        ({"derivative": lambda z: 1.0}, r"one has the shape \(\)"),
        ({"inverse": fails}, r"value\(inverse\(a\)\) must be a\. It raises"),
        ({"spread": 0}, "spread of Activation must be a number above 0; got 0"),
        ({"spread": "wide"}, "spread of Activation must be"),
        ({"kinks": 0.0}, r"kinks of Activation must be a tuple of numbers, such as \(0.0,\)"),
        ({"kinks": ("0",)}, "kinks of Activation must be"),
        ({"value": "asinh"}, "value of Activation must be a function; got 'asinh'"),
        ({"apply": None}, "apply of Activation must be a function"),
        ({"fit": 1}, "fit of Activation must be a function or None"),
    ],
)
def test_an_activation_has_to_hold_for_every_block(changes, words):
    ASINH.check()
    with pytest.raises(InputError, match=words):
        replace(ASINH, **changes).check()


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("value", lambda self, z, y: np.sum((z - y) ** 2), r"value has the shape \(\)"),
        ("value", lambda self, z, y: z[np.arange(4), y], "value raises IndexError.*coded = True"),
        ("gradient", lambda self, z, y: np.ones(4), r"gradient has the shape \(4,\)"),
        ("gradient", lambda self, z, y: None, "gradient has the shape"),
        ("hessian", lambda self, z, y: np.ones_like(z), r"hessian returns ndarray, not a pair"),
        ("hessian", lambda self, z, y: (np.ones(4), None), r"d of hessian has the shape \(4,\)"),
        ("hessian", lambda self, z, y: (z, np.ones(3)), r"u of hessian has the shape \(3,\)"),
        ("hessian", lambda self, z, y: (z * np.nan, None), "d of hessian is not finite"),
        ("hessian", fails, "hessian raises ValueError: no such block"),
    ],
)
def test_a_loss_has_to_give_arrays_of_the_right_shapes(name, function, words):
    PseudoHuber().check()
    Focal().check()
    own = type("Own", (PseudoHuber,), {name: function})()
    with pytest.raises(InputError, match=f"The loss 'pseudo-huber' cannot be used: its {words}"):
        own.check()


def test_the_link_of_a_loss_is_an_object():
    with pytest.raises(InputError, match=r"link of PseudoHuber must be a Link, .*; got 'identity'"):
        PseudoHuber(link="identity").check()


def test_admm_takes_an_activation_with_an_inverse():
    own = replace(ASINH, inverse=np.sinh)
    a, m = RNG.uniform(-2, 2, (2, 5, 3))
    z = fit_pre_activations(a, m, 3.0, 0.5, own)
    grid = np.linspace(-6, 6, 4001)[:, None, None]
    best = np.min(3 * (a - np.arcsinh(grid)) ** 2 + 0.5 * (grid - m) ** 2, axis=0)
    np.testing.assert_allclose(3 * (a - np.arcsinh(z)) ** 2 + 0.5 * (z - m) ** 2, best, atol=1e-4)
    model = classifier(solver=ADMM(), activation=own, max_iter=5).fit(X, Y["two"])
    assert model.best_loss_ < np.log(2)


def test_a_loss_without_probabilities_has_none():
    class Margin(Units):
        probabilistic = False

    assert hasattr(classifier(loss=Units()), "predict_proba")
    assert not hasattr(classifier(loss=Margin()), "predict_proba")


def test_a_checkpoint_is_of_its_activation_and_loss(tmp_path):
    given = {"checkpoint": str(tmp_path / "fit"), "max_iter": 2}
    model = classifier(activation=ASINH, loss=Focal(), **given).fit(X, CODES)
    again = classifier(activation=ASINH, loss=Focal(), **given).fit(X, CODES, resume=True)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
    for other, words in (
        ({"activation": steeper(ASINH), "loss": Focal()}, "with activation_digest"),
        ({"activation": ASINH, "loss": Focal(power=3)}, "with loss_digest"),
        ({"activation": ASINH, "loss": "auto"}, "with loss 'focal on softmax', not 'cross_entropy"),
    ):
        with pytest.raises(InputError, match=words):
            classifier(**other, **given).fit(X, CODES, resume=True)


def test_a_saved_model_holds_no_code(tmp_path):
    place = tmp_path / "model"
    for own, where in (
        ({"activation": ASINH}, "parameters.activation is 'asinh'"),
        ({"loss": Focal()}, "parameters.loss is 'focal'"),
    ):
        model = classifier(**own).fit(X, CODES)
        with pytest.raises(InputError, match=f"{where}, which is not built in"):
            daskalt.save(model, place)
        with pytest.raises(InputError, match=r"fitted\.\w+ is .*, which is not built in"):
            daskalt.save(model.set_params(activation="relu", loss="auto"), place)
        with pytest.raises(InputError, match="scikit-learn's networks have no activation 'asinh'"):
            classifier(activation=ASINH, max_iter=1).fit(X, CODES).to_sklearn()
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_activation_or_loss_of_that_name_is_not_read(tmp_path, monkeypatch):
    place = tmp_path / "model"
    built_in = {"activation": ACTIVATIONS["tanh"], "loss": LOSSES["cross_entropy", "softmax"]}
    model = classifier(**built_in).fit(X, CODES)
    daskalt.save(model, place)
    assert daskalt.load(place).get_params() == model.get_params()
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ASINH, name="tanh"))
    with pytest.raises(StorageError, match="has another 'tanh' than this version of daskalt"):
        daskalt.load(place)
    monkeypatch.undo()
    monkeypatch.setitem(LOSSES, ("cross_entropy", "softmax"), Focal())
    with pytest.raises(StorageError, match="has another 'focal' than"):
        daskalt.load(place)


def test_solvers_are_known_by_all_their_parameters():
    """Of many parameters scikit-learn's repr shows some."""
    base = daskalt.StochasticAltMin()
    others = [
        base,
        daskalt.BatchAltMin(),
        *(clone(base).set_params(**{name: 0.123}) for name in base.get_params(deep=False)),
        daskalt.GradientDescent("adam"),
        daskalt.StochasticAltMin(mu=np.arange(2000.0)),
        daskalt.StochasticAltMin(mu=np.arange(2000.0) + (np.arange(2000) == 1000)),
    ]
    assert len({identity_of(solver) for solver in others}) == len(others)
    assert identity_of(clone(base)) == identity_of(base)

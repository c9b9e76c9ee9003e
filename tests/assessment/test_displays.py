"""Plots of fits: their content and axes."""

import matplotlib as mpl
import numpy as np
import pytest
import zarr
from sklearn.metrics import ConfusionMatrixDisplay

import daskalt
from daskalt import LossCurveDisplay, MLPClassifier, MLPRegressor, ResidualDisplay
from daskalt.errors import InputError

pytestmark = pytest.mark.usefixtures("no_windows")


@pytest.fixture(scope="module")
def rows():
    X = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    return X, X[:, 0] - X[:, 1] ** 2


def lines_of(ax):
    """The curves on some axes by their label, the line of the best pass aside."""
    return {line.get_label(): line for line in ax.lines if "best" not in line.get_label()}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("held_out", [False, True])
def test_curves_are_those_of_the_history(rows, kind, held_out):
    X, y = rows
    y = y if kind is MLPRegressor else y > 0
    model = kind((6,), max_iter=4, early_stopping=held_out, random_state=0).fit(X, y)
    display = LossCurveDisplay.from_estimator(model)
    names = {"loss": "loss", "accuracy": "accuracy", "validation_r2": "R²"}
    labels = {names[key] for key in model.history_[0] if key in names}
    assert display.axes_[0] is display.ax_
    assert {ax.get_ylabel() for ax in display.axes_} == labels
    for ax in display.axes_:
        name = {"R²": "r2"}.get(ax.get_ylabel(), ax.get_ylabel())
        keys = {"training rows": name, "held-out rows": f"validation_{name}"}
        drawn = {keys[label]: line for label, line in lines_of(ax).items()}
        assert drawn.keys() == model.history_[0].keys() & keys.values()
        for key, line in drawn.items():
            expected = [record[key] for record in model.history_]
            np.testing.assert_array_equal(line.get_ydata(), expected)
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
    assert len(display.axes_) == 1 + (held_out or kind is MLPClassifier)
    watched = [record["validation_loss" if held_out else "loss"] for record in model.history_]
    assert display.best_pass == 1 + int(np.argmin(watched))
    best = [line for line in display.ax_.lines if "best" in line.get_label()]
    assert best[0].get_xdata()[0] == display.best_pass


@pytest.mark.parametrize(("last", "scale"), [(0.5, "linear"), (0.05, "log"), (0.0, "linear")])
def test_a_loss_of_several_magnitudes_has_a_logarithmic_axis(last, scale):
    history = [{"pass": 1, "loss": 1.0}, {"pass": 2, "loss": np.nan}, {"pass": 3, "loss": last}]
    display = LossCurveDisplay(history).plot()
    assert display.ax_.get_yscale() == scale
    assert len(display.axes_) == 1
    assert display.best_pass == 3


def test_curves_go_where_they_are_told(rows):
    model = MLPClassifier((6,), max_iter=3, random_state=0).fit(rows[0], rows[1] > 0)
    figure, axes = mpl.pyplot.subplots(2)
    display = LossCurveDisplay.from_estimator(model, ax=axes[0], color="red", label="mine")
    assert display.figure_ is figure
    assert len(display.axes_) == 1
    assert lines_of(axes[0])["mine"].get_color() == "red"
    assert not axes[1].lines
    assert list(display.plot(ax=axes).axes_) == list(axes)
    assert axes[1].lines


def test_residuals_of_stored_rows_are_drawn(rows, store):
    model = MLPRegressor((6,), max_iter=3, random_state=0).fit(*rows)
    display = ResidualDisplay.from_estimator(model, store(*rows), bins=16)
    counts, predicted, residual = daskalt.residual_histogram(model, *rows, bins=16)
    drawn = display.mesh_.get_array()
    np.testing.assert_array_equal(np.ma.filled(drawn, 0).reshape(counts.T.shape), counts.T)
    assert drawn.mask.sum() == (counts == 0).sum() > 0
    low, high = display.ax_.get_xlim()
    assert (low, high) == (predicted[0], predicted[-1])
    assert residual[0] < 0 < residual[-1]
    other = ResidualDisplay(counts, predicted, residual).plot(ax=display.ax_, cmap="magma")
    assert other.mesh_.get_cmap().name == "magma"
    assert other.figure_ is display.figure_
    display.figure_.canvas.draw()


def test_residuals_of_named_arrays_are_drawn(rows, tmp_path):
    model = MLPRegressor((6,), max_iter=2, random_state=0).fit(*rows)
    place = str(tmp_path / "rows.zarr")
    zarr.save_group(place, features=rows[0], label=rows[1])
    display = ResidualDisplay.from_estimator(model, place, "label", X="features", bins=16)
    expected = daskalt.residual_histogram(model, *rows, bins=16)
    np.testing.assert_array_equal(display.counts, expected[0])


@pytest.mark.parametrize("limits", [{"vmin": 0}, {"vmin": 2.0}, {"vmax": 50}, {"vmax": 0.5},
                                    {"vmin": 0, "vmax": 9}, {"vmin": 1e4}])  # fmt: skip
def test_colours_are_from_vmin_to_vmax(rows, limits):
    model = MLPRegressor((6,), max_iter=2, random_state=0).fit(*rows)
    display = ResidualDisplay.from_estimator(model, *rows, bins=8, **limits)
    mesh = display.mesh_
    assert {name: getattr(mesh.norm, name) for name in limits} == limits
    ends = mesh.norm([mesh.norm.vmin, mesh.norm.vmax])
    np.testing.assert_allclose(ends, [0, 1], atol=1e-12)
    # Logarithmic: equal ratios of counts are equal steps of colour.
    one, ten, hundred = mesh.norm(display.counts[display.counts > 0].min() * [1, 10, 100])
    np.testing.assert_allclose(ten - one, hundred - ten, rtol=0.2)
    display.figure_.canvas.draw()


def test_limits_of_the_colours_must_be_in_order(rows):
    model = MLPRegressor((6,), max_iter=2, random_state=0).fit(*rows)
    linear = ResidualDisplay.from_estimator(model, *rows, norm="linear", vmin=0, vmax=8)
    assert linear.mesh_.norm(2.0) == 0.25
    with pytest.raises(InputError, match="vmin must be below vmax; got vmin=3 and vmax=2"):
        ResidualDisplay.from_estimator(model, *rows, vmin=3, vmax=2)


def test_a_single_residual_is_drawn(rows):
    X = rows[0]
    model = MLPRegressor((6,), max_iter=2, random_state=0).fit(X, np.full(len(X), 3.0))
    ResidualDisplay.from_estimator(model, X[:1], [3.0]).figure_.canvas.draw()


def test_a_confusion_matrix_suits_scikit_learns_display(rows):
    X, y = rows[0], np.where(rows[1] > 0, "yes", "no")
    model = MLPClassifier((6,), max_iter=2, random_state=0).fit(X, y)
    matrix = daskalt.confusion_matrix(model, X, y)
    drawn = ConfusionMatrixDisplay(matrix, display_labels=model.classes_).plot()
    expected = ConfusionMatrixDisplay.from_estimator(model, X, y)
    np.testing.assert_array_equal(drawn.confusion_matrix, expected.confusion_matrix)


def test_only_estimators_of_daskalt_are_drawn():
    with pytest.raises(InputError, match="estimator must be a fitted"):
        LossCurveDisplay.from_estimator(object())
    with pytest.raises(Exception, match="not fitted yet"):
        LossCurveDisplay.from_estimator(MLPRegressor())

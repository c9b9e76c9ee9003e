"""Plots of a fit and of its residuals, used like scikit-learn's displays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskalt.assessment.quality import residual_histogram
from daskalt.data.choosing import takes_names
from daskalt.errors import InputError
from daskalt.estimators.fitted import FittedMLP

__all__ = ["LossCurveDisplay", "ResidualDisplay"]

WIDE = 10  # a loss that falls by more than this factor is drawn on a logarithmic axis
SCORES = {"accuracy": "accuracy", "r2": "R²"}


class LossCurveDisplay:
    """Loss and score of a fit, pass by pass.

    Best made by `from_estimator`. Training rows are scored within each pass, before their own
    steps, held-out rows after it. R² is that of held-out rows only.

    Parameters
    ----------
    history : list of dict
        ``history_`` of a fitted estimator.

    Attributes
    ----------
    best_pass : int
        The pass with the lowest loss of held-out rows, or of training rows where there are none.
    figure_ : matplotlib.figure.Figure
    ax_ : matplotlib.axes.Axes
        Where the loss is drawn.
    axes_ : ndarray of Axes
        That and, where the score is drawn, its axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from daskalt import LossCurveDisplay, MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((8,), random_state=0).fit(X, y)
    >>> display = LossCurveDisplay.from_estimator(model)
    >>> display.ax_.get_ylabel()
    'loss'
    """

    def __init__(self, history: list[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> LossCurveDisplay:
        """Draw the curves of a fitted estimator and return the display.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted.
        ax, **kwargs
            As in `plot`.
        """
        _check(estimator)
        return cls(estimator.history_).plot(ax=ax, **kwargs)

    @property
    def best_pass(self) -> int:
        """The pass with the lowest loss."""
        watched = self._values("validation_loss")
        losses = self._values("loss") if np.isnan(watched).all() else watched
        return self.history[int(np.nanargmin(losses))]["pass"]

    def plot(self, ax: Any = None, **kwargs: Any) -> LossCurveDisplay:
        """Draw the curves and return the display.

        Parameters
        ----------
        ax : Axes or sequence of two Axes, optional
            Where to draw: one for the loss alone. By default a new figure, for both.
        **kwargs
            Passed to `matplotlib.axes.Axes.plot`, for every curve.
        """
        known = {key.removeprefix("validation_") for record in self.history for key in record}
        score = next((name for name in SCORES if name in known), None)
        self.axes_ = _axes(ax, 1 if score is None else 2)
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        self._draw(self.ax_, "loss", "loss", kwargs)
        losses = np.concatenate([self._values("loss"), self._values("validation_loss")])
        losses = losses[np.isfinite(losses)]
        if len(losses) and 0 < WIDE * losses.min() < losses.max():
            self.ax_.set_yscale("log")
        if score is not None and len(self.axes_) > 1:
            self._draw(self.axes_[1], score, SCORES[score], kwargs)
        return self

    def _draw(self, ax: Any, name: str, label: str, options: dict[str, Any]) -> None:
        """One quantity of training and of held-out rows, with the best pass."""
        passes = self._values("pass")
        for key, rows in ((name, "training rows"), (f"validation_{name}", "held-out rows")):
            values = self._values(key)
            if not np.isnan(values).all():
                ax.plot(passes, values, **({"marker": ".", "label": rows} | options))
        best = self.best_pass
        ax.axvline(best, color="0.6", linestyle=":", label=f"best: pass {best}", zorder=0)
        ax.set(xlabel="pass", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()

    def _values(self, key: str) -> np.ndarray:
        return np.array([record.get(key, np.nan) for record in self.history], float)


class ResidualDisplay:
    """Plot of the joint histogram of predictions and residuals.

    Best made by `from_estimator`, which takes any number of rows in the memory of a few blocks. To
    draw each row as a point, use :class:`sklearn.metrics.PredictionErrorDisplay`.

    Parameters
    ----------
    counts, predicted_edges, residual_edges : ndarray
        As `daskalt.residual_histogram` returns them.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    ax_ : matplotlib.axes.Axes
    mesh_ : matplotlib.collections.QuadMesh
    """

    def __init__(
        self, counts: np.ndarray, predicted_edges: np.ndarray, residual_edges: np.ndarray
    ) -> None:
        self.counts = counts
        self.predicted_edges = predicted_edges
        self.residual_edges = residual_edges

    @classmethod
    @takes_names
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        bins: int = 64,
        output: int = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> ResidualDisplay:
        """Draw the residuals of a fitted regressor and return the display.

        Parameters
        ----------
        estimator : MLPRegressor
            Fitted.
        X, y, sample_weight, bins, output
            As in `daskalt.residual_histogram`.
        ax, **kwargs
            As in `plot`.
        """
        counts, predicted, residual = residual_histogram(
            estimator, X, y, sample_weight, bins=bins, output=output
        )
        return cls(counts, predicted, residual).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> ResidualDisplay:
        """Draw the histogram and return the display.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default a new figure.
        **kwargs
            Passed to `matplotlib.axes.Axes.pcolormesh`. Colours are logarithmic unless told by
            `norm`, and from `vmin` to `vmax` rows if these are given.

        Raises
        ------
        InputError
            If `vmin` is not below `vmax`.
        """
        counts = np.ma.masked_equal(self.counts.T, 0)
        if "norm" not in kwargs:
            limits = {name: kwargs.pop(name, None) for name in ("vmin", "vmax")}
            kwargs["norm"] = _logarithmic(counts, **limits)
        self.ax_ = _axes(ax, 1)[0]
        self.figure_ = self.ax_.figure
        self.mesh_ = self.ax_.pcolormesh(
            self.predicted_edges, self.residual_edges, counts, **kwargs
        )
        self.figure_.colorbar(self.mesh_, ax=self.ax_, label="rows")
        self.ax_.axhline(0, color="0.4", linewidth=1)
        self.ax_.set(xlabel="prediction", ylabel="residual (y less the prediction)")
        return self


def _logarithmic(counts: Any, vmin: float | None, vmax: float | None) -> Any:
    """Colours of counts, linear below the least count if they begin at 0 or less."""
    from matplotlib.colors import LogNorm, SymLogNorm

    least = counts.min()
    low = vmin if vmin is not None else least if vmax is None else min(least, vmax / 10)
    high = max(counts.max(), 10 * low) if vmax is None else vmax
    if not low < high:
        raise InputError(f"vmin must be below vmax; got vmin={low!r} and vmax={high!r}.")
    if low > 0:
        return LogNorm(low, high)
    return SymLogNorm(linthresh=least, vmin=low, vmax=high, base=10)


def _check(estimator: Any) -> None:
    if not isinstance(estimator, FittedMLP):
        raise InputError(
            "estimator must be a fitted MLPClassifier or MLPRegressor of daskalt; got a "
            f"{type(estimator).__name__}."
        )
    check_is_fitted(estimator, "coefs_")


def _axes(ax: Any, number: int) -> np.ndarray:
    """The axes that were given, or so many in a new figure."""
    if ax is not None:
        return np.atleast_1d(np.asarray(ax, object))
    import matplotlib.pyplot as plt

    size = (4.8 * number, 3.6)
    return plt.subplots(1, number, figsize=size, layout="constrained", squeeze=False)[1][0]

"""A fitted estimator: its attributes, predictions and scores."""

import inspect
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from daskalt.compute.statistics import Score
from daskalt.compute.threads import blas_threads
from daskalt.data.choosing import takes_names
from daskalt.data.opening import features_in_memory, is_stored, open_table
from daskalt.data.passes import all_blocks, count_rows
from daskalt.data.staging import staged_bytes
from daskalt.errors import InputError
from daskalt.estimators.export import to_sklearn
from daskalt.estimators.predicting import Predictor, predict_stored
from daskalt.memory.plan import Plan
from daskalt.network.folding import fold, takes_scaling, unfold
from daskalt.network.network import Weights
from daskalt.network.problem import Problem
from daskalt.network.scoring import score_table
from daskalt.solvers import BORROWED, get_solver
from daskalt.solvers.base import Solver
from daskalt.storage.variables import ZStore
from daskalt.training.fitting import Training
from daskalt.training.history import ALL_MADE, End
from daskalt.training.job import Job
from daskalt.training.monitor import Monitor

__all__ = ["Fitted", "FittedMLP"]


class Fitted(NamedTuple):
    """The result of a fit: the problem, the solver's state, the passes made, why it ended."""

    problem: Problem
    state: Any
    passes: int
    parts: tuple[str, ...]  # of the solver that made the state
    plan: Plan | None = None
    end: End | None = None  # None of a loaded model

    def check_solver(self, solver: Solver) -> None:
        """Raise InputError if a solver cannot continue from this state."""
        if solver.parts != self.parts:
            raise InputError(
                f"solver was {'('.join(self.parts)}{')' * (len(self.parts) - 1)} in the calls "
                f"before and is {'('.join(solver.parts)}{')' * (len(solver.parts) - 1)} now, which "
                "cannot continue from the other's state. Keep the solver, or start from the "
                "weights by warm_start=True and fit."
            )


def _finite(weights: Iterable[np.ndarray]) -> bool:
    return all(np.isfinite(w).all() for w in weights)


class FittedMLP(BaseEstimator):
    """The part of an estimator that needs a fit."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Parameters that are newer than a pickle get their defaults.
        parameters = inspect.signature(type(self)).parameters
        defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
        super().__setstate__(defaults | state)

    @property
    def _solver(self) -> Solver:
        """The solver that the parameters name."""
        return get_solver(self.solver, {name: getattr(self, name) for name in BORROWED})

    def _finish(
        self,
        training: Training,
        state: Any,
        monitor: Monitor,
        earlier: Sequence[dict[str, Any]] = (),
        last: End = ALL_MADE,
    ) -> None:
        """Set the fitted attributes, in the user's own units.

        ``earlier`` is the history before these passes, ``last`` the end if nothing came before.
        """
        self._set_weights(training.job.problem, state)
        self._set_history([*earlier, *(record.as_dict() for record in monitor.history)])
        end = monitor.end or last
        self.stop_reason_ = end.words
        parts, problem = self._solver.parts, training.job.problem
        self._fitted = Fitted(problem, state, self.n_iter_, parts, training.plan, end)

    def _set_weights(self, problem: Problem, state: Any) -> None:
        """Set the attributes of the network."""
        with np.errstate(over="ignore", invalid="ignore"), blas_threads():
            weights = [
                w.astype(problem.dtype, copy=False)
                for w in fold(problem.network, state.weights, problem.scaling, problem.targets)
            ]
        if _finite(state.weights) and not _finite(weights):
            raise InputError(
                f"The weights in the units of X and y overflow {problem.dtype}: scale X and y so "
                "that their standard deviations are closer to 1."
            )
        self.coefs_ = [np.ascontiguousarray(w[:, :-1].T, dtype=problem.dtype) for w in weights]
        self.intercepts_ = [np.ascontiguousarray(w[:, -1], dtype=problem.dtype) for w in weights]
        self.n_layers_ = problem.network.n_layers + 1
        self.n_outputs_ = problem.targets.width
        self.out_activation_ = problem.network.loss.link.name

    def _set_history(self, history: list[dict[str, Any]]) -> None:
        """Set the attributes of the passes."""
        self.history_ = history
        self.loss_curve_ = [record["loss"] for record in history]
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = None if self.early_stopping else min(self.loss_curve_)
        scores = [
            record[name]
            for record in history
            for name in ("validation_accuracy", "validation_r2")
            if name in record
        ]
        self.validation_scores_ = scores or None
        self.best_validation_score_ = max(scores, default=None)
        self.n_iter_ = len(history)

    @property
    def solver_state_(self) -> Any:
        """The solver's last state."""
        check_is_fitted(self)
        return self._fitted.state

    @property
    def feature_limits_(self) -> np.ndarray | None:
        """Least and greatest value of each feature, (2, n_features); None without limits.

        What lies beyond counts as the limit, in the fit with ``scale="auto"`` and in predictions.
        """
        check_is_fitted(self)
        scaling = self._fitted.problem.scaling
        return scaling.limits if np.isfinite(scaling.reach) else None

    @property
    def plan_(self) -> Plan | None:
        """The plan of the fit; None for a loaded model."""
        check_is_fitted(self)
        return self._fitted.plan

    @property
    def z_(self) -> list[da.Array]:
        """Pre-activations z of every row as Dask arrays, one a layer, where the solver kept them.

        Raises
        ------
        AttributeError
            If they were not kept, or no longer are.
        """
        check_is_fitted(self)
        variables: ZStore | None = getattr(self, "_kept_variables", None)
        if variables is None:
            raise AttributeError(
                "z is removed after a fit. Give the solver a place to keep it, such as "
                "BatchAltMin(store='path/of/z.zarr')."
            )
        if variables.mark != (self.n_iter_, variables.token):
            raise AttributeError(
                f"{variables.location} has no z of iteration {self.n_iter_}: the fit has "
                "continued, or another has replaced it."
            )
        layers = self._fitted.problem.network.n_layers
        return variables.arrays(self.n_iter_)[:layers]

    def _unfolded(self, problem: Problem) -> Weights:
        """The fitted weights in the units of another problem of the same shape."""
        weights = [
            np.concatenate([c.T, b[:, None]], axis=1)
            for c, b in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        unfolded = unfold(problem.network, weights, problem.scaling, problem.targets, problem.dtype)
        return tuple(np.ascontiguousarray(w, dtype=problem.dtype) for w in unfolded)

    def _charge(self, began: float, job: Job) -> None:
        """Set ``cost_``, the resources that the fit used."""
        training = sum(record["seconds"] for record in self.history_)
        flops = job.solver.flops(job.problem.network) * count_rows(job.bounds) * self.n_iter_
        self.cost_ = {
            "passes": self.n_iter_,
            "bytes_read": sum(record["bytes_read"] for record in self.history_),
            "bytes_written": staged_bytes(job.table)
            + sum(record["bytes_written"] for record in self.history_),
            "seconds": time.perf_counter() - began,
            "training_seconds": training,
            "gflops_per_second": flops / training / 1e9,
        }

    # Prediction

    @property
    def _predictor(self) -> Predictor:
        check_is_fitted(self, "coefs_")
        problem = self._fitted.problem
        folded = takes_scaling(problem.network)
        return Predictor(
            tuple(self.coefs_),
            tuple(self.intercepts_),
            problem.network,
            problem.targets,
            scaling=None if folded else problem.scaling,
            limits=self.feature_limits_ if folded else None,
        )

    def _apply(self, X: Any, method: str) -> Any:
        check_is_fitted(self, "coefs_")
        if is_stored(X):
            return predict_stored(self, X, self._predictor, method)
        return getattr(self._predictor, method)(features_in_memory(self, X))

    @takes_names
    def predict(self, X: Any) -> Any:
        """Return the prediction for every row.

        Parameters
        ----------
        X : like the X of `fit`
            In a container the features have the names of the fit, unless X names others:
            ``predict("rows.zarr", X=["rain", "wind"])``. After a fit without names they have to
            be named, or are its array ``X``.

        Returns
        -------
        ndarray, dask.array.Array or xarray.DataArray
            Lazy, block by block as X, if X is lazy: a Dask collection, or xarray's on Dask or not
            read yet. A DataArray for a DataArray or Dataset, with its rows' dimension,
            coordinates and index, named as the target was or "prediction"; the second dimension
            of probabilities is ``class``, of several outputs ``output``. Where the rows have such
            a name already, it is "prediction" or "probability", ``label`` or ``target``. Else an
            array in memory.
        """
        return self._apply(X, "predict")

    def to_sklearn(self) -> Any:
        """Return a fitted scikit-learn estimator that makes the same predictions.

        It has no limits of the features: where some may be beyond, give it
        ``np.clip(X, *model.feature_limits_)``.

        Raises
        ------
        InputError
            If scikit-learn has no such network.
        """
        check_is_fitted(self, "coefs_")
        return to_sklearn(self)

    def _judge(self, quality: Any, X: Any, y: Any, sample_weight: Any) -> float:
        """The value of scikit-learn's ``quality`` for the predictions of rows in memory."""
        table = open_table(self, X, y, sample_weight, reset=False)
        rows = table.read(0, table.n_rows)
        if rows.weight is not None and not rows.weight.any():
            raise InputError(
                "sample_weight is zero in every row to be scored: leave it out, or give some "
                "weight."
            )
        try:
            return float(
                quality(rows.y, self._predictor.predict(rows.X), sample_weight=rows.weight)
            )
        except (ValueError, TypeError) as error:
            raise InputError(
                f"y does not suit the predictions: {error}. Give targets as those of the fit."
            ) from error

    def _score(self, X: Any, y: Any, sample_weight: Any) -> Score:
        """Sums over stored rows, block by block."""
        table = open_table(self, X, y, sample_weight, reset=False)
        problem = replace(self._fitted.problem, class_factors=None)
        return score_table(problem, self._fitted.state, table, all_blocks(table))

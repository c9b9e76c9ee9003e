"""`MLPClassifier` and `MLPRegressor`: scikit-learn's perceptrons on data of any size."""

import contextlib
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from daskalt.data.opening import is_stored, open_table
from daskalt.data.scaling import choose_scaling
from daskalt.data.staging import copy_to_scratch, staged_bytes
from daskalt.data.survey import survey_labels, survey_numbers, total_weight
from daskalt.data.table import Table
from daskalt.data.targets import (
    BinaryTargets,
    ClassTargets,
    MultilabelTargets,
    RealTargets,
    Targets,
)
from daskalt.errors import InputError
from daskalt.export import to_sklearn
from daskalt.fitting import (
    Held,
    Monitor,
    all_blocks,
    choose_passes,
    choose_reading,
    count_rows,
    hold_out,
    sample_rows,
    train,
    warn_if_sorted,
)
from daskalt.losses import Loss, get_loss
from daskalt.network import SPREAD, Network, Weights
from daskalt.parameters import check_parameters, choice, integer, real
from daskalt.predicting import Predictor, predict_stored
from daskalt.reduction import in_this_process
from daskalt.scoring import score_table
from daskalt.solvers import get_solver
from daskalt.solvers.base import Budget, Problem
from daskalt.statistics import Score

__all__ = ["MLPClassifier", "MLPRegressor"]


INITIAL_ROWS = 1024  # of the sample, on which the initial weights are set


class Goal(NamedTuple):
    """What the targets ask for."""

    targets: Targets
    loss: Loss
    class_factors: np.ndarray | None = None
    clustering: float = 1.0  # of the targets in the blocks; about 1 when shuffled


class _Fitted(NamedTuple):
    """What training continues from: the problem, the solver's state, the passes made."""

    problem: Problem
    state: Any
    passes: int


class _BaseMLP(BaseEstimator):
    """What classifier and regressor share."""

    # Declared once for both; the subclasses list their parameters for scikit-learn to see.
    def _check_parameters(self) -> None:
        layers = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object))
        if any(not isinstance(h, int | np.integer) or isinstance(h, bool) or h < 1 for h in layers):
            raise InputError(
                "The parameter hidden_layer_sizes must be a sequence of integers of at least 1; "
                f"got {self.hidden_layer_sizes!r}."
            )
        check_parameters(
            self,
            activation=choice(*SPREAD),
            alpha=real(at_least=0),
            batch_size=integer(at_least=1, or_word="auto"),
            max_iter=integer(at_least=1, or_none=True),
            shuffle=choice(True, False, "global"),
            tol=real(at_least=0),
            warm_start=choice(True, False),
            early_stopping=choice(True, False),
            validation_fraction=real(above=0, below=1),
            n_iter_no_change=integer(at_least=1),
            loss=choice("auto", "cross_entropy", "squared"),
            scale=choice("auto", "standard", "none"),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    # Training

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        client: Any = None,
    ) -> Any:
        """Train on all rows and return the estimator.

        Parameters
        ----------
        X : array-like, Dask array or DataFrame, zarr.Array, xarray.DataArray, path or URL
            Features, of shape (rows, features), in memory or where they are stored. The path or
            fsspec URL of a Zarr group means its array ``X``.
        y : like X, optional
            Targets. None with a path as X means the group's array ``y``.
        sample_weight : like X, optional
            Weight of each row in the loss.
        eval_set : tuple (X, y) or (X, y, sample_weight), a list of one, or a path, optional
            Rows that are scored after every pass, for `history_` and for early stopping.
        client : distributed.Client, optional
            Cluster to train on; by default the active client, or threads where there is none.

        Raises
        ------
        InputError
            If data or a parameter cannot be used as given.
        StorageError
            If a store cannot be read.
        DivergenceError
            If the numbers overflow.
        """
        self._check_parameters()
        with _on(client):
            began = time.perf_counter()
            table = open_table(self, X, y, sample_weight, reset=True)
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
            table = self._arrange(table, seed)
            bounds, held = self._split(table, eval_set, seed)
            before = getattr(self, "_fitted", None) if self.warm_start else None
            goal = self._learn_targets(table)
            problem, weights = self._prepare(table, bounds, goal, seed, before)
            solver = get_solver(self.solver)
            solver.validate(problem)
            reading = choose_reading(
                table,
                bounds,
                problem.network,
                self.batch_size,
                getattr(solver, "tasks", "auto"),
                seed if self.shuffle else None,
            )
            if self.shuffle and not table.in_memory:
                warn_if_sorted(goal.clustering, goal.targets.width, reading, table)
            passes = self.max_iter or choose_passes(count_rows(bounds))
            steps = reading.plan(table, bounds, 0).steps
            state = solver.start(problem, weights, Budget(steps * passes, steps))
            monitor = Monitor(self.tol, self.n_iter_no_change, self.early_stopping)
            state = train(
                solver,
                problem,
                table,
                bounds,
                reading,
                state,
                range(passes),
                monitor,
                held,
                bool(self.verbose),
            )
            self._finish(problem, state, monitor.history)
            self._charge(began, table, bounds, solver, problem)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Make one pass over these rows, on top of all earlier calls, and return the estimator.

        Scaling and initial weights are found on the rows of the first call. There is no schedule,
        since there is no end: the solver's limits stay at their full value.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        """
        return self._partial_fit(X, y, sample_weight)

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray | None = None
    ) -> Any:
        self._check_parameters()
        before = getattr(self, "_fitted", None)
        table = open_table(self, X, y, sample_weight, reset=before is None)
        passes = 0 if before is None else before.passes
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        bounds = all_blocks(table)
        solver = get_solver(self.solver)
        if before is None:
            goal = self._learn_targets(table, classes)
            problem, weights = self._prepare(table, bounds, goal, seed, None)
            solver.validate(problem)
            state = solver.start(problem, weights, Budget(None, None))
        else:
            # What follows has no end: a schedule that an earlier fit has run through is over.
            problem = before.problem
            state = before.state._replace(budget=Budget(None, None))
        reading = choose_reading(
            table,
            bounds,
            problem.network,
            self.batch_size,
            getattr(solver, "tasks", "auto"),
            seed if self.shuffle else None,
        )
        monitor = Monitor(0.0, 1 << 30, False)
        state = train(
            solver,
            problem,
            table,
            bounds,
            reading,
            state,
            range(passes, passes + 1),
            monitor,
            verbose=bool(self.verbose),
        )
        history = [*getattr(self, "history_", []), *monitor.history] if before else monitor.history
        self._finish(problem, state, history)
        return self

    def _arrange(self, table: Table, seed: int) -> Table:
        """The table as it will be read: shuffled, staged where other processes can reach it."""
        if table.in_memory and in_this_process():
            return table  # and shuffled row by row as it is
        if self.shuffle == "global":
            return copy_to_scratch(table, self.scratch, seed)
        return copy_to_scratch(table, self.scratch, None) if table.in_memory else table

    def _split(self, table: Table, eval_set: Any, seed: int) -> tuple[np.ndarray, Held | None]:
        """Blocks to train on, and the rows that are scored after every pass."""
        bounds = all_blocks(table)
        if eval_set is not None:
            if isinstance(eval_set, list):
                if len(eval_set) != 1:
                    raise InputError(
                        f"eval_set must hold one pair (X, y); got {len(eval_set)} of them."
                    )
                (eval_set,) = eval_set
            members = eval_set if isinstance(eval_set, tuple) else (eval_set,)
            if len(members) > 3:
                raise InputError(
                    f"eval_set must be (X, y) or (X, y, sample_weight); it has {len(members)} "
                    "members."
                )
            other = open_table(self, *(*members, None, None)[:3], reset=False)
            if other.in_memory and not in_this_process():
                other = copy_to_scratch(other, self.scratch, None)
            return bounds, Held(other, all_blocks(other))
        if not self.early_stopping:
            return bounds, None
        labels = self._labels_in_memory(table)
        bounds, held = hold_out(table, self.validation_fraction, seed, labels)
        if not len(bounds):
            raise InputError(
                f"validation_fraction={self.validation_fraction} leaves no rows to train on: "
                "lower it, or give more rows."
            )
        return bounds, Held(table, held)

    def _labels_in_memory(self, table: Table) -> np.ndarray | None:
        return None

    def _prepare(
        self, table: Table, bounds: np.ndarray, goal: Goal, seed: int, before: _Fitted | None
    ) -> tuple[Problem, Weights]:
        """The problem that the table poses, and the weights to start from."""
        dtype = np.dtype(np.float64 if table.X.dtype == np.float64 else np.float32)
        sample = sample_rows(table, bounds, seed)
        hidden = tuple(int(h) for h in np.atleast_1d(np.asarray(self.hidden_layer_sizes, int)))
        network = Network(
            (table.X.shape[1], *hidden, goal.targets.width), self.activation, goal.loss
        )
        weight = None if sample.weight is None else sample.weight.ravel()
        if weight is not None and not weight.any():
            weight = None
        problem = Problem(
            network=network,
            scaling=choose_scaling(sample.X, weight, self.scale),
            targets=goal.targets,
            penalty=float(self.alpha) * table.n_rows / count_rows(bounds) / total_weight(table),
            dtype=dtype,
            class_factors=goal.class_factors,
        )
        if before is not None and before.problem.network.widths == network.widths:
            return problem, self._unfolded(problem)
        # Spreads need fewer rows than scaling does, whose extremes matter.
        every = -(-len(sample.X) // INITIAL_ROWS)
        weight = None if weight is None else weight[::every]
        rows = problem.inputs(sample.X[::every])
        return problem, network.initial_weights(rows, np.random.default_rng(seed), weight)

    def _learn_targets(self, table: Table, classes: np.ndarray | None = None) -> Goal:
        raise NotImplementedError

    def _finish(self, problem: Problem, state: Any, history: list[dict[str, Any]]) -> None:
        """Set the fitted attributes, in the user's own units."""
        weights = list(state.weights)
        first = problem.scaling.fold(weights[0])
        weights[0] = first
        weights[-1] = problem.targets.fold(weights[-1])
        self.coefs_ = [np.ascontiguousarray(w[:, :-1].T, dtype=problem.dtype) for w in weights]
        self.intercepts_ = [np.ascontiguousarray(w[:, -1], dtype=problem.dtype) for w in weights]
        self.n_layers_ = len(weights) + 1
        self.n_outputs_ = problem.targets.width
        self.out_activation_ = problem.network.loss.link_name
        self.history_ = history
        self.loss_curve_ = [record["loss"] for record in history]
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = min(self.loss_curve_)
        self.n_iter_ = len(history)
        self._fitted = _Fitted(problem, state, len(history))

    def _unfolded(self, problem: Problem) -> Weights:
        """The fitted weights in the units of another problem of the same shape."""
        weights = [
            np.concatenate([c.T, b[:, None]], axis=1)
            for c, b in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        weights[0] = problem.scaling.unfold(weights[0], problem.dtype)
        weights[-1] = problem.targets.unfold(weights[-1], problem.dtype)
        return tuple(np.ascontiguousarray(w, dtype=problem.dtype) for w in weights)

    def _charge(
        self, began: float, table: Table, bounds: np.ndarray, solver: Any, problem: Problem
    ) -> None:
        """Set ``cost_``, what the fit took."""
        training = sum(record["seconds"] for record in self.history_)
        flops = solver.flops(problem.network) * count_rows(bounds) * self.n_iter_
        self.cost_ = {
            "passes": self.n_iter_,
            "bytes_read": sum(record["bytes_read"] for record in self.history_),
            "bytes_written": staged_bytes(table),
            "seconds": time.perf_counter() - began,
            "training_seconds": training,
            "gflops_per_second": flops / training / 1e9,
        }

    # Prediction

    @property
    def _predictor(self) -> Predictor:
        check_is_fitted(self, "coefs_")
        problem = self._fitted.problem
        return Predictor(
            tuple(self.coefs_),
            tuple(self.intercepts_),
            problem.network.activation,
            problem.network.loss,
            problem.targets,
        )

    def _apply(self, X: Any, method: str) -> Any:
        check_is_fitted(self, "coefs_")
        function = getattr(self._predictor, method)
        if is_stored(X):
            return predict_stored(self, X, function, method)
        X = validate_data(self, X, reset=False)
        return function(X)

    def predict(self, X: Any) -> Any:
        """Return the prediction for every row.

        Parameters
        ----------
        X : like the X of `fit`

        Returns
        -------
        ndarray or dask.array.Array
            Lazy, block by block as X, if X is a Dask collection; else an array in memory.
        """
        return self._apply(X, "predict")

    def to_sklearn(self) -> Any:
        """Return a fitted scikit-learn estimator that makes the same predictions.

        Raises
        ------
        InputError
            If scikit-learn has no such network.
        """
        check_is_fitted(self, "coefs_")
        return to_sklearn(self)

    def _score(self, X: Any, y: Any, sample_weight: Any) -> Score:
        """Sums over stored rows, block by block."""
        table = open_table(self, X, y, sample_weight, reset=False)
        problem = replace(self._fitted.problem, class_factors=None)
        return score_table(problem, self._fitted.state, table, all_blocks(table))


class MLPClassifier(ClassifierMixin, _BaseMLP):
    """Multi-layer perceptron classifier, trained out of core.

    A drop-in for :class:`sklearn.neural_network.MLPClassifier` whose X may also be a Dask array, a
    Zarr array or the path of a Zarr store of any size, trained block by block on threads or on
    the active Dask cluster.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(100,)
        Units of each hidden layer; () for softmax or logistic regression.
    activation : {"identity", "relu", "tanh", "logistic", "softplus"}, default="relu"
        Activation of the hidden layers.
    solver : str or Solver, default="altmin"
        Training method by name, or with its own parameters as an object, such as
        ``StochasticAltMin(damping=3)``.
    alpha : float, default=1e-4
        L2 penalty: alpha / 2n times the squared weights is added to the mean loss of n rows.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a fortieth of the rows, between 100 and 2,000.
    max_iter : int or None, default=None
        Passes over the data, along which steps are annealed to zero. None chooses from the number
        of rows: 3 for 50,000 and more, up to 20 for few.
    shuffle : bool or "global", default=True
        True reads blocks in random order and mixes rows in memory. "global" first writes a
        shuffled copy to `scratch`, for data stored in an order.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, shuffling and validation split.
    tol : float, default=1e-4
        Training stops when the loss has fallen by less than this for `n_iter_no_change` passes.
    verbose : bool, default=False
        Show a progress bar.
    warm_start : bool, default=False
        Start `fit` from the weights of the last.
    early_stopping : bool, default=False
        Watch the loss of held-out rows (or of `eval_set`) and keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows, or of the stored blocks, held out for early stopping.
    n_iter_no_change : int, default=10
        Passes without improvement before training stops.
    class_weight : dict, "balanced" or None, default=None
        Factor on the weight of each class's rows.
    loss : {"auto", "cross_entropy", "squared"}, default="auto"
        Loss of the outputs; "auto" is the cross-entropy.
    output_activation : str, default="auto"
        Link of the output layer: "softmax" or "logistic", or for the squared loss any activation.
    scale : {"auto", "standard", "none"}, default="auto"
        Scaling of the features, folded into the first layer afterwards. "auto" divides unsigned
        bytes by 255 and standardises everything else.
    scratch : str or None, default=None
        Folder or URL for staged data; every worker must reach it. None is a temporary folder.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    coefs_, intercepts_ : list of ndarray
        Weights, (fan_in, fan_out), and biases of each layer, for the features as given.
    loss_, best_loss_ : float
        Last and lowest mean training loss of a pass.
    loss_curve_ : list of float
        Mean training loss of each pass, of the forward pass before each step.
    history_ : list of dict
        Loss, accuracy, seconds and bytes read of each pass.
    cost_ : dict
        Passes, bytes, seconds and GFLOP/s that the fit took.
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
    feature_names_in_ : ndarray of str
        Where X has string column names.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from daskalt import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier((64,), random_state=0).fit(X[:1500], y[:1500])
    >>> bool(model.score(X[1500:], y[1500:]) > 0.9)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: Any = "altmin",
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        max_iter: int | None = None,
        shuffle: bool | str = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        loss: str = "auto",
        output_activation: str = "auto",
        scale: str = "auto",
        scratch: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.loss = loss
        self.output_activation = output_activation
        self.scale = scale
        self.scratch = scratch

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "MLPClassifier":
        """Make one pass over these rows, on top of all earlier calls, and return the estimator.

        Scaling and initial weights are found on the rows of the first call. There is no schedule,
        since there is no end: the solver's limits stay at their full value.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array of shape (n_classes,), optional
            All labels that will ever come; needed in the first call.
        """
        first = not hasattr(self, "_fitted")
        if first and classes is None:
            raise InputError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            classes = np.unique(classes)
            if not first and not np.array_equal(classes, self.classes_):
                raise InputError(
                    f"classes={classes.tolist()} is not the same as on the last call to "
                    f"partial_fit: {self.classes_.tolist()}."
                )
            self.classes_ = classes
        return self._partial_fit(X, y, sample_weight, classes)

    def _learn_targets(self, table: Table, classes: Any = None) -> Goal:
        assert table.y is not None
        name = "cross_entropy" if self.loss == "auto" else self.loss
        link = self.output_activation
        if len(table.y.shape) == 2 and table.y.shape[1] > 1:
            if self.class_weight is not None:
                raise InputError(
                    "class_weight cannot be used with a multilabel y: give sample_weight instead."
                )
            self.classes_ = np.arange(table.y.shape[1])
            loss = get_loss(name, "logistic" if link == "auto" else link)
            return Goal(MultilabelTargets(table.y.shape[1]), loss)
        clustering, counts = 1.0, None
        if classes is None:
            labels = survey_labels(table)
            classes, counts, clustering = labels.classes, labels.counts, labels.clustering()
        if len(classes) < 2:
            raise InputError(
                "The number of classes has to be greater than one; y holds 1 class only: "
                f"{classes.tolist()}."
            )
        self.classes_ = classes
        binary = len(classes) == 2 and link != "softmax"
        matched = "logistic" if binary else "softmax"
        if link == "auto" and name == "squared":
            matched = "logistic"
        loss = get_loss(name, matched if link == "auto" else link)
        targets = BinaryTargets(classes) if binary else ClassTargets(classes, not loss.coded)
        return Goal(targets, loss, self._class_factors(classes, counts), clustering)

    def _class_factors(self, classes: np.ndarray, counts: np.ndarray | None) -> np.ndarray | None:
        given = self.class_weight
        if given is None:
            return None
        if isinstance(given, str) and given == "balanced":
            if counts is None:
                raise InputError(
                    "class_weight='balanced' needs all rows at once: in partial_fit give a dict."
                )
            return counts.sum() / (len(classes) * counts)
        if not isinstance(given, dict):
            raise InputError(
                f"class_weight must be None, 'balanced' or a dict of labels to weights; "
                f"got {given!r}."
            )
        unknown = sorted(map(str, set(given) - set(classes.tolist())))
        if unknown:
            raise InputError(f"class_weight names labels that y does not hold: {unknown}.")
        factors = np.array([float(given.get(label, 1.0)) for label in classes.tolist()])
        if not (np.isfinite(factors) & (factors >= 0)).all():
            raise InputError(f"class_weight must hold numbers of zero or more; got {given!r}.")
        if not factors.any():
            raise InputError(f"class_weight is zero for every label of y; got {given!r}.")
        return factors

    def _labels_in_memory(self, table: Table) -> np.ndarray | None:
        if not table.in_memory or len(table.y.shape) > 1:
            return None
        return table.y.read(0, table.n_rows)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of every class, of shape (rows, classes), lazy as `predict`."""
        return self._apply(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of rows whose label (or all labels) is right.

        Stored rows are scored block by block and never gathered.
        """
        check_is_fitted(self, "coefs_")
        if is_stored(X):
            return self._score(X, y, sample_weight).accuracy
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _BaseMLP):
    """Multi-layer perceptron regressor, trained out of core.

    A drop-in for :class:`sklearn.neural_network.MLPRegressor` whose X and y may also be stored in
    Zarr or be Dask arrays of any size. Targets are standardised for training, and predictions
    are in their own units.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, max_iter, shuffle, random_state, tol
        As in :class:`MLPClassifier`.
    verbose, warm_start, early_stopping, validation_fraction, n_iter_no_change, scale, scratch
        As in :class:`MLPClassifier`.
    loss : {"auto", "squared"}, default="auto"
        Half the squared error, summed over the outputs.
    output_activation : str, default="auto"
        Link of the output layer; "auto" is the identity. With any other, targets are not scaled.

    Attributes
    ----------
    coefs_, intercepts_, history_, cost_, n_iter_
        As in :class:`MLPClassifier`.
    loss_, best_loss_, loss_curve_
        Mean training loss, in units of the standardised targets.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: Any = "altmin",
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        max_iter: int | None = None,
        shuffle: bool | str = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        loss: str = "auto",
        output_activation: str = "auto",
        scale: str = "auto",
        scratch: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.loss = loss
        self.output_activation = output_activation
        self.scale = scale
        self.scratch = scratch

    def _learn_targets(self, table: Table, classes: Any = None) -> Goal:
        assert table.y is not None
        if table.y.dtype.kind not in "fiub":
            raise InputError(
                f"y must be numbers for a regressor; it is of type {table.y.dtype}. Convert it, "
                "or use MLPClassifier for labels."
            )
        name = "squared" if self.loss == "auto" else self.loss
        link = "identity" if self.output_activation == "auto" else self.output_activation
        numbers = survey_numbers(table)
        mean, scale = numbers.mean, np.sqrt(numbers.variance)
        if link == "identity":
            scale = np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300), scale, 1.0)
        else:  # the link's range is in the targets' own units
            mean, scale = np.zeros_like(mean), np.ones_like(scale)
        targets = RealTargets(mean, scale, one_dimensional=len(table.y.shape) == 1)
        return Goal(targets, get_loss(name, link), None, numbers.clustering())

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R², the mean over the outputs; stored rows are scored block by block."""
        check_is_fitted(self, "coefs_")
        if is_stored(X):
            return self._score(X, y, sample_weight).r2
        return super().score(X, y, sample_weight)


@contextlib.contextmanager
def _on(client: Any) -> Any:
    """Use a Dask client for the tasks made inside, if one is given."""
    if client is None:
        yield
    else:
        with client.as_current():
            yield

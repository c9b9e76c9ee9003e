"""`MLPRegressor`: scikit-learn's regressor on data of any size."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from daskalt.data.choosing import takes_names
from daskalt.data.opening import is_stored
from daskalt.data.survey import survey_numbers
from daskalt.data.table import Table
from daskalt.data.targets import RealTargets, centre_and_scale, check_shares
from daskalt.errors import InputError
from daskalt.estimators.goals import Goal
from daskalt.estimators.perceptron import BaseMLP
from daskalt.functions.activations import Activation
from daskalt.functions.loss import Loss
from daskalt.functions.losses import get_loss

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor, trained out of core.

    It has the interface of :class:`sklearn.neural_network.MLPRegressor`, and X and y may also be
    stored in Zarr or be Dask arrays of any size. Targets are standardised for training, and
    predictions are in their own units. The first parameter is `hidden_layer_sizes`, where
    scikit-learn has `loss`; other differences are in the Notes of :class:`MLPClassifier`.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, max_iter, shuffle, random_state, tol
        As in :class:`MLPClassifier`.
    verbose, warm_start, early_stopping, validation_fraction, n_iter_no_change, scale, scratch, \
    checkpoint, memory_limit
        As in :class:`MLPClassifier`.
    learning_rate, learning_rate_init, power_t, momentum, nesterovs_momentum, beta_1, beta_2, \
    epsilon, max_fun
        As in :class:`MLPClassifier`.
    loss : {"auto", "squared", "squared_error", "absolute", "huber", "cross_entropy"} or Loss, \
    default="auto"
        "auto" is "squared", half the squared error, which scikit-learn calls "squared_error".
        "absolute" and "huber" are for gross errors in y: targets are standardised by median and
        quartiles instead of mean and standard deviation (those of all rows up to 16,384, and of a
        uniform sample of more), and "huber" is half the squared error up to 0.5 of the targets'
        spread and straight beyond. All are summed over the outputs; the cross-entropy is for
        targets from 0 to 1 and output_activation="logistic". A :class:`daskalt.Loss` of your own
        sees standardised targets if its link is the identity, by quartiles if it is `robust`.
    output_activation : str, default="auto"
        Link of the output layer; "auto" is the identity. With any other, targets are not scaled,
        and the biases of a fresh fit give their mean as output where the link can.

    Attributes
    ----------
    coefs_, intercepts_, history_, cost_, n_iter_, n_layers_, n_outputs_, n_features_in_, \
    stop_reason_, out_activation_, feature_limits_, feature_names_in_, members_, \
    target_name_, recipe_
        As in :class:`MLPClassifier`.
    loss_, best_loss_, loss_curve_
        Mean training loss, in units of the standardised targets.
    validation_scores_, best_validation_score_
        As in :class:`MLPClassifier`, but R².

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from daskalt import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor((16,), random_state=0).fit(X[:400], y[:400])
    >>> bool(model.score(X[400:], y[400:]) > 0.4)
    True
    """

    _losses = ("squared", "squared_error", "absolute", "huber", "cross_entropy")

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Activation = "relu",
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
        learning_rate: str | None = None,
        learning_rate_init: float | None = None,
        power_t: float | None = None,
        momentum: float | None = None,
        nesterovs_momentum: bool | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        max_fun: int | None = None,
        loss: str | Loss = "auto",
        output_activation: str = "auto",
        scale: str = "auto",
        scratch: str | None = None,
        checkpoint: Any = None,
        memory_limit: str | int | None = None,
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
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_fun = max_fun
        self.loss = loss
        self.output_activation = output_activation
        self.scale = scale
        self.scratch = scratch
        self.checkpoint = checkpoint
        self.memory_limit = memory_limit

    @takes_names
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MLPRegressor":
        """Make one pass over these rows, on top of all earlier calls, and return the estimator.

        Scaling and initial weights are found on the rows of the first call. There is no schedule,
        since there is no end: the solver's limits stay at their full value.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        """
        return self._partial_fit(X, y, sample_weight)

    def _learn_targets(self, table: Table, classes: Any = None) -> Goal:
        assert table.y is not None
        if table.y.dtype.kind not in "fiub":
            raise InputError(
                f"y must be numbers for a regressor; it is of type {table.y.dtype}. Convert it, "
                "or use MLPClassifier for labels."
            )
        loss = self._chosen_loss()
        numbers = survey_numbers(table, sampled=loss.robust and loss.link.linear)
        centre, scale = centre_and_scale(numbers, table.X.dtype)
        mean = None  # of standardised targets, which is about zero
        if not loss.link.linear:  # the link's range is in the targets' own units
            centre, scale, mean = np.zeros_like(centre), np.ones_like(scale), numbers.mean
        if loss.shares:
            check_shares(numbers.low, numbers.high)
        targets = RealTargets(centre, scale, len(table.y.shape) == 1, loss.shares)
        return Goal(targets, loss, None, numbers.clustering(), mean)

    def _chosen_loss(self) -> Loss:
        if isinstance(self.loss, Loss):
            loss = self.loss
        else:
            name = "squared" if self.loss in ("auto", "squared_error") else self.loss
            link = self.output_activation
            loss = get_loss(name, "identity" if link == "auto" else link)
        if loss.coded:
            raise InputError(
                f"The loss {loss.name!r} on {loss.link.name!r} is for classes: give another loss "
                "or output_activation, or use MLPClassifier."
            )
        return loss

    def _expect_targets(self, table: Table, classes: np.ndarray | None) -> Goal:
        assert table.y is not None
        width = int(np.prod(table.y.shape[1:], dtype=int))
        one_dimensional = len(table.y.shape) == 1
        targets = RealTargets(np.zeros(width), np.ones(width), one_dimensional)
        return Goal(targets, self._chosen_loss())

    @takes_names
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R², the mean over the outputs.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; names in a container default to those of the fit. Stored rows are scored
            block by block and never gathered.

        Returns
        -------
        float
            1 at most, and negative where predictions are worse than the targets' mean.
        """
        check_is_fitted(self, "coefs_")
        if is_stored(X) or is_stored(y):
            return self._score(X, y, sample_weight).r2
        return self._judge(r2_score, X, y, sample_weight)

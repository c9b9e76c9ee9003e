"""`MLPClassifier`: scikit-learn's classifier on data of any size."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from daskalt.data.choosing import takes_names
from daskalt.data.memory import as_classes
from daskalt.data.opening import is_stored
from daskalt.errors import InputError
from daskalt.estimators.labelled import LabelledMLP
from daskalt.functions.activations import Activation
from daskalt.functions.loss import Loss
from daskalt.functions.losses import LOSSES

__all__ = ["MLPClassifier"]


def _has_probabilities(classifier: "MLPClassifier") -> bool:
    given = classifier.loss
    meant = [given] if isinstance(given, Loss) else [x for x in LOSSES.values() if x.name == given]
    if not all(loss.probabilistic for loss in meant):
        raise AttributeError(
            f"There are no probabilities with loss={given!r}: use 'cross_entropy'."
        )
    return True


class MLPClassifier(ClassifierMixin, LabelledMLP):
    """Multi-layer perceptron classifier, trained out of core.

    It has the interface of :class:`sklearn.neural_network.MLPClassifier`. X may also be a Dask
    array, a Zarr array, xarray's data or the path of a Zarr store of any size, trained block by
    block on threads or on the active Dask cluster. The Notes say where it differs.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(100,)
        Units of each hidden layer; () for softmax or logistic regression.
    activation : str or Activation, default="relu"
        Activation of the hidden layers: "identity", "relu", "tanh", "logistic", "softplus", or one
        of your own as a :class:`daskalt.Activation`.
    solver : str or Solver, default="altmin"
        Training method by name, or with its own parameters as an object, such as
        ``StochasticAltMin(damping=3)``. The names are "altmin", "batch-altmin" and "admm"; "sgd",
        "adagrad", "rmsprop", "adadelta" and "adam" on mini-batches; "gd", "cg", "lbfgs" and, for
        convex problems, "newton" on all rows.
    alpha : float, default=1e-4
        L2 penalty: alpha / 2n times the squared weights is added to the mean loss of n rows, or to
        the weighted mean, n being the sum of the weights. Weights of the first layer count as those
        for scaled features (`scale`), a regressor's last ones for standardised targets, so that no
        unit of X or y matters.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a fortieth of the rows (a hundredth with ``max_iter=1``), between
        100 and 2,000 or five times their square root, for alternating minimisation, and 200 for
        gradient descent.
    max_iter : int or None, default=None
        Passes over the data. None leaves the number to the solver: "altmin" makes from 2, for many
        rows and wide networks, or 1 of more than five million rows, to 20, along which its steps
        are annealed to zero.
    shuffle : bool or "global", default=True
        True mixes up to 64 MiB of rows in every pass; of more stored rows it reads blocks in
        random order. "global" first writes a shuffled copy of these to `scratch`, for data stored
        in an order.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, shuffling and validation split.
    tol : float, default=1e-4
        Training stops when the loss has fallen by less than this for `n_iter_no_change` passes.
    verbose : bool, default=False
        Show a progress bar on a terminal, elsewhere a line for each pass, on stderr.
    warm_start : bool, default=False
        Start `fit` from the weights of the last fit.
    early_stopping : bool, default=False
        Watch held-out rows (or `eval_set`) and keep the best weights: of a classifier the last
        whose accuracy there is within a standard error of the highest, since small shares of rows
        tell no more; of a regressor those of the least loss. Not with `partial_fit`.
    validation_fraction : float, default=0.1
        Share of the rows held out for early stopping.
    n_iter_no_change : int, default=10
        Passes without improvement before training stops.
    learning_rate_init : float, default=None
        Learning rate of the named gradient rules, such as solver="sgd" and "adam". This and the
        parameters up to `max_fun` are scikit-learn's: None is the solver's own default; one that
        the solver lacks is an error that names what it has instead.
    learning_rate : {"constant", "invscaling"}, default=None
        Schedule of solver="sgd"; "invscaling" divides the rate by (1 + t)^power_t after t passes,
        where scikit-learn counts rows.
    power_t, momentum, nesterovs_momentum : float, float, bool, default=None
        For solver="sgd"; `power_t` with learning_rate="invscaling".
    beta_1, beta_2, epsilon : float, default=None
        For solver="adam"; `epsilon` also for "adagrad", "rmsprop" and "adadelta".
    max_fun : int, default=None
        Most evaluations of the loss by solver="lbfgs", each of which is a pass; the lesser of
        `max_fun` and `max_iter` applies.
    class_weight : dict, "balanced" or None, default=None
        Factor on the weight of each class's rows.
    loss : {"auto", "cross_entropy", "squared", "hinge"} or Loss, default="auto"
        Loss of the outputs; "auto" is the cross-entropy. The hinge loss, for each class against
        the rest, has no probabilities. A :class:`daskalt.Loss` of your own brings its link.
    output_activation : str, default="auto"
        Link of the output layer: "softmax" or "logistic", or for the squared loss any activation.
    scale : {"auto", "standard", "none"}, default="auto"
        Scaling of the features, found on some thousand rows and folded into the first layer
        afterwards. "auto" depends neither on a feature's unit nor on its type: one that has a
        single value in over half of the rows, such as a flag or a count, keeps that at zero and is
        divided by the root mean square of the other deviations, any other is centred and divided
        by its standard deviation. A few wild values change neither, and what lies more than ten
        such units from zero counts as ten (`feature_limits_`), except in `partial_fit`, whose later
        rows may lie elsewhere. "standard" uses means and standard deviations for all, or a tenth
        of the reach where that is more, and no limits.
    scratch : str or None, default=None
        Folder or URL for staged data; every worker must reach it. None is a temporary folder.
    checkpoint : str, Path, Checkpoints or None, default=None
        Folder or URL for a checkpoint after every pass and every five minutes, from which
        ``fit(..., resume=True)`` resumes to the same bits. A
        :class:`daskalt.Checkpoints` says how often, and how many are kept.
    memory_limit : str, int or None, default=None
        Most memory of a process, as in "2GB" or 500_000_000. Rows mixed in memory, blocks and
        ``batch_size="auto"`` keep to a share of it, and a fit that would take more is refused
        before it reads a block. None refuses at what the workers, the container or the machine
        have; sizes never follow from these.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    coefs_, intercepts_ : list of ndarray
        Weights, (fan_in, fan_out), and biases of each layer, for the features as given.
    feature_limits_ : ndarray of shape (2, n_features) or None
        What counts as the least and greatest value of each feature, in the fit and in predictions.
    loss_, best_loss_ : float
        Last and lowest mean training loss of a pass; `best_loss_` is None with `early_stopping`.
    loss_curve_ : list of float
        Mean training loss of each pass, of the forward pass before each step.
    validation_scores_ : list of float or None
        Accuracy after each pass on the rows held out, or of `eval_set`; None where there are none.
    best_validation_score_ : float or None
        The highest of them. Early stopping watches the loss, whose best pass may be another.
    history_ : list of dict
        Loss, accuracy, seconds and bytes read of each pass.
    cost_ : dict
        Passes, bytes, seconds and GFLOP/s of the fit; of a resumed one, including what came before,
        and after how many passes it was resumed.
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    stop_reason_ : str
        Why the fit ended, and which weights it kept if not the last.
    out_activation_ : str
    feature_names_in_ : ndarray of str
        Where X has string column names.
    members_ : dict
        Where X was a Zarr group or an xarray Dataset: the names of X, y and sample_weight in it,
        which `predict` and `score` use.
    target_name_ : str
        Where y has a name.
    recipe_ : dict
        How columns became features, where X is a store that `daskalt ingest` made of a frame.

    Notes
    -----
    Differences from scikit-learn's estimator:

    - The default `solver` is "altmin". scikit-learn's "sgd", "adam" and "lbfgs" exist too; their
      rules are PyTorch's, in which momentum does not depend on the learning rate, and Adam's
      epsilon is added after the correction of the bias.
    - `max_iter` counts passes over the data for every solver, evaluations of the loss for "lbfgs",
      and is the solver's choice by default. Nothing warns that it was reached.
    - `batch_size="auto"` gives other sizes.
    - `alpha` is divided by the number of all rows, not of those in a mini-batch.
    - Output biases start where they give the weighted shares of the classes, a thousandth at least.
    - Features are scaled (`scale`), and `alpha` acts on the weights for these.
    - Early stopping watches the loss of the held-out rows, not their score.
    - Data of any type but float64 is trained in float32. Equal seeds give other weights.
    - Sparse matrices are refused.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from daskalt import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier((64,), random_state=0).fit(X[:1500], y[:1500])
    >>> bool(model.score(X[1500:], y[1500:]) > 0.9)
    True
    """

    classes_: np.ndarray
    _losses = ("cross_entropy", "squared", "hinge")

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
        class_weight: Any = None,
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
        self.class_weight = class_weight
        self.loss = loss
        self.output_activation = output_activation
        self.scale = scale
        self.scratch = scratch
        self.checkpoint = checkpoint
        self.memory_limit = memory_limit

    @takes_names
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> "MLPClassifier":
        """Make one pass over these rows, on top of all earlier calls, and return the estimator.

        Scaling and initial weights are found on the rows of the first call. There is no schedule,
        since there is no end: the solver's limits stay at their full value.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array of shape (n_classes,), optional
            All labels that may ever occur; needed in the first call.
        """
        first = not hasattr(self, "_fitted")
        if first and classes is None:
            raise InputError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            classes = as_classes(classes)
            if not first and not np.array_equal(classes, self.classes_):
                raise InputError(
                    f"classes={classes.tolist()} is not the same as on the last call to "
                    f"partial_fit: {self.classes_.tolist()}."
                )
        return self._partial_fit(X, y, sample_weight, classes)

    @takes_names
    def decision_function(self, X: Any) -> Any:
        """Return the outputs that decide on the label, before the softmax or logistic function.

        Parameters
        ----------
        X : like the X of `fit`

        Returns
        -------
        ndarray or dask.array.Array
            For two labels one number a row, positive where the second is predicted; for more a
            column for each, the largest of which is predicted; with a multilabel y a column for
            each label, positive where it is predicted. Margins with the hinge loss. Lazy like
            `predict`.
        """
        return self._apply(X, "decision_function")

    @available_if(_has_probabilities)
    @takes_names
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of every class.

        Parameters
        ----------
        X : like the X of `fit`

        Returns
        -------
        ndarray, dask.array.Array or xarray.DataArray of shape (rows, classes)
            A column for each of `classes_`, or with a multilabel y for each label. Lazy like
            `predict`.
        """
        return self._apply(X, "predict_proba")

    @available_if(_has_probabilities)
    @takes_names
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of every class.

        Parameters
        ----------
        X : like the X of `fit`

        Returns
        -------
        ndarray, dask.array.Array or xarray.DataArray of shape (rows, classes)
            As `predict_proba`; -inf where that is 0.
        """
        return np.log(self.predict_proba(X))

    @takes_names
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of rows whose label (or all labels) is right.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; names in a container default to those of the fit. Stored rows are scored
            block by block and never gathered.

        Returns
        -------
        float
            From 0 to 1; with a multilabel y a row counts if all its labels are right.
        """
        check_is_fitted(self, "coefs_")
        if is_stored(X) or is_stored(y):
            return self._score(X, y, sample_weight).accuracy
        return self._judge(accuracy_score, X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

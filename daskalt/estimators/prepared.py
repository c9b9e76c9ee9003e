"""An estimator before a fit: its parameters, and the plan of a fit."""

from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from sklearn.base import clone

from daskalt.compute.graph import on
from daskalt.data.choosing import takes_names
from daskalt.data.memory import as_classes
from daskalt.data.opening import open_table
from daskalt.data.table import Table
from daskalt.errors import InputError
from daskalt.estimators.assembly import Assembly
from daskalt.estimators.fitted import FittedMLP
from daskalt.estimators.goals import Goal
from daskalt.functions.activations import ACTIVATIONS, Activation, get_activation
from daskalt.functions.loss import Loss
from daskalt.memory.limits import parse_limit
from daskalt.memory.peaks import Machine
from daskalt.memory.planning import Plan, Project, current_machine
from daskalt.network.network import Network, dense
from daskalt.parameters import (
    check_layers,
    check_parameters,
    choice,
    either,
    instance,
    integer,
    real,
    seed,
)
from daskalt.solvers import get_solver
from daskalt.training.checkpoint import Checkpoints

__all__ = ["PreparedMLP"]

LINKED = ("'auto' beside a loss object, which brings its own", choice("auto")[1])


class PreparedMLP(FittedMLP):
    """The part of an estimator that needs no fit."""

    _losses: tuple[str, ...]

    # Declared once for both; the subclasses list their parameters, which scikit-learn inspects.
    def _check_parameters(self) -> None:
        check_layers(self.hidden_layer_sizes)
        check_parameters(
            self,
            activation=either(choice(*ACTIVATIONS), instance("an Activation", Activation)),
            alpha=real(at_least=0),
            batch_size=integer(at_least=1, or_word="auto"),
            max_iter=integer(at_least=1, or_none=True),
            shuffle=choice(True, False, "global"),
            tol=real(at_least=0),
            warm_start=choice(True, False),
            early_stopping=choice(True, False),
            validation_fraction=real(above=0, below=1),
            n_iter_no_change=integer(at_least=1),
            learning_rate=instance("a name or None", str, NoneType),
            learning_rate_init=real(above=0, or_none=True),
            power_t=real(at_least=0, or_none=True),
            momentum=real(at_least=0, below=1, or_none=True),
            nesterovs_momentum=choice(True, False, None),
            beta_1=real(at_least=0, below=1, or_none=True),
            beta_2=real(at_least=0, below=1, or_none=True),
            epsilon=real(above=0, or_none=True),
            max_fun=integer(at_least=1, or_none=True),
            loss=either(choice("auto", *self._losses), instance("a Loss", Loss)),
            scale=choice("auto", "standard", "none"),
            random_state=seed(),
            verbose=instance("True, False or an integer", bool, int, np.bool_, np.integer),
            output_activation=LINKED if isinstance(self.loss, Loss) else instance("text", str),
            scratch=instance("a path, a URL or None", str, Path, NoneType),
            checkpoint=instance(
                "a path, a URL, a daskalt.Checkpoints or None", str, Path, Checkpoints, NoneType
            ),
        )
        parse_limit(self.memory_limit)
        self._solver.check()
        for own in (each for each in (self.activation, self.loss) if not isinstance(each, str)):
            own.check()
        if isinstance(self.checkpoint, Checkpoints):
            self.checkpoint.check()
        elif self.checkpoint == "":
            raise InputError("The parameter checkpoint is an empty path: name a folder.")

    def set_params(self, **params: Any) -> Any:
        """Set parameters, those of a solver object as ``solver__damping``; return the estimator.

        Parameters
        ----------
        **params
            Values by name.

        Raises
        ------
        InputError
            If a parameter of the solver is given while the solver is only named.
        """
        named = params.get("solver", self.solver)
        own = {name.partition("__")[2]: value for name, value in params.items() if "__" in name}
        if isinstance(named, str) and any(name.startswith("solver__") for name in params):
            example = ", ".join(f"{name}={value!r}" for name, value in own.items())
            raise InputError(
                f"solver={named!r} is a name, which has no parameters of its own to set. Give an "
                f"object: solver={type(get_solver(named)).__name__}({example})."
            )
        return super().set_params(**params)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    @takes_names
    def plan(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        classes: Any = None,
        client: Any = None,
    ) -> Plan:
        """Return the plan of a fit to these rows; no block of X is read.

        Peak memory is the memory of the processes as they are, plus that of a few steps on made-up
        rows, extrapolated to the real sizes. A fit makes the same plan and is refused if it is over
        the limit: the parameter `memory_limit`, else the least of the workers' limits, and for this
        process the limit of its container or of the machine.

        Parameters
        ----------
        X, y, sample_weight, eval_set, client
            As in `fit`, also with names for the arrays of a container. Nothing is computed or
            copied.
        classes : array of shape (n_classes,), optional
            The labels of a classifier. Without them y alone is read to find them.

        Raises
        ------
        InputError
            If data or a parameter cannot be used as given; if y would have to be computed for its
            labels, and there are no `classes`.
        PlanError
            If the weights alone are too large for the limit.
        """
        with on(client):
            machine = current_machine()
            return self._project(machine, X, y, sample_weight, eval_set, classes).plan()

    def _project(
        self,
        machine: Machine,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        eval_set: Any = None,
        classes: Any = None,
    ) -> Project:
        """The fit to these rows as a project; the estimator does not change."""
        self._check_parameters()
        probe = clone(self)
        assembly = Assembly(probe, probe._seed(), checkpoints=self.checkpoint is not None)
        given = open_table(probe, X, y, sample_weight, reset=True, lazy=True)
        goal = probe._expect_targets(given, None if classes is None else as_classes(classes))
        shared = machine.workers is not None
        rows = assembly.lay_out(given, eval_set, shared=shared, planned=True)
        return assembly.project(rows, assembly.problem(rows.table, goal), machine)

    # What a subclass knows of targets and of the network

    def _network(self, n_features: int, n_outputs: int, loss: Loss) -> Network:
        """The network between features and outputs."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, int)).tolist()
        return dense((n_features, *hidden, n_outputs), get_activation(self.activation), loss)

    def _labels(self, table: Table) -> np.ndarray | None:
        """The labels of all rows, of each of which an equal share is held out."""
        return None

    def _learn_targets(self, table: Table, classes: np.ndarray | None = None) -> Goal:
        raise NotImplementedError

    def _expect_targets(self, table: Table, classes: np.ndarray | None) -> Goal:
        """The goal as far as a plan needs it: kind and number of the outputs."""
        raise NotImplementedError

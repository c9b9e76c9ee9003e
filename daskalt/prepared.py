"""What an estimator settles before a fit: its parameters, what rows and targets ask for, a plan."""

from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from daskalt.activations import ACTIVATIONS
from daskalt.checkpoint import Checkpoints
from daskalt.data.arranging import Arrangement
from daskalt.data.choosing import takes_names, without_names
from daskalt.data.memory import as_classes
from daskalt.data.opening import open_table
from daskalt.data.scaling import Scaling, choose_scaling
from daskalt.data.survey import check_weights, total_weight
from daskalt.data.table import Block, Table
from daskalt.data.targets import Targets
from daskalt.errors import InputError, about
from daskalt.fitted import FittedMLP
from daskalt.initial import SPREAD, initial_weights
from daskalt.limits import parse_limit
from daskalt.losses import Loss
from daskalt.network import Network, Weights, dense
from daskalt.parameters import (
    check_layers,
    check_parameters,
    choice,
    instance,
    integer,
    real,
    seed,
)
from daskalt.peaks import Machine
from daskalt.planning import Plan, Project, current_machine
from daskalt.preparing import (
    INITIAL_ROWS,
    Held,
    all_blocks,
    choose_blocks,
    choose_reading,
    count_rows,
    hold_out,
    most_batch_rows,
)
from daskalt.reduction import on
from daskalt.solvers import get_solver
from daskalt.solvers.base import Problem, Solver
from daskalt.solvers.loop import Reading, WholeBlocks

__all__ = ["Goal", "PreparedMLP"]

# What to do in eval_set, beside which nothing can name its features.
NAMELESS = {
    "X": 'Give the arrays themselves, as in eval_set=("rows.zarr/X", "rows.zarr/y") or '
    'eval_set=(rows["X"], rows["y"]), or rename them as those of the fit were called.',
    "y": 'Name it second, as in eval_set=(rows, "label").',
}


class Goal(NamedTuple):
    """What the targets ask for."""

    targets: Targets
    loss: Loss
    class_factors: np.ndarray | None = None
    clustering: float = 1.0  # of the targets in the blocks; about 1 when shuffled


class PreparedMLP(FittedMLP):
    """The half of an estimator that there is before a fit."""

    _losses: tuple[str, ...]

    # Declared once for both; the subclasses list their parameters for scikit-learn to see.
    def _check_parameters(self) -> None:
        check_layers(self.hidden_layer_sizes)
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
            learning_rate=instance("a name or None", str, NoneType),
            learning_rate_init=real(above=0, or_none=True),
            power_t=real(at_least=0, or_none=True),
            momentum=real(at_least=0, below=1, or_none=True),
            nesterovs_momentum=choice(True, False, None),
            beta_1=real(at_least=0, below=1, or_none=True),
            beta_2=real(at_least=0, below=1, or_none=True),
            epsilon=real(above=0, or_none=True),
            max_fun=integer(at_least=1, or_none=True),
            loss=choice("auto", *self._losses),
            scale=choice("auto", "standard", "none"),
            random_state=seed(),
            verbose=instance("True, False or an integer", bool, int, np.bool_, np.integer),
            output_activation=instance("text", str),
            scratch=instance("a path, a URL or None", str, Path, NoneType),
            checkpoint=instance(
                "a path, a URL, a daskalt.Checkpoints or None", str, Path, Checkpoints, NoneType
            ),
        )
        parse_limit(self.memory_limit)
        self._solver.check()
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
            If a parameter of the solver is given while that is only named.
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
        """Return what a fit to these rows would take; no block of X is read.

        Peak memory is that of the processes as they are, and of what a few steps on made-up rows
        take, carried over to the real sizes. A fit makes the same plan and is refused where it is
        over the limit: the parameter `memory_limit`, else the least of the workers' limits, for
        this process that of its container or of the machine.

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
            return self._plan_on(
                current_machine(), X, y, sample_weight, eval_set=eval_set, classes=classes
            ).plan()

    def _plan_on(
        self,
        machine: Machine,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        classes: Any = None,
    ) -> Project:
        """The fit to these rows as a project, which leaves the estimator as it is."""
        self._check_parameters()
        probe = clone(self)
        solver, seed = probe._solver, probe._seed()
        table = open_table(probe, X, y, sample_weight, reset=True, lazy=True)
        goal = probe._expect_targets(table, None if classes is None else as_classes(classes))
        shared = machine.workers is not None
        arrangement = probe._arrangement(solver, seed, shared=shared, held_out=eval_set is None)
        # It lies on disk twice while it is shuffled.
        copied_twice = arrangement.copies(table) and arrangement.shuffles(table)
        shuffled = table.nbytes if copied_twice else 0
        given, table = table, arrangement.arrange(table, promised=True)
        bounds, held = probe._split(table, given, eval_set, arrangement, planned=True)
        project = probe._project(
            solver, table, bounds, held, goal, seed, machine, self.checkpoint is not None, shuffled
        )
        solver.validate(project.problem)
        return project

    def _project(
        self,
        solver: Solver,
        table: Table,
        bounds: np.ndarray,
        held: Held | None,
        goal: Goal,
        seed: int,
        machine: Machine,
        checkpoints: bool,
        shuffled: int = 0,
    ) -> Project:
        """The fit that is about to be made."""
        columns = table.X.shape[1]
        scaling = Scaling(np.zeros(columns), np.ones(columns))
        problem = self._problem(table, goal, scaling, float(self.alpha) / table.n_rows)

        def read(table: Table, batch_size: int | None, memory: int | None) -> Any:
            size = self.batch_size if batch_size is None else batch_size
            return self._read(table, bounds, problem, solver, seed, size, memory)

        return Project(
            solver=solver,
            problem=problem,
            table=table,
            bounds=bounds,
            held=None if held is None else held.table,
            passes=self._passes(solver, problem, bounds),
            read=read,
            given=parse_limit(self.memory_limit),
            machine=machine,
            checkpoints=checkpoints or solver.kept_at is not None,
            shuffled=shuffled,
        )

    def _passes(self, solver: Solver, problem: Problem, bounds: np.ndarray) -> int:
        """The passes that a fit makes at most."""
        passes = self.max_iter or solver.passes(count_rows(bounds), problem.network)
        return passes if self.max_fun is None else min(passes, self.max_fun)

    def _limit(self, passes: int) -> str:
        """The parameters that limit a fit to so many passes, in words."""
        limits = [name for name in ("max_iter", "max_fun") if getattr(self, name) == passes]
        return " and ".join(limits) or "max_iter"  # where it is the solver's own number

    def _reading(
        self, table: Table, bounds: np.ndarray, problem: Problem, solver: Any, seed: int
    ) -> Reading | WholeBlocks:
        """How the rows are read and dealt into steps."""
        limit = parse_limit(self.memory_limit)
        memory = None if limit is None else limit.bytes
        return self._read(table, bounds, problem, solver, seed, self.batch_size, memory)

    def _read(
        self,
        table: Table,
        bounds: np.ndarray,
        problem: Problem,
        solver: Any,
        seed: int,
        size: int | str,
        memory: int | None,
    ) -> Reading | WholeBlocks:
        """How the rows are read with steps of some size, in the memory that the user allows."""
        if solver.full_batch:
            return choose_blocks(table, bounds, problem.network, memory)
        n_rows = count_rows(bounds)
        if size == "auto":
            size = min(solver.batch_rows(n_rows), most_batch_rows(table, problem.network, memory))
        return choose_reading(
            table,
            problem.network,
            min(int(size), n_rows),
            getattr(solver, "tasks", "auto"),
            seed if self.shuffle else None,
            memory,
        )

    def _arrangement(
        self, solver: Solver, seed: int, *, shared: bool, held_out: bool = False
    ) -> Arrangement:
        """How rows are laid out, whether or not some of them may have to be held out."""
        limit = parse_limit(self.memory_limit)
        return Arrangement(
            shuffle=self.shuffle,
            mixes=not solver.full_batch or (held_out and self.early_stopping),
            seed=seed,
            memory=None if limit is None else limit.bytes,
            scratch=self.scratch,
            shared=shared,
        )

    def _split(
        self,
        table: Table,
        given: Table,
        eval_set: Any,
        arrangement: Arrangement,
        planned: bool = False,
    ) -> tuple[np.ndarray, Held | None]:
        """Blocks to train on, and the rows that are scored after every pass.

        ``given`` is the table before it was laid out. For a plan nothing is computed or copied.
        """
        bounds = all_blocks(table)
        if eval_set is not None:
            if isinstance(eval_set, list):
                if len(eval_set) != 1:
                    raise InputError(
                        f"eval_set must hold one pair (X, y); got {len(eval_set)} of them."
                    )
                (eval_set,) = eval_set
            members = eval_set if isinstance(eval_set, tuple) else (eval_set,)
            if not 1 <= len(members) <= 3:
                raise InputError(
                    f"eval_set must be (X, y) or (X, y, sample_weight); it has {len(members)} "
                    "members."
                )
            with about("eval_set"), without_names(**NAMELESS):
                other = open_table(self, *(*members, None, None)[:3], reset=False, lazy=planned)
                if not planned:
                    total_weight(other)  # which must be in range
            laid_out = replace(arrangement, shuffle=False).arrange(other, promised=planned)
            return bounds, Held(laid_out, all_blocks(laid_out), other)
        if not self.early_stopping:
            return bounds, None
        labels = self._labels(table) if table.single else None
        bounds, held = hold_out(table, self.validation_fraction, arrangement.seed, labels)
        if not len(bounds):
            raise InputError(
                f"validation_fraction={self.validation_fraction} leaves no rows to train on: "
                "lower it, or give more rows."
            )
        for part, rows in ((bounds, "to train on"), (held, "held out")):
            check_weights(table, part, rows)
        return bounds, Held(table, held, given)

    def _labels(self, table: Table) -> np.ndarray | None:
        """What has to be held out in equal shares, of all rows."""
        return None

    def _refuse_size(self, solver: Solver, table: Table, goal: Goal) -> None:
        """Raise PlanError where the weights alone are too large for this process."""
        machine, bounds = Machine(1), all_blocks(table)
        self._project(solver, table, bounds, None, goal, 0, machine, False).refuse_weights()

    def _pose(
        self, table: Table, bounds: np.ndarray, goal: Goal, sample: Block, seed: int
    ) -> tuple[Problem, Weights]:
        """The problem that the table poses, and the weights to start from."""
        weight = None if sample.weight is None else sample.weight.ravel()
        if weight is not None and not weight.any():
            weight = None
        scaling = choose_scaling(sample.X, weight, self.scale)
        penalty = float(self.alpha) * table.n_rows / count_rows(bounds) / total_weight(table)
        problem = self._problem(table, goal, scaling, penalty)
        network = problem.network
        before = getattr(self, "_fitted", None) if self.warm_start else None
        if before is not None and before.problem.network.shapes == network.shapes:
            return problem, self._unfolded(problem)
        # Spreads need fewer rows than scaling does, whose extremes matter.
        every = -(-len(sample.X) // INITIAL_ROWS)
        weight = None if weight is None else weight[::every]
        rows = problem.inputs(sample.X[::every])
        weights = initial_weights(network, rows, np.random.default_rng(seed), weight)
        return problem, weights

    def _problem(self, table: Table, goal: Goal, scaling: Scaling, penalty: float) -> Problem:
        return Problem(
            network=self._network(table.X.shape[1], goal.targets, goal.loss),
            scaling=scaling,
            targets=goal.targets,
            penalty=penalty,
            dtype=np.dtype(np.float64 if table.X.dtype == np.float64 else np.float32),
            class_factors=goal.class_factors,
        )

    def _network(self, n_features: int, targets: Targets, loss: Loss) -> Network:
        """The network that the parameters stand for."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, int)).tolist()
        return dense((n_features, *hidden, targets.width), ACTIVATIONS[self.activation], loss)

    def _learn_targets(self, table: Table, classes: np.ndarray | None = None) -> Goal:
        raise NotImplementedError

    def _expect_targets(self, table: Table, classes: np.ndarray | None) -> Goal:
        """The goal as far as a plan has to know it: kind and number of the outputs."""
        raise NotImplementedError

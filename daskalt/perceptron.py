"""What the estimators share: fitting and continuing, whatever the targets are."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from daskalt.checkpoint import Checkpoints, checksum
from daskalt.data.fingerprint import fingerprint
from daskalt.data.opening import open_table
from daskalt.data.scaling import Scaling, choose_scaling
from daskalt.data.staging import copy_to_scratch, promised_copy
from daskalt.data.store import absolute
from daskalt.data.survey import check_weights, total_weight
from daskalt.data.table import Table
from daskalt.data.targets import Targets
from daskalt.errors import InputError
from daskalt.fitted import Fitted, FittedMLP
from daskalt.fitting import Training, identify, train
from daskalt.keeping import Keeper
from daskalt.limits import parse_limit
from daskalt.losses import Loss
from daskalt.monitor import Monitor
from daskalt.network import SPREAD, Network, Weights
from daskalt.parameters import check_parameters, choice, integer, real
from daskalt.peaks import Machine
from daskalt.planning import Plan, Project, current_machine
from daskalt.preparing import (
    INITIAL_ROWS,
    Held,
    all_blocks,
    choose_blocks,
    choose_reading,
    compile_step,
    count_rows,
    hold_out,
    most_batch_rows,
    sample_rows,
    warn_if_sorted,
)
from daskalt.reduction import in_this_process
from daskalt.solvers import get_solver
from daskalt.solvers.base import Budget, Problem, Solver
from daskalt.solvers.loop import Reading, WholeBlocks

__all__ = ["BaseMLP", "Goal"]


_STOPPING = ("early_stopping", "validation_fraction", "tol", "n_iter_no_change")


class Goal(NamedTuple):
    """What the targets ask for."""

    targets: Targets
    loss: Loss
    class_factors: np.ndarray | None = None
    clustering: float = 1.0  # of the targets in the blocks; about 1 when shuffled


class BaseMLP(FittedMLP):
    """What classifier and regressor share."""

    _losses: tuple[str, ...]

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
            loss=choice("auto", *self._losses),
            scale=choice("auto", "standard", "none"),
        )
        parse_limit(self.memory_limit)
        get_solver(self.solver).check()
        if isinstance(self.checkpoint, Checkpoints):
            self.checkpoint.check()

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
        resume: bool | None = None,
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
        resume : bool, optional
            What to do with the checkpoint of a fit that was cut short: True goes on from it, to
            the same bits, and from the start where there is none; False starts anew in its place;
            by default that is an error. Needs `checkpoint`.

        Raises
        ------
        InputError
            If data or a parameter cannot be used as given.
        PlanError
            If a process would take more memory than it may have: see `plan`.
        StorageError
            If a store cannot be read.
        DivergenceError
            If the numbers overflow.
        """
        self._check_parameters()
        with _on(client):
            began = time.perf_counter()
            solver = get_solver(self.solver)
            checkpoints = self._checkpoints(solver, resume)
            table = open_table(self, X, y, sample_weight, reset=True)
            seed = self._seed(checkpoints) if resume else self._seed()
            table = self._arrange(table, seed)
            bounds, held = self._split(table, eval_set, seed)
            before = getattr(self, "_fitted", None) if self.warm_start else None
            goal = self._learn_targets(table)
            if before is not None:
                _check_same_labels(before.problem.targets, goal.targets)
            project = self._project(
                solver, table, bounds, held, goal, seed, current_machine(), checkpoints is not None
            )
            solver.validate(project.problem)
            project.check(project.plan())
            problem, weights = self._prepare(table, bounds, goal, seed, before)
            reading = self._reading(table, bounds, problem, solver, seed)
            if self.shuffle and not table.in_memory and isinstance(reading, Reading):
                warn_if_sorted(goal.clustering, goal.targets.width, reading, table)
            passes = self.max_iter or solver.passes(count_rows(bounds))
            steps = reading.plan(table, bounds, 0).steps
            budget = Budget(steps * passes, steps, steps)
            if not in_this_process():
                compile_step(solver, problem, solver.start(problem, weights, budget), table)
            keeper = None
            if checkpoints is not None:
                facts = {
                    **_fingerprints(table),
                    "held_out": None if held is None else _fingerprints(held.table),
                    **{name: getattr(self, name) for name in _STOPPING},
                }
                identity = identify(
                    facts,
                    solver,
                    problem,
                    reading,
                    steps=budget.steps,
                    seed=seed,
                    class_factors=checksum(goal.class_factors),
                    blocks=checksum(bounds),
                    held_blocks=None if held is None else checksum(held.bounds),
                    initial_weights=checksum(*weights),
                )
                keeper = Keeper(checkpoints, solver, identity)
            job = Training(solver, problem, table, bounds, reading, held, self.verbose, keeper)
            monitor = Monitor(
                self.tol,
                self.n_iter_no_change,
                self.early_stopping,
                solver.divergence,
                solver.scores_start,
            )
            start = solver.start(problem, weights, budget)
            state = self._train(job, start, passes, monitor, bool(resume))
            self._finish(problem, state, monitor.history)
            self._charge(began, table, bounds, solver, problem)
        return self

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
            As in `fit`. Nothing is computed or copied.
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
        with _on(client):
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
        solver, seed = get_solver(probe.solver), probe._seed()
        table = open_table(probe, X, y, sample_weight, reset=True, lazy=True)
        goal = probe._expect_targets(table, None if classes is None else np.unique(classes))
        shuffled = 0
        if self.shuffle == "global" and not (table.in_memory and machine.workers is None):
            shuffled = table.nbytes  # it lies on disk twice while it is shuffled
            table = promised_copy(table)
        elif table.in_memory and machine.workers is not None:
            table = promised_copy(table)
        bounds, held = probe._split(table, eval_set, seed, machine)
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
            passes=self.max_iter or solver.passes(count_rows(bounds)),
            read=read,
            given=parse_limit(self.memory_limit),
            machine=machine,
            checkpoints=checkpoints or solver.kept_at is not None,
            shuffled=shuffled,
        )

    def _checkpoints(self, solver: Solver, resume: bool | None) -> Checkpoints | None:
        """Where the fit's checkpoints are kept, if they are."""
        checkpoints = self.checkpoint
        if checkpoints is None and solver.kept_at is not None:
            checkpoints = solver.kept_at
        if checkpoints is None and resume:
            raise InputError(
                "resume=True: there is nothing to resume from without a place for checkpoints. "
                "Give the estimator one, as in checkpoint='folder'; warm_start=True continues from "
                "the weights of an estimator that has been fitted."
            )
        if checkpoints is None:
            return None
        if not isinstance(checkpoints, Checkpoints):
            checkpoints = Checkpoints(str(checkpoints))
        checkpoints = replace(checkpoints, location=absolute(str(checkpoints.location)))
        if resume is None:
            checkpoints.refuse_unfinished()
        return checkpoints

    def _seed(self, checkpoints: Checkpoints | None = None) -> int:
        """The seed of all that is random: that of a fit to resume, if it was left to chance."""
        if self.random_state is None and checkpoints is not None:
            seed = checkpoints.seed
            if seed is not None:
                return seed
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _train(self, job: Training, state: Any, passes: int, monitor: Monitor, resume: bool) -> Any:
        """The state after all passes, those included that an earlier fit has made."""
        solver, keeper, position = job.solver, job.keeper, None
        saved = keeper.resume() if keeper is not None and resume else None
        with self._storage(job, saved is not None) as storage:
            if saved is not None:
                state, position = saved.state, saved.position
                best = None if saved.best is None else solver.attach(saved.best, storage)
                monitor.recall(saved.history, best)
            elif keeper is not None:
                keeper.checkpoints.clear()
            state = solver.attach(state, storage)
            if saved is not None and saved.finished:
                return state
            return train(job, state, range(len(monitor.history), passes), monitor, position)

    @contextlib.contextmanager
    def _storage(self, job: Training, resume: bool) -> Iterator[Any]:
        """What the solver keeps for each row, laid out anew unless resumed."""
        if not isinstance(job.reading, WholeBlocks):
            yield None
            return
        place = None if job.keeper is None else f"{job.keeper.checkpoints.location}/z.zarr"
        storage = job.solver.allocate(
            job.problem, count_rows(job.bounds), job.reading.block_rows, self.scratch, place
        )
        if storage is None:
            yield None
            return
        if resume:
            storage.sweep()
        else:
            storage.create()
        if job.keeper is not None:
            job.keeper.storage = storage
        try:
            yield storage
        except BaseException:
            if job.keeper is None and not storage.kept:
                storage.remove()
            raise
        if not storage.kept:
            storage.remove()

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray | None = None
    ) -> Any:
        self._check_parameters()
        before = getattr(self, "_fitted", None)
        table = open_table(self, X, y, sample_weight, reset=before is None)
        if table.in_memory and not in_this_process():
            table = copy_to_scratch(table, self.scratch, None)
        passes = 0 if before is None else before.passes
        seed = self._seed()
        bounds = all_blocks(table)
        check_weights(table, bounds, "of this call")
        solver = get_solver(self.solver)
        if before is None:
            goal = self._learn_targets(table, classes)
            problem, weights = self._prepare(table, bounds, goal, seed, None)
            solver.validate(problem)
        else:
            problem = before.problem
        reading = self._reading(table, bounds, problem, solver, seed)
        # What follows has no end: a schedule that an earlier fit has run through is over.
        budget = Budget(None, None, reading.plan(table, bounds, passes).steps)
        if before is None:
            state = solver.start(problem, weights, budget)
        else:
            # What a full batch keeps for each row is of the rows of that fit.
            state = solver.attach(before.state, None)._replace(budget=budget)
        monitor = Monitor(0.0, 1 << 30, False)
        job = Training(solver, problem, table, bounds, reading, verbose=self.verbose)
        state = train(job, state, range(passes, passes + 1), monitor)
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

    def _split(
        self, table: Table, eval_set: Any, seed: int, planned: Machine | None = None
    ) -> tuple[np.ndarray, Held | None]:
        """Blocks to train on, and the rows that are scored after every pass.

        Nothing is computed or copied for a machine that is only planned for.
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
            if len(members) > 3:
                raise InputError(
                    f"eval_set must be (X, y) or (X, y, sample_weight); it has {len(members)} "
                    "members."
                )
            lazy = planned is not None
            other = open_table(self, *(*members, None, None)[:3], reset=False, lazy=lazy)
            if planned is not None:
                if other.in_memory and planned.workers is not None:
                    other = promised_copy(other)
            elif other.in_memory and not in_this_process():
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
        for part, rows in ((bounds, "to train on"), (held, "held out")):
            check_weights(table, part, rows)
        return bounds, Held(table, held)

    def _labels_in_memory(self, table: Table) -> np.ndarray | None:
        return None

    def _prepare(
        self, table: Table, bounds: np.ndarray, goal: Goal, seed: int, before: Fitted | None
    ) -> tuple[Problem, Weights]:
        """The problem that the table poses, and the weights to start from."""
        sample = sample_rows(table, bounds, seed)
        weight = None if sample.weight is None else sample.weight.ravel()
        if weight is not None and not weight.any():
            weight = None
        scaling = choose_scaling(sample.X, weight, self.scale)
        penalty = float(self.alpha) * table.n_rows / count_rows(bounds) / total_weight(table)
        problem = self._problem(table, goal, scaling, penalty)
        network = problem.network
        if before is not None and before.problem.network.widths == network.widths:
            return problem, self._unfolded(problem)
        # Spreads need fewer rows than scaling does, whose extremes matter.
        every = -(-len(sample.X) // INITIAL_ROWS)
        weight = None if weight is None else weight[::every]
        rows = problem.inputs(sample.X[::every])
        weights = network.initial_weights(rows, np.random.default_rng(seed), weight)
        return problem, weights

    def _problem(self, table: Table, goal: Goal, scaling: Scaling, penalty: float) -> Problem:
        hidden = tuple(int(h) for h in np.atleast_1d(np.asarray(self.hidden_layer_sizes, int)))
        widths = (table.X.shape[1], *hidden, goal.targets.width)
        return Problem(
            network=Network(widths, self.activation, goal.loss),
            scaling=scaling,
            targets=goal.targets,
            penalty=penalty,
            dtype=np.dtype(np.float64 if table.X.dtype == np.float64 else np.float32),
            class_factors=goal.class_factors,
        )

    def _learn_targets(self, table: Table, classes: np.ndarray | None = None) -> Goal:
        raise NotImplementedError

    def _expect_targets(self, table: Table, classes: np.ndarray | None) -> Goal:
        """The goal as far as a plan has to know it: kind and number of the outputs."""
        raise NotImplementedError


def _fingerprints(table: Table) -> dict[str, Any]:
    """What tells the rows of a table from others."""
    return {name: fingerprint(source) for name, source in table.present.items()}


def _check_same_labels(before: Targets, now: Targets) -> None:
    old, new = getattr(before, "classes", None), getattr(now, "classes", None)
    if old is not None and (new is None or not np.array_equal(old, new)):
        raise InputError(
            "warm_start continues a fit on the same labels only: y has "
            f"{np.asarray(new).tolist()[:10]}, the fit before had {old.tolist()[:10]}. "
            "Set warm_start=False to start anew."
        )


@contextlib.contextmanager
def _on(client: Any) -> Any:
    """Use a Dask client for the tasks made inside, if one is given."""
    if client is None:
        yield
    else:
        with client.as_current():
            yield

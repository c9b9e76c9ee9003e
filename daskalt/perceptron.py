"""What the estimators share: fitting and continuing, whatever the targets are."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from daskalt.checkpoint import Checkpoints
from daskalt.data.choosing import takes_names
from daskalt.data.fingerprint import checksum, fingerprint
from daskalt.data.locks import alone_in
from daskalt.data.opening import open_table
from daskalt.data.store import absolute
from daskalt.data.survey import check_weights
from daskalt.data.table import Table
from daskalt.data.targets import Targets
from daskalt.data.watch import Watch
from daskalt.errors import InputError
from daskalt.fitted import Fitted
from daskalt.fitting import Training, identify, train
from daskalt.keeping import Keeper, stoppable
from daskalt.kernels.threads import blas_threads
from daskalt.listeners import Listener
from daskalt.monitor import Monitor
from daskalt.planning import current_machine
from daskalt.prepared import PreparedMLP
from daskalt.preparing import (
    LEAST_WATCHED,
    all_blocks,
    compile_step,
    count_rows,
    sample_rows,
    thin_out,
    warn_if_sorted,
)
from daskalt.reduction import check_client, fetch, in_this_process, on
from daskalt.ruin import effective_rows, trivial_loss
from daskalt.solvers.base import Budget, Problem, Solver
from daskalt.solvers.loop import Reading, WholeBlocks

__all__ = ["BaseMLP"]


_STOPPING = ("early_stopping", "validation_fraction", "tol", "n_iter_no_change")


class BaseMLP(PreparedMLP):
    """What classifier and regressor share."""

    _listeners: Sequence[Listener] = ()  # who is told how a fit goes

    # Training

    @takes_names
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
            Features, of shape (rows, features), in memory or where they are stored: the path or
            fsspec URL of a Zarr array says where. Of a DataArray the first dimension is the rows,
            and text along the second the names of the features.

            Or a container of arrays with names: a Zarr group, its path or URL, or an xarray
            Dataset. Then a keyword X beside it names the features, an array or a list of
            variables, ``fit("rows.zarr", X=["rain", "wind"], y="label")``. Without it they are
            the two-dimensional array ``X``, or else all variables but coordinates, y and weights,
            side by side and sorted by name.
        y : like X or str or list of str, optional
            Targets; in a container by name, a list for several outputs. A text is the name of an
            array where X is a container that has it, and else a path. None with a container
            means its array ``y``. An array of the container itself is as good as its name, and is
            no feature either.
        sample_weight : like X or str, optional
            Weight of each row in the loss; in a container by name. None with targets from a
            container means its array ``sample_weight``, if there is one.
        eval_set : tuple (X, y) or (X, y, sample_weight), a list of one, or a container, optional
            Rows that are scored after every pass, for `history_` and for early stopping. Of a
            container the arrays have the names of the fit, unless y is another.
        client : distributed.Client, optional
            Cluster to train on; by default the active client, or threads where there is none.
        resume : bool, optional
            What to do with the checkpoint of a fit that was cut short: True goes on from it, to
            the same bits, and from the start where there is none; False starts anew in its place;
            by default that is an error. Needs `checkpoint`. With another `max_iter`, no less than
            the passes made, True also goes on from a finished fit, to a new end: to the bits of a
            fit that was to end there if steps do not shrink towards the end, else with a warning.

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
        with on(client), self._alone():
            # Whatever goes wrong, this estimator stays as it is.
            fitted = self._twin()
            fitted._fit(X, y, sample_weight, eval_set, resume)
        self.__dict__ = fitted.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, eval_set: Any, resume: bool | None) -> None:
        began = time.perf_counter()
        solver = self._solver
        checkpoints = self._checkpoints(solver, resume)
        given = open_table(self, X, y, sample_weight, reset=True)
        seed = self._seed(checkpoints) if resume else self._seed()
        watch = Watch(given)
        with watch.explaining():
            job, start, passes = self._job(solver, given, eval_set, seed, watch, checkpoints)
            monitor = Monitor(
                self.tol, self.n_iter_no_change, self.early_stopping, solver.divergence
            )
            state = self._train(job, start, passes, monitor, bool(resume))
        self._finish(job.problem, state, monitor)
        self._charge(began, job.table, job.bounds, solver, job.problem)
        if job.keeper is not None:
            self.cost_ |= job.keeper.earlier(self.cost_)

    def _job(
        self,
        solver: Solver,
        given: Table,
        eval_set: Any,
        seed: int,
        watch: Watch,
        checkpoints: Checkpoints | None,
    ) -> tuple[Training, Any, int]:
        """What is trained on some rows, the state that it starts from and the passes to make."""
        arrangement = self._arrangement(
            solver, seed, shared=not in_this_process(), held_out=eval_set is None
        )
        table = arrangement.arrange(given)
        bounds, held = self._split(table, given, eval_set, arrangement)
        if held is not None:
            watch.add(held.given)
        goal = self._learn_targets(table)
        before = getattr(self, "_fitted", None) if self.warm_start else None
        if before is not None:
            _check_same_labels(before.problem.targets, goal.targets)
        project = self._project(
            solver, table, bounds, held, goal, seed, current_machine(), checkpoints is not None
        )
        solver.validate(project.problem)
        plan = project.plan()
        project.check(plan)
        sample = sample_rows(table, bounds, seed)
        with blas_threads():
            problem, weights = self._pose(table, bounds, goal, sample, seed)
        reading = self._reading(table, bounds, problem, solver, seed)
        if self.shuffle and isinstance(reading, Reading):
            warn_if_sorted(goal.clustering, goal.targets.width, reading, table)
        passes = self._passes(solver, problem, bounds)
        steps = reading.plan(table, bounds, 0).steps
        budget = Budget(steps * passes, steps, steps)
        start = solver.start(problem, weights, budget)
        if not in_this_process():
            compile_step(solver, problem, start, table)
        watched = problem.rows(thin_out(sample, count_rows(bounds)))
        trivial = trivial_loss(problem, watched)
        job = Training(
            solver,
            problem,
            table,
            bounds,
            reading,
            watched,
            trivial,
            watch,
            held,
            self.verbose,
            plan=plan,
            listeners=self._listeners,
            so_far=partial(self._so_far, problem),
        )
        if checkpoints is not None:
            keeper = Keeper(checkpoints, solver, self._identity(job, given, start, seed), watch)
            job = replace(job, keeper=keeper)
        return job, start, passes

    def _identity(self, job: Training, given: Table, start: Any, seed: int) -> dict[str, Any]:
        """What a fit must have in common with this one to go on from its checkpoint."""
        held = job.held
        facts = {
            "random_state": seed,
            "alpha": float(self.alpha),
            **_fingerprints(given),
            # Rows of the table itself are known by their blocks.
            "held_out": None if held is None or held.given is given else _fingerprints(held.given),
            "shuffle": self.shuffle,
            **{name: getattr(self, name) for name in _STOPPING},
        }
        return identify(
            facts,
            job.solver,
            job.problem,
            job.reading,
            steps=start.budget.steps,
            class_factors=checksum(job.problem.class_factors),
            blocks=checksum(job.bounds),
            held_blocks=None if held is None else checksum(held.bounds),
            initial_weights=checksum(*start.weights),
        )

    def _so_far(self, problem: Problem, state: Any, monitor: Monitor) -> Any:
        """The estimator as it would be if the fit ended with a state that it has had."""
        model = self._twin()
        model._finish(problem, fetch(state), replace(monitor, history=list(monitor.history)))
        model.stop_reason_ = monitor.reason or "the fit has not ended yet"
        return model

    def _twin(self) -> Any:
        """The same object once more; not by `copy`, which leaves out what is not pickled."""
        twin = object.__new__(type(self))
        twin.__dict__ = dict(vars(self))
        return twin

    def _alone(self) -> contextlib.AbstractContextManager:
        """Keep other fits out of where this one puts itself down, and what it keeps of rows."""
        place = getattr(self.checkpoint, "location", self.checkpoint)
        places = [place, self._solver.kept_at]
        return alone_in(absolute(str(place)) for place in places if place is not None)

    def _checkpoints(self, solver: Solver, resume: bool | None) -> Checkpoints | None:
        """Where the fit's checkpoints are kept, if they are."""
        if resume is not None and not isinstance(resume, bool | np.bool_):
            raise InputError(f"resume must be True, False or None; got {resume!r}.")
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
        monitor.begin(state, job.trivial)
        limit = self._limit(passes)
        saved = keeper.resume(passes, limit) if keeper is not None and resume else None
        with self._storage(job, saved is not None) as storage:
            if keeper is not None and saved is not None:
                state, position = saved.state, saved.position
                if saved.finished:
                    state = saved.chosen
                else:
                    keeper.check_end(passes)
                best = tuple(solver.attach(state, storage) for state in saved.best)
                monitor.recall(saved.history, best, saved.reason)
            elif keeper is not None:
                keeper.checkpoints.clear()
            state = solver.attach(state, storage)
            if saved is not None and saved.finished:
                return state
            with stoppable(keeper):
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
        if self.early_stopping:
            raise InputError(
                "partial_fit does not support early_stopping=True: there is no end of which to "
                "stop short. Set it to False, or call fit."
            )
        fitted = self._twin()
        before = getattr(self, "_fitted", None)
        if before is not None:
            before.check_solver(self._solver)
        check_client()
        given = open_table(fitted, X, y, sample_weight, reset=before is None)
        watch = Watch(given)
        with watch.explaining():
            fitted._continue(given, watch, before, classes)
        self.__dict__ = fitted.__dict__
        return self

    def _continue(
        self, given: Table, watch: Watch, before: Fitted | None, classes: np.ndarray | None
    ) -> None:
        """Make one more pass, over these rows."""
        passes = 0 if before is None else before.passes
        solver, seed = self._solver, self._seed()
        table = self._arrangement(solver, seed, shared=not in_this_process()).arrange(given)
        bounds = all_blocks(table)
        check_weights(table, bounds, "of this call")
        sample = sample_rows(table, bounds, seed)
        if before is None:
            goal = self._learn_targets(table, classes)
            self._refuse_size(solver, table, goal)
            with blas_threads():
                problem, weights = self._pose(table, bounds, goal, sample, seed)
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
        watched = problem.rows(thin_out(sample, table.n_rows))
        job = Training(
            solver,
            problem,
            table,
            bounds,
            reading,
            watched,
            trivial_loss(problem, watched),
            watch,
            verbose=self.verbose,
            judges=effective_rows(watched) >= LEAST_WATCHED // 2,
        )
        monitor = Monitor(0.0, 1 << 30, False)
        monitor.begin(state, job.trivial)
        state = train(job, state, range(passes, passes + 1), monitor)
        if before is not None:
            monitor.history = [*getattr(self, "history_", []), *monitor.history]
        self._finish(problem, state, monitor)


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

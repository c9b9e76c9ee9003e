"""The base of both estimators: fitting and continuing a fit, whatever the targets are."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from daskalt.compute.graph import check_client, fetch, on
from daskalt.data.choosing import takes_names
from daskalt.data.fingerprint import checksum, fingerprint
from daskalt.data.opening import open_table
from daskalt.data.passes import count_rows
from daskalt.data.table import Table
from daskalt.data.watch import Watch
from daskalt.errors import InputError
from daskalt.estimators.assembly import Assembly
from daskalt.estimators.fitted import Fitted
from daskalt.estimators.prepared import PreparedMLP
from daskalt.solvers.base import Solver
from daskalt.storage.locks import alone_in
from daskalt.storage.store import absolute
from daskalt.storage.variables import ZStore
from daskalt.training.checkpoint import Checkpoints
from daskalt.training.fitting import Training, identify, train
from daskalt.training.history import UNDER_WAY
from daskalt.training.job import lay_out_variables, store_of
from daskalt.training.keeping import Keeper, stoppable
from daskalt.training.listeners import Listener
from daskalt.training.monitor import Monitor

__all__ = ["BaseMLP"]


_STOPPING = ("early_stopping", "validation_fraction", "tol", "n_iter_no_change")


class BaseMLP(PreparedMLP):
    """The base of classifier and regressor."""

    _listeners: Sequence[Listener] = ()  # which follow the progress of a fit

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
            means its array ``y``. An array of the container itself is treated like its name, and is
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
            What to do with the checkpoint of a fit that was interrupted: True continues from it, to
            the same bits, and starts anew where there is none; False starts anew in its place; by
            default that is an error. Needs `checkpoint`. With another `max_iter`, no less than the
            passes made, True also continues from a finished fit, to a new end: to the bits of a fit
            planned to end there if steps do not shrink towards the end, else with a warning.

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
        checkpoints = self._checkpoints(self._solver, resume)
        given = open_table(self, X, y, sample_weight, reset=True)
        seed = self._seed(checkpoints) if resume else self._seed()
        watch = Watch(given)
        with watch.explaining():
            assembly = Assembly(self, seed, checkpoints=checkpoints is not None)
            training, start = assembly.assemble(
                given, watch, eval_set=eval_set, so_far=self._so_far
            )
            keeper = None
            if checkpoints is not None:
                identity = self._identity(training, given, start, seed)
                keeper = Keeper(checkpoints, assembly.solver, identity, watch)
            monitor = Monitor(
                self.tol,
                self.n_iter_no_change,
                self.early_stopping,
                assembly.solver.divergence,
                0 if training.held is None else count_rows(training.held.bounds),
            )
            state = self._train(replace(training, keeper=keeper), start, monitor, bool(resume))
        self._finish(training, state, monitor)
        self._charge(began, training.job)
        if keeper is not None:
            self.cost_ |= keeper.earlier(self.cost_)

    def _identity(self, training: Training, given: Table, start: Any, seed: int) -> dict[str, Any]:
        """What a fit must have in common with this one to resume from its checkpoint."""
        job, held = training.job, training.held
        facts = {
            "random_state": seed,
            "alpha": float(self.alpha),
            **_fingerprints(given),
            # Rows of the table itself are identified by their blocks.
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

    def _so_far(self, training: Training, state: Any, monitor: Monitor) -> Any:
        """The estimator as it would be if the fit ended with one of its states."""
        model = self._twin()
        model._finish(training, fetch(state), monitor, last=UNDER_WAY)
        return model

    def _twin(self) -> Any:
        """A shallow copy; not by `copy`, which leaves out what is not pickled."""
        twin = object.__new__(type(self))
        twin.__dict__ = dict(vars(self))
        return twin

    def _alone(self) -> contextlib.AbstractContextManager:
        """Keep other fits out of the places of this one's checkpoints and row variables."""
        place = getattr(self.checkpoint, "location", self.checkpoint)
        places = [place, store_of(self._solver)]
        return alone_in(absolute(str(place)) for place in places if place is not None)

    def _checkpoints(self, solver: Solver, resume: bool | None) -> Checkpoints | None:
        """Where the fit's checkpoints are kept, if it has any."""
        if resume is not None and not isinstance(resume, bool | np.bool_):
            raise InputError(f"resume must be True, False or None; got {resume!r}.")
        checkpoints = self.checkpoint
        if checkpoints is None:
            checkpoints = store_of(solver)
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
        """The seed of all that is random: that of the fit to resume, if none was given."""
        if self.random_state is None and checkpoints is not None:
            seed = checkpoints.seed
            if seed is not None:
                return seed
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _train(self, training: Training, state: Any, monitor: Monitor, resume: bool) -> Any:
        """The state after all passes, including those of an earlier fit."""
        job, keeper, position = training.job, training.keeper, None
        passes = job.passes.stop
        monitor.begin(state, training.trivial)
        limit = self._limit(passes)
        saved = keeper.resume(passes, limit) if keeper is not None and resume else None
        with self._variables(training, saved is not None) as variables:
            if keeper is not None and saved is not None:
                state, position = saved.state, saved.position
                if not saved.finished:
                    keeper.check_end(passes)
                monitor.recall(saved.history, saved.best, saved.end)
                if saved.finished:
                    return saved.chosen
            elif keeper is not None:
                keeper.checkpoints.clear()
            left = range(job.passes.start + len(monitor.history), passes)
            job = replace(job, passes=left, variables=variables)
            with stoppable(keeper):
                return train(replace(training, job=job), state, monitor, position)

    def _limit(self, passes: int) -> str:
        """The parameters that limit a fit to so many passes, in words."""
        limits = [name for name in ("max_iter", "max_fun") if getattr(self, name) == passes]
        return " and ".join(limits) or "max_iter"  # where it is the solver's own number

    @contextlib.contextmanager
    def _variables(self, training: Training, resume: bool) -> Iterator[ZStore | None]:
        """The store of the solver's row variables, made anew unless the fit is resumed."""
        self._kept_variables: ZStore | None = None
        keeper = training.keeper
        place = None if keeper is None else f"{keeper.checkpoints.location}/z.zarr"
        variables = lay_out_variables(training.job, self.scratch, place)
        if variables is None:
            yield None
            return
        if resume:
            variables.sweep()
        else:
            variables.create()
        if keeper is not None:
            keeper.variables = variables
        try:
            yield variables
        except BaseException:
            if keeper is None and not variables.kept:
                variables.remove()
            raise
        if variables.kept:
            self._kept_variables = variables
        else:
            variables.remove()

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
        assembly = Assembly(self, self._seed(), ends=False)
        training, state = assembly.assemble(
            given, watch, before=before, classes=classes, so_far=self._so_far
        )
        monitor = Monitor(0.0, 1 << 30, False)
        monitor.begin(state, training.trivial)
        state = train(training, state, monitor)
        earlier = [] if before is None else getattr(self, "history_", [])
        self._finish(training, state, monitor, earlier)


def _fingerprints(table: Table) -> dict[str, Any]:
    """What identifies the rows of a table."""
    return {name: fingerprint(source) for name, source in table.present.items()}

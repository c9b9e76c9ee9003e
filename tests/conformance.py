"""What every solver promises, as checks that run on any: on those of the package and on a toy.

A test class that inherits `Conformance` and has a ``case`` runs them all on it.
"""

import copy
import pickle
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import dask
import numpy as np
import pytest
from sklearn.base import is_classifier

from daskalt import Checkpoints, MLPClassifier
from daskalt.data.table import Block
from daskalt.solvers import get_solver
from daskalt.solvers.base import Budget
from tests.conftest import local_cluster, write_group
from tests.equality import arrays, assert_close, assert_same, assert_same_fit, weights_of

ROWS, FEATURES, PASSES = 540, 6, 3  # full-batch blocks of 256, 256 and 28 rows
BLOCK = 128  # rows of a step by itself: its halves, and theirs, are whole without every fourth


@dataclass
class Case:
    """A solver, what it trains, and what it promises beside the promises of all.

    Attributes
    ----------
    solver : str or Solver
    hidden : tuple of int
        Units of the hidden layers.
    activation, loss : str or object
        As the estimator takes them.
    estimator : type
        With the interface of MLPClassifier.
    monotone : {None, "loss", "objective"}
        What never rises from pass to pass: the forward loss of the weights after it, or the
        objective in the history.
    """

    solver: Any
    hidden: tuple[int, ...] = (6, 5)
    activation: Any = "tanh"
    loss: Any = "auto"
    estimator: type = MLPClassifier
    monotone: str | None = None

    def model(self, **options):
        """An estimator that stops for no other reason than its number of passes."""
        given = {"batch_size": 60, "max_iter": PASSES, "tol": 0, "random_state": 0} | options
        return self.estimator(
            self.hidden, self.activation, solver=self.solver, loss=self.loss, **given
        )

    def rows(self, n=ROWS, dtype="float32"):
        """Inputs and targets that a small network can learn."""
        rng = np.random.default_rng(3)
        X = rng.standard_normal((n, FEATURES)).astype(dtype)
        values = X[:, :3] + X[:, 3:] ** 2 + 0.1 * rng.standard_normal((n, 3))
        y = values.argmax(axis=1) if is_classifier(self.estimator()) else values[:, :2]
        return X, y if y.ndim == 1 else y.astype(dtype)


# -------------------------------------------------------------------- one step, by itself


def map_rows(solver, problem, state, rows, variables):
    """The statistics of some rows, and their own variables after the step; None if there are none.

    All that the checks know of how a solver is called.
    """
    statistics, after = solver.map(problem, state, rows, variables)
    return statistics, copy.deepcopy(after)  # which may lie in the thread's workspace


@dataclass
class Stage:
    """A solver at work on one block, without a loop."""

    solver: Any
    problem: Any
    rows: Any
    state: Any

    def map(self, state, variables=None):
        """The statistics of two tasks, and the variables of each after the step."""
        half = len(self.rows.X) // 2
        parts = self.rows.part(0, half), self.rows.part(half, 2 * half)
        mapped = [
            map_rows(self.solver, self.problem, state, rows, own)
            for rows, own in zip(parts, variables or (None, None), strict=True)
        ]
        return tuple(zip(*mapped, strict=True))

    def step(self, state, variables=None):
        """The state and the variables after a step, and what it has summed."""
        parts, after = self.map(state, variables)
        total = self.solver.combine(*parts)
        return self.solver.update(self.problem, state, total), after, total

    def steps(self, number):
        """The state and the variables after some steps."""
        state, variables = self.state, None
        for _ in range(number):
            state, variables, _ = self.step(state, variables)
        return state, variables

    def weighted(self, weight):
        """The same with rows of other weights."""
        return replace(self, rows=self.rows._replace(weight=weight))


def stage(case, model, X, y):
    """The solver of a case at its start, on some rows and the weights of a fitted model."""
    solver, problem = get_solver(case.solver), model._fitted.problem
    start = solver.start(problem, model.solver_state_.weights, Budget(8, 4, 4))
    return Stage(solver, problem, problem.rows(Block(X, y)), start)


# -------------------------------------------------------------------------------- checks


class Cut(BaseException):
    """The end of a process: nothing is written after it."""


@dataclass(frozen=True)
class Cutting(Checkpoints):
    """Checkpoints wherever there can be one; the process ends as it is to write the second."""

    every_steps: int | None = 1
    every_minutes: float | None = 1e-9
    written: Any = ()

    def save(self, *arguments, **options):
        if self.written:
            raise Cut
        super().save(*arguments, **options)
        self.written.append(arguments[0])


def in_pieces(monkeypatch):
    """Mix few rows at a time, in a pass of several groups, and make a graph for every block."""
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 5_000)
    monkeypatch.setattr("daskalt.training.synchronous.FIRST_TASKS", 1)


class Conformance:
    """The promises of a solver. A subclass has a ``case``."""

    case: Case

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls):
        """The case; a subclass with several has them as parameters of this fixture."""
        return cls.case

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, subject, tmp_path_factory):
        return tmp_path_factory.mktemp("rows")

    @pytest.fixture(scope="class")
    @classmethod
    def stored(cls, subject, folder):
        """The rows in Zarr, in chunks of which the last is ragged."""
        place = folder / "rows.zarr"
        return write_group(place, *subject.rows(), chunk_rows=32)

    @pytest.fixture(scope="class")
    @classmethod
    def two_workers(cls):
        """A client of two processes, which is nobody's default."""
        with local_cluster(2, processes=True, default=False) as client:
            yield client

    @pytest.fixture
    def _in_pieces(self, monkeypatch):
        in_pieces(monkeypatch)

    @pytest.fixture
    def _reproducible(self, subject):
        if not get_solver(subject.solver).reproducible:
            pytest.skip("the solver does not promise the same bits every time")

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, subject, stored):
        """An uninterrupted fit without any parallelism."""
        with pytest.MonkeyPatch.context() as patched, dask.config.set(scheduler="sync"):
            in_pieces(patched)
            return subject.model().fit(stored)

    @pytest.fixture(scope="class")
    @classmethod
    def at(cls, subject):
        """The solver at work on one block, in double precision."""
        X, y = subject.rows(BLOCK, "float64")
        return stage(subject, subject.model(max_iter=1).fit(X, y), X, y)

    # -------------------------------------------------------------------- pure functions

    def test_map_and_update_change_no_argument(self, at):
        at = at.weighted(np.random.default_rng(0).uniform(0.5, 2, BLOCK))
        state, variables = at.steps(2)
        given = (state, variables, tuple(at.rows))
        before = copy.deepcopy(given)
        after, own, total = at.step(state, variables)
        result = copy.deepcopy((after, own, total))
        assert_same(given, before)
        assert_same(at.step(state, variables), result)  # a task that is run again
        assert_same((after, own, total), result)  # nothing of it lies where the next one works

    def test_combine_changes_no_argument(self, at):
        parts = at.map(*at.steps(1))[0]
        before = copy.deepcopy(parts)
        at.solver.combine(*parts)
        assert_same(parts, before)
        assert_same(at.solver.combine(None, parts[0]), parts[0])
        assert_same(at.solver.combine(parts[0], None), parts[0])

    # ------------------------------------------------------------------------------ types

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_weights_states_and_variables_keep_the_type(self, subject, dtype):
        X, y = subject.rows(BLOCK, dtype)
        model = subject.model(max_iter=2).fit(X, y)
        reached = stage(subject, model, X, y).steps(2)
        for values in (weights_of(model), model.solver_state_, reached):
            assert {a.dtype for a in arrays(values)} == {np.dtype(dtype)}

    # ---------------------------------------------------------------------------- pickles

    def test_a_pickled_solver_and_state_take_the_same_step(self, at):
        state, variables = at.steps(2)
        copied, there, own = pickle.loads(pickle.dumps((at, state, variables)))
        assert_same(copied.step(there, own), at.step(state, variables))

    def test_a_pickled_estimator_predicts_and_goes_on_the_same(self, subject):
        X, y = subject.rows(BLOCK)
        model = subject.model().fit(X, y)
        copied = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copied.predict(X), model.predict(X))
        assert_same_fit(copied.partial_fit(X, y), model.partial_fit(X, y))

    # -------------------------------------------------------------------------- same bits

    @pytest.mark.usefixtures("_in_pieces", "_reproducible")
    @pytest.mark.parametrize("threads", [1, 3])
    def test_threads_give_the_bits_of_a_plain_loop(self, subject, stored, whole, threads):
        with dask.config.set(scheduler="threads", num_workers=threads):
            assert_same_fit(subject.model().fit(stored), whole)

    @pytest.mark.usefixtures("_in_pieces", "_reproducible")
    def test_two_processes_give_the_bits_of_a_plain_loop(self, subject, stored, whole, two_workers):
        assert_same_fit(subject.model().fit(stored, client=two_workers), whole)

    @pytest.mark.usefixtures("_reproducible")
    def test_chunks_that_keep_the_steps_change_no_bit(self, subject, folder):
        """Blocks of 256 rows, and steps whose rows are drawn one by one."""
        X, y = subject.rows()
        memory = subject.model().fit(X, y)
        for rows in (64, 256):
            place = folder / f"{rows}.zarr"
            assert_same_fit(subject.model().fit(write_group(place, X, y, chunk_rows=rows)), memory)

    def test_one_block_and_a_ragged_last_one_differ_by_rounding(self, subject, folder):
        X, y = subject.rows(250, "float64")
        fits = []
        for rows in (250, 100):  # blocks of 250 rows, and of 200 and 50
            place = folder / f"ragged {rows}.zarr"
            path = write_group(place, X, y, chunk_rows=rows)
            fits.append(subject.model(batch_size=250).fit(path))
        assert_close(weights_of(fits[0]), weights_of(fits[1]), 1e-6)

    # --------------------------------------------------------------------- weights of rows

    def test_rows_of_weight_zero_leave_no_trace_in_a_step(self, at):
        """Whatever they hold, and as if they were not there."""
        weight = np.where(np.arange(BLOCK) % 4 == 3, 0.0, 1.0)
        kept, given = weight > 0, at.weighted(weight).rows
        spoilt = given.X.copy()
        spoilt[~kept] = 50.0
        without = given._replace(X=given.X[kept], y=given.y[kept], weight=None)
        ends = [
            replace(at, rows=rows).steps(3)[0].weights
            for rows in (given, given._replace(X=spoilt), without)
        ]
        assert_close(ends[1], ends[0], 1e-9)
        assert_close(ends[2], ends[0], 1e-9)

    def test_a_block_or_step_of_weight_zero_does_no_harm(self, subject, folder):
        X, y = subject.rows()
        weight = np.r_[np.zeros(256), np.ones(ROWS - 256)].astype("float32")
        path = write_group(folder / "zero.zarr", X, y, weight=weight, chunk_rows=32)
        model = subject.model(shuffle=False).fit(path)
        assert all(np.isfinite(w).all() for w in weights_of(model))
        assert np.isfinite(model.loss_curve_).all()
        assert not any("refused" in record for record in model.history_)

    # ------------------------------------------------------------------------------ resume

    @pytest.mark.usefixtures("_in_pieces", "_reproducible")
    def test_resumed_at_every_cut_it_ends_in_the_bits_of_a_whole_fit(
        self, subject, stored, whole, tmp_path
    ):
        """The process ends again and again, each time a step or a block after the last."""
        cuts = 0
        while cuts < 100:
            model = subject.model(checkpoint=Cutting(str(tmp_path / "fit"), written=[]))
            try:
                model.fit(stored, resume=True)
                break
            except Cut:
                cuts += 1
        assert cuts > 2 * PASSES
        assert_same_fit(model, whole)

    # ---------------------------------------------------------------------------- monotone

    def test_what_never_rises_does_not(self, subject):
        if subject.monotone is None:
            pytest.skip("the solver does not promise that anything never rises")
        X, y = subject.rows(300, "float64")
        if subject.monotone == "objective":
            model = subject.model(max_iter=8).fit(X, y)
            values = [record["objective"] for record in model.history_]
        else:  # scored apart from the solver
            model = subject.model(max_iter=8, alpha=0.0).fit(X, y, eval_set=(X, y))
            values = [record["validation_loss"] for record in model.history_]
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(values))
        assert values[-1] < values[0]

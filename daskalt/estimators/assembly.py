"""The assembly of a fit, the same for `fit`, `plan` and `partial_fit`.

Rows are laid out, the problem is posed, and its memory is planned and may be refused; then a sample
gives the scaling of the inputs and the initial weights. The result is one `Training`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from daskalt.compute.graph import in_this_process
from daskalt.compute.threads import blas_threads
from daskalt.data.arranging import Arrangement
from daskalt.data.choosing import without_names
from daskalt.data.opening import open_table
from daskalt.data.scaling import Scaling, choose_scaling
from daskalt.data.survey import check_weights, total_weight
from daskalt.data.table import Block, Table
from daskalt.data.watch import Watch
from daskalt.errors import InputError, about
from daskalt.estimators.fitted import Fitted
from daskalt.estimators.goals import Goal, check_same_labels
from daskalt.memory.limits import PARAMETER, Limit, parse_limit
from daskalt.memory.peaks import Machine
from daskalt.memory.plan import Plan
from daskalt.memory.planning import Project, current_machine
from daskalt.network.initial import initial_weights
from daskalt.network.network import Network, Weights, check_network
from daskalt.network.problem import Problem
from daskalt.solvers.base import Budget, Selective, Solver, check_abilities, check_state
from daskalt.training.drivers import check_driver
from daskalt.training.fitting import Training
from daskalt.training.job import Job, store_of
from daskalt.training.listeners import PassBar
from daskalt.training.preparing import (
    INITIAL_ROWS,
    LEAST_WATCHED,
    Held,
    all_blocks,
    compile_step,
    count_rows,
    hold_out,
    sample_rows,
    thin_out,
    warn_if_sorted,
)
from daskalt.training.reading import (
    Reading,
    WholeBlocks,
    choose_blocks,
    choose_reading,
    most_batch_rows,
)
from daskalt.training.ruin import effective_rows, trivial_loss

__all__ = ["Assembly"]

# The cure for eval_set, whose features cannot be named by keyword.
NAMELESS = {
    "X": 'Give the arrays themselves, as in eval_set=("rows.zarr/X", "rows.zarr/y") or '
    'eval_set=(rows["X"], rows["y"]), or rename them as those of the fit were called.',
    "y": 'Name it second, as in eval_set=(rows, "label").',
}


@dataclass(frozen=True)
class LaidOut:
    """Rows as a fit reads them: blocks to train on, and rows to score after every pass."""

    table: Table
    bounds: np.ndarray
    held: Held | None = None
    shuffled: int = 0  # bytes that are on disk twice while rows are shuffled


@dataclass(frozen=True)
class Assembly:
    """Assembles the fit of an estimator.

    Attributes
    ----------
    estimator : PreparedMLP
        Gives parameters and interprets targets.
    seed : int
        Of all that is random.
    checkpoints : bool
        Whether there are any.
    ends : bool
        Whether the fit has an end, or makes one pass of any number (``partial_fit``).
    """

    estimator: Any
    seed: int
    checkpoints: bool = False
    ends: bool = True

    @cached_property
    def solver(self) -> Solver:
        """The solver that the parameters name."""
        return self.estimator._solver

    @cached_property
    def limit(self) -> Limit | None:
        """The limit set by the user."""
        return parse_limit(self.estimator.memory_limit)

    @property
    def _memory(self) -> int | None:
        return None if self.limit is None else self.limit.bytes

    # Rows

    def lay_out(
        self, given: Table, eval_set: Any = None, *, shared: bool, planned: bool = False
    ) -> LaidOut:
        """Return rows as the fit reads them; for a plan nothing is computed or copied."""
        own = self.estimator
        held_out = own.early_stopping and eval_set is None
        arrangement = Arrangement(
            shuffle=own.shuffle,
            mixes=not self.solver.full_batch or held_out,
            seed=self.seed,
            memory=self._memory,
            scratch=own.scratch,
            shared=shared,
        )
        copied_twice = arrangement.copies(given) and arrangement.shuffles(given)
        shuffled = given.nbytes if copied_twice else 0
        table = arrangement.arrange(given, promised=planned)
        bounds = all_blocks(table)
        if not self.ends:
            check_weights(table, bounds, "of this call")
            return LaidOut(table, bounds)
        if eval_set is not None:
            held = self._open_held(eval_set, arrangement, planned)
            return LaidOut(table, bounds, held, shuffled)
        if not own.early_stopping:
            return LaidOut(table, bounds, None, shuffled)
        labels = own._labels(table) if table.single else None
        bounds, chosen = hold_out(table, own.validation_fraction, self.seed, labels)
        if not len(bounds):
            raise InputError(
                f"validation_fraction={own.validation_fraction} leaves no rows to train on: "
                "lower it, or give more rows."
            )
        for part, rows in ((bounds, "to train on"), (chosen, "held out")):
            check_weights(table, part, rows)
        return LaidOut(table, bounds, Held(table, chosen, given), shuffled)

    def _open_held(self, eval_set: Any, arrangement: Arrangement, planned: bool) -> Held:
        if isinstance(eval_set, list):
            if len(eval_set) != 1:
                raise InputError(
                    f"eval_set must hold one pair (X, y); got {len(eval_set)} of them."
                )
            (eval_set,) = eval_set
        members = eval_set if isinstance(eval_set, tuple) else (eval_set,)
        if not 1 <= len(members) <= 3:
            raise InputError(
                f"eval_set must be (X, y) or (X, y, sample_weight); it has {len(members)} members."
            )
        with about("eval_set"), without_names(**NAMELESS):
            X, y, weight = (*members, None, None)[:3]
            other = open_table(self.estimator, X, y, weight, reset=False, lazy=planned)
            if not planned:
                total_weight(other)  # which must be in range
        laid_out = replace(arrangement, shuffle=False).arrange(other, promised=planned)
        return Held(laid_out, all_blocks(laid_out), other)

    # The problem, and what it takes

    def problem(
        self,
        table: Table,
        goal: Goal,
        scaling: Scaling | None = None,
        penalty: float | None = None,
    ) -> Problem:
        """Return the problem that a table poses; its scaling and penalty are made up unless given.

        Planning needs neither.
        """
        columns = table.X.shape[1]
        network = self.estimator._network(columns, goal.targets.width, goal.loss)
        check_network(network, columns, goal.targets.width)
        return Problem(
            network=network,
            scaling=scaling or Scaling(np.zeros(columns), np.ones(columns)),
            targets=goal.targets,
            penalty=float(self.estimator.alpha) / table.n_rows if penalty is None else penalty,
            dtype=np.dtype(np.float64 if table.X.dtype == np.float64 else np.float32),
            class_factors=goal.class_factors,
        )

    def project(self, rows: LaidOut, problem: Problem, machine: Machine) -> Project:
        """Return the fit that is about to be made.

        Raises
        ------
        InputError
            If the solver cannot solve the problem.
        """
        check_driver(self.solver)
        check_abilities(self.solver)
        if isinstance(self.solver, Selective):
            self.solver.validate(problem)

        def read(table: Table, batch_size: int | None, memory: int | None) -> Any:
            size = self.estimator.batch_size if batch_size is None else batch_size
            return self._read(table, rows.bounds, problem.network, size, memory)

        return Project(
            solver=self.solver,
            problem=problem,
            table=rows.table,
            bounds=rows.bounds,
            held=None if rows.held is None else rows.held.table,
            passes=self._passes(count_rows(rows.bounds), problem.network),
            ends=self.ends,
            read=read,
            given=self.limit,
            machine=machine,
            checkpoints=self.checkpoints or store_of(self.solver) is not None,
            shuffled=rows.shuffled,
        )

    def _passes(self, n_rows: int, network: Network) -> int:
        """The most passes that the fit makes."""
        if not self.ends:
            return 1
        own = self.estimator
        passes = own.max_iter or self.solver.passes(n_rows, network)
        return passes if own.max_fun is None else min(passes, own.max_fun)

    def _read(
        self,
        table: Table,
        bounds: np.ndarray,
        network: Network,
        size: int | str,
        memory: int | None,
    ) -> Reading | WholeBlocks:
        """How rows are read with steps of some size, in the memory that the user allows."""
        if self.solver.full_batch:
            return choose_blocks(table, bounds, network, memory)
        n_rows = count_rows(bounds)
        if size == "auto":
            passes = self._passes(n_rows, network) if self.ends else None
            most = most_batch_rows(table, network, memory)
            size = min(self.solver.batch_rows(n_rows, network, passes), most)
        size, seed = min(int(size), n_rows), self.seed if self.estimator.shuffle else None
        return choose_reading(table, network, size, self.solver.tasks, seed, memory)

    # The whole

    def assemble(
        self,
        given: Table,
        watch: Watch,
        *,
        eval_set: Any = None,
        before: Fitted | None = None,
        classes: np.ndarray | None = None,
        so_far: Callable[..., Any] | None = None,
    ) -> tuple[Training, Any]:
        """Return the training, and the state that it starts from.

        Parameters
        ----------
        given : Table
            The rows.
        watch : Watch
            Of their stores.
        eval_set : Any
            Rows to score after every pass.
        before : Fitted, optional
            What a fit without an end continues from.
        classes : ndarray, optional
            All labels that will ever come.
        so_far : callable, optional
            Makes an estimator of the training, a state and its history.

        Raises
        ------
        InputError
            If rows or parameters cannot be used.
        PlanError
            If a process would take more memory than it may have.
        """
        own = self.estimator
        rows = self.lay_out(given, eval_set, shared=not in_this_process())
        table, bounds = rows.table, rows.bounds
        if rows.held is not None:
            watch.add(rows.held.given)
        goal, problem = self._goal(table, classes, before)
        plan = self._plan(rows, problem, before)
        sample, weights = sample_rows(table, bounds, self.seed), Weights()
        there = 1.0 if sample.weight is None else float(np.mean(sample.weight > 0))
        evident = there * count_rows(bounds)  # whatever the unit of the weights
        if goal is not None:
            pass_weight = total_weight(table) * count_rows(bounds) / table.n_rows
            evident = max(evident, pass_weight)
            with blas_threads():
                problem, weights = self._pose(rows, goal, sample, pass_weight)
        reading = self._read(table, bounds, problem.network, own.batch_size, self._memory)
        if goal is not None and self.ends and own.shuffle:
            warn_if_sorted(goal.clustering, goal.targets.width, reading, table)
        passes, budget = self._length(rows, problem, reading, before, evident)
        if before is None:
            state = self.solver.start(problem, weights, budget)
            check_state(self.solver, state)
        else:
            state = self.solver.continued(before.state, budget)
        if not in_this_process():
            compile_step(self.solver, problem, state, table)
        watched = problem.rows(thin_out(sample, count_rows(bounds)))
        training = Training(
            job=Job(self.solver, problem, table, bounds, reading, passes, budget),
            sample=watched,
            trivial=trivial_loss(problem, watched),
            watch=watch,
            held=rows.held,
            judges=self.ends or effective_rows(watched) >= LEAST_WATCHED // 2,
            plan=plan,
            listeners=[*([PassBar()] if own.verbose else []), *own._listeners],
            so_far=so_far,
        )
        return training, state

    def _goal(
        self, table: Table, classes: np.ndarray | None, before: Fitted | None
    ) -> tuple[Goal | None, Problem]:
        """What the targets ask for, None where an earlier call found it, and the problem."""
        own = self.estimator
        if before is not None:
            return None, before.problem
        goal = own._learn_targets(table, classes)
        if own.warm_start and hasattr(own, "_fitted"):
            check_same_labels(own._fitted.problem.targets, goal.targets)
        return goal, self.problem(table, goal)

    def _plan(self, rows: LaidOut, problem: Problem, before: Fitted | None) -> Plan:
        """The plan of the fit, if it fits; a pass over no more rows than before keeps the old."""
        if before is not None and before.plan is not None and self._covers(before.plan, rows):
            return before.plan
        project = self.project(rows, problem, current_machine())
        plan = project.plan()
        project.check(plan)
        return plan

    def _covers(self, plan: Plan, rows: LaidOut) -> bool:
        """Say whether a pass over rows in memory takes no more than an earlier plan says."""
        limit, size = self.limit, self.estimator.batch_size
        return (
            rows.table.in_memory
            and plan.passes == 1
            and count_rows(rows.bounds) <= plan.rows
            and (plan.limit_source == PARAMETER) == (limit is not None)
            and (limit is None or limit.bytes == plan.memory_limit)
            and (size == "auto" or size <= plan.batch_size)
            and (plan.worker_bytes is None) == in_this_process()
        )

    def _length(
        self,
        rows: LaidOut,
        problem: Problem,
        reading: Reading | WholeBlocks,
        before: Fitted | None,
        weight: float,
    ) -> tuple[range, Budget]:
        """The numbers of the passes, and the length of the fit."""
        first = 0 if before is None else before.passes
        passes = self._passes(count_rows(rows.bounds), problem.network)
        steps = reading.plan(rows.table, rows.bounds, first).steps
        # A fit without an end has no schedule either: that of an earlier fit is over.
        whole, one = (steps * passes, steps) if self.ends else (None, None)
        return range(first, first + passes), Budget(whole, one, steps, weight)

    def _pose(
        self, rows: LaidOut, goal: Goal, sample: Block, pass_weight: float
    ) -> tuple[Problem, Weights]:
        """The problem that the table poses, and the weights to start from."""
        own, table = self.estimator, rows.table
        weight = None if sample.weight is None else sample.weight.ravel()
        if weight is not None and not weight.any():
            weight = None
        scaling = choose_scaling(sample.X, weight, own.scale, clip=self.ends)
        problem = self.problem(table, goal, scaling, float(own.alpha) / pass_weight)
        earlier = own._fitted if own.warm_start and hasattr(own, "_fitted") else None
        if earlier is not None and earlier.problem.network.shapes == problem.network.shapes:
            return problem, own._unfolded(problem)
        # Spreads need fewer rows than scaling does, whose extremes matter.
        few = slice(None, None, -(-len(sample.X) // INITIAL_ROWS))
        weight = None if weight is None else weight[few]
        rng, inputs = np.random.default_rng(self.seed), problem.inputs(sample.X[few])
        return problem, initial_weights(problem.network, inputs, rng, weight, goal.mean)

"""The plan of a fit before it reads a block, and what to change where it takes too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from daskalt.compute.graph import active_client, in_this_process, parallelism
from daskalt.data.passes import all_blocks, count_rows
from daskalt.data.staging import staged_bytes
from daskalt.data.table import Table
from daskalt.errors import PlanError
from daskalt.memory.changes import Sizes, changes
from daskalt.memory.limits import Limit, describe_bytes, process_limit, resident, trim, worker_limit
from daskalt.memory.peaks import BEFORE, Machine, Work, client_peak, worker_peak
from daskalt.memory.plan import Plan
from daskalt.memory.rehearsal import Rehearsal, rehearse
from daskalt.network.problem import Problem
from daskalt.solvers.base import Budget, Growing, Solver
from daskalt.training.job import Job, planned_variables
from daskalt.training.reading import Reading, WholeBlocks

__all__ = ["Plan", "Project", "current_machine"]

ITSELF = "the process itself, Python with its libraries"
SMALL = 0.25  # share of the process that weights must have to be what there is no room for
LEAST_COPIES = 3  # of the weights that every method has; more than the limit is refused unrehearsed


def current_machine() -> Machine:
    """Return where the active scheduler runs its tasks."""
    if in_this_process():
        return Machine(parallelism())
    client = active_client()
    if client is None:  # another scheduler of processes, of which nothing is known
        return Machine(1, parallelism())
    threads = client.nthreads()
    workers = max(1, len(threads))
    sizes = client.run(resident, on_error="ignore") if threads else {}
    return Machine(max(threads.values(), default=1), workers, max(sizes.values(), default=None))


def _limits(sizes: Sizes) -> tuple[Limit, Limit | None]:
    """The limit of this process, and that of each worker if it is known."""
    machine, given = sizes.machine, sizes.given
    own = given or process_limit()
    if machine.workers is None:
        return own, None
    if given is not None:
        return own, given
    if machine.worker_bytes is None:  # to be started here, where they share the memory
        return own, Limit(own.bytes // machine.workers, f"a worker's share of {own.source}")
    client = active_client()
    return own, None if client is None else worker_limit(client)


@dataclass(frozen=True)
class Project:
    """A fit that is about to be made, and how its sizes may still change.

    Attributes
    ----------
    solver, problem, table, bounds, held
        As in the fit; the scaling of the problem may be made up.
    passes : int
        That the fit makes.
    ends : bool
        Whether these are all; False for `partial_fit`, which makes one of any number.
    read : callable
        Says how rows are read: of a table, a batch size (None leaves it to "auto" or as it is) and
        a memory limit that the user sets.
    given : Limit or None
        The limit set by the user.
    machine : Machine
        Where the fit runs.
    checkpoints : bool
        Whether there are any.
    shuffled : int
        Bytes that lie on disk a second time while they are shuffled.
    """

    solver: Solver
    problem: Problem
    table: Table
    bounds: np.ndarray
    held: Table | None
    passes: int
    read: Callable[[Table, int | None, int | None], Reading | WholeBlocks]
    given: Limit | None
    machine: Machine
    ends: bool = True
    checkpoints: bool = False
    shuffled: int = 0

    @property
    def sizes(self) -> Sizes:
        """As the fit has them."""
        return Sizes(self.table, self.machine, self.given)

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """What the steps take."""
        weighted = self.table.weight is not None or self.problem.class_factors is not None
        known = rehearse(
            self.solver,
            self.problem,
            self.table.X.dtype,
            weighted,
            self._budget(1 if self.solver.full_batch else 2),
        )
        if not isinstance(self.solver, Growing):
            return known
        grown = self.solver.memory_bytes(self.problem, self.passes)
        return replace(known, state=known.state + grown)

    def plan(self) -> Plan:
        """Return the plan of the fit as it is.

        Raises
        ------
        PlanError
            If a few copies of the weights are too large for the limit already.
        """
        self.refuse_weights()
        _ = self.rehearsal  # which may leave memory behind
        trim()
        return self._plan(self.sizes, resident())

    def check(self, plan: Plan) -> None:
        """Raise PlanError if a process of the plan is over its limit, with a change that fits."""
        if not plan.fits:
            raise PlanError(f"{_excess(plan)} {self._change(plan)}")

    def _reading(self, sizes: Sizes) -> Reading | WholeBlocks:
        memory = None if sizes.given is None else sizes.given.bytes
        return self.read(sizes.table, sizes.batch_size, memory)

    def _budget(self, steps: int) -> Budget:
        """The length of the fit, if a pass has so many steps."""
        return Budget(steps * self.passes, steps, steps) if self.ends else Budget(pass_steps=steps)

    def _work(self, sizes: Sizes) -> Work:
        table, reading = sizes.table, self._reading(sizes)
        bounds = self.bounds if table is self.table else all_blocks(table)
        plan = reading.plan(table, bounds, 0)
        return Work(
            job=Job(
                solver=self.solver,
                problem=self.problem,
                table=table,
                bounds=bounds,
                reading=reading,
                passes=range(self.passes),
                budget=self._budget(plan.steps),
            ),
            plan=plan,
            rehearsal=self.rehearsal,
            held=self.held,
            checkpoints=self.checkpoints,
            machine=sizes.machine,
        )

    def _plan(self, sizes: Sizes, base: int) -> Plan:
        """The plan with some sizes, in a process that has ``base`` bytes before the fit."""
        work = self._work(sizes)
        parts, worker_parts = client_peak(work, base), worker_peak(work)
        own, of_worker = _limits(sizes)
        table, reading, rows = sizes.table, work.job.reading, count_rows(self.bounds)
        variables = planned_variables(self.solver, self.problem, rows, reading.block_rows, "z")
        kept = 0 if variables is None else variables.row_bytes
        again = table.pass_bytes(again=True) + kept
        network, copies = self.problem.network, self._copied_bytes()
        return Plan(
            rows=rows,
            features=network.n_features,
            outputs=network.n_outputs,
            blocks=sum(len(group.lanes) for group in work.plan.groups),
            steps=work.plan.steps,
            batch_size=reading.step_rows(rows),
            passes=self.passes,
            bytes_read=rows * (table.pass_bytes(again=False) + (self.passes - 1) * again),
            bytes_written=copies + rows * kept * self.passes,
            flops=float(self.solver.flops(network) * rows * self.passes),
            z_bytes=0 if variables is None else variables.nbytes,
            scratch_bytes=copies + self.shuffled,
            client_bytes=sum(parts.values()),
            worker_bytes=None if worker_parts is None else sum(worker_parts.values()),
            parts=parts,
            worker_parts=worker_parts,
            memory_limit=own.bytes,
            limit_source=own.source,
            worker_limit=None if of_worker is None else of_worker.bytes,
            worker_limit_source=None if of_worker is None else of_worker.source,
        )

    def _copied_bytes(self) -> int:
        held = 0 if self.held is None or self.held is self.table else staged_bytes(self.held)
        return staged_bytes(self.table) + held

    def refuse_weights(self) -> None:
        """Raise PlanError if a few copies of the weights are too much, before one is made.

        Not where the process itself is over the limit: the plan says so, and by how much.
        """
        network = self.problem.network
        size = LEAST_COPIES * sum(network.sizes) * self.problem.dtype.itemsize
        limit = self.given or process_limit()
        before = resident()
        if before + size > limit.bytes and size > SMALL * before:
            raise PlanError(
                f"This fit would take {describe_bytes(before + size)} of memory at the very "
                f"least: {describe_bytes(size)} for {LEAST_COPIES} copies of the weights of layers "
                f"{network.widths}, and {describe_bytes(before)} for {ITSELF}. "
                f"The limit is {describe_bytes(limit.bytes)} ({limit.source}). Take smaller "
                "hidden_layer_sizes, or give it more memory."
            )

    def _change(self, plan: Plan) -> str:
        """The first change that fits, in words."""
        base, smallest = plan.parts[BEFORE], plan
        batch_size = None if self.solver.full_batch else plan.batch_size
        limit = min(plan.memory_limit, plan.worker_limit or plan.memory_limit)
        for words, sizes in changes(self.sizes, batch_size, limit):
            other = self._plan(sizes, base)
            if other.fits:
                return f"{words} would take {describe_bytes(other.peak_bytes)}."
            smallest = min(smallest, other, key=lambda p: p.peak_bytes)
        least = f"No other sizes fit; the least found is {describe_bytes(smallest.peak_bytes)}"
        itself = _itself(smallest)
        if itself < smallest.peak_bytes / 2:
            return f"{least}. Take smaller hidden_layer_sizes, or give it more memory."
        cure = "set memory_limit to" if self.given is not None else "give it"
        enough = -(-smallest.peak_bytes // 10**7) * 10**7
        return (
            f"{least}, of which {describe_bytes(itself)} are {ITSELF}, which no choice of sizes "
            f"makes smaller: {cure} {describe_bytes(enough)} or more."
        )


def _excess(plan: Plan) -> str:
    """The process and the part that are too large, in words."""
    over_worker = plan.worker_bytes is not None and plan.client_bytes <= plan.memory_limit
    parts = (plan.worker_parts or {}) if over_worker else plan.parts
    peak, limit = plan.client_bytes, plan.memory_limit
    source, who = plan.limit_source, "this process"
    if over_worker:
        assert plan.worker_bytes is not None
        assert plan.worker_limit is not None
        peak, limit = plan.worker_bytes, plan.worker_limit
        source, who = str(plan.worker_limit_source), "a worker"
    largest = max((part for part in parts if part != BEFORE), key=lambda part: parts[part])
    return (
        f"This fit would take {describe_bytes(peak)} of memory in {who}, which has "
        f"{describe_bytes(parts[BEFORE])} before it; the largest part of the rest is "
        f"{largest}, {describe_bytes(parts[largest])}. The limit is {describe_bytes(limit)} "
        f"({source})."
    )


def _itself(plan: Plan) -> int:
    """Bytes that the process with the higher peak has before the fit, and those it loads."""
    parts = plan.parts
    if plan.worker_parts is not None and plan.peak_bytes == plan.worker_bytes:
        parts = plan.worker_parts
    return parts[BEFORE] + parts.get("libraries", 0)

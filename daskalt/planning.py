"""What a fit will take, before it reads a block; and what to change where that is too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from daskalt.data.readers import Source
from daskalt.data.staging import Promised, staged_bytes
from daskalt.data.table import Table
from daskalt.errors import PlanError
from daskalt.limits import (
    Limit,
    describe_bytes,
    process_limit,
    resident,
    trim,
    worker_limit,
)
from daskalt.peaks import BEFORE, Machine, Work, client_peak, worker_peak
from daskalt.plan import Plan
from daskalt.preparing import all_blocks, count_rows
from daskalt.reduction import active_client, in_this_process, parallelism
from daskalt.rehearsal import Rehearsal, rehearse
from daskalt.solvers.base import Budget, Problem, Solver
from daskalt.solvers.loop import Reading, WholeBlocks

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


def _limit_of_workers(machine: Machine) -> Limit | None:
    """What each worker may take, if that is known."""
    if machine.workers is None:
        return None
    if machine.worker_bytes is None:  # to be started here, where they share the memory
        whole = process_limit()
        return Limit(whole.bytes // machine.workers, f"a worker's share of {whole.source}")
    client = active_client()
    return None if client is None else worker_limit(client)


@dataclass(frozen=True)
class Project:
    """A fit that is to be made, and how its sizes may still change.

    Attributes
    ----------
    solver, problem, table, bounds, held
        As the fit has them; the scaling of the problem may be made up.
    passes : int
        That the fit makes.
    read : callable
        Says how rows are read: of a table, a batch size (None leaves it to "auto" or as it is) and
        a memory limit that the user sets.
    given : Limit or None
        The limit that the user has set.
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
    checkpoints: bool = False
    shuffled: int = 0

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """What the steps take."""
        weighted = self.table.weight is not None or self.problem.class_factors is not None
        reading = self.read(self.table, None, None if self.given is None else self.given.bytes)
        steps = 1 if isinstance(reading, WholeBlocks) else 2
        budget = Budget(steps * self.passes, steps, steps)
        known = rehearse(self.solver, self.problem, self.table.X.dtype, weighted, budget)
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
        rehearsal = self.rehearsal
        trim()
        return self._plan(rehearsal, resident(), None, self.given, self.table, self.machine)

    def check(self, plan: Plan) -> None:
        """Raise PlanError if a process of the plan is over its limit, with a change that fits."""
        if not plan.fits:
            raise PlanError(f"{self._excess(plan)} {self._change(plan)}")

    def _plan(
        self,
        rehearsal: Rehearsal,
        base: int,
        batch_size: int | None,
        given: Limit | None,
        table: Table,
        machine: Machine,
    ) -> Plan:
        reading = self.read(table, batch_size, None if given is None else given.bytes)
        bounds = self.bounds if table is self.table else all_blocks(table)
        steps = reading.plan(table, bounds, 0)
        solver, problem, rows = self.solver, self.problem, count_rows(self.bounds)
        work = Work(
            solver=solver,
            problem=problem,
            table=table,
            plan=steps,
            rehearsal=rehearsal,
            held=self.held,
            checkpoints=self.checkpoints,
        )
        parts = client_peak(work, machine, base)
        worker_parts = worker_peak(work, machine)
        kept = solver.variable_bytes(problem)
        again = table.pass_bytes(again=True) + kept
        copies = self._copied_bytes()
        own = given or process_limit()
        of_worker = _limit_of_workers(machine)
        if machine.workers is not None and given is not None:
            of_worker = given
        block_rows = reading.block_rows if isinstance(reading, WholeBlocks) else 1
        storage = solver.allocate(problem, rows, block_rows, None, "z") if work.whole else None
        return Plan(
            rows=rows,
            features=problem.network.n_features,
            outputs=problem.network.n_outputs,
            blocks=sum(len(group.lanes) for group in steps.groups),
            steps=steps.steps,
            batch_size=rows if isinstance(reading, WholeBlocks) else reading.batch_size,
            passes=self.passes,
            bytes_read=rows * (table.pass_bytes(again=False) + (self.passes - 1) * again),
            bytes_written=copies + rows * kept * self.passes,
            flops=float(solver.flops(problem.network) * rows * self.passes),
            z_bytes=0 if storage is None else storage.nbytes,
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

        Not where the process itself is what there is no room for: the plan says so, and how much.
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

    # Changes

    def _excess(self, plan: Plan) -> str:
        """What is too large, in words."""
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

    def _change(self, plan: Plan) -> str:
        """The first change that fits, in words."""
        base, rehearsal = plan.parts[BEFORE], self.rehearsal
        smallest = plan
        for words, batch_size, given, table, machine in self._changes(plan):
            other = self._plan(rehearsal, base, batch_size, given, table, machine)
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

    def _changes(self, plan: Plan) -> Iterator[tuple]:
        """Words, batch size, limit, table and machine of what might fit, the mildest first."""
        given, table, machine = self.given, self.table, self.machine
        limits = [given]
        if given is None:
            found = min(plan.memory_limit, plan.worker_limit or plan.memory_limit)
            limits.append(Limit(found, "the parameter memory_limit"))
            yield f"memory_limit={found}", None, limits[1], table, machine
        few = replace(machine, threads=1)
        narrow = list(_narrower(table))
        fewer = "threads_per_worker=1" if machine.workers else "dask.config.set(num_workers=1)"
        batches = [] if self.solver.full_batch else _smaller(plan.batch_size)
        for batch_size in batches:
            yield f"batch_size={batch_size}", batch_size, given, table, machine
        if machine.threads > 1:
            yield fewer, None, given, table, few
        for rows, other in narrow:
            yield f"X in chunks of {rows} rows", None, given, other, machine
        limit = limits[-1]
        words = "" if given is not None or limit is None else f"memory_limit={limit.bytes}, "
        sizes: list[int | None] = [*batches] or [None]
        for size in sizes:
            batch = "" if size is None else f"batch_size={size}, "
            if machine.threads > 1:
                yield f"{words}{batch}{fewer}", size, limit, table, few
            for rows, other in narrow[-1:]:
                chunks = f"X in chunks of {rows} rows"
                yield f"{words}{batch}{chunks}", size, limit, other, machine
                if machine.threads > 1:
                    yield f"{words}{batch}{fewer}, {chunks}", size, limit, other, few


def _itself(plan: Plan) -> int:
    """What the process with the higher peak has before the fit, and comes to load."""
    parts = plan.parts
    if plan.worker_parts is not None and plan.peak_bytes == plan.worker_bytes:
        parts = plan.worker_parts
    return parts[BEFORE] + parts.get("libraries", 0)


def _smaller(size: int) -> list[int]:
    """Some smaller sizes of a step, down to few rows."""
    return [size // part for part in (2, 4, 8, 16, 64, 256) if size // part >= 8]


def _narrower(table: Table) -> Iterator[tuple[int, Table]]:
    """The same table in smaller chunks."""
    if table.in_memory:
        return
    for part in (4, 16, 64):
        rows = (table.X.chunk_rows or 1) // part
        if rows < 16:
            return
        yield rows, Table(*(_promised(each, rows) for each in (table.X, table.y, table.weight)))


def _promised(source: Source | None, rows: int) -> Any:
    return None if source is None else Promised(source.name, source.shape, source.dtype, rows)

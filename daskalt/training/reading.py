"""How the rows of a fit are read: the size of a block, of a step and of a task's share of it.

All of it follows from the data, the parameters and the memory that the user allows.
"""

import sys
from dataclasses import dataclass

import numpy as np

from daskalt.data.arranging import mixing_bytes
from daskalt.data.passes import PassPlan, count_rows, plan_blocks, plan_pass
from daskalt.data.table import Table
from daskalt.network.network import Network

__all__ = ["Reading", "WholeBlocks", "choose_blocks", "choose_reading", "most_batch_rows"]

BLOCK_BYTES = 16 << 20  # rows and z of a block of a full-batch method
LANE_FLOPS = 50e6  # a task of less work costs threads of one process more than it saves
TASK_FLOPS = 1e9  # the same between processes: ten milliseconds, as a message there and back takes


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read, mixed and divided into steps.

    Attributes
    ----------
    batch_size : int
        Rows of a step.
    lanes : int
        Tasks of a step.
    buffer_rows : int
        Rows mixed together in memory.
    seed : int or None
        Seed of the shuffling; None keeps the order of the rows.
    apart : bool
        Whether processes share the tasks of a step, or only threads of one.
    """

    batch_size: int
    lanes: int
    buffer_rows: int
    seed: int | None
    apart: bool = True
    block_rows = 1  # of row variables, which only full-batch methods keep

    def step_rows(self, rows: int) -> int:
        """Return roughly how many of the rows a step has."""
        return self.batch_size

    def plan(self, table: Table, bounds: np.ndarray, number: int) -> PassPlan:
        """Return the plan of pass ``number`` over some blocks of a table."""
        return plan_pass(
            table,
            bounds,
            batch_size=self.batch_size,
            lanes=self.lanes,
            buffer_rows=self.buffer_rows,
            seed=None if self.seed is None else (self.seed, number),
            apart=self.apart,
        )


@dataclass(frozen=True)
class WholeBlocks:
    """All rows in one step, a task for each block, always in the same order.

    Attributes
    ----------
    block_rows : int
        Rows of every block but the last.
    """

    block_rows: int
    buffer_rows = sys.maxsize  # rows mixed in memory: a step has them all

    def step_rows(self, rows: int) -> int:
        """Return how many of the rows a step has: all."""
        return rows

    def plan(self, table: Table, bounds: np.ndarray, number: int) -> PassPlan:
        """Return the plan of a pass over some blocks of a table."""
        return plan_blocks(bounds, self.block_rows)


def choose_blocks(
    table: Table, bounds: np.ndarray, network: Network, memory: int | None = None
) -> WholeBlocks:
    """Return how a full-batch method takes all rows: in blocks of at most 16 MiB.

    There are at least 32 where that leaves 256 rows or more to each. Blocks are whole chunks where
    chunks are smaller. ``memory`` is the limit that the user has set: a block is a 64th of it at
    most.
    """
    size = BLOCK_BYTES if memory is None else min(BLOCK_BYTES, memory // 64)
    row_bytes = table.mixed_bytes + 4 * sum(network.widths)
    rows = max(1, min(size // row_bytes, max(256, -(-count_rows(bounds) // 32))))
    chunk = table.chunk_rows
    return WholeBlocks(rows // chunk * chunk if rows > chunk else rows)


def choose_reading(
    table: Table,
    network: Network,
    batch_size: int,
    tasks: int | str,
    seed: int | None,
    memory: int | None = None,
) -> Reading:
    """Return how rows are read and dealt into steps, from the data and the parameters alone.

    Unless told otherwise the tasks of a step have at least 500 rows each, and work that is worth a
    thread; other processes take some only of steps whose work is worth a message. ``memory`` is
    the limit that the user has set: the rows mixed are a 16th of it at most.
    """
    buffer = mixing_bytes(memory)
    apart = True
    if tasks == "auto":
        work = batch_size * 3 * network.flops
        apart = work >= 2 * TASK_FLOPS
        tasks = 2 ** int(np.log2(np.clip(batch_size / 1000, 2, 16)))
        if work < 2 * LANE_FLOPS:
            tasks = 1
    return Reading(
        batch_size=batch_size,
        lanes=min(int(tasks), batch_size),
        buffer_rows=max(batch_size, buffer // max(1, table.mixed_bytes)),
        seed=seed,
        apart=apart,
    )


def most_batch_rows(table: Table, network: Network, memory: int | None) -> int:
    """Return the most rows of a step by "auto": those of a 16th of the memory limit."""
    if memory is None:
        return table.n_rows
    return max(1, memory // 16 // (table.mixed_bytes + 16 * sum(network.widths)))

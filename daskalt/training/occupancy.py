"""What a pass holds in memory at once: tasks, rows, statistics and states, counted beforehand.

Tasks are counted in a graph that is built and not run. The rest follows from the order in
which `PassGraph` reads, from how it divides blocks among tasks, and from how it sums.
"""

from typing import NamedTuple

from daskalt.compute.graph import FAN_IN, height_of
from daskalt.data.passes import Group, PassPlan
from daskalt.training.job import Job, Position
from daskalt.training.pass_graph import PassGraph, Scheduler, spans_of, task_level
from daskalt.training.synchronous import GRAPH_TASKS

__all__ = ["Occupancy", "count_tasks", "occupancy"]


class Occupancy(NamedTuple):
    """What one process holds of a pass at once.

    Attributes
    ----------
    held, mapped, read : int
        Rows in memory of this group and the next; rows of one map; rows of one read.
    spare : int
        Chunks that a read may touch in part.
    single : bool
        Whether one read fills a lane.
    lanes : int
        Lanes of a step with a copy of the state in this process, if lanes have copies.
    statistics : int
        Results of maps and of sums that wait to be combined.
    """

    held: int
    mapped: int
    read: int
    spare: int
    single: bool
    lanes: int
    statistics: int


def count_tasks(job: Job, plan: PassPlan, scheduler: Scheduler) -> int:
    """Return the tasks of the first graph of a fit, which has the most."""
    start = Position(0)
    graph = PassGraph(job, [None], start, check=True, scheduler=scheduler)
    for span in spans_of(plan, start, GRAPH_TASKS, None):
        graph.add_span(span)
    return len(graph)


def occupancy(plan: PassPlan, threads: int, workers: int | None) -> Occupancy:
    """Return what the steps of a pass hold in memory at once.

    Parameters
    ----------
    plan : PassPlan
        The pass.
    threads : int
        Threads of the process.
    workers : int or None
        Processes that share the tasks; None where they run in the one that fits.
    """
    (whole, *_) = plan.groups
    found = _of_blocks(whole, threads, workers) if whole.whole else _of_groups(plan, threads)
    if workers is None:
        return found
    lanes = max(len(group.lanes) for group in plan.groups)
    here = -(-lanes // workers)
    # All roots of the tree come to every worker, and are held there as sent and as received.
    found = found._replace(statistics=found.statistics + min(lanes, FAN_IN))
    if whole.whole:
        return found
    if not whole.apart:
        return found._replace(lanes=1)
    return found._replace(lanes=here, held=-(-found.held * here // lanes))


def _of_blocks(group: Group, threads: int, workers: int | None) -> Occupancy:
    """A step of all rows, whose tasks read their own and release them."""
    blocks = len(group.lanes)
    # A task of several blocks reads the next while it maps one.
    ahead = 2 if task_level(blocks, threads * (workers or 1)) > 0 else 1
    waiting = (FAN_IN - 1) * (height_of(blocks) + 1) + threads
    return Occupancy(
        held=min(threads * ahead, blocks) * group.share,
        mapped=group.share,
        read=max(lane.longest for lane in group.lanes),
        spare=1,
        single=all(len(lane.starts) == 1 for lane in group.lanes),
        lanes=1,
        statistics=min(blocks, waiting) + threads,
    )


def _of_groups(plan: PassPlan, threads: int) -> Occupancy:
    """Steps of some rows: a group is read while the one before it is in use."""
    groups = plan.groups
    lanes = max(len(group.lanes) for group in groups)
    sizes = [group.rows for group in groups]
    return Occupancy(
        held=max(sum(sizes[i : i + 2]) for i in range(len(sizes))),
        mapped=max(group.share for group in groups),
        read=max(lane.longest for group in groups for lane in group.lanes),
        spare=0,
        single=all(len(lane.starts) == 1 for group in groups for lane in group.lanes),
        lanes=lanes,
        # Those of all lanes, the sums of the tree's branches, and one that is being added to.
        statistics=lanes + (lanes > 1) * -(-lanes // FAN_IN) + (lanes > 2),
    )

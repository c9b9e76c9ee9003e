"""The outer loop: the same bits wherever it runs, and no more rows in memory than planned."""

import threading
from collections import Counter
from dataclasses import replace

import dask
import numpy as np
import pytest

from daskalt.compute.graph import Graph
from daskalt.data.passes import read_lane
from daskalt.data.readers import MemorySource, Source
from daskalt.data.sources import as_table
from daskalt.data.table import Table
from daskalt.errors import DivergenceError, InputError
from daskalt.solvers import LBFGS, StochasticAltMin
from daskalt.solvers.base import Budget, Report
from daskalt.training import pass_graph, tasks
from daskalt.training import synchronous as loop
from daskalt.training.drivers import run
from daskalt.training.job import Pass, Position
from daskalt.training.reading import Reading, WholeBlocks
from tests.solvers.problems import job_of, make_problem

ROWS = 240
READING = Reading(batch_size=40, lanes=3, buffer_rows=120, seed=5)


@pytest.fixture(scope="module")
def case():
    return make_problem(n=ROWS, features=6, hidden=(20, 5), dtype="float32", weighted=True)


@pytest.fixture
def table(case, store):
    """The rows in Zarr, in chunks of ten, in blocks of one chunk."""
    rows = case.rows
    return as_table(store(rows.X, rows.y, weight=rows.weight, chunk_rows=10))


def blocks_of(table, rows=10):
    return np.array(table.block_bounds(rows))


def trained(case, table, *, reading=READING, passes=range(2), **options):
    """The state and the scores after some passes."""
    solver = StochasticAltMin(**options)
    steps = reading.plan(table, blocks_of(table), 0).steps
    budget = Budget(2 * steps, steps)
    state = solver.start(case.problem, case.weights, budget)
    scores = []
    job = job_of(solver, case, table, reading, passes, budget)
    for result in run(job, state, Position(passes.start)):
        if isinstance(result, Pass):
            scores.append(result.score)
    graph = Graph()
    return graph.compute(graph.constant(result.state)), scores


def assert_same(a, b):
    (state_a, scores_a), (state_b, scores_b) = a, b
    for x, y in zip(state_a.weights, state_b.weights, strict=True):
        np.testing.assert_array_equal(x, y)
    assert scores_a == scores_b


# ----------------------------------------------------------------------------- same bits


def test_a_pool_of_processes_gives_the_same_bits(case, table, request):
    expected = trained(case, table)
    request.getfixturevalue("processes")
    assert_same(trained(case, table), expected)


@pytest.mark.parametrize("lanes", [1, 3])
def test_memory_and_zarr_agree_where_the_plan_is_the_same(case, table, lanes):
    """Unshuffled, with blocks of whole steps, both read the same rows into the same tasks."""
    rows = case.rows
    memory = Table(
        Chunked(rows.X, "X"), Chunked(rows.y, "y"), Chunked(rows.weight, "sample_weight")
    )
    reading = Reading(batch_size=30, lanes=lanes, buffer_rows=30, seed=None)
    assert_same(trained(case, memory, reading=reading), trained(case, table, reading=reading))


class Chunked(MemorySource):
    chunk_rows = 10


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("lanes", [2, 6, 18])
def test_steps_of_one_task_give_the_bits_of_a_task_for_each(
    case, table, lanes, threads, monkeypatch
):
    reading = Reading(batch_size=40, lanes=lanes, buffer_rows=120, seed=5)
    with dask.config.set(scheduler="threads", num_workers=threads):
        together = [
            trained(case, table, reading=replace(reading, apart=apart)) for apart in (True, False)
        ]
        monkeypatch.setattr(pass_graph, "in_this_process", lambda: False)
        monkeypatch.delattr(tasks, "run_steps")
        for found in together:
            assert_same(found, trained(case, table, reading=reading))


def test_lanes_of_a_task_are_mapped_at_once(case, table, monkeypatch):
    meeting, map_rows = threading.Barrier(3), tasks.map_rows

    def met(*arguments):
        meeting.wait(30)  # which breaks unless three lanes are mapped at once
        return map_rows(*arguments)

    monkeypatch.setattr(tasks, "map_rows", met)
    with dask.config.set(scheduler="threads", num_workers=3):
        trained(case, table, reading=replace(READING, apart=False))


def test_stored_chunks_give_the_bits_of_the_same_chunks_in_memory(case, table):
    class Claimed(Chunked):
        in_memory = False  # read range by range, as from storage

    rows = case.rows
    claimed = Table(
        Claimed(rows.X, "X"), Claimed(rows.y, "y"), Claimed(rows.weight, "sample_weight")
    )
    assert_same(trained(case, claimed), trained(case, table))


def test_the_seed_decides(case, table):
    a = trained(case, table)[0]
    b = trained(case, table, reading=Reading(40, 3, 120, seed=6))[0]
    assert not np.array_equal(a.weights[0], b.weights[0])


# ----------------------------------------------------------------------------- every row


@pytest.mark.parametrize("batch_size", [1, 37, 240])
def test_ragged_steps_and_a_single_one_score_every_row(case, table, batch_size):
    reading = Reading(batch_size, min(3, batch_size), max(60, batch_size), seed=0)
    _, scores = trained(case, table, reading=reading, passes=range(1))
    assert scores[0].weight == pytest.approx(case.row_weight.sum(), rel=1e-5)


def test_one_block_of_one_row(case):
    rows = case.rows.part(0, 1)
    table = Table(MemorySource(rows.X), MemorySource(rows.y, "y"))
    state, scores = trained(case, table, reading=Reading(1, 1, 1, 0))
    assert all(np.isfinite(w).all() for w in state.weights)
    assert [score.weight for score in scores] == [1, 1]


def test_the_score_of_a_pass_is_of_the_forward_loss(case, table):
    """Steps of almost no length leave the loss of the initial weights."""
    _, scores = trained(case, table, passes=range(1), step_limit=1e-12)
    from daskalt.network.scoring import score_rows

    expected = score_rows(case.problem, case.weights, case.rows)
    assert scores[0].mean_loss == pytest.approx(expected.mean_loss, rel=1e-5)
    assert scores[0].accuracy == pytest.approx(expected.accuracy, rel=1e-5)


# ----------------------------------------------------------------------------- bounded memory


class Watched(Source):
    """Rows that record when they are read."""

    def __init__(self, array, name, log):
        self.array, self.name, self.log = array, name, log
        self.shape, self.dtype, self.chunk_rows = array.shape, array.dtype, 10

    def read(self, start, stop):
        self.log.append(("read", start, stop))
        return self.array[start:stop]


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("threads", [1, 4])
def test_no_group_is_read_before_the_one_before_it_is_in_use(case, monkeypatch, lanes, threads):
    """At the read of a group, every step of the group two before it has been made."""
    log = []
    rows = case.rows
    table = Table(Watched(rows.X, "X", log), MemorySource(rows.y, "y"))
    reading = Reading(batch_size=20, lanes=lanes, buffer_rows=40, seed=1)
    plan = reading.plan(table, blocks_of(table), 0)
    assert len(plan.groups) == 6
    group_of = {
        start // 10: number
        for number, group in enumerate(plan.groups)
        for lane in group.lanes
        for first, stop in zip(lane.starts, lane.stops, strict=True)
        for start in range(first, stop, 10)
    }
    update = tasks.update
    lock = threading.Lock()

    def logged(*arguments):
        with lock:
            log.append(("step", None, None))
        return update(*arguments)

    monkeypatch.setattr(tasks, "update", logged)
    with dask.config.set(scheduler="threads", num_workers=threads):
        trained(case, table, reading=reading, passes=range(1))
    done = 0
    for kind, start, _ in log:
        if kind == "step":
            done += 1
            continue
        number = group_of[start // 10]
        assert done >= sum(group.steps for group in plan.groups[: max(0, number - 1)])
    assert done == plan.steps


@pytest.mark.parametrize("whole", [False, True], ids=["steps", "all rows"])
def test_the_next_rows_are_read_while_rows_are_used(case, whole):
    """With one thread that computes, the first use of rows waits until a second read begins."""
    log, second, rows = [], threading.Event(), case.rows

    class Telling(Watched):
        def read(self, start, stop):
            if self.log:
                second.set()
            return super().read(start, stop)

    table = Table(Telling(rows.X, "X", log), MemorySource(rows.y, "y"))
    reading = WholeBlocks(10) if whole else Reading(20, 1, 40, seed=None)
    overlapped = []

    class Waiting(LBFGS if whole else StochasticAltMin):
        def map(self, *arguments):
            overlapped.append(second.wait(10))
            return super().map(*arguments)

    solver = Waiting()
    budget = Budget(12, 12, 12)
    state = solver.start(case.problem, case.weights, budget)
    job = job_of(solver, case, table, reading, range(1), budget)
    with dask.config.set(scheduler="threads", num_workers=1):
        list(run(job, state, Position(0)))
    assert all(overlapped)


def test_a_pass_reads_every_chunk_once(case):
    log = []
    rows = case.rows
    table = Table(Watched(rows.X, "X", log), MemorySource(rows.y, "y"))
    trained(case, table, passes=range(2))
    counts = Counter(row for _, start, stop in log for row in range(start, stop))
    assert set(counts.values()) == {2}
    assert len(counts) == ROWS


def test_building_a_pass_reads_and_computes_nothing(case, monkeypatch):
    log = []
    table = Table(Watched(case.rows.X, "X", log), MemorySource(case.rows.y, "y"))
    monkeypatch.setattr(Graph, "persist", lambda graph, *nodes: nodes)
    solver = StochasticAltMin()
    budget = Budget(12, 6)
    state = solver.start(case.problem, case.weights, budget)
    plan = READING.plan(table, blocks_of(table), 0)
    job = job_of(solver, case, table, READING, range(2), budget)
    position = Position(0)
    spans = pass_graph.spans_of(plan, position, loop.GRAPH_TASKS, None)
    pass_graph.run_graph(job, plan, spans, [state], position, True)
    assert log == []


def test_weights_do_not_pass_through_the_client(case, table, cluster, monkeypatch):
    """Between passes on a cluster only the score comes back."""
    cluster(1)
    gathered = []
    fetch = loop.fetch
    monkeypatch.setattr(
        loop, "fetch", lambda handle: gathered.append(fetch(handle)) or gathered[-1]
    )
    monkeypatch.delattr(Graph, "compute")
    solver = StochasticAltMin()
    budget = Budget(12, 6)
    state = solver.start(case.problem, case.weights, budget)
    job = job_of(solver, case, table, READING, range(2), budget)
    results = list(run(job, state, Position(0)))
    assert gathered == [(result.score, Report()) for result in results]


# ----------------------------------------------------------------------------- harm


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_bad_numbers_are_found_in_the_first_pass(case, store, scheduler):
    X = case.rows.X.copy()
    X[157, 4] = np.inf
    table = as_table(store(X, case.rows.y, chunk_rows=10))
    with (
        dask.config.set(scheduler=scheduler),
        pytest.raises(InputError, match=r"Input X contains NaN or infinity.*row 157, column 4"),
    ):
        trained(case, table)


@pytest.mark.filterwarnings("ignore:.*in matmul")  # NumPy 2.1: errstate stays in its thread
def test_divergence_names_the_step_and_the_cure(case, table):
    big = make_problem(n=ROWS, features=6, hidden=(20, 5), dtype="float32", activation="relu")
    big.weights = tuple(w * np.float32(1e25) for w in big.weights)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"damping|overflowed"):
        trained(big, table)


def test_rows_of_a_lane_are_encoded_once(case, table):
    lane = READING.plan(table, blocks_of(table), 0).groups[0].lanes[0]
    block = read_lane(table, lane)
    rows = tasks.load(tasks.Shared(None, case.problem, None), table, lane, True, None)
    np.testing.assert_array_equal(rows.X, block.X)
    np.testing.assert_array_equal(rows.y, block.y)
    assert rows.weight.dtype == np.float32

"""Plans: the numbers that can be counted by hand, limits and refusals, and no block read."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import yaml
import zarr

from daskalt import BatchAltMin, MLPClassifier, MLPRegressor, StochasticAltMin
from daskalt.data.readers import StoredSource
from daskalt.data.table import Table
from daskalt.errors import InputError, PlanError
from daskalt.memory import limits
from daskalt.memory.planning import current_machine
from daskalt.memory.rehearsal import held_bytes
from daskalt.runs import cli
from daskalt.storage.variables import ZStore
from daskalt.training.reading import Reading, WholeBlocks

ROWS, FEATURES, CLASSES, HIDDEN = 30_000, 60, 3, 32
PER_ROW = FEATURES * 4 + 8
LABELS = np.arange(CLASSES)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A Zarr group of 7 MB."""
    group = zarr.create_group(tmp_path_factory.mktemp("plan") / "rows.zarr")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    group.create_array("X", data=X, chunks=(1000, FEATURES))
    group.create_array("y", data=rng.integers(0, CLASSES, ROWS), chunks=(1000,))
    return str(group.store_path).removeprefix("file://")


class Rows(StoredSource):
    """Rows of any number that nobody may read."""

    def __init__(self, name, rows, columns=(), dtype=np.float32, chunk_rows=4096):
        self.name, self.shape, self.dtype = name, (rows, *columns), np.dtype(dtype)
        self.chunk_rows = chunk_rows

    def read(self, start, stop):
        raise AssertionError(f"{self.name} was read")


def unreadable(rows, columns=200, chunk_rows=4096, dtype=np.float32):
    return Table(
        Rows("X", rows, (columns,), dtype, chunk_rows=chunk_rows),
        Rows("y", rows, dtype=np.int64, chunk_rows=chunk_rows),
    )


def network(solver="altmin", **options):
    defaults = {"max_iter": 3, "random_state": 0, "tol": 0.0, "n_iter_no_change": 100}
    return MLPClassifier((HIDDEN,), solver=solver, **(defaults | options))


def own_parts(plan):
    """The parts of a peak that do not depend on what this process has been through."""
    return {name: size for name, size in plan.parts.items() if "before" not in name}


# Numbers


def test_no_block_is_read():
    plan = network().plan(unreadable(1_000_000), classes=LABELS)
    assert (plan.rows, plan.features, plan.outputs) == (1_000_000, 200, CLASSES)


class Targets(Rows):
    """Labels that may be read."""

    def read(self, start, stop):
        return np.arange(start, stop) % 4


def test_y_alone_is_read_for_its_labels():
    table = Table(Rows("X", 5000, (8,)), Targets("y", 5000, dtype=np.int64))
    assert network().plan(table).outputs == 4
    assert network().plan(table, classes=np.arange(7)).outputs == 7


def test_a_regressor_reads_nothing():
    table = Table(Rows("X", 5000, (8,)), Rows("y", 5000, (2,)))
    assert MLPRegressor((HIDDEN,)).plan(table).outputs == 2


@pytest.mark.parametrize("solver", ["altmin", "adam", "batch-altmin", "lbfgs", "admm"])
def test_bytes_are_what_the_fit_is_charged(place, solver):
    model = network(solver)
    plan = model.plan(place)
    model.fit(place)
    assert model.n_iter_ == plan.passes == 3
    assert plan.bytes_read == model.cost_["bytes_read"]
    assert plan.bytes_written == model.cost_["bytes_written"]


def test_counts_by_hand(place):
    plan = network("adam", batch_size=500, max_iter=2).plan(place)
    assert plan.steps == ROWS // 500
    assert (plan.passes, plan.batch_size, plan.z_bytes, plan.scratch_bytes) == (2, 500, 0, 0)
    assert plan.bytes_read == ROWS * PER_ROW  # small enough to stay decoded after the first pass
    products = 2 * ((FEATURES + 1) * HIDDEN + (HIDDEN + 1) * CLASSES)
    below_first = 2 * (HIDDEN + 1) * CLASSES
    assert plan.flops == 2 * ROWS * (2 * products + below_first)


def test_z_on_disk(place):
    plan = network("batch-altmin").plan(place)
    rows = 938  # a 32nd of all
    assert plan.blocks == 32
    store = ZStore("here", ROWS, ("z1", "z2"), (HIDDEN, CLASSES), rows, "float32")
    assert plan.z_bytes == store.nbytes
    assert plan.bytes_written == 3 * ROWS * 4 * (HIDDEN + CLASSES)


def test_a_large_table_is_read_in_every_pass():
    plan = network("adam").plan(unreadable(1_000_000), classes=LABELS)
    assert plan.bytes_read == 3 * 1_000_000 * (200 * 4 + 8)


@pytest.mark.parametrize("solver", ["altmin", "adam", "batch-altmin"])
def test_the_peak_does_not_grow_with_the_rows(solver):
    model = network(solver, batch_size=1000) if solver != "batch-altmin" else network(solver)
    small, large = (model.plan(unreadable(n), classes=LABELS) for n in (10**8, 10**9))
    parts, others = own_parts(small), own_parts(large)
    assert parts.keys() == others.keys()
    # Rows of a group differ by what is left over when all are divided.
    assert sum(others.values()) <= 1.03 * sum(parts.values())


def test_the_estimator_is_left_as_it_was(place):
    model = network()
    before = dict(vars(model))
    model.plan(place)
    assert vars(model) == before


def test_rehearsals_change_no_bit(place, monkeypatch):
    planned = network("altmin").fit(place)
    monkeypatch.setattr("daskalt.memory.planning.Project.plan", lambda self: None)
    monkeypatch.setattr("daskalt.memory.planning.Project.check", lambda self, plan: None)
    blind = network("altmin").fit(place)
    for a, b in zip(planned.coefs_, blind.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_held_bytes_counts_memory_once():
    a = np.zeros(100)
    assert held_bytes((a, a[:10], (a.reshape(10, 10),), None, 3)) == a.nbytes
    assert held_bytes((a, np.zeros(5)), but=(a[3:],)) == 40


# What is computed or copied


def test_dask_arrays_are_not_computed(tmp_path):
    def never(block):
        raise AssertionError("computed")

    X = da.ones((20_000, 50), chunks=(5000, 50)).map_blocks(
        never, dtype=np.float64, meta=np.ones((0, 0))
    )
    y = da.ones(20_000, chunks=5000, dtype=np.int64).map_blocks(never, dtype=np.int64)
    model = network(scratch=str(tmp_path))
    plan = model.plan(X, y, classes=LABELS)
    assert plan.scratch_bytes == 20_000 * (50 * 8 + 8)
    assert plan.bytes_written == plan.scratch_bytes
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"y would have to be computed.*classes="):
        model.plan(X, y)


def test_a_dask_frame_is_not_computed():
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame(np.ones((100, 3)), columns=list("abc")), npartitions=2)
    with pytest.raises(InputError, match=r"X is a Dask DataFrame.*to_dask_array"):
        network().plan(frame, np.arange(100) % 2)


def test_a_global_shuffle_lies_on_disk_twice(place, tmp_path, monkeypatch):
    few = network(shuffle="global", scratch=str(tmp_path)).plan(place)
    assert few.scratch_bytes == 0  # all of them are mixed in every pass
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 1 << 10)
    plan = network(shuffle="global", scratch=str(tmp_path)).plan(place)
    assert plan.scratch_bytes == 2 * ROWS * PER_ROW
    assert plan.bytes_written == ROWS * PER_ROW
    assert list(tmp_path.iterdir()) == []


# Limits


def test_a_limit_in_words():
    assert limits.parse_limit("2GB").bytes == 2 * 10**9
    assert limits.parse_limit("500 MiB").bytes == 500 << 20
    assert limits.parse_limit(12345).bytes == 12345
    assert limits.parse_limit(None) is None


@pytest.mark.parametrize("wrong", ["much", "-1GB", 0, 0.5, True, [1]])
def test_a_wrong_limit_is_named(place, wrong):
    with pytest.raises(InputError, match=r"memory_limit must be a positive number of bytes.*got"):
        network(memory_limit=wrong).fit(place)


def limit_over(table, factor, **options):
    """A limit that a plan is over, by a factor on what it takes beside this process."""
    plan = network(**options).plan(table, classes=LABELS)
    own = sum(own_parts(plan).values())
    return int(plan.client_bytes - own + factor * own)


@pytest.mark.parametrize(
    ("options", "columns", "chunk_rows", "parameter"),
    [
        ({"solver": "adam", "batch_size": 200_000}, 200, 4096, "batch_size"),
        ({"solver": "batch-altmin"}, 2000, 20_000, "chunks"),
    ],
)
def test_a_refusal_names_a_change_that_fits(options, columns, chunk_rows, parameter):
    table = unreadable(2_000_000, columns, chunk_rows)
    limit = limit_over(table, 0.5, **options)
    model = network(memory_limit=limit, **options)
    project = model._project(current_machine(), table, classes=LABELS)
    with pytest.raises(PlanError) as refusal:
        project.check(project.plan())
    message = str(refusal.value)
    assert "the parameter memory_limit" in message
    assert parameter in message, message
    changed = re.search(r"batch_size=(\d+)", message)
    if changed:
        options = options | {"batch_size": int(changed[1])}
    chunks = re.search(r"chunks of (\d+) rows", message)
    if chunks:
        table = unreadable(2_000_000, columns, int(chunks[1]))
    with dask.config.set(num_workers=1 if "num_workers=1" in message else None):
        again = network(memory_limit=limit, **options)._project(
            current_machine(), table, classes=LABELS
        )
        again.check(again.plan())


def test_a_fit_over_its_limit_reads_no_features():
    table = Table(Rows("X", 30_000, (FEATURES,)), Targets("y", 30_000, dtype=np.int64))
    model = network("adam", batch_size=20_000)
    plan = model.plan(table)
    limit = plan.client_bytes - plan.parts["rows in memory"]
    with pytest.raises(PlanError, match=r"would take .* of memory in this process"):
        model.set_params(memory_limit=limit).fit(table)
    with pytest.raises(AssertionError, match="X was read"):
        model.set_params(memory_limit=2 * plan.client_bytes).fit(table)


def test_weights_over_the_limit_are_not_even_made():
    table = unreadable(10_000, 50_000)
    model = MLPClassifier((400_000,), memory_limit="8GB")
    with pytest.raises(PlanError, match=r"at the very least: 240 GB for 3 copies of the weights"):
        model.plan(table, classes=LABELS)


def test_the_parameter_shrinks_buffers_blocks_and_batches():
    table = unreadable(10_000_000, chunk_rows=64)

    def reading(solver, memory, size=None):
        project = network(solver)._project(current_machine(), table, classes=LABELS)
        return project.read(table, size, memory)

    free, tight = reading("altmin", None), reading("altmin", 160 << 20)
    assert isinstance(free, Reading)
    assert free.buffer_rows == (64 << 20) // table.mixed_bytes
    assert tight.buffer_rows == (10 << 20) // table.mixed_bytes
    assert free.batch_size == int(5 * np.sqrt(10_000_000))
    assert 2000 < tight.batch_size < free.batch_size / 2
    assert reading("altmin", 16 << 20).batch_size < 2000
    assert reading("altmin", 16 << 20, 2000).batch_size == 2000
    assert reading("altmin", 64 << 30) == free
    whole = reading("batch-altmin", None)
    assert isinstance(whole, WholeBlocks)
    assert 1.9 < whole.block_rows / reading("batch-altmin", 512 << 20).block_rows < 2.1


def test_container_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    monkeypatch.setattr(limits, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("0::/pod/box\n")
    (tmp_path / "pod" / "box").mkdir(parents=True)
    (tmp_path / "pod" / "memory.max").write_text("300000000\n")
    (tmp_path / "pod" / "box" / "memory.max").write_text("max\n")
    found = limits.process_limit()
    assert found.bytes == 300_000_000
    assert found.source.endswith("pod/memory.max")
    (tmp_path / "own").write_text("4:memory:/jail\n9:cpu:/other\n")
    (tmp_path / "memory" / "jail").mkdir(parents=True)
    (tmp_path / "memory" / "jail" / "memory.limit_in_bytes").write_text("200000000\n")
    assert limits.process_limit().bytes == 200_000_000
    (tmp_path / "own").unlink()
    assert limits.process_limit().source == "the memory of this machine"


def test_a_detected_limit_refuses_and_changes_no_size(place, monkeypatch):
    wide = network("adam", batch_size=20_000)
    plan = wide.plan(place)
    few = limits.Limit(plan.client_bytes - plan.parts["rows in memory"], "a container")
    monkeypatch.setattr("daskalt.memory.planning.process_limit", lambda: few)
    same = wide.plan(place)
    assert (same.steps, same.batch_size) == (plan.steps, plan.batch_size)
    assert not same.fits
    with pytest.raises(PlanError, match="a container"):
        wide.fit(place)


def test_the_process_itself_is_told_from_the_weights(place):
    """What is there before the fit was laid to 40 kB of weights."""
    model = network(memory_limit="50MB")
    with pytest.raises(PlanError) as refused:
        model.fit(place)
    message = str(refused.value)
    before = limits.describe_bytes(model.plan(place).parts["the process before the fit"])
    assert f"which has {before.split('.')[0][:2]}" in message
    assert "are the process itself, Python with its libraries" in message
    assert "hidden_layer_sizes" not in message
    enough = message.rsplit("set memory_limit to ", 1)[1].removesuffix(" or more.")
    assert network(memory_limit=enough.replace(" ", ""), batch_size=8).plan(place).memory_limit
    wide = network(memory_limit="50MB").set_params(hidden_layer_sizes=(20_000, 20_000))
    with pytest.raises(PlanError, match=r"for 3 copies of the weights.*for the process itself"):
        wide.fit(place)


def test_counts_in_a_plan_are_in_the_right_number(place):
    plan = replace(network().plan(place), steps=1, batch_size=1, blocks=1)
    assert "1 step of 1 row, read in 1 task\n" in plan.table()
    assert "2 steps of 1 row, read in 1 task\n" in replace(plan, steps=2).table()


def test_a_workers_limit(place, cluster):
    client = cluster(2)
    plan = network().plan(place)
    assert plan.worker_bytes is not None
    assert plan.worker_limit == min(
        w["memory_limit"] for w in client.scheduler_info()["workers"].values()
    )
    assert "memory_limit of the worker" in plan.worker_limit_source
    assert "peak of a worker" in str(plan)


# The command


def configured(folder, place, **changes):
    tree = {
        "estimator": "MLPClassifier",
        "parameters": {"hidden_layer_sizes": [8], "max_iter": 2, "random_state": 0},
        "data": {"train": place},
        "output": str(folder / "run"),
    }
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(tree | changes))
    return str(path)


def test_the_command_prints_a_table(place, tmp_path, capsys):
    assert cli.main(["plan", configured(tmp_path, place), "--parameters.max_iter", "4"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"passes +4\n", printed)
    assert "30,000 × 60 → 3" in printed
    assert not (tmp_path / "run").exists()


def test_the_command_prints_json(place, tmp_path, capsys):
    assert cli.main(["plan", configured(tmp_path, place, workers=3), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    assert plan["worker_bytes"] == sum(plan["worker_parts"].values())
    assert plan["client_bytes"] == sum(plan["parts"].values())
    assert "share of" in plan["worker_limit_source"]


def test_the_command_plans_for_a_bundled_data_set(tmp_path, capsys):
    conf = configured(tmp_path, None, data={"dataset": "wine"})
    assert cli.main(["plan", conf]) == 0
    assert "142 × 13 → 3" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["conf.yaml"]


def test_the_command_refuses_and_prints_the_plan(place, tmp_path, capsys):
    whole = network().plan(place)
    limit = whole.client_bytes - sum(own_parts(whole).values()) // 2
    conf = configured(tmp_path, place)
    assert cli.main(["plan", conf, "--parameters.memory_limit", str(limit)]) == 2
    printed = capsys.readouterr()
    assert "peak of this process" in printed.out
    assert printed.err.startswith("daskalt plan: This fit would take")
    assert printed.err.count("\n") == 1


# Against the truth

FIT = """
import sys, re
import daskalt
from daskalt.memory.planning import Project
planned = []
Project.check = lambda self, plan: planned.append(plan.client_bytes)
daskalt.MLPClassifier((64,), solver=sys.argv[2], max_iter=2, random_state=0).fit(sys.argv[1])
status = open("/proc/self/status").read()
print(planned[0], 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("solver", ["altmin", "batch-altmin"])
def test_the_peak_of_a_fit_is_within_its_plan(place, solver):
    done = subprocess.run(
        [sys.executable, "-c", FIT, place, solver],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    planned, measured = map(int, done.stdout.split())
    assert measured <= planned <= 1.3 * measured


def test_solvers_with_parameters_are_rehearsed(place):
    plain = network(BatchAltMin()).plan(place)
    split = network(BatchAltMin(coupling="l1")).plan(place)
    assert split.z_bytes == 3 * plain.z_bytes
    assert (
        split.parts["working memory of the threads"] > plain.parts["working memory of the threads"]
    )
    assert network(StochasticAltMin(z_step="newton")).plan(place).fits

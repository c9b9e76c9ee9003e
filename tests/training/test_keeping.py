"""Fits interrupted anywhere, by anything, and resumed to the bits of an uninterrupted one."""

import errno
import os
import signal
import time
from contextlib import contextmanager
from unittest.mock import patch

import dask
import numpy as np
import pytest

import daskalt
from daskalt import ADMM, BatchAltMin, Checkpoints, MLPClassifier, StochasticAltMin
from daskalt.compute.graph import fetch
from daskalt.compute.signals import Terminated
from daskalt.errors import CheckpointWarning, ClusterError, InputError, StorageError
from daskalt.ingest.ingest import ingest
from daskalt.solvers import get_solver
from daskalt.training import synchronous as loop
from daskalt.training import tasks
from daskalt.training.keeping import checkpoint_types
from daskalt.training.monitor import Monitor
from daskalt.training.pass_graph import PassGraph
from tests import equality
from tests.conftest import write_group
from tests.equality import history_of, weights_of

ROWS, FEATURES = 600, 12
VARIANTS = {"local steps": StochasticAltMin(local_steps=2, tasks=3)}


class Cut(BaseException):
    """Ends a fit without warning, as far as Python allows: no checkpoint is written after it."""


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
    y = np.argmax(X[:, :3] + X[:, 3:6] ** 2 + 0.1 * rng.standard_normal((ROWS, 3)), axis=1)
    return X, y


@pytest.fixture
def place(rows, store):
    return store(*rows, chunk_rows=10)


def network(solver, checkpoint=None, **options):
    solver = VARIANTS.get(solver, solver)
    options = {"max_iter": 3, "batch_size": 60, "tol": 0, "random_state": 0} | options
    return MLPClassifier((9,), solver=solver, checkpoint=checkpoint, **options)


@pytest.fixture
def small_graphs(monkeypatch):
    """Passes of several graphs each, groups of several steps, and steps of several blocks."""
    monkeypatch.setattr(loop, "FIRST_TASKS", 5)
    monkeypatch.setattr(loop, "GRAPH_TASKS", 5)
    monkeypatch.setattr("daskalt.data.arranging.MIXING_BYTES", 10_000)
    monkeypatch.setattr("daskalt.training.reading.BLOCK_BYTES", 3_000)


@contextmanager
def cut_at(number):
    """End a fit at its checkpoint of this number, before it is written."""
    save, count = Checkpoints.save, iter(range(number))

    def failing(self, *arguments, **options):
        if next(count, None) is None:
            raise Cut
        save(self, *arguments, **options)

    with patch.object(Checkpoints, "save", failing):
        yield


def assert_same(model, whole):
    equality.assert_same(weights_of(model), weights_of(whole))
    equality.assert_same(history_of(model), history_of(whole))


@pytest.mark.usefixtures("small_graphs")
def test_a_fit_cut_short_again_and_again_ends_in_the_same_bits(place, tmp_path):
    """Every other checkpoint is lost, and with it what was done since the one before it."""
    whole = network("altmin", early_stopping=True).fit(place)
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_steps=2, every_minutes=1e-9)
    model = network("altmin", checkpoints, early_stopping=True)
    cuts = 0
    for attempt in range(200):
        try:
            with cut_at(1 + attempt % 3):
                model.fit(place, resume=True)
            break
        except Cut:
            cuts += 1
    assert cuts > 3
    assert_same(model, whole)
    left = sorted(path.suffix for path in (tmp_path / "fit").iterdir())
    assert left in ([".json", ".npz"], [".json", ".json", ".npz", ".npz"])
    again = network("altmin", checkpoints, early_stopping=True)
    assert_same(again.fit(place, resume=True), whole)


@pytest.mark.usefixtures("small_graphs")
def test_a_fit_on_a_cluster_is_resumed_on_threads(place, tmp_path, cluster):
    whole = network("altmin").fit(place)
    model = network("altmin", Checkpoints(str(tmp_path), every_steps=2))
    client = cluster(2)
    with cut_at(4), pytest.raises(Cut):
        model.fit(place)
    with dask.config.set(scheduler="threads"):
        assert_same(model.fit(place, resume=True), whole)
    assert_same(network("altmin", tmp_path / "again").fit(place, client=client), whole)


def test_a_fit_cut_short_is_resumed_replaced_or_refused(place, tmp_path):
    model = network("adam", tmp_path / "fit")
    with cut_at(2), pytest.raises(Cut):
        model.fit(place)
    with pytest.raises(InputError, match=r"cut short after 2 passes.*resume=True"):
        model.fit(place)
    assert_same(model.fit(place, resume=False), network("adam").fit(place))
    model.fit(place)  # a finished one may be replaced
    assert model.n_iter_ == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 50}, "batch_size 60, not 50"),
        ({"random_state": 1}, "random_state"),
        ({"alpha": 1.0}, "alpha"),
        ({"hidden_layer_sizes": (8,)}, "widths"),
        ({"activation": "tanh"}, "activation 'relu', not 'tanh'"),
        ({"solver": "adagrad"}, "solver__rule"),
        ({"tol": 0.1}, "tol"),
        ({"early_stopping": True}, "early_stopping"),
        ({"class_weight": {0: 2.0}}, "class_factors"),
    ],
)
def test_other_parameters_are_named(place, tmp_path, change, named):
    model = network("adam", tmp_path / "fit").fit(place)
    with pytest.raises(InputError, match=f"of another fit, with {named}"):
        model.set_params(**change).fit(place, resume=True)


@pytest.mark.parametrize("name", ["X", "y", "held_out"])
def test_other_rows_are_named(rows, tmp_path, name):
    X, y = rows
    model = network("adam", tmp_path / "fit").fit(X, y, eval_set=(X, y))
    other = X.copy(), y.copy()
    if name == "X":
        other[0][-1, -1] += 1
    else:
        other[1][0] = (y[0] + 1) % 3
    train, watched = ((X, y), other) if name == "held_out" else (other, (X, y))
    with pytest.raises(InputError, match=f"of another fit, with {name} "):
        model.fit(*train, eval_set=watched, resume=True)


def test_rows_elsewhere_that_daskalt_wrote_are_the_same(rows, tmp_path):
    """Rows are identified by the checksums stored beside them, not by their place or time."""
    for name in ("one", "two"):
        ingest([write_group(tmp_path / f"{name}.src", *rows)], tmp_path / name)
    model = network("adam", tmp_path / "fit").fit(str(tmp_path / "one"))
    before = model.coefs_
    model.fit(str(tmp_path / "two"), resume=True)
    for a, b in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_version_is_an_error_and_another_library_a_warning(place, tmp_path, monkeypatch):
    network("adam", tmp_path / "fit").fit(place)
    now = {"daskalt": "0", "numpy": "1"}
    monkeypatch.setattr("daskalt.training.keeping.versions", lambda: now)
    with pytest.warns(CheckpointWarning, match="numpy"):
        network("adam", tmp_path / "fit").fit(place, resume=True)
    monkeypatch.setattr("daskalt.training.fitting.__version__", "99.0")
    with pytest.raises(InputError, match=r"daskalt '0\..*', not '99\.0'"):
        network("adam", tmp_path / "fit").fit(place, resume=True)


def test_a_checkpoint_of_another_format_is_not_gone_on_with(place, tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("daskalt.training.checkpoint.FORMAT", 3)
        network("adam", tmp_path / "fit").fit(place)
    with pytest.raises(InputError, match=r"of format 3, .* 5 only\. Pass resume=F") as caught:
        network("adam", tmp_path / "fit").fit(place, resume=True)
    assert daskalt.__version__ not in str(caught.value)  # it was the same
    network("adam", tmp_path / "fit").fit(place, resume=False)
    network("adam", tmp_path / "fit").fit(place, resume=True)


# ----------------------------------------------------------------------------- lost machines


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("solver", ["altmin", "local steps", "batch-altmin", "adam", "lbfgs"])
def test_graphs_that_fail_are_made_again_from_firm_ground(
    place, tmp_path, monkeypatch, cluster, solver
):
    """Every third graph fails, as if workers were lost too often."""
    whole = network(solver).fit(place)
    cluster(2)
    monkeypatch.setattr(loop, "ROOT_SECONDS", 0.05)
    run, calls = PassGraph.run, iter(range(10**6))

    def failing(self, steps):
        if next(calls) % 3 == 2:
            raise ClusterError("Workers were lost.")
        return run(self, steps)

    monkeypatch.setattr(PassGraph, "run", failing)
    assert_same(network(solver, Checkpoints(str(tmp_path), every_steps=4)).fit(place), whole)
    assert next(calls) > 10


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("solver", [BatchAltMin(restart=False), ADMM(divergence=1e9, warm_up=1)])
def test_there_is_no_way_back_past_the_start_of_a_pass_where_z_is_stored(
    place, monkeypatch, cluster, solver
):
    """Variables have two generations; from an older root a fit would read those of later steps."""
    whole = network(solver, max_iter=4).fit(place)
    cluster(2)
    run, failed = PassGraph.run, []

    def failing(self, steps):
        result = run(self, steps)
        if self.position.number == 3 and len(failed) < 2:
            failed.append(self.position)
            raise ClusterError("Workers were lost.")
        return result

    monkeypatch.setattr(PassGraph, "run", failing)
    assert_same(network(solver, max_iter=4).fit(place), whole)
    assert len(failed) == 2


@pytest.mark.usefixtures("small_graphs")
def test_a_pass_that_was_reported_is_not_again(place, tmp_path, monkeypatch, cluster):
    """A fit that goes back to an earlier pass neither reports nor saves it again."""
    whole = network("altmin", max_iter=4).fit(place)
    cluster(1)
    monkeypatch.setattr(loop, "ROOT_SECONDS", 1e9)
    run, failed, standing = PassGraph.run, [], []

    def failing(self, steps):
        if self.position.number == 3 and not failed:
            failed.append(self.position)
            raise ClusterError("Workers were lost.")
        return run(self, steps)

    save = Checkpoints.save

    def watched(self, checkpoint, **options):
        position = checkpoint.position
        standing.append((len(checkpoint.history), None if position is None else position.number))
        save(self, checkpoint, **options)

    monkeypatch.setattr(PassGraph, "run", failing)
    monkeypatch.setattr(Checkpoints, "save", watched)
    model = network("altmin", Checkpoints(str(tmp_path), every_steps=1), max_iter=4).fit(place)
    assert_same(model, whole)
    assert failed
    assert all(number in (None, passes) for passes, number in standing)


def test_workers_that_die_for_ever_end_the_fit(place, monkeypatch, cluster):
    cluster(1)

    def failing(self, steps):
        raise ClusterError("Workers were lost.")

    monkeypatch.setattr(PassGraph, "run", failing)
    with pytest.raises(ClusterError, match="Workers were lost"):
        network("altmin").fit(place)


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("solver", ["altmin", "batch-altmin"])
def test_workers_may_join_and_leave(place, monkeypatch, cluster, solver):
    whole = network(solver).fit(place)
    client = cluster(1)
    see, sizes = Monitor.see, iter((3, 1))

    def scaling(self, result, record):
        client.cluster.scale(next(sizes, 1))
        return see(self, result, record)

    monkeypatch.setattr(Monitor, "see", scaling)
    assert_same(network(solver).fit(place), whole)


# ----------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("solver", ["batch-altmin", "admm", "altmin"])
def test_a_full_disk_leaves_a_checkpoint_to_resume_from(place, tmp_path, monkeypatch, solver):
    whole = network(solver).fit(place)
    model = network(solver, tmp_path / "fit")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    see = Monitor.see

    def filling(self, result, record):
        if result.number == 1:
            patched.setattr("zarr.storage._local._put", full)
            patched.setattr(os, "fsync", full)
        return see(self, result, record)

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "see", filling)
        with pytest.raises(StorageError, match="disk is full"):
            model.fit(place)
    assert not list(tmp_path.rglob("*.partial"))
    assert_same(model.fit(place, resume=True), whole)


# --------------------------------------------------------------------------------- signals


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("solver", ["altmin", "batch-altmin"])
def test_a_signal_leaves_a_checkpoint_of_the_fit(place, tmp_path, solver, number):
    """Checkpoints are far apart: what is resumed is what the signal left."""
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_minutes=1000)
    model = network(solver, checkpoints)
    update, count = tasks.update, iter(range(12 if solver == "altmin" else 2))

    def signalling(*arguments):
        if next(count, None) is None:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        return update(*arguments)

    before = signal.getsignal(signal.SIGTERM)
    with (
        patch.object(tasks, "update", signalling),
        dask.config.set(scheduler="sync"),
        pytest.raises(KeyboardInterrupt, match=r"resume=True") as stopped,
    ):
        model.fit(place)
    assert isinstance(stopped.value, Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints._numbers()
    assert_same(model.fit(place, resume=True), network(solver).fit(place))


def told_in_graph(number, signals=1):
    """Send signals in the midst of graph ``number``; the positions at which graphs have ended."""
    run, count, ends = PassGraph.run, iter(range(10**6)), []

    def running(self, steps):
        if next(count) == number:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
        result = run(self, steps)
        ends.append(self.position)
        return result

    return patch.object(PassGraph, "run", running), ends


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("solver", ["altmin", "batch-altmin"])
def test_a_first_signal_waits_for_the_graph_in_flight(place, tmp_path, monkeypatch, solver):
    monkeypatch.setattr("daskalt.compute.signals.PATIENCE", 1000)
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_minutes=1000)
    model = network(solver, checkpoints)
    telling, ends = told_in_graph(3)
    with telling, pytest.raises(KeyboardInterrupt, match="resume=True"):
        model.fit(place)
    assert len(ends) == 4
    saved = checkpoints.load(checkpoint_types(get_solver(solver)))
    assert (saved.position.steps, saved.position.blocks) == (ends[-1].steps, ends[-1].blocks)
    assert_same(model.fit(place, resume=True), network(solver).fit(place))


@pytest.mark.usefixtures("small_graphs")
def test_a_second_signal_stops_at_once_where_the_fit_last_stood(place, tmp_path, monkeypatch):
    monkeypatch.setattr("daskalt.compute.signals.PATIENCE", 1000)
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_minutes=1000)
    model = network("altmin", checkpoints)
    telling, ends = told_in_graph(3, signals=2)
    with telling, pytest.raises(KeyboardInterrupt, match="resume=True"):
        model.fit(place)
    assert len(ends) == 3
    saved = checkpoints.load(checkpoint_types(get_solver("altmin")))
    assert saved.position.steps == ends[-1].steps
    assert_same(model.fit(place, resume=True), network("altmin").fit(place))


@pytest.mark.usefixtures("small_graphs")
def test_signals_do_not_lose_the_checkpoint_that_is_being_written(place, tmp_path, monkeypatch):
    monkeypatch.setattr("daskalt.compute.signals.PATIENCE", 1000)
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_minutes=1000)
    model, write, written = network("altmin", checkpoints), Checkpoints._write, []

    def told(self, *arguments):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        write(self, *arguments)
        written.append(arguments[0])

    telling, _ = told_in_graph(1)
    with telling, patch.object(Checkpoints, "_write", told), pytest.raises(KeyboardInterrupt):
        model.fit(place)
    assert len(written) == 1
    assert_same(model.fit(place, resume=True), network("altmin").fit(place))


@pytest.mark.usefixtures("small_graphs")
def test_a_fit_whose_cluster_is_gone_is_saved_at_its_last_position(
    place, tmp_path, monkeypatch, cluster
):
    """Ctrl-C ends a cluster that somebody else has started from the same terminal."""
    checkpoints = Checkpoints(str(tmp_path / "fit"), every_minutes=1000)
    model, run, count = network("altmin", checkpoints), PassGraph.run, iter(range(3))
    client = cluster(1)

    def gone(_):
        raise ClusterError("Workers were lost.")

    def dying(self, steps):
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGINT)
            monkeypatch.setattr("daskalt.training.keeping.fetch", gone)
            gone(None)
        return run(self, steps)

    with (
        patch.object(PassGraph, "run", dying),
        pytest.raises(KeyboardInterrupt, match="resume=True"),
    ):
        model.fit(place, client=client)
    monkeypatch.setattr("daskalt.training.keeping.fetch", fetch)
    with dask.config.set(scheduler="threads"):
        whole = network("altmin").fit(place)
        assert_same(model.fit(place, resume=True), whole)
    assert model.cost_["resumed_after"] == 0


def test_a_resumed_fit_is_charged_as_a_whole(place, tmp_path):
    whole = network("adam", max_iter=6).fit(place)
    model = network("adam", tmp_path / "fit", max_iter=6)
    with cut_at(4), pytest.raises(Cut):
        model.fit(place)
    saved = Checkpoints(str(tmp_path / "fit")).load(checkpoint_types(get_solver("adam")))
    model.fit(place, resume=True)
    cost = model.cost_
    assert cost["resumed_after"] == len(saved.history) == 4
    assert "resumed_after" not in whole.cost_
    for name in ("passes", "bytes_read", "bytes_written"):
        assert cost[name] == whole.cost_[name]
    assert cost["seconds"] >= model.history_[-1]["total_seconds"] >= cost["training_seconds"]
    before = saved.history[-1].total_seconds
    assert model.history_[-1]["total_seconds"] > before
    assert cost["seconds"] > before + model.history_[-1]["seconds"]

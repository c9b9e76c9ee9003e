"""Progress messages of steps: every row once, and the sums of its loss, on every scheduler."""

import numpy as np
import pytest
from sklearn.utils import Bunch

from daskalt import ADMM, LBFGS, BatchAltMin, GradientDescent, MLPClassifier, StochasticAltMin
from daskalt.compute import progress
from daskalt.compute.progress import Done, Topic, listen, report
from daskalt.training.listeners import Listener


class Told(Listener):
    """Adds up what it is told of each pass."""

    steps = True

    def __init__(self):
        self.sums = {}
        self.passes, self.begun, self.ended = [], [], 0

    def begin(self, fit, rows):
        self.begun.append((len(fit.monitor.history), rows))

    def step(self, done):
        before = self.sums.get(done.number, Done(done.number, 0, 0.0, 0.0))
        self.sums[done.number] = before.plus(done)

    def passed(self, fit):
        self.passes.append((fit.monitor.history[-1].training.loss, fit.passes, fit.rows))

    def end(self, fit):
        self.ended += 1


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 5)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), rng.integers(1, 4, 600)


def fitted(rows, solver, **parameters):
    model = MLPClassifier((6,), solver=solver, max_iter=3, random_state=0, **parameters)
    told = Told()
    model._listeners = [told]
    return model.fit(*rows), told


SOLVERS = {
    "altmin": StochasticAltMin(),
    "lanes": StochasticAltMin(tasks=3),
    "adam": GradientDescent("adam"),
    "batch": BatchAltMin(),
    "admm": ADMM(),
    "lbfgs": LBFGS(),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_every_row_of_a_pass_is_told_once(rows, solver):
    model, told = fitted(rows, solver)
    assert told.begun == [(0, 0)]
    assert told.ended == 1
    assert [entry[1:] for entry in told.passes] == [(3, 600)] * 3
    for number, record in enumerate(model.history_):
        done = told.sums[number]
        assert done.rows == 600
        assert done.weight == pytest.approx(rows[2].sum())
        assert done.loss / done.weight == pytest.approx(record["loss"], rel=1e-5)


def test_listening_changes_no_bit(rows):
    model, _ = fitted(rows, StochasticAltMin())
    alone = MLPClassifier((6,), max_iter=3, random_state=0).fit(*rows)
    for ours, theirs in zip(model.coefs_, alone.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_workers_tell_the_fit(rows, cluster):
    cluster(1, processes=True)
    model, told = fitted(rows, StochasticAltMin(tasks=2), batch_size=100)
    # What workers held back at the end of a pass is never sent: the score says as much.
    assert 0 < told.sums[0].rows <= 600
    assert [loss for loss, *_ in told.passes] == model.loss_curve_


def test_a_fit_that_goes_on_says_from_where(rows, tmp_path):
    class Stopping(Told):
        def passed(self, fit):
            super().passed(fit)
            if len(self.passes) == 2:
                raise KeyboardInterrupt

    model = MLPClassifier((6,), max_iter=4, random_state=0, checkpoint=str(tmp_path / "points"))
    model._listeners = [Stopping()]
    with pytest.raises(KeyboardInterrupt):
        model.fit(*rows)
    told = Told()
    model._listeners = [told]
    model.fit(*rows, resume=True)
    assert told.begun == [(1, 0)]
    assert [entry[0] for entry in told.passes] == model.loss_curve_[1:]


def test_short_steps_are_told_together(monkeypatch):
    sent, clock = [], Bunch(now=0.0)
    monkeypatch.setattr(progress, "SECONDS", 1.0)
    monkeypatch.setattr(progress, "_outbox", progress._Outbox())
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    worker = Bunch(log_event=lambda topic, message: sent.append((topic, message)))
    monkeypatch.setattr(progress.distributed, "get_worker", lambda: worker)
    step = Bunch(score=Bunch(weight=10.0, loss=5.0))
    for number, times in ((0, 30), (1, 5)):
        for _ in range(times):
            report(Topic("fit", number), 10, step)
            clock.now += 0.125
    assert all(topic == "fit" for topic, _ in sent)
    told = [Done(*message) for _, message in sent]
    assert [done.rows for done in told] == [10, 80, 80, 80, 30]
    assert [done.number for done in told] == [0, 0, 0, 0, 1]
    assert all(done.weight == done.rows == 2 * done.loss for done in told)


def test_a_loss_that_is_no_number_is_left_out():
    heard = []
    with listen(heard.append) as topic:
        for loss in (np.nan, np.inf, 2.0):
            report(Topic(topic, 4), 7, Bunch(score=Bunch(weight=7.0, loss=loss)))
        report(Topic(topic, 4), 7, None)
        report(None, 7, None)
    assert heard == [Done(4, 7, *sums) for sums in ((0, 0), (0, 0), (7, 2), (0, 0))]
    assert progress._listeners == {}

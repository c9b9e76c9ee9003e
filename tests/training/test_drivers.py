"""A solver is run by the driver that it names."""

import numpy as np
import pytest

from daskalt import GradientDescent, MLPRegressor
from daskalt.errors import InputError
from daskalt.training.drivers import DRIVERS
from daskalt.training.synchronous import run_synchronously

X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
Y = X @ np.array([1.0, -1.0, 0.5])


class Watched(GradientDescent):
    driver = "watched"


def test_a_driver_of_ones_own_runs_the_job(monkeypatch):
    jobs = []

    def watched(job, state, position):
        jobs.append((job.solver, job.passes, position.number))
        yield from run_synchronously(job, state, position)

    monkeypatch.setitem(DRIVERS, "watched", watched)
    model = MLPRegressor((4,), solver=Watched(), max_iter=3, tol=0, random_state=0).fit(X, Y)
    assert [(type(solver), passes, first) for solver, passes, first in jobs] == [
        (Watched, range(3), 0)
    ]
    same = MLPRegressor((4,), solver="sgd", max_iter=3, tol=0, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))


def test_a_driver_that_nobody_knows_is_named_before_work_starts():
    with pytest.raises(InputError, match=r"Watched needs the driver 'watched'.*'synchronous'"):
        MLPRegressor((4,), solver=Watched()).fit(X, Y)

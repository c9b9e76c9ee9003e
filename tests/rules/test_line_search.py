"""Line searches: the conditions hold where they end, and they end."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from daskalt.errors import InputError
from daskalt.rules import LINE_SEARCHES, Armijo, StrongWolfe


def search_along(line, function, first, slope=None):
    """The search of a line until it ends; ``function(t)`` is (value, slope)."""
    value, start = function(0.0)
    search = line.start(value, start if slope is None else slope, first)
    while search.state in ("searching", "settling"):
        search = line.advance(search, *function(search.trial), noise=0.0)
    return search


def bowl(curve, tilt, wave):
    """A convex quadratic with a wave on it, downhill at 0."""

    def function(t):
        value = 0.5 * curve * t * t - tilt * t + wave * (1 - np.cos(3 * t))
        return value, curve * t - tilt + 3 * wave * np.sin(3 * t)

    return function


@settings(max_examples=300, deadline=None)
@given(
    curve=st.floats(1e-2, 1e2),
    tilt=st.floats(1e-2, 1e2),
    wave=st.floats(0, 5),
    first=st.floats(1e-3, 1e3),
    curvature=st.sampled_from([0.9, 0.1, 1e-3]),
)
def test_strong_wolfe_ends_where_both_conditions_hold(curve, tilt, wave, first, curvature):
    function = bowl(curve, tilt, wave)
    line = StrongWolfe(curvature=curvature, max_trials=60)
    search = search_along(line, function, first)
    assert search.state == "found"
    value, slope = function(search.trial)
    assert value <= 1e-4 * search.trial * -tilt + 1e-12 * (1 + abs(value))
    assert abs(slope) <= curvature * tilt


@settings(max_examples=200, deadline=None)
@given(
    curve=st.floats(1e-2, 1e2),
    tilt=st.floats(1e-2, 1e2),
    wave=st.floats(0, 5),
    first=st.floats(1e-3, 1e3),
    shrink=st.floats(0.1, 0.9),
)
def test_backtracking_takes_the_first_length_that_falls_enough(curve, tilt, wave, first, shrink):
    function = bowl(curve, tilt, wave)
    search = search_along(Armijo(shrink=shrink, max_trials=500), function, first)
    assert search.state == "found"

    def falls(t):
        return function(t)[0] <= -1e-4 * t * tilt

    length = first
    while not falls(length):
        length *= shrink
    assume(abs(function(length)[0] + 1e-4 * length * tilt) > 1e-12)
    assert search.trial == length


@pytest.mark.parametrize("first", [0.01, 1.0, 70.0])
def test_an_exact_search_finds_the_minimum_of_a_quadratic_in_few_trials(first):
    search = search_along(LINE_SEARCHES["exact"](), bowl(3.0, 6.0, 0.0), first)
    assert search.trial == pytest.approx(2.0, rel=1e-3)
    assert search.trials <= 3 + np.ceil(np.log2(max(1, 2.0 / first)))


def test_an_exact_search_agrees_with_scipy():
    def function(t):
        return np.log1p(np.exp(2 * t - 3)) - 0.4 * t, 2 / (1 + np.exp(3 - 2 * t)) - 0.4

    best = minimize_scalar(lambda t: function(t)[0], bounds=(0, 5), method="bounded")
    search = search_along(StrongWolfe(curvature=1e-6), function, 1.0)
    assert search.trial == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("line", [Armijo(), StrongWolfe()], ids=["armijo", "wolfe"])
def test_a_trial_that_overflows_is_too_long(line, bad):
    quadratic = bowl(2.0, 1.0, 0.0)

    def function(t):
        return (bad, bad) if t > 3 else quadratic(t)

    search = search_along(line, function, 100.0)
    assert search.state == "found"
    assert 0 < search.trial < 3


@pytest.mark.parametrize("line", [Armijo(max_trials=9), StrongWolfe(max_trials=9)])
def test_a_search_that_cannot_succeed_fails(line):
    """The slope at 0 is a lie: all goes up."""
    search = search_along(line, lambda t: (t, 1.0), 1.0, slope=-1.0)
    assert search.state == "failed"
    assert search.trials == 9


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (Armijo(decrease=0), "decrease"),
        (Armijo(shrink=1.0), "shrink"),
        (Armijo(max_trials=0), "max_trials"),
        (StrongWolfe(curvature=1.0), "curvature"),
        (StrongWolfe(decrease=2.0), "decrease"),
    ],
)
def test_parameters_are_checked(line, named):
    with pytest.raises(InputError, match=named):
        line.check()

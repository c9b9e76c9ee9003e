"""What is watched while a fit goes on."""

import pytest

from daskalt.errors import ObjectiveWarning
from daskalt.monitor import Monitor
from daskalt.solvers.loop import Pass
from daskalt.statistics import Score


def watch(losses, objectives):
    """A monitor that has seen passes with these losses and objectives."""
    monitor = Monitor(tol=0.0, patience=100, early_stopping=False)
    for number, (loss, objective) in enumerate(zip(losses, objectives, strict=True)):
        result = Pass(number, None, Score(1.0, loss, 0.0), {}, 0.0, 1, 1)
        monitor.see(result, {"loss": loss, "objective": objective})
    return monitor


def test_an_objective_that_falls_alone_is_warned_of_once():
    losses = [1.0, 2.0, 2.1, 2.2, 2.1, 2.3, 2.4, 2.5]
    with pytest.warns(ObjectiveWarning, match=r"fell from 1 to 0\.5.* rose from 1 to 2\.3") as seen:
        watch(losses, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("losses", "objectives"),
    [
        ([1.0, 2.0, 2.1, 0.9, 2.1, 2.3], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),  # one pass was better
        ([1.0, 2.0, 2.1, 2.2, 2.1, 2.3], [1.0, 0.9, 0.8, 1.7, 0.6, 0.5]),  # neither falls
        ([1.0, 2.0, 2.1, 2.2, 2.1], [1.0, 0.9, 0.8, 0.7, 0.6]),  # too early to say
    ],
)
def test_no_warning_while_they_go_together(losses, objectives):
    watch(losses, objectives)  # warnings are errors here

"""scikit-learn's parameters of perceptrons as parameters of the solvers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from daskalt.errors import InputError
from daskalt.rules import RULES, Constant, InverseScaling, StepDecay
from daskalt.solvers.base import Solver
from daskalt.solvers.gradient import GradientDescent
from daskalt.solvers.lbfgs import LBFGS

__all__ = ["BORROWED", "EQUIVALENTS", "with_borrowed"]

_RULE = {"learning_rate_init": "rule__learning_rate", "epsilon": "rule__epsilon"}
_SCHEDULE = {"learning_rate": "schedule", "power_t": "schedule__power"}
_SCHEDULES = {"constant": Constant, "invscaling": InverseScaling}

# What a parameter sets, for each named solver; max_fun limits the passes, set on the estimator.
EQUIVALENTS: dict[str, dict[str, str]] = {
    "sgd": {
        "learning_rate_init": "rule__learning_rate",
        "momentum": "rule__momentum",
        "nesterovs_momentum": "rule__nesterov",
        **_SCHEDULE,
    },
    "adam": {**_RULE, "beta_1": "rule__beta_1", "beta_2": "rule__beta_2"},
    "adagrad": _RULE,
    "rmsprop": _RULE,
    "adadelta": _RULE,
    "lbfgs": {"max_fun": ""},
}
BORROWED = tuple(dict.fromkeys(name for taken in EQUIVALENTS.values() for name in taken))


def with_borrowed(named: Any, solver: Solver, given: Mapping[str, Any]) -> Solver:
    """Return the solver with the parameters that are not None.

    Parameters
    ----------
    named : str or Solver
        What the user gave as solver.
    solver : Solver
        The solver that it stands for.
    given : mapping
        Values by name, of `BORROWED`.

    Raises
    ------
    InputError
        If the solver has no equivalent of a parameter, or is an object, which takes its own
        parameters.
    """
    given = {name: value for name, value in given.items() if value is not None}
    taken = EQUIVALENTS.get(named, {}) if isinstance(named, str) else _settable(solver)
    for name, value in given.items():
        if name not in taken:
            raise InputError(_refusal(name, value, named, solver))
    if not any(taken[name] for name in given):
        return solver
    if isinstance(named, str):
        return _equivalent(solver, taken, given)
    meant = {"learning_rate": "invscaling", **given} if "power_t" in given else given
    words = ", ".join(f"{name}={value!r}" for name, value in given.items())
    raise InputError(
        f"{words} cannot be given beside a solver object, which has parameters of its own: leave "
        f"out what you do not mean, or give solver={_words(_equivalent(solver, taken, meant))}."
    )


def _settable(solver: Solver) -> dict[str, str]:
    """The equivalent of a parameter for a solver object: one of its own, or a limit on passes."""
    if isinstance(solver, LBFGS):
        return EQUIVALENTS["lbfgs"]
    if not isinstance(solver, GradientDescent):
        return {}
    rule = type(solver._rule)
    return _SCHEDULE | next((EQUIVALENTS[name] for name in RULES if RULES[name] is rule), {})


def _equivalent(solver: Any, taken: Mapping[str, str], given: Mapping[str, Any]) -> Solver:
    """Gradient descent with the equivalent parameters."""
    changes = {taken[name]: value for name, value in given.items() if taken[name]}
    own = {name: changes.pop(name) for name in list(changes) if name.startswith("rule__")}
    solver = clone(solver).set_params(rule=clone(solver._rule)).set_params(**own)
    return solver.set_params(**changes | {"schedule": _schedule(solver, given)})


def _schedule(solver: GradientDescent, given: Mapping[str, Any]) -> Any:
    """The equivalent schedule of learning_rate, with or without a power_t."""
    own = clone(solver._schedule)
    name = given.get("learning_rate")
    if name is not None and name not in _SCHEDULES:
        other = _words(clone(solver).set_params(schedule=StepDecay(every=5)))
        raise InputError(
            f"learning_rate={name!r}: there are 'constant' and 'invscaling'. For a rate that falls "
            f"otherwise give solver={other}; solver='altmin' needs none."
        )
    if "power_t" in given and name != "invscaling":
        raise InputError(
            f"power_t={given['power_t']!r} applies to learning_rate='invscaling' only: leave it "
            "out, or choose that."
        )
    return own if name is None or type(own) is _SCHEDULES[name] else _SCHEDULES[name]()


def _words(solver: Solver) -> str:
    """A solver as one would write it in code."""
    return " ".join(repr(solver).split())


def _refusal(name: str, value: Any, named: Any, solver: Solver) -> str:
    owners = " or ".join(f"solver={owner!r}" for owner in EQUIVALENTS if name in EQUIVALENTS[owner])
    if not isinstance(named, str):
        return (
            f"{name}={value!r} means nothing to solver={_words(solver)}, which has no such "
            f"parameter and needs none: leave it out. It is of {owners}."
        )
    kind = type(solver).__name__
    return (
        f"{name}={value!r} means nothing to solver={named!r}: leave it out, or choose {owners}. "
        f"What {named!r} can be told is listed under {kind}, and given as an object, "
        f"solver={kind}(...)."
    )

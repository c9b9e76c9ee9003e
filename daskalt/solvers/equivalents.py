"""Parameters of scikit-learn's perceptrons as what they are of the solvers here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daskalt.errors import InputError
from daskalt.rules import RULES, Constant, InverseScaling
from daskalt.solvers.base import Solver
from daskalt.solvers.lbfgs import LBFGS

__all__ = ["BORROWED", "EQUIVALENTS", "with_borrowed"]

_RULE = {"learning_rate_init": "rule__learning_rate", "epsilon": "rule__epsilon"}
_SCHEDULES = {"constant": Constant, "invscaling": InverseScaling}

# Of each named solver, what a parameter sets; max_fun limits the passes, which are the estimator's.
EQUIVALENTS: dict[str, dict[str, str]] = {
    "sgd": {
        "learning_rate_init": "rule__learning_rate",
        "momentum": "rule__momentum",
        "nesterovs_momentum": "rule__nesterov",
        "learning_rate": "schedule",
        "power_t": "schedule__power",
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
        What that stands for.
    given : mapping
        Values by name, of `BORROWED`.

    Raises
    ------
    InputError
        If the solver has nothing that a parameter could set.
    """
    given = {name: value for name, value in given.items() if value is not None}
    own = "lbfgs" if isinstance(solver, LBFGS) else ""  # its object has max_fun beside it
    taken = EQUIVALENTS.get(named if isinstance(named, str) else own, {})
    for name, value in given.items():
        if name not in taken:
            raise InputError(_refusal(name, value, named, solver))
    changes = {taken[name]: value for name, value in given.items() if taken[name]}
    if not changes:
        return solver
    changes["schedule"] = _schedule(given)
    return solver.set_params(rule=RULES[named](), **changes)


def _schedule(given: Mapping[str, Any]) -> Any:
    """The schedule that is meant by learning_rate, which has a power_t or not."""
    name = given.get("learning_rate", "constant")
    if name not in _SCHEDULES:
        raise InputError(
            f"learning_rate={name!r}: there are 'constant' and 'invscaling'. For a rate that falls "
            "otherwise give solver=GradientDescent(SGD(), schedule=StepDecay(every=10)); "
            "solver='altmin' needs none."
        )
    if "power_t" in given and name != "invscaling":
        raise InputError(
            f"power_t={given['power_t']!r} is of learning_rate='invscaling' only: leave it out, or "
            "choose that."
        )
    return _SCHEDULES[name]()


def _refusal(name: str, value: Any, named: Any, solver: Solver) -> str:
    owners = [owner for owner, taken in EQUIVALENTS.items() if name in taken]
    kind = type(solver).__name__
    if not isinstance(named, str):
        return (
            f"{name}={value!r} cannot be given beside a solver object, which has parameters of its "
            f"own: leave it out, or give {_example(name, value, owners)}."
        )
    return (
        f"{name}={value!r} means nothing to solver={named!r}: leave it out, or choose "
        f"{' or '.join(f'solver={owner!r}' for owner in owners)}. What {named!r} can be told is "
        f"listed under {kind}, and given as an object, solver={kind}(...)."
    )


def _example(name: str, value: Any, owners: list[str]) -> str:
    """The solver object that means what the parameter does."""
    part, _, inner = EQUIVALENTS[owners[0]][name].partition("__")
    if not part:
        return f"max_iter={value!r}"
    if part == "rule":
        return f"solver=GradientDescent({RULES[owners[0]].__name__}({inner}={value!r}))"
    return "solver=GradientDescent(SGD(), schedule=InverseScaling(power=0.5))"

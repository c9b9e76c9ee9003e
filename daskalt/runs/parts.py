"""Estimators, solvers and their parts, made from plain values and converted back."""

import inspect
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BeforeValidator, PlainValidator
from pydantic_core import PydanticCustomError

from daskalt.estimators.model import ESTIMATORS
from daskalt.rules import LINE_SEARCHES, RULES, SCHEDULES, LineSearch, Rule, Schedule
from daskalt.runs.sections import section_of
from daskalt.solvers import BORROWED, SOLVERS
from daskalt.training.checkpoint import Checkpoints

__all__ = ["PARTS", "estimator_of", "parameter_names", "parameters_of"]

# Parameters that take these take their names as well.
NAMED: dict[type, dict[str, Any]] = {
    Rule: RULES,
    Schedule: SCHEDULES,
    LineSearch: LINE_SEARCHES,
}
PARTS = ("solver", "rule", "schedule", "line_search")  # keys of a name, or of more keys


def estimator_of(kind: type, parameters: dict[str, Any]) -> Any:
    """Return an estimator with the parameters of a configuration.

    Raises
    ------
    ConfigError
        For an unknown key or a value of the wrong type.
    InputError
        For a value out of range.
    """
    known = {  # the constructors take more than a file can say
        "solver": _named(SOLVERS),
        "random_state": int | None,
        "hidden_layer_sizes": int | tuple,
        "checkpoint": Annotated[str | Checkpoints | None, BeforeValidator(_checkpoints)],
        "class_weight": str | dict | None,
    }
    own = inspect.signature(kind).parameters
    section = section_of(kind, **{name: hint for name, hint in known.items() if name in own})
    estimator = kind(**section.read(parameters, "parameters").given())
    estimator._check_parameters()
    return estimator


def _checkpoints(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return Checkpoints(**section_of(Checkpoints).model_validate(value).given())


def _named(table: dict[str, Any], usual: Any = None) -> Any:
    """The type of a name, or of parameters with a name: of an object that ``table`` makes.

    ``usual`` is the name where none is given, by default the first.
    """

    def build(value: Any) -> Any:
        given = dict(value) if isinstance(value, dict) else {"name": value}
        name = given.pop("name", usual if usual in tuple(table) else next(iter(table)))
        if name not in tuple(table):
            raise PydanticCustomError("name", f"one of {', '.join(table)}")  # type: ignore
        default = table[name]()
        parts = {
            key: _named(names, getattr(default, key))
            for key, names in _parts(type(default)).items()
        }
        checked = section_of(type(default), **parts).model_validate(given).given()
        return default.set_params(**checked) if checked else name

    return Annotated[Any, PlainValidator(build)]


def _parts(kind: type) -> dict[str, dict[str, Any]]:
    """The parameters that take a named object, and the names."""
    return {
        parameter: table
        for parameter, hint in get_type_hints(kind.__init__).items()  # type: ignore[misc]
        for part, table in NAMED.items()
        if part in get_args(hint)
    }


def parameters_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator, defaults too, as `estimator_of` takes them."""
    parameters = estimator.get_params(deep=False)
    # scikit-learn's parameters are part of the solver that is written out.
    parameters["solver"] = _described(estimator._solver, SOLVERS)
    parameters |= {name: None for name in BORROWED if name != "max_fun"}
    if isinstance(parameters["checkpoint"], Checkpoints):
        parameters["checkpoint"] = asdict(parameters["checkpoint"])
    return parameters


def parameter_names() -> tuple[list[str], list[str]]:
    """Return the names of the parameters of estimators, and of solvers."""
    kinds = {type(make()) for make in SOLVERS.values()}
    return _names_of(ESTIMATORS.values()), _names_of(kinds)


def _names_of(kinds: Iterable[type]) -> list[str]:
    return sorted({name for kind in kinds for name in inspect.signature(kind).parameters})


def _described(thing: Any, table: dict[str, Any]) -> dict[str, Any]:
    """The name and parameters from which `_named` makes the same object."""
    names = {type(make()): name for name, make in reversed(table.items())}
    parameters = thing.get_params(deep=False)
    for part, inner in _parts(type(thing)).items():
        if not isinstance(parameters[part], str):
            parameters[part] = _described(parameters[part], inner)
    return {"name": names[type(thing)], **parameters}

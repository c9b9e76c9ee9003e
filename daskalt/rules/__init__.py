"""From a gradient to a step: rules, schedules and line searches."""

from typing import Any

from daskalt.errors import InputError
from daskalt.rules.adaptive import Adadelta, Adagrad, Adam, RMSProp
from daskalt.rules.base import Rule
from daskalt.rules.line_search import Armijo, LineSearch, StrongWolfe
from daskalt.rules.schedules import (
    Constant,
    CosineRestarts,
    ExponentialDecay,
    InverseScaling,
    InverseTimeDecay,
    Schedule,
    StepDecay,
)
from daskalt.rules.sgd import SGD

__all__ = [
    "LINE_SEARCHES",
    "RULES",
    "SCHEDULES",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Armijo",
    "Constant",
    "CosineRestarts",
    "ExponentialDecay",
    "InverseScaling",
    "InverseTimeDecay",
    "LineSearch",
    "RMSProp",
    "Rule",
    "Schedule",
    "StepDecay",
    "StrongWolfe",
    "choose",
]

RULES: dict[str, type[Rule]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adadelta": Adadelta,
    "adam": Adam,
}
SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "inverse_time": InverseTimeDecay,
    "inverse_scaling": InverseScaling,
    "cosine_restarts": CosineRestarts,
}
LINE_SEARCHES: dict[str, Any] = {
    "backtracking": Armijo,
    "wolfe": StrongWolfe,
    "exact": lambda: StrongWolfe(curvature=1e-3),
}


def choose(parameter: str, given: Any, named: dict[str, Any], kind: type) -> Any:
    """Return the object that a name or an object of ``kind`` stands for.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, str) and given in named:
        return named[given]()
    raise InputError(
        f"The parameter {parameter} must be one of {', '.join(map(repr, named))} or an object such "
        f"as {named[next(iter(named))].__name__}(); got {given!r}."
    )

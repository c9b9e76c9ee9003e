"""Neural networks by alternating minimisation on data larger than memory."""

from importlib import import_module

__version__ = "0.1.0"  # parts of the package write it into the files that they make

TYPE_CHECKING = False
if TYPE_CHECKING:  # the names below, for editors and type checkers
    from daskalt.assessment.displays import LossCurveDisplay, ResidualDisplay
    from daskalt.assessment.quality import confusion_matrix, residual_histogram
    from daskalt.estimators.classifier import MLPClassifier
    from daskalt.estimators.model import load, save
    from daskalt.estimators.regressor import MLPRegressor
    from daskalt.functions.activations import Activation
    from daskalt.functions.loss import Loss
    from daskalt.memory.plan import Plan
    from daskalt.solvers import (
        ADMM,
        LBFGS,
        BatchAltMin,
        ConjugateGradient,
        GradientDescent,
        Newton,
        SteepestDescent,
        StochasticAltMin,
    )
    from daskalt.training.checkpoint import Checkpoints

__all__ = [
    "ADMM",
    "LBFGS",
    "Activation",
    "BatchAltMin",
    "Checkpoints",
    "ConjugateGradient",
    "GradientDescent",
    "Loss",
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "Newton",
    "Plan",
    "ResidualDisplay",
    "SteepestDescent",
    "StochasticAltMin",
    "confusion_matrix",
    "load",
    "residual_histogram",
    "save",
]

_HOMES = {
    "Activation": "functions.activations",
    "Checkpoints": "training.checkpoint",
    "Loss": "functions.loss",
    "LossCurveDisplay": "assessment.displays",
    "MLPClassifier": "estimators.classifier",
    "MLPRegressor": "estimators.regressor",
    "Plan": "memory.plan",
    "ResidualDisplay": "assessment.displays",
    "confusion_matrix": "assessment.quality",
    "load": "estimators.model",
    "residual_histogram": "assessment.quality",
    "save": "estimators.model",
}


def __getattr__(name: str) -> object:
    """Return a public name or a module of the package, imported when it is first asked for.

    Numba and distributed take a second to import, which `daskalt --help` need not wait for.
    """
    if name in __all__:
        value = getattr(import_module(f"daskalt.{_HOMES.get(name, 'solvers')}"), name)
        globals()[name] = value
        return value
    if name.isidentifier() and not name.startswith("_"):
        try:
            return import_module(f"daskalt.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"daskalt.{name}":
                raise
    raise AttributeError(f"module 'daskalt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "import_module"})

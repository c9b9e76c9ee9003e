"""Neural networks by alternating minimisation on data larger than memory."""

from importlib import import_module

__version__ = "0.1.0"  # parts of the package write it into the files that they make

TYPE_CHECKING = False
if TYPE_CHECKING:  # the names below, for editors and type checkers
    from daskalt.assessment import confusion_matrix, residual_histogram
    from daskalt.checkpoint import Checkpoints
    from daskalt.classifier import MLPClassifier
    from daskalt.displays import LossCurveDisplay, ResidualDisplay
    from daskalt.model import load, save
    from daskalt.plan import Plan
    from daskalt.regressor import MLPRegressor
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

__all__ = [
    "ADMM",
    "LBFGS",
    "BatchAltMin",
    "Checkpoints",
    "ConjugateGradient",
    "GradientDescent",
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
    "Checkpoints": "checkpoint",
    "LossCurveDisplay": "displays",
    "MLPClassifier": "classifier",
    "MLPRegressor": "regressor",
    "Plan": "plan",
    "ResidualDisplay": "displays",
    "confusion_matrix": "assessment",
    "load": "model",
    "residual_histogram": "assessment",
    "save": "model",
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

"""Neural networks by alternating minimisation on data larger than memory."""

__version__ = "0.1.0"  # first: parts of the package write it into the files that they make

from daskalt.checkpoint import Checkpoints
from daskalt.estimators import MLPClassifier, MLPRegressor
from daskalt.model import load, save
from daskalt.planning import Plan
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
    "MLPClassifier",
    "MLPRegressor",
    "Newton",
    "Plan",
    "SteepestDescent",
    "StochasticAltMin",
    "load",
    "save",
]

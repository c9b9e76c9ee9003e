"""Neural networks by alternating minimisation on data larger than memory."""

__version__ = "0.1.0"  # first: parts of the package write it into the files that they make

from daskalt.estimators import MLPClassifier, MLPRegressor
from daskalt.model import load, save
from daskalt.solvers import ADMM, BatchAltMin, StochasticAltMin

__all__ = [
    "ADMM",
    "BatchAltMin",
    "MLPClassifier",
    "MLPRegressor",
    "StochasticAltMin",
    "load",
    "save",
]

"""Neural networks by alternating minimisation on data larger than memory."""

from daskalt.estimators import MLPClassifier, MLPRegressor
from daskalt.solvers import StochasticAltMin

__version__ = "0.1.0"

__all__ = ["MLPClassifier", "MLPRegressor", "StochasticAltMin"]

"""Versions of the libraries that decide the numbers."""

import platform

import numba
import numpy as np
import scipy
import sklearn

from daskalt import __version__

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the numbers."""
    return {
        "daskalt": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "scikit-learn": sklearn.__version__,
    }

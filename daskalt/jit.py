"""How daskalt compiles its element-wise passes."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` compiled at its first call with each combination of types.

    It runs without the GIL, because Dask's threads are the parallelism; never with parallel=True,
    whose thread pool aborts the process when several threads enter it. By NumPy's error model 1/0
    is inf, so that loops vectorise. There is no fastmath: a NaN in the data has to stay visible.
    """
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)

"""How daskalt compiles its element-wise passes."""

from functools import partial

import numba

__all__ = ["compiled"]

# Without the GIL, because Dask's threads are the parallelism; never parallel=True, whose thread
# pool aborts the process when several threads enter it. NumPy's error model lets 1/0 be inf, so
# that loops vectorise. No fastmath: a NaN in the data has to stay visible in the loss.
compiled = partial(numba.njit, nogil=True, cache=True, error_model="numpy")

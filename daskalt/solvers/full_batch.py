"""What the full-batch methods share."""

from daskalt.network.network import Network
from daskalt.solvers.base import Solver

__all__ = ["FullBatch"]


class FullBatch(Solver):
    """A method whose step is a pass over all rows."""

    full_batch = True

    def passes(self, n_rows: int, network: Network) -> int:
        """Return the default number of iterations of a fit."""
        return 30

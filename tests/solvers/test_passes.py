"""The number of passes that a fit makes by default."""

import pytest

from daskalt.functions.activations import ACTIVATIONS
from daskalt.functions.losses import get_loss
from daskalt.network.network import dense
from daskalt.solvers import StochasticAltMin

CROSS_ENTROPY = get_loss("cross_entropy", "softmax")


@pytest.mark.parametrize(
    ("rows", "widths", "passes"),
    [
        (1_000, (64, 100, 10), 20),  # never more
        (50_000, (784, 1024, 10), 2),  # digits as pictures
        (40_000, (15, 64, 3), 20),  # a table, whose passes take milliseconds
        (1_000_000, (28, 300, 2), 9),
        (4_000_000, (784, 300, 2), 2),  # never fewer
        (100_000_000, (28, 300, 2), 1),  # but of very many
        (20_000, (3072, 4096, 10), 5),  # 100,000 rows' worth, however wide
    ],
)
def test_passes_follow_from_rows_and_weights(rows, widths, passes):
    assert (
        StochasticAltMin().passes(rows, dense(widths, ACTIVATIONS["relu"], CROSS_ENTROPY)) == passes
    )

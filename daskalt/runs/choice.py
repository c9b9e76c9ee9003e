"""The estimator that targets suggest, where none is given."""

from numbers import Number

import numpy as np

from daskalt.errors import ConfigError
from daskalt.runs.examples import EXAMPLES
from daskalt.runs.heads import first_targets
from daskalt.runs.origins import DataConfig
from daskalt.runs.rows import are_files, open_rows

__all__ = ["choose_estimator"]

CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"
ROWS = 10_000  # that are looked at
MOST_CLASSES = 100
ROWS_OF_A_CLASS = 5  # on average, or whole numbers do not count as labels


def choose_estimator(data: DataConfig) -> tuple[str, str]:
    """Return the name of the estimator that suits the first targets, and the reason in words.

    Text, booleans and whole numbers of few different values are labels.

    Raises
    ------
    ConfigError
        When files have no columns to look at, or no such column.
    """
    if data.dataset is not None:
        labelled = EXAMPLES[data.dataset].labelled
        return (CLASSIFIER, "has labels") if labelled else (REGRESSOR, "has numbers")
    places = data.places["data.train"]
    if are_files(places):
        targets = first_targets(data)
        if targets is None:
            raise ConfigError(
                f"estimator: nobody says what {places[0]} is for. Give --estimator {CLASSIFIER} or "
                f"--estimator {REGRESSOR}."
            )
        values = np.column_stack(targets)[:ROWS]
    else:
        y = open_rows(places[0], "data.train", data).y
        assert y is not None
        values = y.read(0, min(ROWS, len(y)))
    return _judged(values.reshape(len(values), -1))


def _judged(values: np.ndarray) -> tuple[str, str]:
    kind = _kind(values)
    if kind == "text":
        return CLASSIFIER, "is text"
    if kind == "bool":
        return CLASSIFIER, "is true or false"
    numbers = values.astype(np.float64)
    if values.shape[1] > 1:
        if np.isin(numbers, (0, 1)).all():
            return CLASSIFIER, "is columns of 0 and 1"
        return REGRESSOR, "is columns of numbers"
    if (numbers != np.floor(numbers)).any():
        return REGRESSOR, "has fractions"
    different = len(np.unique(numbers))
    words = f"is whole numbers, {different} different ones in the first {len(numbers)} rows"
    few = max(2, min(MOST_CLASSES, len(numbers) // ROWS_OF_A_CLASS))
    return (CLASSIFIER if different <= few else REGRESSOR), words


def _kind(values: np.ndarray) -> str:
    if values.dtype.kind == "b" or all(isinstance(value, bool) for value in values.flat):
        return "bool"
    if values.dtype.kind == "O":
        return "number" if all(isinstance(value, Number) for value in values.flat) else "text"
    return "number" if values.dtype.kind in "iuf" else "text"

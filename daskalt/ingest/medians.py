"""Medians of columns of any length: exact for few rows, of a uniform sample for many."""

import numpy as np

__all__ = ["RowSample"]

SAMPLE_BYTES = 64 << 20


class RowSample:
    """All rows while they fit, and then a uniform sample of them.

    Every row draws a number from one seeded stream, and those with the smallest stay: the sample
    depends on the rows alone, not on how they come in batches.

    Parameters
    ----------
    columns : int
        Numbers in a row.
    """

    def __init__(self, columns: int) -> None:
        self.most = max(1, SAMPLE_BYTES // (8 * max(1, columns)))
        self.rng = np.random.default_rng(0)
        # Pages that nothing is written to take no memory.
        self.keys = np.empty(self.most + -(-self.most // 4))
        self.columns = np.empty((columns, len(self.keys)))
        self.count = 0
        self.limit = np.inf
        self.seen = 0

    @property
    def exact(self) -> bool:
        """Whether no row has been left out."""
        return self.seen <= self.most

    @property
    def size(self) -> int:
        """Rows in the sample."""
        return min(self.count, self.most)

    def add(self, rows: np.ndarray) -> None:
        """Add rows of float64, NaN where a value is missing."""
        self.seen += len(rows)
        keys = self.rng.random(len(rows))
        chosen = np.flatnonzero(keys < self.limit)
        while len(chosen):
            room = len(self.keys) - self.count
            now, chosen = chosen[:room], chosen[room:]
            place = slice(self.count, self.count + len(now))
            self.columns[:, place], self.keys[place] = rows.T[:, now], keys[now]
            self.count += len(now)
            if self.count == len(self.keys):
                self._prune()
                chosen = chosen[keys[chosen] < self.limit]

    def _prune(self) -> None:
        """Keep the rows with the smallest keys; their order does not matter."""
        if self.count <= self.most:
            return
        order = np.argpartition(self.keys[: self.count], self.most)
        self.limit = self.keys[order[self.most]]
        stays = np.zeros(self.count, bool)
        stays[order[: self.most]] = True
        holes = np.flatnonzero(~stays[: self.most])
        movers = self.most + np.flatnonzero(stays[self.most :])
        self.keys[holes] = self.keys[movers]
        for column in self.columns:
            column[holes] = column[movers]
        self.count = self.most

    def medians(self) -> np.ndarray:
        """The median of the values of each column; NaN where all are missing."""
        self._prune()
        return np.array([_median(column) for column in self.columns[:, : self.count]])


def _median(column: np.ndarray) -> float:
    column = column[~np.isnan(column)]
    return float(np.median(column)) if len(column) else np.nan

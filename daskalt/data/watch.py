"""Stored rows that must not change while they are in use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from daskalt.data.gaps import stored_arrays
from daskalt.data.readers import Source, ZarrSource
from daskalt.data.table import Table
from daskalt.data.traces import Trace, changes_between
from daskalt.errors import DivergenceError, InputError, StorageError

__all__ = ["Watch"]


class _Watched(NamedTuple):
    """Rows of an array, and their first trace."""

    source: ZarrSource
    start: int
    stop: int
    trace: Trace

    def change(self) -> str:
        """What changed since, as a sentence; "" if nothing did."""
        source, start, stop = self.source, self.start, self.stop
        new = source.look(start, stop)
        change = changes_between(source.array, start, stop, self.trace, new)
        if not change:
            return ""
        return (
            f"{source.name}: the store {source.location} changed while its rows were in use: "
            f"{change}."
        )


class Watch:
    """Raises when stored rows are no longer those that were there at first.

    What is compared is the metadata of each array, and of each chunk whether it is there, its size
    and the time of its last change, or an object store's tags: no chunk is read. So a chunk that
    was written again counts as changed even if its rows are the same. What a store does not list,
    as a plain web server, is not compared; `daskalt.data.traces` has the details. Rows in
    memory and temporary copies are left out.

    Parameters
    ----------
    tables : Table
        Their chunks must stay as they were when the tables were opened.
    """

    def __init__(self, *tables: Table) -> None:
        self._watched: list[_Watched] = []
        for table in tables:
            self.add(table)

    def add(self, table: Table) -> None:
        """Watch the rows of another table too."""
        known = {id(watched.source) for watched in self._watched}
        sources = _distinct(list(table.present.values()))
        self._watched += [_watched(source) for source in sources if id(source) not in known]

    def check(self) -> None:
        """Raise StorageError, which names the store and the change, if any rows changed."""
        change = self._change()
        if change:
            raise StorageError(f"{change} {_CURE}")

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Add to an error raised inside that the rows have changed, if they have."""
        try:
            yield
        except (InputError, DivergenceError) as error:
            change = self._change()
            if not change:
                raise
            kind = InputError if isinstance(error, InputError) else StorageError
            raise kind(f"{error} {change} {_CURE}") from error

    def _change(self) -> str:
        return next(filter(None, (watched.change() for watched in self._watched)), "")


_CURE = (
    "Nothing that was learnt since is kept. Let nothing write to the store meanwhile, or use a "
    "copy of it, and start anew."
)


def _distinct(sources: list[Source]) -> list[ZarrSource]:
    """The stored arrays behind some sources, each once."""
    found = {id(array): array for source in sources for array, _, _ in stored_arrays(source)}
    for source in sources:
        for array, start, stop in stored_arrays(source):
            if array.trace is None:  # rows not opened by an estimator
                array.learn(start, stop)
    return list(found.values())


def _watched(source: ZarrSource) -> _Watched:
    assert source.trace is not None
    return _Watched(source, *source.learnt, source.trace)

"""Progress messages from steps, which run in tasks here or on a cluster, to their fit."""

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import distributed

from daskalt.compute.graph import active_client

__all__ = ["Done", "Topic", "listen", "report"]

SECONDS = 0.2  # between two messages of a worker, at least
REMEMBERED = 64  # topics for which a worker has something to add to

_listeners: dict[str, Callable[["Done"], object]] = {}


class Topic(NamedTuple):
    """Where steps report to: a fit, and the number of its pass."""

    name: str
    number: int


class Done(NamedTuple):
    """Finished rows of a pass, and the sums of their forward loss."""

    number: int  # of the pass
    rows: int
    weight: float
    loss: float

    def plus(self, more: "Done") -> "Done":
        """Return the sum of two parts of a pass; of two passes only ``more``, the later."""
        if self.number != more.number:
            return more
        rows, weight, loss = self.rows + more.rows, self.weight + more.weight, self.loss + more.loss
        return Done(self.number, rows, weight, loss)


def report(topic: Topic | None, rows: int, statistics: Any) -> None:
    """Report to the fit, here or across the cluster, that some rows are mapped."""
    if topic is None:
        return
    score = getattr(statistics, "score", None)
    sums = (0.0, 0.0)
    if score is not None and math.isfinite(score.loss):
        sums = (float(score.weight), float(score.loss))
    done = Done(topic.number, rows, *sums)
    if topic.name in _listeners:
        _listeners[topic.name](done)
        return
    with suppress(ValueError):  # a pool of processes has no channel back: the bar does not move
        worker = distributed.get_worker()
        if (due := _outbox.add(topic.name, done)) is not None:
            worker.log_event(topic.name, list(due))


class _Outbox:
    """Collects the messages of a worker, as short steps would flood the scheduler with them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[Done, float]] = {}  # and when the last was sent

    def add(self, topic: str, done: Done) -> Done | None:
        """Add what is done; return what to send, if it is time."""
        now = time.monotonic()
        with self._lock:
            if len(self._sums) > REMEMBERED:
                self._sums.clear()
            before, sent = self._sums.get(topic, (Done(done.number, 0, 0.0, 0.0), -SECONDS))
            done = before.plus(done)
            if now - sent < SECONDS:
                self._sums[topic] = (done, sent)
                return None
            self._sums[topic] = (Done(done.number, 0, 0.0, 0.0), now)
            return done


_outbox = _Outbox()


@contextmanager
def listen(take: Callable[[Done], object]) -> Iterator[str]:
    """Yield the name of a topic, and call ``take`` with what steps report to it."""
    topic = f"daskalt-{uuid.uuid4().hex}"
    client = active_client()
    _listeners[topic] = take
    if client is not None:
        client.subscribe_topic(topic, lambda event: take(Done(*event[1])))
    try:
        yield topic
    finally:
        del _listeners[topic]
        if client is not None and client.status == "running":
            client.unsubscribe_topic(topic)

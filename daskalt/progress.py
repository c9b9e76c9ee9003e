"""What steps tell, while they run in tasks here or on a cluster, to the fit that listens."""

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import distributed

from daskalt.reduction import active_client

__all__ = ["Done", "Topic", "listen", "report"]

SECONDS = 0.2  # between two messages of a worker, at least
REMEMBERED = 64  # topics for which a worker has something to add to

_listeners: dict[str, Callable[["Done"], object]] = {}


class Topic(NamedTuple):
    """Where steps report to: a fit that listens, and which of its passes they are of."""

    name: str
    number: int


class Done(NamedTuple):
    """What is done of a pass: rows, and the sums of their forward loss."""

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
    """Tell the fit that listens, here or across the cluster, that some rows are mapped."""
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
    with suppress(ValueError):  # a pool of processes has no channel back: the bar stands still
        worker = distributed.get_worker()
        if (due := _outbox.add(topic.name, done)) is not None:
            worker.log_event(topic.name, list(due))


class _Outbox:
    """Sums up what a worker has to tell, which short steps would flood the scheduler with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[Done, float]] = {}  # and when the last was sent

    def add(self, topic: str, done: Done) -> Done | None:
        """Take in what is done; return what to send, if it is time."""
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
    """Call ``take`` with what steps report to the topic of the name that this yields."""
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

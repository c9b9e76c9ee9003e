"""Steps counted across processes, for a progress bar on the client."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import distributed

from daskalt.reduction import active_client

__all__ = ["listen", "report_step"]

_listeners: dict[str, Callable[[int], object]] = {}


def report_step(topic: str | None) -> None:
    """Tell the fit that listens on ``topic``, here or across the cluster, that a step is done."""
    if topic is None:
        return
    if topic in _listeners:
        _listeners[topic](1)
        return
    with suppress(ValueError):  # a pool of processes has no channel back: the bar stands still
        distributed.get_worker().log_event(topic, 1)


@contextmanager
def listen(advance: Callable[[int], object]) -> Iterator[str]:
    """Call ``advance(1)`` after every step that reports to the topic that this yields."""
    topic = f"daskalt-{uuid.uuid4().hex}"
    client = active_client()
    _listeners[topic] = advance
    if client is not None:
        client.subscribe_topic(topic, lambda event: advance(1))
    try:
        yield topic
    finally:
        del _listeners[topic]
        if client is not None and client.status == "running":
            client.unsubscribe_topic(topic)

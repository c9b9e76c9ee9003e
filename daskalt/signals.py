"""A polite request to stop, taken like Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "terminable"]


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as batch systems and containers do."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated on SIGTERM while inside, unless the program handles that itself."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated

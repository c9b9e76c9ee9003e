"""Ctrl-C and SIGTERM: how they stop a program, and what they must not interrupt.

By default they raise an exception, as Ctrl-C always does. Code that must not be interrupted is
`held`: the signal takes effect after it. A fit with checkpoints is `patient`: it runs on to its
next checkpoint, seconds away, and stops there.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

__all__ = [
    "KINDS",
    "Terminated",
    "held",
    "leave",
    "leaving",
    "patient",
    "sheltered",
    "stop_here",
    "stopping",
    "terminable",
]

PATIENCE = 5.0  # seconds that a patient program has to stop by itself
STOPPING = "stopping after the step in flight; again to stop at once"


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as batch systems and containers do."""


KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


class _Told:
    """The signals that the main thread has received, and how it reacts to them."""

    def __init__(self) -> None:
        self.number: int | None = None  # the first signal that has not been raised
        self.urgent = False  # whether there was another
        self.raised = False  # whether one has been, since `terminable` began
        self.holds = 0
        self.watch: SimpleQueue | None = None  # of a patient program; its put() may be re-entered

    def take(self, number: int, frame: Any = None) -> None:
        self.urgent = self.number is not None
        self.number = self.number or number
        if self.watch is not None:
            self.watch.put(number)
        self.settle()

    def settle(self) -> None:
        """Raise the signal that was received, unless that has to wait."""
        waits = self.watch is not None and not self.urgent
        if self.number is not None and not self.holds and not waits:
            self.stop()

    def stop(self) -> NoReturn:
        assert self.number is not None
        kind = KINDS[signal.Signals(self.number)]
        self.forget()
        self.raised = True
        raise kind

    def forget(self) -> None:
        self.number, self.urgent = None, False


_told = _Told()


@contextmanager
def terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and Terminated on SIGTERM while inside.

    Only in the main thread, and only signals that the program does not handle itself.
    """
    with _handled(_told.take):
        _told.raised = False
        lost = sys.unraisablehook
        sys.unraisablehook = _sent_again(lost)
        try:
            yield
        finally:
            sys.unraisablehook = lost


@contextmanager
def held(*, drop: bool = False) -> Iterator[None]:
    """Delay signals until the code inside has ended; or ``drop`` them."""
    if not _in_main_thread():
        yield
        return
    with _handled(_told.take):
        _told.holds += 1
        try:
            yield
        except BaseException:
            _told.forget()  # one reason to stop is enough
            raise
        finally:
            _told.holds -= 1
            if drop and not _told.holds:
                _told.forget()
        _told.settle()


@contextmanager
def patient() -> Iterator[None]:
    """Raise a first signal only at `stop_here`; a second, or after 5 seconds, at once."""
    if not _in_main_thread():
        yield
        return
    with _handled(_told.take):
        queue: SimpleQueue = SimpleQueue()
        watch = threading.Thread(target=_watch, args=(queue,), name="daskalt-signals", daemon=True)
        watch.start()
        _told.watch = queue
        try:
            yield
        except BaseException:
            with held(drop=True):
                _stop_watching(watch)
            raise
        with held():
            _stop_watching(watch)


def _stop_watching(watch: threading.Thread) -> None:
    queue, _told.watch = _told.watch, None
    if queue is not None:
        queue.put(None)
    watch.join()


def _watch(queue: SimpleQueue) -> None:
    """Print that a signal was received, and send it again if the program does not stop.

    Beside the handler, which may run while the main thread holds any lock.
    """
    number = queue.get()
    if number is None:
        return
    print(f"daskalt: {STOPPING}", file=sys.stderr, flush=True)
    try:
        queue.get(timeout=PATIENCE)
    except Empty:
        os.kill(os.getpid(), number)


def stopping() -> bool:
    """Say whether a signal is ending what is `terminable`."""
    return _told.raised


def stop_here() -> None:
    """Raise the signal that a patient program has received: here it may stop."""
    if _in_main_thread() and _told.number is not None and not _told.holds:
        _told.stop()


def leave(number: int, frame: Any) -> NoReturn:
    """End the process at once: a handler for before the work begins and after it has ended.

    Imports cannot be trusted with an exception: some turn what Ctrl-C raises into others.
    """
    os.write(2, b"daskalt: interrupted\n")
    os._exit(128 + number)


@contextmanager
def leaving() -> Iterator[None]:
    """End the process at once on a signal, unless code inside sets another handler."""
    with _handled(leave):
        yield


@contextmanager
def sheltered() -> Iterator[None]:
    """Start processes that a terminal's signals do not reach, nor their own child processes.

    They start with the signals blocked; `daskalt.compute.shelter` opens them to SIGTERM again once
    they have a session of their own.
    """
    resource_tracker.ensure_running()  # or it opens the thread that starts it to both again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Install handlers, in the main thread, for signals that the program does not handle itself."""
    mine: list[signal.Signals] = []
    if _in_main_thread():
        weak = (signal.default_int_handler, signal.SIG_DFL, leave)
        mine = [number for number in KINDS if signal.getsignal(number) in weak]
    before = {number: signal.signal(number, handler) for number in mine}
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, old)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _sent_again(hook: Any) -> Any:
    """A hook for ignored exceptions, as in a destructor, which keeps a signal from being lost."""
    numbers = {kind: number for number, kind in KINDS.items()}

    def send(lost: Any) -> None:
        if lost.exc_type in numbers:
            # A thread without the locks of `threading`, which may be held here.
            _thread.start_new_thread(_send_soon, (numbers[lost.exc_type],))
        else:
            hook(lost)

    return send


def _send_soon(number: int) -> None:
    time.sleep(0.05)  # where the exception was lost, it would be again
    os.kill(os.getpid(), number)

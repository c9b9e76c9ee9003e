"""The first act of a worker process: leave the terminal, whose signals are for its parent.

Dask imports this before a worker starts. It starts with both signals blocked, so that none
arrives earlier. It ends with its parent, whose nanny tells it to or ends it by SIGTERM.
"""

import os
import signal

__all__: list[str] = []


def _shelter() -> None:
    os.setsid()
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # forgets one that waits
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, handler)


def dask_setup(worker: object) -> None:
    """Leave the terminal; Dask calls this in the worker."""
    if os.getsid(0) != os.getpid():
        _shelter()

"""Retries after transient errors of storage: which errors, how often and after what delay."""

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from daskalt.errors import StorageError

__all__ = ["is_transient", "patiently"]

TRIES = 5
FIRST_DELAY = 0.5  # seconds before the second try; doubled before each further one

_NUMBERS = (
    *("EIO", "EAGAIN", "EINTR", "EBUSY", "ETIMEDOUT", "ESTALE", "EREMOTEIO"),
    *("ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH"),
    *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET"),
)
_PASSING = {getattr(errno, name) for name in _NUMBERS if hasattr(errno, name)}
_LASTING = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError)
_CLIENTS = {"adlfs", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs"}
_PASSING_STATUS = (408, 425, 429)

T = TypeVar("T")


def patiently(what: str, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Return ``call(*args, **kwargs)``, tried again after transient errors of storage.

    The delays double, and a random part keeps many workers from coming back at once. The call must
    be harmless to repeat: reading, or writing a whole chunk or file.

    Parameters
    ----------
    what : str
        The action and its place, to begin a message: "Reading rows 0 to 9 of /data/a.zarr/X".
    call : callable
        What to try.

    Raises
    ------
    StorageError
        When the last try fails too; any other error is let through at once.

    Examples
    --------
    >>> patiently("Writing a.json", filesystem.pipe_file, "a.json", content)  # doctest: +SKIP
    """
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=FIRST_DELAY) + wait_random(0, FIRST_DELAY),
    )
    try:
        return retrying(call, *args, **kwargs)
    except RetryError as failed:
        error = failed.last_attempt.exception()
        raise StorageError(
            f"{what} failed, tried {TRIES} times: {type(error).__name__}: {error}. The storage is "
            "out of reach or overloaded; try again when it answers."
        ) from error


def is_transient(error: BaseException) -> bool:
    """Say whether the same call may well succeed in a moment.

    That holds for timeouts, lost connections, some error numbers of the operating system and errors
    of clients of object stores, but not for a full disk, a file that is missing or may not be read,
    or content that cannot be decoded.
    """
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if _is_of_client(error):
        return _may_pass(error)
    return isinstance(error, OSError) and error.errno in _PASSING


def _is_of_client(error: BaseException) -> bool:
    # By name: the clients are not installed everywhere.
    return any(kind.__module__.split(".")[0] in _CLIENTS for kind in type(error).__mro__)


def _may_pass(error: BaseException) -> bool:
    """Whether the answer of a server, where there is one, blames the server and not the request."""
    statuses = [str(getattr(error, name, "")) for name in ("status", "status_code", "code")]
    status = next((int(text) for text in statuses if text.isdigit()), None)
    return status is None or not 400 <= status < 500 or status in _PASSING_STATUS

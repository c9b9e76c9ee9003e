"""One writer at a time in a folder: a lock that ends with its process and names its owner."""

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from daskalt.errors import InputError
from daskalt.storage.store import filesystem_of, storage_errors

__all__ = ["alone_in", "locked"]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def alone_in(places: Iterable[str]) -> Iterator[None]:
    """Lock some paths or URLs; see `locked`."""
    with ExitStack() as stack:
        for place in sorted(set(places)):
            stack.enter_context(locked(place))
        yield


@contextmanager
def locked(place: str) -> Iterator[None]:
    """Lock a path while inside; on remote file systems there is no lock.

    The system releases the lock when its process ends, however it ends: a file left behind locks
    nobody out.

    Raises
    ------
    InputError
        If another fit or ingest has the lock, naming it.
    """
    filesystem, path = filesystem_of(place)
    if not isinstance(filesystem, LocalFileSystem):
        yield
        return
    folder = Path(path)
    lock = folder.with_name(f".{folder.name}.lock") if folder.name else folder / ".lock"
    if folder.is_dir() and not os.access(folder.parent, os.W_OK):  # a mounted volume, for instance
        lock = folder / ".lock"
    with storage_errors(place):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(lock)
    if file is None:
        raise InputError(
            f"Another fit or ingest, of {_owner(lock)}, is at work in {place}. Wait for it "
            "or end it, or name another place."
        )
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(file)


def _taken(lock: Path) -> int | None:
    """The open lock file; None if another has it."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as error:
            if error.errno not in NO_LOCKS:  # a file system without locks
                os.close(file)
                raise
        if _is_at(lock, file):
            break
        os.close(file)  # the one before us has removed it meanwhile
    owner = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}
    os.ftruncate(file, 0)
    os.write(file, json.dumps(owner).encode())
    return file


def _is_at(lock: Path, file: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _owner(lock: Path) -> str:
    try:
        owner = json.loads(lock.read_text())
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written or removed
        return "another process"

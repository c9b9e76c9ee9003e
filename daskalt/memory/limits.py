"""Memory that a process uses, and its limit: the machine's, its container's, a worker's.

These limits only refuse a plan. Sizes follow from the data and the parameters alone, or the same
fit would give other bits on another machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from dask.utils import parse_bytes

from daskalt.errors import InputError

__all__ = [
    "PARAMETER",
    "Limit",
    "describe_bytes",
    "parse_limit",
    "peak_resident",
    "process_limit",
    "resident",
    "trim",
]

PARAMETER = "the parameter memory_limit"  # the source of a limit that the user has set

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


class Limit(NamedTuple):
    """Bytes that a process may take, and what sets that limit."""

    bytes: int
    source: str


def parse_limit(value: str | int | None) -> Limit | None:
    """Return the limit that the parameter ``memory_limit`` sets; None where it sets none.

    Raises
    ------
    InputError
        If the value is no positive number of bytes.
    """
    if value is None:
        return None
    size = 0
    if not isinstance(value, bool | float):
        try:
            size = parse_bytes(value)
        except (ValueError, TypeError, AttributeError):
            size = 0
    if size < 1:
        raise InputError(
            "The parameter memory_limit must be a positive number of bytes, such as 2_000_000_000, "
            f"'2GB' or '500 MiB', or None; got {value!r}."
        )
    return Limit(int(size), PARAMETER)


def process_limit() -> Limit:
    """Return the limit of this process: the least of its containers and the machine's memory."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Limit(physical, "the memory of this machine"), *_container_limits()]
    return min(limits)


def _container_limits() -> list[Limit]:
    """The limits of this process's control groups and of those around them."""
    found = []
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:  # not Linux, or no control groups
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        here = root / path.strip("/")
        # Inside a container the path may be that of the host: then its own root is what counts.
        for folder in {here, *here.parents} | {root}:
            if folder.is_relative_to(root):
                found += _read_limit(folder / name)
    return found


def _read_limit(file: Path) -> list[Limit]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [Limit(int(text), f"the control group of this process, {file}")] if text != "max" else []


def resident() -> int:
    """Return the resident memory of this process."""
    return psutil.Process().memory_info().rss


def peak_resident() -> int:
    """Return the most resident memory that this process has had."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):  # not Linux; of a forked process this counts its parent, too
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def trim() -> None:
    """Give freed memory back to the system, so that `resident` counts only what is in use."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # a C library other than glibc
        return


def describe_bytes(size: float) -> str:
    """Return a number of bytes in words, as in "1.5 GB"."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(size) >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def worker_limit(client: Any) -> Limit | None:
    """Return the memory of the client's smallest worker; None where workers have no limit."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    sizes = [(w["memory_limit"], address) for address, w in workers.items() if w["memory_limit"]]
    if not sizes:
        return None
    size, address = min(sizes)
    return Limit(int(size), f"memory_limit of the worker {address}")

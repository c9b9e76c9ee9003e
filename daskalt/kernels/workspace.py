"""Reused memory: scratch arrays of a thread, and results to which no reference is left.

A large fresh array costs a page fault for every 4 KiB; a block's activations would pay it at each
step. Results that leave a task must not lie in a workspace, since the next task overwrites it:
they come from `recycled`, which reuses memory only when the last reference is gone.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["Workspace", "empty", "lent_workspace", "recycled", "release", "thread_workspace"]

RECYCLED_BYTES = 1 << 20  # smaller arrays are left to the allocator
_ALIGNMENT = 64  # bytes: a cache line, and the widest SIMD register


class Workspace:
    """A store of scratch buffers by name, for one thread."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}
        self._latest: dict[str, np.ndarray] = {}  # what was taken last, mostly wanted again

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return an uninitialised C-contiguous array that shares memory with the last of its name.

        The buffer behind `name` is kept, and replaced by a larger one when it is too small.
        """
        latest = self._latest.get(name)
        if latest is not None and latest.shape == shape and latest.dtype == dtype:
            return latest
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            owner = np.empty(size + _ALIGNMENT, np.uint8)
            buffer = self._buffers[name] = _aligned(owner, size)
        self._latest[name] = found = buffer[:size].view(dtype).reshape(shape)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers hold."""
        return sum(buffer.size for buffer in self._buffers.values())

    def clear(self) -> None:
        """Drop every buffer."""
        self._buffers.clear()
        self._latest.clear()


def empty(
    workspace: Workspace | None, name: str, shape: tuple[int, ...], dtype: DTypeLike
) -> np.ndarray:
    """Return an uninitialised array, from the workspace when there is one."""
    if workspace is None:
        return np.empty(shape, dtype)
    return workspace.take(name, shape, dtype)


def thread_workspace() -> Workspace:
    """Return the calling thread's own workspace."""
    try:
        return _local.workspace
    except AttributeError:
        _local.workspace = Workspace()
        return _local.workspace


@contextmanager
def lent_workspace() -> Iterator[None]:
    """Give the calling thread a workspace that others use after it.

    So calls that follow each other, on whichever thread, take the memory of one.
    """
    before = getattr(_local, "workspace", None)
    try:
        _local.workspace = _lent.pop()
    except IndexError:
        _local.workspace = Workspace()
    try:
        yield
    finally:
        _lent.append(_local.workspace)
        _local.workspace = before or Workspace()


def recycled(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an uninitialised array in its own memory, if possible that of a deleted result.

    Worker processes need it most: `distributed` has their allocator give every large array back
    to the system at once, so that making one anew took longer than filling it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < RECYCLED_BYTES:
        return np.empty(shape, dtype)
    with _lock:
        idle = _idle()
        owner = next((b for b in idle if b.size == size + _ALIGNMENT), None)
        if owner is None:
            # Idle memory of other sizes will hardly be used again.
            _drop(idle)
            owner = np.empty(size + _ALIGNMENT, np.uint8)
            _results.append(owner)
        return _aligned(owner, size).view(dtype).reshape(shape)


def release() -> None:
    """Release the memory of results and of lent workspaces; what is in use, when that ends."""
    with _lock:
        _results.clear()
        _lent.clear()


def _idle() -> list[np.ndarray]:
    """The kept memory that no array lies in."""
    counts = _references(_results)
    return [b for b, count in zip(_results, counts, strict=True) if count <= _UNUSED]


def _drop(buffers: list[np.ndarray]) -> None:
    gone = {id(b) for b in buffers}
    _results[:] = [b for b in _results if id(b) not in gone]


def _references(buffers: list[np.ndarray]) -> list[int]:
    return [sys.getrefcount(b) for b in buffers]


_UNUSED = _references([np.empty(0, np.uint8)])[0]  # of a buffer that only a list refers to
_lock = threading.Lock()
_results: list[np.ndarray] = []
_lent: list[Workspace] = []  # that no thread has
_local = threading.local()


def _aligned(owner: np.ndarray, size: int) -> np.ndarray:
    start = -owner.ctypes.data % _ALIGNMENT
    return owner[start : start + size]

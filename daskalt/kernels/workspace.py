"""Scratch arrays that a thread reuses from block to block.

A large fresh array costs a page fault for every 4 KiB; a block's activations would pay it at each
step. Results that leave a task must not lie in a workspace, since the next task overwrites it.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["Workspace", "empty", "thread_workspace"]

_ALIGNMENT = 64  # bytes: a cache line, and the widest SIMD register


class Workspace:
    """A store of scratch buffers by name, for one thread."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return an uninitialised C-contiguous array that shares memory with the last of its name.

        The buffer behind `name` is kept, and replaced by a larger one when it is too small.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = _aligned(size)
        return buffer[:size].view(dtype).reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers hold."""
        return sum(buffer.size for buffer in self._buffers.values())

    def clear(self) -> None:
        """Drop every buffer."""
        self._buffers.clear()


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


_local = threading.local()


def _aligned(size: int) -> np.ndarray:
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size]

"""Sealed documents: JSON with a digest of itself, beside arrays whose digest it holds."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["read_arrays", "seal", "unseal", "write_arrays"]


def seal(record: dict[str, Any], *, readable: bool = False) -> bytes:
    """Return a record as JSON with a digest of itself; in lines if it is for people to read."""
    digest = hashlib.blake2b(json.dumps(record).encode()).hexdigest()
    return json.dumps({"digest": digest, "record": record}, indent=1 if readable else None).encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Return the record in sealed JSON; ValueError if any bit has changed."""
    record = json.loads(content)["record"]
    if seal(record, readable=content.startswith(b"{\n")) != content:
        raise ValueError("its record is not the one that was written")
    return record


def write_arrays(file: Any, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as npz to an open file, and return the digest of what was written."""
    digested = _Digested(file)
    np.savez(digested, **arrays)  # type: ignore[arg-type]
    return digested.digest


@contextmanager
def read_arrays(file: io.BufferedIOBase, digest: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Return the arrays of an open npz file by name; ValueError if their digest is another.

    Each is read on access; arrays that NumPy would unpickle are refused.
    """
    if hashlib.file_digest(file, "blake2b").hexdigest() != digest:
        raise ValueError("its arrays are not those that were written")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        yield arrays


class _Digested(io.BufferedIOBase):
    """A file that is written from front to back, and the digest of its content."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.blake2b()

    def write(self, content: Any) -> int:
        self._digest.update(content)
        self._file.write(content)
        return len(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

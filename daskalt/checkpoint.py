"""A fit put down so that it can go on: its state, its history and what tells it from others.

A checkpoint is an npz file of arrays and a JSON file that names it, which is replaced last and in
one step. Nothing in either can run code: states are rebuilt from the types that a solver declares.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fsspec.implementations.local import LocalFileSystem

from daskalt.data.fingerprint import checksum
from daskalt.data.store import filesystem_of, storage_errors
from daskalt.errors import InputError, StorageError

__all__ = ["Checkpoint", "Checkpoints", "checksum"]

_RECORD = "checkpoint.json"


class Checkpoint(NamedTuple):
    """A fit after some passes.

    Attributes
    ----------
    identity : dict
        What a fit must have in common with the one that it goes on from.
    state : Any
        The solver's state: nested named tuples of numbers, arrays and None.
    history : list of dict
        The records of the passes.
    """

    identity: dict[str, Any]
    state: Any
    history: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints in a folder, the last of which counts.

    Parameters
    ----------
    location : str
        Path or fsspec URL of the folder.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    def save(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint down: the arrays first, then in one step the record that names them."""
        filesystem, path = filesystem_of(self.location)
        arrays: dict[str, np.ndarray] = {}
        name = f"checkpoint-{len(checkpoint.history) % 2}.npz"
        record = {
            "arrays": name,
            "identity": checkpoint.identity,
            "state": _pack(checkpoint.state, arrays),
            "history": checkpoint.history,
        }
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        with storage_errors(self.location):
            _write(filesystem, f"{path}/{name}", content.getvalue())
            _write(filesystem, f"{path}/{_RECORD}", json.dumps(record).encode())

    def load(self, types: Iterable[type]) -> Checkpoint | None:
        """Return the last checkpoint, or None if there is none yet.

        Parameters
        ----------
        types : iterable of type
            The named tuples that the state may be made of.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        filesystem, path = filesystem_of(self.location)
        if not filesystem.exists(f"{path}/{_RECORD}"):
            return None
        try:
            record = json.loads(filesystem.cat_file(f"{path}/{_RECORD}"))
            content = io.BytesIO(filesystem.cat_file(f"{path}/{record['arrays']}"))
            with np.load(content, allow_pickle=False) as arrays:
                state = _unpack(record["state"], arrays, {kind.__name__: kind for kind in types})
            return Checkpoint(record["identity"], state, record["history"])
        except Exception as error:
            raise StorageError(
                f"The checkpoint in {self.location} cannot be read: {type(error).__name__}: "
                f"{error}. Fit again without resume."
            ) from error

    def resume(self, types: Iterable[type], identity: dict[str, Any]) -> Checkpoint | None:
        """Return the last checkpoint of a fit with this identity, or None if there is none.

        Raises
        ------
        InputError
            If the checkpoint is of another fit.
        """
        checkpoint = self.load(types)
        if checkpoint is None:
            return None
        for name, value in identity.items():
            saved = checkpoint.identity.get(name)
            if saved != value:
                raise InputError(
                    f"resume=True: the checkpoint in {self.location} is of another fit, with "
                    f"{name} {saved!r}, not {value!r}. Restore that, or leave resume out to start "
                    "anew."
                )
        return checkpoint

    @property
    def passes(self) -> int | None:
        """Passes that the last checkpoint has seen; None without one."""
        filesystem, path = filesystem_of(self.location)
        if not filesystem.exists(f"{path}/{_RECORD}"):
            return None
        return len(json.loads(filesystem.cat_file(f"{path}/{_RECORD}"))["history"])


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON, its arrays by name in ``arrays``."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:  # which NumPy would pickle
            raise TypeError("a state cannot hold an array of objects")
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        pairs = zip(value._fields, value, strict=True)
        fields = {name: _pack(member, arrays) for name, member in pairs}
        return {"type": type(value).__name__, "fields": fields}
    if isinstance(value, tuple | list):
        return [_pack(member, arrays) for member in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state cannot hold a {type(value).__name__}")


def _unpack(value: Any, arrays: Mapping[str, np.ndarray], types: dict[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(member, arrays, types) for member in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    fields = {name: _unpack(member, arrays, types) for name, member in value["fields"].items()}
    return types[value["type"]](**fields)


def _write(filesystem: Any, path: str, content: bytes) -> None:
    """Write a file that is there whole or not at all; on disk, and not in a cache, if local."""
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(f"{path}.partial", content)
        filesystem.mv(f"{path}.partial", path)
        return
    partial = Path(f"{path}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(partial.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Checkpoints: the state of a fit on disk, its history, and what identifies the fit.

A checkpoint is a pair of files, arrays as npz and a JSON record that names them and holds their
digest; the record is written last and in one step, so a checkpoint is complete or does not exist.
Nothing in either can run code: states are rebuilt from the types that a solver declares.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskalt.errors import CheckpointWarning, InputError, StorageError
from daskalt.parameters import check_parameters, integer, real
from daskalt.storage.folders import whole_file
from daskalt.storage.records import decode, encode
from daskalt.storage.retries import patiently
from daskalt.storage.sealed import read_arrays, seal, unseal, write_arrays
from daskalt.storage.store import filesystem_of, storage_errors
from daskalt.training.history import RECORD_TYPES, End, PassRecord
from daskalt.wording import plural

__all__ = ["END", "Checkpoint", "Checkpoints"]

FORMAT = 5
END = "steps"  # steps of the whole fit: the one fact that may differ when it is resumed
_DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError)  # raised when a broken file is read
_TYPED = ("state", "position", "best", "chosen", "history", "end")
_RECORD = re.compile(r"checkpoint-(\d{8})\.json$")


class Checkpoint(NamedTuple):
    """A fit between two steps.

    Attributes
    ----------
    identity : dict
        Facts that must be equal in a fit that resumes this one.
    state : Any
        The solver's state: nested named tuples of numbers, arrays and None.
    history : list of PassRecord
        The records of the passes that are done.
    position : Any
        The position within a pass, a named tuple like a state; None between two passes.
    best : tuple
        States of the best pass, to which the fit may fall back.
    finished : bool
        Whether the fit has ended.
    chosen : Any
        The state that a finished fit ended with, its last or a better one.
    versions : dict
        Versions of the libraries that wrote it.
    end : End or None
        Why the fit ended before its last pass, if it did.
    """

    identity: dict[str, Any]
    state: Any
    history: list[PassRecord]
    position: Any = None
    best: tuple = ()
    finished: bool = False
    versions: dict[str, str] = {}  # noqa: RUF012  never changed
    end: End | None = None
    chosen: Any = None

    @property
    def place(self) -> str:
        """The position in words."""
        done = plural(len(self.history), "pass", "passes")
        step = "" if self.position is None else f", step {self.position.steps} of the next"
        return f"{done}{step}"


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints of one fit, and how often one is written.

    There is one after every pass.

    Parameters
    ----------
    location : str
        Path or fsspec URL of the folder.
    every_steps : int or None, default=None
        One also after every so many steps of a pass.
    every_minutes : float or None, default=5
        One also within a pass when the last is this old.
    keep : int, default=2
        How many of the newest are kept.
    """

    location: str
    every_steps: int | None = None
    every_minutes: float | None = 5.0
    keep: int = 2

    def check(self) -> None:
        """Raise InputError if a parameter is out of its range."""
        check_parameters(
            self,
            every_steps=integer(at_least=1, or_none=True),
            every_minutes=real(above=0, or_none=True),
            keep=integer(at_least=1),
        )

    def save(self, checkpoint: Checkpoint, *, alone: bool = False) -> None:
        """Write a checkpoint: the arrays, then in one step the record that names them.

        Parameters
        ----------
        checkpoint : Checkpoint
            What to write.
        alone : bool
            Whether to remove the earlier ones, since the variables that belong to them are gone.

        Raises
        ------
        StorageError
            If the disk is full or cannot be written; earlier checkpoints are kept.
        """
        number = max(self._numbers(), default=0) + 1
        name = f"checkpoint-{number:08d}"
        arrays: dict[str, np.ndarray] = {}
        typed = {part: encode(getattr(checkpoint, part), part, arrays) for part in _TYPED}
        record = {
            "format": FORMAT,
            "identity": checkpoint.identity,
            "versions": checkpoint.versions,
            "finished": checkpoint.finished,
            **typed,
        }
        with storage_errors(self.location):
            patiently(f"Writing {self.location}/{name}", self._write, name, arrays, record)
            self._forget(number if alone else number - self.keep + 1)

    def _write(self, name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        filesystem, path = filesystem_of(self.location)
        filesystem.makedirs(path, exist_ok=True)
        place = f"{self.location.rstrip('/')}/{name}"
        with whole_file(f"{place}.npz", lasting=True) as file:
            digest = write_arrays(file, arrays)
        listed = {"arrays": {"name": f"{name}.npz", "digest": digest}}
        with whole_file(f"{place}.json", lasting=True) as file:
            file.write(seal(record | listed))

    def load(
        self, types: Iterable[type], identity: dict[str, Any] | None = None
    ) -> Checkpoint | None:
        """Return the newest checkpoint, or None if there is none yet.

        A damaged one is skipped with a warning, and the one before it is returned.

        Parameters
        ----------
        types : iterable of type
            The named tuples that a state may be made of.
        identity : dict, optional
            The identity that it must have.

        Raises
        ------
        InputError
            If it belongs to another fit, or has a format that this version does not read.
        StorageError
            If there are checkpoints, but none can be read.
        """
        kinds = {kind.__name__: kind for kind in (*types, *RECORD_TYPES)}
        reasons = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                record = self._record(number)
                if identity is not None:
                    self._compare(record, identity)
                checkpoint = self._read(record, kinds)
            except InputError:
                raise
            except Exception as error:
                reasons.append(f"checkpoint-{number:08d}: {type(error).__name__}: {error}")
                continue
            if reasons:
                warnings.warn(
                    f"The newest checkpoint in {self.location} is damaged ({'; '.join(reasons)}). "
                    f"The fit resumes from one before it, after {checkpoint.place}.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return checkpoint
        if reasons:
            raise StorageError(
                f"The checkpoint in {self.location} cannot be read: {'; '.join(reasons)}. Fit "
                "again with resume=False."
            )
        return None

    def _compare(self, record: dict[str, Any], identity: dict[str, Any]) -> None:
        """Raise InputError if a checkpoint belongs to another fit; only the end may differ."""
        if record.get("format") != FORMAT:
            raise InputError(
                f"The checkpoint in {self.location} is of format {record.get('format')}, and this "
                f"version of daskalt resumes from format {FORMAT} only. Pass resume=False "
                "(--overwrite) to start anew in its place, or name another folder."
            )
        saved = record["identity"]
        for name in [*identity, *(saved.keys() - identity.keys())]:
            if name != END and saved.get(name) != identity.get(name):
                raise InputError(
                    f"resume=True: the checkpoint in {self.location} is of another fit, with "
                    f"{name} {saved.get(name)!r}, not {identity.get(name)!r}. Restore that, or "
                    "pass resume=False to start anew."
                )

    @property
    def seed(self) -> int | None:
        """The seed in the newest checkpoint that can be read; None if there is none."""
        for number in sorted(self._numbers(), reverse=True):
            with suppress(*_DAMAGE):
                return self._record(number)["identity"]["random_state"]
        return None

    def refuse_unfinished(self) -> None:
        """Raise InputError if there is a checkpoint of an interrupted fit."""
        if not self._numbers():
            return
        try:
            newest = self._record(max(self._numbers()))
        except _DAMAGE:
            words = "a fit whose newest checkpoint is damaged"
        else:
            if newest["finished"]:
                return
            done = plural(len(newest["history"]), "pass", "passes")
            words = f"a fit that was cut short after {done}"
        raise InputError(
            f"checkpoint: {self.location} holds {words}. Pass resume=True (--resume) to go on with "
            "it, resume=False (--overwrite) to start anew in its place, or name another folder."
        )

    @property
    def there(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self._numbers())

    def clear(self) -> None:
        """Remove all checkpoints; other files in the folder are kept."""
        with storage_errors(self.location):
            self._forget(1 << 30)

    def keep_last(self) -> None:
        """Remove all checkpoints but the newest."""
        with storage_errors(self.location):
            self._forget(max(self._numbers(), default=0))

    def _numbers(self) -> list[int]:
        """The numbers of the complete checkpoints."""
        return _numbers_in(self._names())

    def _names(self) -> list[str]:
        """The paths of all files in the folder."""
        filesystem, path = filesystem_of(self.location)
        filesystem.invalidate_cache(path)
        try:
            listed = patiently(f"Listing {self.location}", filesystem.ls, path, detail=False)
        except FileNotFoundError:
            return []
        return list(map(str, listed))

    def _record(self, number: int) -> dict[str, Any]:
        return unseal(self._content(f"checkpoint-{number:08d}.json"))

    def _read(self, record: dict[str, Any], types: dict[str, type]) -> Checkpoint:
        content = self._content(record["arrays"]["name"])
        with read_arrays(io.BytesIO(content), record["arrays"]["digest"]) as arrays:
            parts = {name: decode(record[name], arrays, types) for name in _TYPED}
        plain = {name: record[name] for name in ("identity", "finished", "versions")}
        return Checkpoint(**parts, **plain)

    def _content(self, name: str) -> bytes:
        filesystem, path = filesystem_of(self.location)
        place = f"{path}/{name}"
        return patiently(f"Reading {self.location}/{name}", filesystem.cat_file, place)

    def _forget(self, first: int) -> None:
        """Remove the checkpoints before number ``first``, and files left by killed writers."""
        filesystem, _ = filesystem_of(self.location)
        names = self._names()
        kept = {number for number in _numbers_in(names) if number >= first}
        for name in names:
            match = re.search(r"checkpoint-(\d{8})\.(json|npz)(\.partial)?$", name)
            if match and (int(match.group(1)) not in kept or match.group(3)):
                with suppress(OSError):  # the next save tries again
                    filesystem.rm_file(name)


def _numbers_in(names: Iterable[str]) -> list[int]:
    found = map(_RECORD.search, names)
    return [int(match.group(1)) for match in found if match]

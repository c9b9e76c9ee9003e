"""Messages in the words of the command line."""

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["closest", "meant", "plural", "spoken"]

# Phrases of a message for Python, and their equivalents on the command line.
_PHRASES = [
    (r"resume=True \(--resume\)", "--resume"),
    (r"resume=False \(--overwrite\)", "--overwrite"),
    (r"fit\(\.\.\., resume=True\)", "--resume"),
    (r"resume=True", "--resume"),
    (r"resume=False", "--overwrite"),
    (r"overwrite=True", "--overwrite"),
    (r"a larger max_categories\b", "a larger --max-categories"),
    (r"\bclass_weight='balanced'", "--parameters.class_weight balanced"),
    (r"Name what is meant by y=\.", "Name what is meant by --target."),
    (r"Name what is meant by (X|sample_weight)=\.", r"Name what is meant by --data.\1."),
    (r"dask\.config\.set\(num_workers=(\d+)\)", r"the environment variable DASK_NUM_WORKERS=\1"),
]
# Where there are no options for names.
_NAMELESS = (
    "Give the path of the array itself, as in rows.zarr/X, or rename the arrays of the group as "
    "those of the fit were called."
)
_SETTING = r"(?<![\w.(-])({names})=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[\w.+-]*\w(?![\w(]))"  # no calls
_BY_COMMAND = {
    "ingest": {
        name: name.replace("_", "-")
        for name in (
            *("target", "features", "exclude", "weight", "dtype", "seed", "chunk_rows"),
            *("categorical", "missing", "unknown", "max_categories", "recipe"),
        )
    }
    | {"ident": "id"},
    "predict": {"ident": "id", "missing": "missing", "unknown": "unknown"},
    "evaluate": {"target": "target", "missing": "missing", "unknown": "unknown"},
}
# What a fit passes on to ingest.
_OF_DATA = {name: name for name in ("target", "features", "exclude")} | {"ident": "id"}
_OF_DATA |= {
    name: f"data.{name}"
    for name in ("categorical", "missing", "unknown", "max_categories", "dtype", "chunk_rows")
}


def spoken(message: str, command: str, parameters: list[str], solver: list[str]) -> str:
    """Return a message on one line, with options in place of Python's arguments.

    Parameters
    ----------
    message : str
        The message of an error.
    command : str
        The command that raised it.
    parameters, solver : list of str
        Names of parameters of the estimator and of its solver, which a fit can be given.
    """
    text = " ".join(message.split())
    if command in ("predict", "evaluate"):
        text = text.replace("Name what is meant by X=.", _NAMELESS)
    for pattern, words in _PHRASES:
        text = re.sub(pattern, words, text)
    options = dict(_BY_COMMAND.get(command, {}))
    if command in ("fit", "plan"):
        options |= _OF_DATA
        options |= {name: f"parameters.solver.{name}" for name in solver}
        options |= {name: f"parameters.{name}" for name in parameters}
    if not options:
        return text
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))

    def option(found: re.Match) -> str:
        value = found[2].strip("'\"")
        return f"--{options[found[1]]} {shlex.quote(value)}"

    return re.sub(_SETTING.format(names=names), option, text)


def plural(count: int, thing: str, things: str | None = None) -> str:
    """Return a count of things in words, as in "1 pass" and "2,000 passes"."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def closest(word: Any, known: Iterable[str]) -> str | None:
    """Return the name that a misspelt one was most likely meant to be."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), lower, 1)
    return lower[close[0]] if close else None


def meant(unknown: Sequence[Any], known: Iterable[str]) -> str:
    """Return a guess at what misspelt names were meant to be, as a sentence after a space."""
    known = list(known)
    names = [repr(close) for word in unknown if (close := closest(word, known)) is not None]
    return f" Did you mean {', '.join(names)}?" if names else ""

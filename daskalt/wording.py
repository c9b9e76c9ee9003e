"""Messages in the words of the command line."""

import re
import shlex

__all__ = ["plural", "spoken"]

# What a message says to a program in Python, and to somebody at a terminal.
_PHRASES = [
    (r"resume=True \(--resume\)", "--resume"),
    (r"resume=False \(--overwrite\)", "--overwrite"),
    (r"fit\(\.\.\., resume=True\)", "--resume"),
    (r"resume=True", "--resume"),
    (r"resume=False", "--overwrite"),
    (r"overwrite=True", "--overwrite"),
    (r"dask\.config\.set\(num_workers=(\d+)\)", r"the environment variable DASK_NUM_WORKERS=\1"),
]
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


def spoken(message: str, command: str, parameters: list[str], solver: list[str]) -> str:
    """Return a message on one line, with options in place of Python's arguments.

    Parameters
    ----------
    message : str
        As an error says it.
    command : str
        The command that it is met in.
    parameters, solver : list of str
        Names of parameters of the estimator and of its solver, which a fit can be given.
    """
    text = " ".join(message.split())
    for pattern, words in _PHRASES:
        text = re.sub(pattern, words, text)
    options = dict(_BY_COMMAND.get(command, {}))
    if command in ("fit", "plan"):
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

"""A configuration as a tree: a YAML file, and the overrides of a command line."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from daskalt.errors import ConfigError

__all__ = ["override", "read_document", "read_words"]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, as in YAML 1.2, and a key given twice an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"{key} appears twice in the mapping of line {line}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_document(path: str | Path) -> dict[str, Any]:
    """Return the tree of a YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read or is no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error}.") from error
    tree = _parse(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must be a mapping with keys such as estimator; got {tree!r}.")
    return tree


def read_words(words: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Return places, and the values of ``--key value`` and ``--key=value`` by dotted key.

    Values are read as YAML, so that ``5``, ``1e-3``, ``null`` and ``[64, 64]`` mean what they do
    in a file.

    Raises
    ------
    ConfigError
        If a key has no value or two.
    """
    rest, places, values = list(words), [], {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            places.append(word)
            continue
        option, equals, value = word.partition("=")
        if not re.fullmatch(r"--[A-Za-z][\w.-]*", option):
            raise ConfigError(f"Expected --key value; got {option!r}.")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{option} has no value.")
            value = rest.pop(0)
        key = option[2:].replace("-", "_")
        if key in values:
            raise ConfigError(f"{option} is given twice. Give it once.")
        values[key] = _parse(value, option)
    return places, values


def override(tree: dict[str, Any], key: str, value: Any, named: Sequence[str] = ()) -> None:
    """Put a value under a dotted key of a tree, where keys in ``named`` may hold a mere name."""
    *path, last = key.split(".")
    for part in path:
        inner = tree.get(part)
        if part in named and isinstance(inner, str):
            inner = {"name": inner}
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"--{key}: {part} is {inner!r}, which has no keys.")
        tree[part] = tree = dict(inner or {})
    tree[last] = value


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}.") from error

"""Sections of a configuration: keys of known types, and nothing else."""

import inspect
from typing import Any, Self, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from daskalt.errors import ConfigError, InputError
from daskalt.wording import closest

__all__ = ["Section", "section_of"]


class Section(BaseModel):
    """Keys and their types; nothing is converted, except that lists become tuples."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def read(cls, tree: Any, where: str = "") -> Self:
        """Return the section that a mapping describes.

        Raises
        ------
        ConfigError
            Naming the key below ``where``, what is wrong with it, and what it may be.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError(_said(error, tree, where)) from error

    def given(self) -> dict[str, Any]:
        """Return the values that were given, by key."""
        return {key: getattr(self, key) for key in self.model_fields_set}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                known = {"key": key, "known": list(cls.model_fields)}
                raise PydanticCustomError("unknown", "{key}", known)
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _no_lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


def section_of(kind: type, **known: Any) -> type[Section]:
    """Return the section of a constructor's parameters, of the types of its hints or ``known``."""
    hints = get_type_hints(kind.__init__) | known  # type: ignore[misc]
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
        for name, default in (dict.fromkeys(known) | defaults).items()
    }
    return create_model(kind.__name__, __base__=Section, **fields)


def _said(error: ValidationError, tree: Any, where: str) -> str:
    """The message: one fault, or all keys that are missing."""
    errors = error.errors()
    deepest = max(errors, key=lambda each: len(each["loc"]))
    context, path = deepest.get("ctx", {}), [*([where] if where else []), *_keys(tree, deepest)]
    if isinstance(context.get("error"), InputError):
        return str(context["error"])
    if deepest["type"] == "missing":
        missing = [str(each["loc"][-1]) for each in errors if each["type"] == "missing"]
        return f"{'.'.join(path) or 'The configuration'} has no {' and no '.join(missing)}."
    if deepest["type"] == "unknown":
        return _unknown(path, context["key"], context["known"])
    same = [each["msg"] for each in errors if _keys(tree, each) == _keys(tree, deepest)]
    words = " or ".join(dict.fromkeys(each.removeprefix("Input should be ") for each in same))
    return f"{'.'.join(path)} must be {words}; got {deepest['input']!r}."


def _keys(tree: Any, error: Any) -> list[str]:
    """The keys that lead to the fault, without the alternatives that pydantic has tried."""
    keys = []
    for part in error["loc"]:
        if isinstance(part, int) or (isinstance(tree, dict) and part in tree):
            keys.append(str(part))
            tree = tree[part]
    return keys


def _unknown(path: list[str], key: Any, known: list[str]) -> str:
    close = closest(key, known)
    guess = f" Did you mean {'.'.join([*path, close])}?" if close else ""
    return (
        f"Unknown key {'.'.join([*path, str(key)])}.{guess} The keys here are {', '.join(known)}."
    )

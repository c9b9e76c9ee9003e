"""Sections of a configuration: keys of known types, and nothing else."""

import difflib
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

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

__all__ = ["Section", "closest", "section_of"]


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
            raise ConfigError(_said(error, where)) from error

    def given(self) -> dict[str, Any]:
        """Return the values that are not left to their defaults, by key."""
        return {key: getattr(self, key) for key in self.model_fields_set}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                known = {"key": key, "known": list(cls.model_fields)}
                raise PydanticCustomError("unknown", "{key}", known)
        return values

    @field_validator("*", mode="wrap")
    @classmethod
    def _typed(cls, value: Any, check: Callable[[Any], Any], info: Any) -> Any:
        try:
            return check(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            if not all(
                each["type"].endswith(("_type", "literal_error")) for each in error.errors()
            ):
                raise
            words = {"words": _words(cls.model_fields[info.field_name].annotation)}
            raise PydanticCustomError("wrong", "must be {words}", words) from None


def section_of(kind: type, **known: Any) -> type[Section]:
    """Return the section of a constructor's parameters, of the types of its hints or ``known``."""
    hints = get_type_hints(kind.__init__) | known  # type: ignore[misc]
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
        for name, default in (dict.fromkeys(known) | defaults).items()
    }
    return create_model(kind.__name__, __base__=Section, **fields)


def closest(word: Any, known: list[str]) -> str | None:
    """Return the one of some names that a wrong one was most likely meant to be."""
    return next(iter(difflib.get_close_matches(str(word), known, 1)), None)


def _said(error: ValidationError, where: str) -> str:
    """The first thing that is wrong, and all that is missing."""
    errors = error.errors()
    first, context = errors[0], errors[0].get("ctx", {})
    if isinstance(context.get("error"), InputError):
        return str(context["error"])
    path = [*([where] if where else []), *map(str, first["loc"])]
    if first["type"] == "missing":
        missing = [str(each["loc"][-1]) for each in errors if each["type"] == "missing"]
        return f"{'.'.join(path[:-1]) or 'The configuration'} has no {' and no '.join(missing)}."
    if first["type"] == "unknown":
        return _unknown(path, context["key"], context["known"])
    words = first["msg"].replace("Input should", "must")
    words = words.replace("greater than or equal to", "at least")
    return f"{'.'.join(path)} {words}; got {first['input']!r}."


def _unknown(path: list[str], key: Any, known: list[str]) -> str:
    close = closest(key, known)
    guess = f" Did you mean {'.'.join([*path, close])}?" if close else ""
    return (
        f"Unknown key {'.'.join([*path, str(key)])}.{guess} The keys here are {', '.join(known)}."
    )


def _words(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _words(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is tuple:
        return f"a list of {_MANY[get_args(hint)[0]]}"
    return _ONE.get(hint, "a mapping")


_ONE = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    NoneType: "null",
}
_MANY = {float: "numbers", str: "names"}

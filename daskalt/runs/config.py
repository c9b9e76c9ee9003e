"""A run as a YAML file describes it, checked against the constructors before any work."""

import difflib
import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from sklearn.base import is_classifier

from daskalt.checkpoint import Checkpoints
from daskalt.errors import ConfigError
from daskalt.model import ESTIMATORS
from daskalt.rules import LINE_SEARCHES, RULES, SCHEDULES, LineSearch, Rule, Schedule
from daskalt.runs.examples import EXAMPLES, HELD_OUT
from daskalt.solvers import BORROWED, SOLVERS

__all__ = ["DataConfig", "RunConfig", "load_config", "parameter_names", "read_overrides"]

# Parameters that take these take their names as well.
NAMED: dict[type, dict[str, Any]] = {
    Rule: RULES,
    Schedule: SCHEDULES,
    LineSearch: LINE_SEARCHES,
}


@dataclass(frozen=True)
class DataConfig:
    """Where the rows come from: one of ``dataset`` and ``train``.

    Attributes
    ----------
    dataset : str or None
        Name of a data set that comes with scikit-learn.
    train, test : str or None
        Paths or URLs of Zarr groups with arrays X and y.
    held_out : float or None
        Share of the rows to evaluate on: drawn at random from a bundled data set (0.2 unless
        told), the last rows of ``train`` (none unless told).
    seed : int
        Seed of that draw.
    chunk_rows : int or None
        Rows of a Zarr chunk of a bundled data set.
    """

    dataset: str | None = None
    train: str | None = None
    test: str | None = None
    held_out: float | None = None
    seed: int = 0
    chunk_rows: int | None = None

    def __post_init__(self) -> None:
        known = ", ".join(EXAMPLES)
        if (self.dataset is None) == (self.train is None):
            raise ConfigError(
                f"data must have either dataset (one of {known}) or train, the path or URL of a "
                "Zarr group with arrays X and y."
            )
        if self.dataset is not None and self.dataset not in EXAMPLES:
            raise ConfigError(f"data.dataset must be one of {known}; got {self.dataset!r}.")
        if self.dataset is not None and self.test is not None:
            raise ConfigError("data.test goes with data.train; a dataset is divided by held_out.")
        if self.test is not None and self.held_out is not None:
            raise ConfigError("data has both test and held_out: choose one.")
        if self.held_out is not None and not 0 < self.held_out < 1:
            raise ConfigError(f"data.held_out must be between 0 and 1; got {self.held_out}.")
        if self.seed < 0:
            raise ConfigError(f"data.seed must be at least 0; got {self.seed}.")
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ConfigError(f"data.chunk_rows must be at least 1; got {self.chunk_rows}.")


@dataclass(frozen=True)
class RunConfig:
    """A checked run: an estimator, unfitted, and what to fit it on.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
    data : DataConfig
    output : str
        The run folder.
    scheduler : str or None
        Address of a Dask scheduler to train on.
    workers : int or None
        Worker processes to start and train on.
    """

    estimator: Any
    data: DataConfig
    output: str
    scheduler: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.workers is not None:
            raise ConfigError("Give scheduler or workers, not both.")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1; got {self.workers}.")
        dataset = self.data.dataset
        if dataset and is_classifier(self.estimator) and not EXAMPLES[dataset].labelled:
            raise ConfigError(f"The targets of {dataset} are numbers: use MLPRegressor.")

    def resolved(self) -> dict[str, Any]:
        """Return the configuration with every default written out; it makes the same run."""
        parameters = self.estimator.get_params(deep=False)
        # What was borrowed from scikit-learn is part of the solver that is written out.
        parameters["solver"] = _described(self.estimator._solver, SOLVERS)
        parameters |= {name: None for name in BORROWED if name != "max_fun"}
        if isinstance(parameters["checkpoint"], Checkpoints):
            parameters["checkpoint"] = asdict(parameters["checkpoint"])
        data = asdict(self.data)
        if self.data.dataset is not None:
            data["held_out"] = self.data.held_out or HELD_OUT
        return {
            "estimator": type(self.estimator).__name__,
            "parameters": parameters,
            "data": data,
            "output": self.output,
            "scheduler": self.scheduler,
            "workers": self.workers,
        }


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Return the run that a YAML file describes.

    Parameters
    ----------
    path : str or Path
        The file.
    overrides : dict, optional
        Values by dotted key, such as ``{"parameters.max_iter": 5}``, that go before the file's.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong.
    """
    tree = _read(path)
    for key, value in (overrides or {}).items():
        _override(tree, key, value)
    _check_section(
        "",
        tree,
        {**get_type_hints(RunConfig), "estimator": str, "parameters": dict, "data": dict},
        required=("estimator", "data", "output"),
    )
    data = _section(tree, "data")
    _check_section("data", data, get_type_hints(DataConfig))
    estimator = _estimator(tree)
    rest = {key: tree[key] for key in ("output", "scheduler", "workers") if key in tree}
    return RunConfig(estimator, DataConfig(**data), **rest)


def read_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Return command-line words ``--key value`` or ``--key=value`` as values by dotted key.

    Values are read as YAML, so that ``5``, ``1e-3``, ``null`` and ``[64, 64]`` mean what they do
    in a file.
    """
    words, overrides = list(arguments), {}
    while words:
        key, equals, value = words.pop(0).partition("=")
        if not re.fullmatch(r"--[A-Za-z][\w.-]*", key):
            raise ConfigError(f"Expected --key value after the configuration; got {key!r}.")
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"{key} has no value.")
            value = words.pop(0)
        overrides[key[2:].replace("-", "_")] = _parse(value, key)
    return overrides


def _estimator(tree: dict[str, Any]) -> Any:
    name = tree["estimator"]
    if name not in ESTIMATORS:
        raise ConfigError(f"estimator must be one of {', '.join(ESTIMATORS)}; got {name!r}.")
    kind = ESTIMATORS[name]
    parameters = _section(tree, "parameters")
    hints = _constructor_hints(kind)
    # The constructors take more than a file can say.
    hints |= {"solver": str | dict, "random_state": int | None, "hidden_layer_sizes": int | list}
    hints["checkpoint"] = str | dict | None
    if "class_weight" in hints:
        hints["class_weight"] = str | dict | None
    _check_section("parameters", parameters, hints)
    if "solver" in parameters:
        parameters["solver"] = _built("parameters.solver", parameters["solver"], SOLVERS)
    if isinstance(checkpoint := parameters.get("checkpoint"), dict):
        where = "parameters.checkpoint"
        _check_section(where, checkpoint, get_type_hints(Checkpoints), required=("location",))
        parameters["checkpoint"] = Checkpoints(**checkpoint)
    estimator = kind(**parameters)
    estimator._check_parameters()
    return estimator


def _built(where: str, value: str | dict[str, Any], named: dict[str, Any]) -> Any:
    """What a name stands for, or with parameters of its own an object; solvers have parts."""
    given = dict(value) if isinstance(value, dict) else {"name": value}
    name = given.pop("name", next(iter(named)))
    if name not in named:
        raise ConfigError(f"{where} must be one of {', '.join(named)}; got {name!r}.")
    default = named[name]()
    hints = _constructor_hints(type(default))
    parts = _parts(hints)
    hints |= dict.fromkeys(parts, str | dict)
    _check_section(where, given, hints, also=("name",))
    if not given:
        return name
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    for part in parts.keys() & given.keys():
        given[part] = _built(f"{where}.{part}", given[part], parts[part])
    return default.set_params(**given)


def _described(thing: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The name and parameters from which `_built` makes the same object."""
    names = {type(make()): name for name, make in reversed(named.items())}
    parameters = thing.get_params(deep=False)
    for part, table in _parts(_constructor_hints(type(thing))).items():
        if not isinstance(parameters[part], str):
            parameters[part] = _described(parameters[part], table)
    return {"name": names[type(thing)], **parameters}


def _parts(hints: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters that take a named object, and the names."""
    return {
        parameter: table
        for parameter, hint in hints.items()
        for kind, table in NAMED.items()
        if kind in get_args(hint)
    }


def _constructor_hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    return {name: hints.get(name, Any) for name in inspect.signature(kind).parameters}


# Checks of keys and types


def _section(tree: dict[str, Any], key: str) -> dict[str, Any]:
    return dict(tree.get(key) or {})


def _check_section(
    where: str,
    values: dict[str, Any],
    hints: dict[str, Any],
    *,
    required: Sequence[str] = (),
    also: Sequence[str] = (),
) -> None:
    """Raise ConfigError for an unknown or missing key or a value of the wrong type."""
    prefix = f"{where}." if where else ""
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(_unknown(prefix, key, [*also, *hints]))
        if not _fits(value, hints[key]) and not (value is None and hints[key] is dict):
            raise ConfigError(f"{prefix}{key} must be {_words(hints[key])}; got {value!r}.")
    missing = [key for key in required if values.get(key) is None]
    if missing:
        raise ConfigError(f"{where or 'The configuration'} has no {' and no '.join(missing)}.")


def _unknown(prefix: str, key: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(key), known, 1)
    nested = [k for k in parameter_names()[0] if k == key] if not prefix else []
    if nested:
        guess = f" Did you mean parameters.{key}?"
    else:
        guess = f" Did you mean {prefix}{close[0]}?" if close else ""
    return f"Unknown key {prefix}{key}.{guess} The keys here are {', '.join(known)}."


def parameter_names() -> tuple[list[str], list[str]]:
    """Return the names of the parameters of estimators, and of solvers."""
    kinds = {type(make()) for make in SOLVERS.values()}
    return _names_of(ESTIMATORS.values()), _names_of(kinds)


def _names_of(kinds: Iterable[type]) -> list[str]:
    return sorted({name for kind in kinds for name in inspect.signature(kind).parameters})


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is tuple:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _words(hint: Any) -> str:
    words = {
        str: "text",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a mapping",
        NoneType: "null",
    }
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of numbers"
    return words.get(hint, str(hint))


# YAML


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


def _read(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error}.") from error
    tree = _parse(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must be a mapping with keys such as estimator; got {tree!r}.")
    return tree


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}.") from error


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        inner = tree.get(part)
        if part in ("solver", "rule", "schedule", "line_search") and isinstance(inner, str):
            inner = {"name": inner}
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"--{key}: {part} is {inner!r}, which has no keys.")
        inner = dict(inner or {})
        tree[part] = inner
        tree = inner
    tree[last] = value

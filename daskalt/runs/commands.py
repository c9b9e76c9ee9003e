"""The commands, once their words are parsed, with the libraries that each needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskalt.errors import ConfigError
from daskalt.ingest.ingest import ingest
from daskalt.runs.account import account
from daskalt.runs.document import read_document, read_words
from daskalt.wording import closest, plural, spoken

if TYPE_CHECKING:
    from daskalt.runs.config import RunConfig

__all__ = ["configured", "describe", "ready"]

# Options of fit and plan, and the keys of a configuration that they stand for.
KEYS = {
    "estimator": ("estimator",),
    "hidden": ("parameters.hidden_layer_sizes",),
    "passes": ("parameters.max_iter",),
    "solver": ("parameters.solver",),
    "early_stopping": ("parameters.early_stopping",),
    "seed": ("parameters.random_state", "data.seed"),
    "target": ("data.target",),
    "features": ("data.features",),
    "exclude": ("data.exclude",),
    "id": ("data.id",),
    "test": ("data.test",),
    "held_out": ("data.held_out",),
    "workers": ("workers",),
    "scheduler": ("scheduler",),
    "dashboard": ("dashboard",),
    "output": ("output",),
}
SECTIONS = ("parameters", "data")
HELD_OUT = 0.1  # of rows that are given without a configuration


def describe(error: Exception, command: str) -> str:
    """Return the message of an error on one line, with options in place of Python's arguments."""
    if command not in ("fit", "plan"):
        return spoken(str(error), command, [], [])
    from daskalt.runs.parts import parameter_names

    return spoken(str(error), command, *parameter_names())


def configured(words: Sequence[str] | None, options: dict[str, Any]) -> RunConfig:
    """Return the run that places, overrides and options of a command line ask for.

    The first place is a configuration where it ends in .yaml or .yml; else all are data.
    """
    from daskalt.runs.config import config_of

    places, overrides = read_words(words or ())
    for key in overrides:
        _check_key(key)
    for option, value in options.items():
        for key in KEYS[option] if value is not None else ():
            if key in overrides:
                raise ConfigError(
                    f"--{option.replace('_', '-')} and --{key} mean the same: give one of them."
                )
            overrides[key] = _widths(value) if option == "hidden" else _one_or_several(value)
    configurations = [place for place in places if place.endswith((".yaml", ".yml"))]
    if configurations and len(places) > 1:
        others = shlex.join(place for place in places if place != configurations[0])
        raise ConfigError(
            f"A configuration stands alone: {configurations[0]} and {others} are given. Name its "
            "data by --data.train."
        )
    tree = read_document(places[0]) if configurations else _tree(places, overrides)
    return config_of(tree, overrides)


def _tree(places: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The configuration for data without a configuration file."""
    if not places:
        raise ConfigError("Name a configuration or data first, as in daskalt fit train.zarr.")
    name = re.sub(r"\W+", "-", Path(places[0]).name.split(".")[0]).strip("-") or "run"
    data: dict[str, Any] = {"train": places[0] if len(places) == 1 else places}
    if "data.test" not in given:
        data["held_out"] = HELD_OUT
    return {
        "parameters": {"random_state": 0, "verbose": True},
        "data": data,
        "output": f"runs/{name}",
    }


def _check_key(key: str) -> None:
    """Refuse what is neither an option nor a key of a section."""
    from daskalt.runs.parts import parameter_names

    if key.split(".")[0] in SECTIONS:
        return
    options = [name.replace("_", "-") for name in (*KEYS, "overwrite", "resume", "json")]
    nested = [f"parameters.{name}" for name in parameter_names()[0]]
    word, inner = key.replace("_", "-"), f"parameters.{key}"
    guesses = [name for name in (word, inner) if name in (*options, *nested)]
    guess = next(iter(guesses), None) or closest(word, options) or closest(inner, nested)
    hint = f" Did you mean --{guess}?" if guess else ""
    raise ConfigError(
        f"Unknown option --{key}.{hint} Parameters are given as --parameters.NAME, keys of the "
        "data as --data.NAME."
    )


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--hidden must be a width or several with commas, as in 256,128; got {text!r}."
        ) from None


def _fit(words: list[str] | None, overwrite: bool, resume: bool, **options: Any) -> None:
    from daskalt.runs.running import run

    config = configured(words, options)
    _say_estimator(config)
    report = run(config, overwrite=overwrite, resume=resume)
    cost = report["cost"]
    done = f"Trained {plural(cost['passes'], 'pass', 'passes')} in {cost['seconds']:.1f} s"
    if "resumed_after" in cost:
        done += f", {cost['resumed_after']} of them before it was resumed"
    print(f"{done}.")
    if "held_out" in report:
        rows = plural(report["rows"]["held_out"], "held-out row")
        print(f"On {rows}: {_words(report['held_out'])}.")
    print(f"Everything is in {config.output}: look at {Path(config.output) / 'report.html'}")


def _say_estimator(config: RunConfig) -> None:
    if config.reason is None:
        return
    kinds = ["MLPClassifier", "MLPRegressor"]
    kinds.remove(chosen := type(config.estimator).__name__)
    print(f"{chosen}, as the target {config.reason}; --estimator {kinds[0]} for the other.")


def _plan(words: list[str] | None, json: bool, **options: Any) -> None:
    from daskalt.runs.running import plan_run

    config = configured(words, options)
    if not json:
        _say_estimator(config)
    project, plan = plan_run(config)
    print(dumps(plan.as_dict(), indent=2) if json else plan, flush=True)
    project.check(plan)


def _predict(model: str, X: str, output: str | None, **options: Any) -> None:
    from daskalt.runs.output import write_predictions

    rows = write_predictions(_model(model), X, output, **options)
    if output is not None:
        print(f"{plural(rows, 'prediction')} in {output}")


def _evaluate(model: str, data: str, **options: Any) -> None:
    from daskalt.runs.inputs import rows_with_targets
    from daskalt.runs.report import quality

    fitted = _model(model)
    with rows_with_targets(fitted, data, **options) as table:
        score = quality(fitted, fitted._score(table, None, None))
        print(dumps({"rows": table.n_rows, **score}))


def _ingest(
    inputs: list[str], destination: str, target: Any, features: Any, **options: Any
) -> None:
    table = ingest(
        inputs,
        destination,
        target=_one_or_several(target),
        features=_one_or_several(features),
        **options,
        progress=True,
    )
    for line in account(destination, table):
        print(line)


def _one_or_several(given: Any) -> Any:
    return given[0] if isinstance(given, list) and len(given) == 1 else given


def _model(folder: str) -> Any:
    """The model of a run folder, or of a folder that ``daskalt.save`` wrote."""
    from daskalt.estimators.model import load

    place = Path(folder)
    return load(place / "model" if (place / "model").is_dir() else place)


def _words(quality: dict[str, float]) -> str:
    names = {"loss": "loss", "accuracy": "accuracy", "r2": "R²"}
    return ", ".join(f"{names[k]} {v:.4f}" for k, v in quality.items() if k in names)


# Each command and the modules that it imports: others would only cost time.
COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "fit": (_fit, ("runs.config", "runs.running")),
    "plan": (_plan, ("runs.config", "runs.running")),
    "predict": (_predict, ("estimators.model", "runs.output")),
    "evaluate": (_evaluate, ("estimators.model", "runs.inputs", "runs.report")),
    "ingest": (_ingest, ()),
}


def ready(command: str) -> Callable[..., None]:
    """Return the function that carries out a command, with its imports done."""
    carry_out, modules = COMMANDS[command]
    for module in modules:
        import_module(f"daskalt.{module}")
    return carry_out

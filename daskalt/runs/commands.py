"""What the commands do, once their words are understood."""

import argparse
import json
from pathlib import Path
from typing import Any

from daskalt.data.ingest import ingest
from daskalt.model import load
from daskalt.runs.account import account
from daskalt.runs.config import load_config, parameter_names, read_overrides
from daskalt.runs.inputs import rows_with_targets
from daskalt.runs.output import write_predictions
from daskalt.runs.report import quality
from daskalt.runs.running import plan_run, run
from daskalt.wording import plural, spoken

__all__ = ["COMMANDS", "describe"]


def describe(error: Exception, command: str) -> str:
    """Return what an error says on one line, with options in place of Python's arguments."""
    return spoken(str(error), command, *parameter_names())


def _fit(options: argparse.Namespace) -> None:
    overrides = read_overrides(options.overrides)
    if options.output is not None:
        overrides["output"] = options.output
    config = load_config(options.config, overrides)
    report = run(config, overwrite=options.overwrite, resume=options.resume)
    cost = report["cost"]
    done = f"Trained {plural(cost['passes'], 'pass', 'passes')} in {cost['seconds']:.1f} s"
    if "resumed_after" in cost:
        done += f", {cost['resumed_after']} of them before it was resumed"
    print(f"{done}.")
    if "held_out" in report:
        rows = plural(report["rows"]["held_out"], "held-out row")
        print(f"On {rows}: {_words(report['held_out'])}.")
    print(f"Everything is in {config.output}")


def _plan(options: argparse.Namespace) -> None:
    config = load_config(options.config, read_overrides(options.overrides))
    project, plan = plan_run(config)
    print(json.dumps(plan.as_dict(), indent=2) if options.json else plan, flush=True)
    project.check(plan)


def _predict(options: argparse.Namespace) -> None:
    model = _model(options.model)
    write_predictions(
        model,
        options.X,
        options.output,
        proba=options.proba,
        ident=options.ident,
        missing=options.missing,
        unknown=options.unknown,
        overwrite=options.overwrite,
        stored_order=options.stored_order,
    )


def _evaluate(options: argparse.Namespace) -> None:
    model = _model(options.model)
    asked = {"target": options.target, "missing": options.missing, "unknown": options.unknown}
    with rows_with_targets(model, options.data, **asked) as table:
        score = quality(model, model._score(table, None, None))
        print(json.dumps({"rows": table.n_rows, **score}))


def _ingest(options: argparse.Namespace) -> None:
    table = ingest(
        options.inputs,
        options.destination,
        target=_one_or_several(options.target),
        features=_one_or_several(options.features),
        exclude=options.exclude,
        weight=options.weight,
        ident=options.ident,
        categorical=options.categorical,
        missing=options.missing,
        unknown=options.unknown,
        max_categories=options.max_categories,
        recipe=options.recipe,
        dtype=options.dtype,
        shuffle=options.shuffle,
        seed=options.seed,
        chunk_rows=options.chunk_rows,
        overwrite=options.overwrite,
        progress=True,
    )
    for line in account(options.destination, table):
        print(line)


def _one_or_several(names: list[str] | None) -> Any:
    return names[0] if names and len(names) == 1 else names


def _model(folder: str) -> Any:
    """The model of a run folder, or of a folder that ``daskalt.save`` wrote."""
    place = Path(folder)
    return load(place / "model" if (place / "model").is_dir() else place)


def _words(quality: dict[str, float]) -> str:
    names = {"loss": "loss", "accuracy": "accuracy", "r2": "R²"}
    return ", ".join(f"{names[k]} {v:.4f}" for k, v in quality.items() if k in names)


COMMANDS = {
    "fit": _fit,
    "plan": _plan,
    "predict": _predict,
    "evaluate": _evaluate,
    "ingest": _ingest,
}

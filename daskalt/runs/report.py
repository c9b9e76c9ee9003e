"""The report of a run as plain values: ``report.json``, and the content of its page."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from daskalt.assessment.quality import confusion_matrix, residual_histogram
from daskalt.compute.graph import active_client
from daskalt.compute.statistics import Score
from daskalt.data.arranging import mixing_bytes
from daskalt.data.table import Table
from daskalt.data.targets import ClassTargets, RealTargets
from daskalt.memory.limits import peak_resident, process_limit
from daskalt.runs.config import RunConfig
from daskalt.versions import versions

__all__ = [
    "assess",
    "describe_data",
    "describe_fit",
    "describe_run",
    "measure",
    "quality",
    "rate_classes",
]

VALUES = 12  # values of a category that are named


MOST_COUNTED = 1000  # classes whose confusions are counted at all: their squares
MOST_KEPT = 100  # classes of a confusion matrix that is reported whole
WORST = 20  # confusions that are named


def quality(estimator: Any, score: Score) -> dict[str, float]:
    """Return loss and accuracy or R² of some rows, by name."""
    name = "accuracy" if estimator._fitted.problem.classifies else "r2"
    return {"loss": score.mean_loss, name: float(getattr(score, name))}


def describe_run(config: RunConfig) -> dict[str, Any]:
    """Return what is known of a run before its rows are opened."""
    changed, kept = _parameters(config.estimator)
    return {
        "estimator": type(config.estimator).__name__,
        "title": config.data.title,
        "output": config.output,
        "parameters": {"changed": changed, "defaults": kept},
        "machine": {
            "name": platform.node(),
            "system": platform.platform(),
            "cores": len(os.sched_getaffinity(0)),
            "memory": process_limit().bytes,
            "workers": config.workers,
            "scheduler": config.scheduler,
        },
        "versions": versions(),
        "data": {},
    }


def _parameters(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that differ from their defaults, and those that do not."""
    plain = type(estimator)().get_params(deep=False)
    given = {name: _shown(value) for name, value in estimator.get_params(deep=False).items()}
    changed = {name: value for name, value in given.items() if value != _shown(plain[name])}
    return changed, {name: value for name, value in given.items() if name not in changed}


def _shown(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_shown(each) for each in value]
    return value if isinstance(value, list | str | int | float | None) else repr(value)


def describe_rows(table: Table, place: str | None) -> dict[str, Any]:
    """Return number, features and type of rows."""
    return {
        "place": place,
        "rows": table.n_rows,
        "features": int(np.prod(table.X.shape[1:])),
        "type": str(table.X.dtype),
        "bytes": table.nbytes,
        "weighted": table.weight is not None,
    }


def describe_data(config: RunConfig, train: Table, test: Table | None) -> dict[str, Any]:
    """Return what is known of the rows before the fit."""
    data, output = config.data, config.output
    if data.dataset is not None:
        places = [str(Path(output) / "data" / f"{part}.zarr") for part in ("train", "test")]
    else:
        given = data.places
        names = [", ".join(given[key]) for key in ("data.train", "data.test") if key in given]
        places = [names[0], names[-1]]
    tables = {"training": train} | ({} if test is None else {"held_out": test})
    rows = {"training": train.n_rows, "held_out": 0 if test is None else test.n_rows}
    described = {
        name: describe_rows(table, place)
        for (name, table), place in zip(tables.items(), places, strict=False)
    }
    return {"rows": rows, "data": described}


def describe_fit(estimator: Any) -> dict[str, Any]:
    """Return the results of a fit."""
    history = estimator.history_
    watched = "validation_loss" if "validation_loss" in history[-1] else "loss"
    losses = [record[watched] for record in history]
    best = 0 if np.isnan(losses).all() else int(np.nanargmin(losses))
    problem = estimator._fitted.problem
    facts = {
        "passes": estimator.n_iter_,
        "stop_reason": estimator.stop_reason_,
        "stop_kind": estimator._fitted.end.kind,
        "watched": watched,
        "last_pass": history[-1],
        "best_pass": history[best],
        "cost": estimator.cost_,
        "network": list(problem.network.widths),
        "scaling": _scaling(problem.scaling),
        "feature_names": list(map(str, getattr(estimator, "feature_names_in_", []))),
    }
    if hasattr(estimator, "classes_"):
        facts["classes"] = [str(label) for label in np.asarray(estimator.classes_).tolist()]
    if hasattr(estimator, "recipe_"):
        facts["columns"] = [_column(column) for column in estimator.recipe_["columns"]]
    return facts


def _column(column: dict[str, Any]) -> dict[str, Any]:
    """The content of a column of a file, and its use."""
    values = column.get("categories")
    if values is None:
        words = f"{column['low']:.6g} to {column['high']:.6g}"
        if column["missing"]:
            words += f", missing ones as {column['fill']:.6g}"
    else:
        shown = ", ".join("missing" if value is None else value for value in values[:VALUES])
        words = (
            f"a feature for each of {len(values)}: {shown}{', …' if len(values) > VALUES else ''}"
        )
    about = {name: column[name] for name in ("name", "kind", "type", "missing")}
    return about | {"values": words}


def _scaling(scaling: Any) -> str:
    if not scaling.shift.any() and np.ptp(scaling.factor) == 0:
        factor = float(scaling.factor[0])
        return "none" if factor == 1 else f"every column divided by {1 / factor:.6g}"
    limits = ", and clipped" if np.isfinite(scaling.reach) else ""
    return f"each column shifted and divided by its spread{limits}"


def measure() -> dict[str, Any]:
    """Return the peak memory of this process, and of the workers if there are any."""
    client = active_client()
    workers = [] if client is None else list(client.run(peak_resident).values())
    return {"client_bytes": peak_resident(), "worker_bytes": max(workers, default=None)}


def assess(estimator: Any, train: Table, test: Table | None) -> dict[str, Any]:
    """Return how good a model is, on held-out rows or on few training rows."""
    facts: dict[str, Any] = {}
    if test is not None:
        facts["held_out"] = quality(estimator, estimator._score(test, None, None))
    if test is None and train.nbytes > mixing_bytes(None):  # which would take as long as a pass
        return facts
    table, of = (train, "training") if test is None else (test, "held-out")
    targets = estimator._fitted.problem.targets
    about = {"rows": of, "count": table.n_rows}
    if isinstance(targets, ClassTargets) and len(estimator.classes_) <= MOST_COUNTED:
        counts = confusion_matrix(estimator, table)
        facts["confusion"] = {**about, "classes": rate_classes(counts)}
        facts["confusion"]["worst"] = _worst(counts, estimator.classes_)
        if len(counts) <= MOST_KEPT:
            facts["confusion"]["counts"] = counts
    elif isinstance(targets, RealTargets):
        counts, predicted, residual = residual_histogram(estimator, table, bins=48)
        facts["residuals"] = about | {
            "counts": counts,
            "predicted_edges": predicted,
            "residual_edges": residual,
            "outputs": targets.width,
        }
    return facts


def _worst(counts: np.ndarray, classes: np.ndarray) -> list[dict[str, Any]]:
    """The most frequent confusions."""
    rows, wrong = counts.sum(axis=1), counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    return [
        {"true": str(classes[i]), "predicted": str(classes[j]), "rows": wrong[i, j], "of": rows[i]}
        for i, j in zip(*np.unravel_index(places, wrong.shape), strict=True)
        if wrong[i, j] > 0
    ]


def rate_classes(counts: np.ndarray) -> list[dict[str, float | None]]:
    """Return precision, recall, F1 and rows of each class; None where there is nothing to say.

    Parameters
    ----------
    counts : ndarray of shape (classes, classes)
        Rows by true and predicted label.
    """
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)

    def share(part: float, whole: float) -> float | None:
        return float(part / whole) if whole > 0 else None

    return [
        {
            "precision": share(hit, p),
            "recall": share(hit, t),
            "f1": share(2 * hit, t + p),
            "rows": float(t),
            "predicted": float(p),
        }
        for hit, t, p in zip(hits, true, predicted, strict=True)
    ]

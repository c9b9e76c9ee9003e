"""The page of a report: one self-contained HTML file."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from daskalt.compute.bars import describe_count, describe_seconds
from daskalt.memory.limits import describe_bytes
from daskalt.runs.charts import draw_curve, draw_residuals
from daskalt.training.listeners import SCORES
from daskalt.wording import plural

__all__ = ["render"]

History = Sequence[dict[str, Any]]

TEMPLATE = "report.html.jinja"
MOST_DRAWN = 30  # classes of a confusion matrix; of more the worst confusions are listed


def render(report: dict[str, Any], history: History) -> str:
    """Return the page of a finished run.

    Parameters
    ----------
    report : dict
        As in ``report.json``.
    history : list of dict
        ``history_`` of the fitted estimator.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "seconds": describe_seconds,
        "bytes": describe_bytes,
        "number": _number,
        "count": describe_count,
        "share": _share,
        "time": lambda stamp: stamp.replace("T", " ").replace("Z", " UTC"),
    }
    source = files("daskalt.runs").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        history=history,
        columns=list(dict.fromkeys(name for record in history for name in record)),
        charts=[Markup(chart) for chart in _charts(report, history)],
        residuals=Markup(draw_residuals(report["residuals"])) if "residuals" in report else None,
        matrix=_matrix(report),
        worst=report.get("confusion", {}).get("worst", []),
        plan=list(_plan_rows(report)),
        plural=plural,
    )


def _charts(report: dict[str, Any], history: History) -> list[str]:
    held = "held-out" if "held_out" in report["data"] else "validation"
    if report["parameters"]["changed"].get("early_stopping"):
        held = "validation"
    charts = [draw_curve(history, "loss", "loss", held)]
    for name, words in SCORES.items():
        if any(name in record or f"validation_{name}" in record for record in history):
            charts.append(draw_curve(history, name, words, held))
    return charts


def _matrix(report: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of a confusion matrix: a label, and cells, shaded by their share of the row."""
    if "confusion" not in report or len(report["classes"]) > MOST_DRAWN:
        return None
    counts = np.asarray(report["confusion"]["counts"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
    return [
        {
            "label": label,
            "cells": [
                {"count": n, "shade": s if i == j else s**0.5, "right": i == j}
                for j, (n, s) in enumerate(zip(row, share, strict=True))
            ],
        }
        for i, (label, row, share) in enumerate(
            zip(report["classes"], counts.tolist(), shares.tolist(), strict=True)
        )
    ]


def _plan_rows(report: dict[str, Any]) -> Any:
    """What was planned and what was measured, in words."""
    plan, measured, cost = report.get("plan"), report["measured"], report["cost"]
    if not plan:
        return
    yield "passes", f"{plan['passes']}", f"{cost['passes']}"
    yield "read", describe_bytes(plan["bytes_read"]), describe_bytes(cost["bytes_read"])
    yield "written", describe_bytes(plan["bytes_written"]), describe_bytes(cost["bytes_written"])
    yield (
        "peak memory of this process",
        f"{describe_bytes(plan['client_bytes'])} of {describe_bytes(plan['memory_limit'])}",
        describe_bytes(measured["client_bytes"]),
    )
    if plan["worker_bytes"] and measured["worker_bytes"]:
        yield (
            "peak memory of a worker",
            describe_bytes(plan["worker_bytes"]),
            describe_bytes(measured["worker_bytes"]),
        )
    speed = f"{cost['gflops_per_second']:.1f} GFLOP/s"
    yield "arithmetic", f"{plan['flops']:.3g} operations", speed
    training = describe_seconds(cost["training_seconds"])
    yield "time", "–", f"{describe_seconds(cost['seconds'])}, of which training {training}"


def _number(value: Any) -> str:
    """A number of a table, short."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

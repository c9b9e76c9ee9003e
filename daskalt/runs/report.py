"""What a run leaves to read: metrics of each pass, a report, and the learning curve."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daskalt.statistics import Score

__all__ = ["quality", "save_learning_curve", "write_json", "write_metrics"]

History = Sequence[dict[str, Any]]

TRAINING, HELD_OUT = "#2a6f97", "#d1495b"
INK, FAINT = "#333333", "#dddddd"


def quality(estimator: Any, score: Score) -> dict[str, float]:
    """Return loss and accuracy or R² of some rows, by name."""
    name = "accuracy" if estimator._fitted.problem.classifies else "r2"
    return {"loss": score.mean_loss, name: float(getattr(score, name))}


def write_metrics(history: History, path: Path) -> None:
    """Write a CSV file with one row for each pass."""
    columns = list(dict.fromkeys(name for record in history for name in record))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def write_json(document: Any, path: Path) -> None:
    """Write a JSON file; NumPy numbers become plain ones."""
    text = json.dumps(document, indent=2, default=lambda value: value.item())
    path.write_text(text + "\n", encoding="utf-8")


def save_learning_curve(history: History, path: Path, title: str, held_name: str) -> None:
    """Draw loss and accuracy or R² against passes, and save the picture.

    Parameters
    ----------
    history : list of dict
        ``history_`` of a fitted estimator.
    path : Path
        Where the PNG file goes.
    title : str
    held_name : str
        What to call the rows that were scored but not trained on.
    """
    from matplotlib.figure import Figure  # slow to import, and only `fit` draws

    measures = [("loss", "loss")]
    for name, words in (("accuracy", "accuracy"), ("r2", "R²")):
        if any(name in record or f"validation_{name}" in record for record in history):
            measures.append((name, words))
    figure = Figure(figsize=(4.6 * len(measures), 3.6), layout="constrained")
    figure.suptitle(title, color=INK, fontsize=11)
    for axes, (name, words) in zip(
        figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True
    ):
        _draw(axes, history, name, held_name)
        axes.set_title(words, loc="left", color=INK, fontsize=10)
    figure.axes[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    figure.savefig(path, dpi=150)


def _draw(axes: Any, history: History, name: str, held_name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for key, label, colour in (
        (name, "training rows, as the pass met them", TRAINING),
        (f"validation_{name}", f"{held_name}, after the pass", HELD_OUT),
    ):
        points = [(record["pass"], record[key]) for record in history if key in record]
        if points:
            marker = "o" if len(points) <= 40 else ""
            axes.plot(
                *zip(*points, strict=True), color=colour, label=label, lw=1.8, marker=marker, ms=3
            )
    if name == "loss" and all(record["loss"] > 0 for record in history):
        axes.set_yscale("log")
    axes.set_xlabel("passes over the training rows", color=INK, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, which="both")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

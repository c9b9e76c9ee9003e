"""Charts of a report as SVG in the colours of the page around it, light or dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["draw_curve", "draw_residuals"]

History = Sequence[dict[str, Any]]

# Placeholders for the page's own colours.
INK, FAINT, TRAINING, HELD_OUT = "#010203", "#040506", "#070809", "#0a0b0c"
COLOURS = {INK: "--ink", FAINT: "--faint", TRAINING: "--training", HELD_OUT: "--held-out"}
SIZE = (5.2, 3.1)  # inches
MANY = 40  # passes, above which points are not marked


def draw_curve(history: History, name: str, words: str, held_name: str) -> str:
    """Return the SVG of a loss or score against passes, of training and held-out rows."""
    figure, axes = _axes()
    ends: list[float] = []
    for key, label, colour in (
        (name, "training", TRAINING),
        (f"validation_{name}", held_name, HELD_OUT),
    ):
        points = [(record["pass"], record[key]) for record in history if key in record]
        points = [(x, y) for x, y in points if y is not None and np.isfinite(y)]
        if points:
            marker = "o" if len(points) <= MANY else ""
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=colour, label=label, lw=1.8, marker=marker, ms=3.5)
            ends += y
    if name == "loss" and ends and min(ends) > 0 and max(ends) > 5 * min(ends):
        _log_scale(axes)
    axes.set_xlabel("pass", color=INK)
    axes.set_ylabel(words, color=INK)
    _whole_numbers(axes, len(history))
    axes.grid(axis="y", color=FAINT, lw=0.7)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    shown = ", ".join(line.get_label() for line in axes.lines)
    return _svg(figure, name, f"Curve of the {words} by pass: {shown}.")


def draw_residuals(residuals: dict[str, Any]) -> str:
    """Return the SVG of a histogram of residuals against predictions."""
    from matplotlib.colors import to_rgb

    figure, axes = _axes()
    counts = np.asarray(residuals["counts"], float).T
    x, y = residuals["predicted_edges"], residuals["residual_edges"]
    picture = np.zeros((*counts.shape, 4))
    picture[..., :3] = to_rgb("#3f7fb5")  # of which light and dark pages let enough through
    shade = np.log1p(counts) / np.log1p(max(counts.max(), 1))
    picture[..., 3] = np.where(counts > 0, 0.2 + 0.8 * shade, 0)
    axes.imshow(
        picture,
        origin="lower",
        extent=(x[0], x[-1], y[0], y[-1]),
        aspect="auto",
        interpolation="nearest",
    )
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xlabel("prediction", color=INK)
    axes.set_ylabel("residual: target − prediction", color=INK)
    words = "Histogram of residuals against predictions; stronger cells have more rows."
    return _svg(figure, "residuals", words)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # slow to import, and only the report draws

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9, which="both")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(FAINT)
    return figure, axes


def _log_scale(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _whole_numbers(axes: Any, passes: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    edge = 0.5 if passes == 1 else min(0.5, 0.03 * passes)
    axes.set_xlim(1 - edge, passes + edge)


def _svg(figure: Any, name: str, words: str) -> str:
    """The figure as an element of a page, with the page's colours and fonts."""
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 inherit", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg

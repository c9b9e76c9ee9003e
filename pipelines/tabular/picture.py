"""The picture of the comparison: seconds against how good each method is."""

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from pipelines.benchmark.picture import MARKERS, PALETTE
from pipelines.tabular.summary import NEAR, geometric_mean

TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
LEGEND = {"loc": "outside lower center", "ncols": 7, "fontsize": "small", "columnspacing": 1.2}


def drawing(results):
    """A function that draws the results on a figure: every table, and the networks' means."""

    def draw(figure):
        points, means = figure.subplots(1, 2, width_ratios=(3, 2))
        styles = zip(results.methods, PALETTE, MARKERS, strict=False)
        for name, colour, marker in styles:
            style = {"color": colour, "marker": marker, "linestyle": "none", "label": name}
            draw_points(points, results, name, style)
            if name in results.networks:
                draw_mean(means, results, name, style)
        finish_points(points)
        finish_means(means, results)
        figure.legend(*points.get_legend_handles_labels(), **LEGEND)

    return draw


def draw_points(axes, results, name, style):
    """One point a table: its seconds and its score less the best network's."""
    (seconds,) = results.medians("seconds", [name]).T
    differences = results.differences(name, results.networks or results.methods)
    shown = np.isfinite(seconds) & np.isfinite(differences)
    axes.plot(seconds[shown], differences[shown], **style, markersize=6, alpha=0.75)


def finish_points(axes):
    """Scales and labels of the points."""
    low, high = axes.dataLim.intervaly
    axes.axhspan(-NEAR, NEAR, color="0.92", zorder=0)
    axes.set(
        xscale="log",
        xlabel="seconds of a fit",
        ylabel="score less the best network's",
        title="each table",
    )
    # Linear between the ticks next to zero, where most points are; logarithmic outside.
    axes.set_yscale("symlog", linthresh=TICKS[0])
    axes.set_yticks([*(-tick for tick in reversed(TICKS)), 0, *TICKS])
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:+g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(min(1.3 * low, -2 * NEAR), max(1.3 * high, NEAR))
    finish(axes)


def draw_mean(axes, results, name, style):
    """The method's geometric mean of seconds and its mean rank."""
    seconds = geometric_mean(results.medians("seconds", [name]))[0]
    axes.plot(seconds, results.mean_ranks(results.networks)[name], **style, markersize=9)


def finish_means(axes, results):
    """Scales and labels of the means; the best rank is at the top."""
    axes.set(
        xscale="log",
        xlabel="geometric mean of the seconds",
        ylabel=f"mean rank among the {len(results.networks)} networks",
        title="all tables, networks",
        ylim=(len(results.networks) + 0.3, 0.7),
    )
    finish(axes)


def finish(axes):
    """Seconds as plain numbers, and a grid."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.9", linewidth=0.5)
    axes.title.set_fontsize("medium")

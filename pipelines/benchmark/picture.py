"""The picture of the benchmark: test accuracy against seconds, one line a run."""

import matplotlib
from matplotlib.ticker import LogLocator, PercentFormatter, StrMethodFormatter

PALETTE = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
MARKERS = "osD^vPX"


def draw(curves, path, *, target=0.98):
    """Draw test accuracy against training seconds (logarithmic) and save it to `path`.

    Every seed has a thin line; the marks are the ends of its passes.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = list(dict.fromkeys(curve.method for curve in curves))
    styles = dict(zip(methods, zip(PALETTE, MARKERS, strict=True), strict=False))
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for curve in curves:
        colour, marker = styles[curve.method]
        first = next(other for other in curves if other.method == curve.method) is curve
        axes.plot(
            curve.elapsed,
            curve.accuracy,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            alpha=0.8,
            label=curve.method if first else None,
        )
    axes.axhline(target, color="0.5", linestyle="--", linewidth=1)
    lowest = min(value for curve in curves for value in curve.accuracy)
    axes.set(xscale="log", xlabel="training time (s)", ylabel="test accuracy")
    highest = max(target, *(value for curve in curves for value in curve.accuracy))
    # Below 90 % every method is on its way up; the difference lies above.
    axes.set_ylim(max(0.9, min(lowest, target) - 0.003), highest + 0.002)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.grid(which="both", color="0.9", linewidth=0.5)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

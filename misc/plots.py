"""Plots of results as pictures, uint8 RGB `[height, width, 3]`."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Hues that colour-blind readers can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"
INCH = 100


def draw_scatter(rated, predicted, title=""):
    """Draws predicted over rated scores, one point per image, with the line of equality.

    Args:
        rated: `[N]`.
        predicted: `[N]`.
        title: text above.
    """
    rated, predicted = np.asarray(rated), np.asarray(predicted)
    figure = Figure(figsize=(5, 5), dpi=INCH, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(4000 / max(1, len(rated)), 4, 36))
    axes.scatter(rated, predicted, s=size, color=BLUE, alpha=0.6, linewidths=0)
    both = np.concatenate([rated, predicted])
    both = both[np.isfinite(both)]
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    limits = low - margin, high + margin
    axes.plot(limits, limits, color=GREY, linewidth=1, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=title)
    axes.set(xlabel="rated mean score", ylabel="predicted mean score")
    axes.grid(alpha=0.25)
    return _render(figure)


def draw_histograms(panels, labels):
    """Draws predicted beside rated distributions.

    Args:
        panels: list of (title, predicted `[K]`, rated `[K]`).
        labels: texts of the K bins.
    """
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(max(4.5, 3.0 * columns), 2.3 * rows + 0.5), dpi=INCH, layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    places = np.arange(len(labels))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, predicted, rated) in zip(grid.flat, panels, strict=False):
        axes.bar(places - 0.2, rated, 0.4, color=GREY, label="rated")
        axes.bar(places + 0.2, predicted, 0.4, color=BLUE, label="predicted")
        axes.set_title(_shortened(title), fontsize=9)
        axes.set_xticks(places, labels, fontsize=8)
        axes.tick_params("y", labelsize=8)
        axes.tick_params("x", labelbottom=True)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return _render(figure)


def _shortened(title, length=32):
    # The end of a path says more than its beginning.
    return title if len(title) <= length else "..." + title[3 - length :]


def _render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

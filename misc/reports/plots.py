"""Plots of results as pictures, uint8 RGB `[height, width, 3]`."""

import math
import typing

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Hues that colour-blind readers can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"
LINE_COLOURS = (BLUE, ORANGE, "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
# Lines differ in colour and mark, and beyond so many in their strokes, too.
MARKS = "os^Dv*"
STROKES = ("-", "--", "-.", ":")
# Of a curve with many points so many are marked.
MARKED_POINTS = 12
PERCENT = (0, 100)
INCH = 100
# Sides in inches of a heat map's cell: with a number in it, and as small as can be seen.
NUMBERED_CELL = 0.55, 0.36
SMALL_CELL = 0.3
LARGEST_MAP = 8.0


def draw_scatter(rated, predicted, title=""):
    """Draws predicted over rated scores, one point per image, with the line of equality.

    Args:
        rated: `[N]`.
        predicted: `[N]`.
        title: text above.
    """
    rated, predicted = np.asarray(rated), np.asarray(predicted)
    figure, ((axes,),) = _grid(1, 1, 1, (5, 5))
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
    size = max(4.5, 3.0 * columns), 2.3 * rows + 0.5
    figure, grid = _grid(len(panels), rows, columns, size, sharex=True)
    places = np.arange(len(labels))
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


class Panel(typing.NamedTuple):
    """What `draw_curves` draws beside each other.

    Attributes:
        x_label: label of the horizontal axis, with the unit.
        curves: {name: list of (x, y)}.
        title: text above.
        reference: `None`, or (name, value) of a horizontal line.
    """

    x_label: str
    curves: dict
    title: str = ""
    reference: tuple | None = None


def draw_curves(panels, y_label, y_scale="linear", y_limits=None, x_scale="linear", width=3.6):
    """Draws lines, in panels side by side that share the vertical axis.

    Args:
        panels: list of `Panel`.
        y_label: label of the vertical axis.
        y_scale: "linear" or "log".
        y_limits: `None`, or (lowest, highest) value of the vertical axis, such as `PERCENT`.
        x_scale: "linear" or "log".
        width: of a panel in inches.
    """
    columns = min(4, math.ceil(math.sqrt(len(panels))) if len(panels) > 3 else len(panels))
    rows = math.ceil(len(panels) / columns)
    most = max(len(panel.curves) for panel in panels)
    size = 0.8 + width * columns, (0.5 + 0.64 * width + 0.17 * (most + 1)) * rows
    figure, grid = _grid(len(panels), rows, columns, size)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_yscale(y_scale)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        axes.set_xscale(x_scale)
        if x_scale == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            whole = _are_whole(panel.curves)
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole))
    for axes in grid[:, 0]:
        axes.set_ylabel(y_label, fontsize=9)
    return _render(figure)


def _draw_panel(axes, panel):
    for number, (name, points) in enumerate(panel.curves.items()):
        style = line_style(number, len(points))
        axes.plot(*zip(*points, strict=True), **style, label=_shortened(name))
    if panel.reference is not None:
        name, value = panel.reference
        axes.axhline(value, color=GREY, linestyle=":", label=f"{name}: {value:.1f}")
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x_label, fontsize=9)
    axes.tick_params(labelsize=8, labelleft=True)
    axes.grid(alpha=0.25)
    # Below the lines, which may be anywhere in the panel.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, frameon=False)


def line_style(number, points):
    """Returns matplotlib's settings of the line with that number, which has so many points."""
    return {
        "color": LINE_COLOURS[number % len(LINE_COLOURS)],
        "marker": MARKS[number % len(MARKS)],
        "linestyle": STROKES[number // len(LINE_COLOURS) % len(STROKES)],
        "markevery": math.ceil(points / MARKED_POINTS),
        "markersize": 4,
        "linewidth": 1.6,
    }


def draw_heat_map(
    values,
    rows,
    columns,
    x_label,
    y_label,
    title="",
    limits=(0, 100),
    decimals=0,
    numbers=True,
    colours="viridis",
    gamma=1.0,
    unit="",
):
    """Draws a table of numbers as coloured cells.

    Args:
        values: `[R, C]`; cells that are NaN stay empty.
        rows: texts of the R rows, or `None` for their numbers.
        columns: texts of the C columns, or `None` for their numbers.
        x_label: what the columns are.
        y_label: what the rows are.
        title: text above.
        limits: values of the first and the last colour.
        decimals: digits behind the point of the numbers in the cells.
        numbers: whether cells show their number.
        colours: name of a colour map of matplotlib.
        gamma: exponent of the colour scale; below 1 it tells small values apart.
        unit: of the values, beside the colour scale.
    """
    values = np.asarray(values, np.float64)
    width, height = NUMBERED_CELL if numbers else (SMALL_CELL, SMALL_CELL)
    if rows is None or columns is None:
        width = height = min(SMALL_CELL, LARGEST_MAP / max(values.shape))
    longest = [max((len(text) for text in texts or ()), default=0) for texts in (rows, columns)]
    upright = numbers and longest[1] * 0.08 < width
    size = (
        2.2 + 0.075 * longest[0] + max(1.5, width * values.shape[1]),
        1.2 + (0 if upright else 0.06 * longest[1]) + max(1.0, height * values.shape[0]),
    )
    figure, ((axes,),) = _grid(1, 1, 1, size)
    norm = PowerNorm(gamma, *limits)
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    if rows is not None:
        axes.set_yticks(range(len(rows)), [_shortened(name) for name in rows], fontsize=8)
    if columns is not None:
        names = [_shortened(name) for name in columns]
        axes.set_xticks(range(len(columns)), names, fontsize=8, rotation=0 if upright else 90)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = _text_colour(image.cmap(norm(value)))
                text = f"{value:.{decimals}f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.05)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(unit, fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    return _render(figure)


def _grid(count, rows, columns, size, sharex=False):
    """Returns a figure of a size in inches, and its axes [rows, columns], of which `count` show."""
    figure = Figure(figsize=size, dpi=INCH, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=sharex)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, grid


def _are_whole(curves):
    return all(x == round(x) for points in curves.values() for x, _ in points)


def _text_colour(background):
    # Rec. 709 luma of the cell.
    return "black" if np.dot(background[:3], (0.2126, 0.7152, 0.0722)) > 0.5 else "white"


def _shortened(title, length=36):
    # The end of a path says more than its beginning.
    return title if len(title) <= length else "..." + title[3 - length :]


def _render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

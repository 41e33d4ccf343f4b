"""Curves as vector pictures, one panel each, for pages of any width."""

import io

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from misc.reports.plots import LINE_COLOURS, MARKED_POINTS, MARKS, STROKES

# The marks and strokes of lines as text.
SIGNS = dict(zip(MARKS, "●■▲◆▼★", strict=True))
LINES = dict(zip(STROKES, "─╌╍┈", strict=True))
_SIZE = 3.6, 2.7
# Left, bottom, width and height in shares of the picture: all texts have their size beforehand, and
# a layout that looks for it would draw each picture twice.
_AXES = 0.14, 0.17, 0.82, 0.72


def style(number):
    """Returns (colour, mark, stroke) of the line of that number."""
    stroke = STROKES[number // len(MARKS) % len(STROKES)]
    return LINE_COLOURS[number % len(LINE_COLOURS)], MARKS[number % len(MARKS)], stroke


def legend(number):
    """Returns (colour, text that looks like the line of that number)."""
    colour, mark, stroke = style(number)
    return colour, LINES[stroke] + SIGNS[mark] + LINES[stroke]


def draw(series, title, x_label, y_label, references=(), limits=(0, 100), falling=False):
    """Returns a panel of curves as the text of an SVG picture.

    Args:
        series: list of curves, each a list of (x, y) or (x, y, low, high): with an interval.
        title: text above.
        x_label: what the horizontal axis is, with its unit.
        y_label: what the vertical axis is, with its unit.
        references: for each curve, in order, the height of a dotted line in its colour, or `None`.
        limits: of the vertical axis.
        falling: whether the horizontal axis runs from large to small, as from mild to hard.
    """
    figure = Figure(figsize=_SIZE)
    axes = figure.add_axes(_AXES)
    for number, points in enumerate(series):
        colour, mark, stroke = style(number)
        x, y = [point[0] for point in points], [point[1] for point in points]
        every = max(1, len(x) // MARKED_POINTS)
        # Of curves that coincide, those below show.
        more = min(len(series) - 1 - number, 3)
        sizes = {"linewidth": 1.3 + 1.2 * more, "markersize": 3.5 + 1.5 * more}
        axes.plot(x, y, stroke, color=colour, marker=mark, markevery=every, **sizes)
        if len(points[0]) == 4:
            low, high = [point[2] for point in points], [point[3] for point in points]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for number, height in enumerate(references):
        if height is not None:
            axes.axhline(height, color=style(number)[0], linestyle=":", linewidth=1.1)
    axes.set_ylim(*limits)
    if falling:
        axes.invert_xaxis()
    whole = all(point[0] == round(point[0]) for points in series for point in points)
    axes.xaxis.set_major_locator(
        matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole)
    )
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return _render(figure)


def _render(figure):
    FigureCanvasSVG(figure)
    # Texts stay texts; equal figures are equal files.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "degraded-vision"}):
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()

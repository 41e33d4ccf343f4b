"""Degradation x level as tables with coloured cells, and what is gained between two of them."""

import math

import matplotlib
import numpy as np

from misc.reports.self_contained import escape

CLEAN = "clean"
SEVERITY = "severity"
SEVERITIES = {1.0, 2.0, 3.0, 4.0, 5.0}
MEAN = "mean"
MOST_COLUMNS = 12


def accuracy_tables(rows, units, names=str):
    """Returns heat maps of the accuracies of one model, HTML, one for each kind of level.

    Args:
        rows: list of {"name", "level", "top1"}; see `Figures.rows`.
        units: {degradation: what its levels are}; others have severities.
        names: function that shortens the text of a degradation.
    """
    return [
        _table(title, part, columns, names, "viridis", (0, 100))
        for title, columns, part in _parts(_grid(rows), units)
    ]


def difference_tables(before, after, units, names=str):
    """Returns heat maps of what `after` gains over `before`, HTML; both are rows as above.

    Levels that only one of them was measured at are left out; what is left may be nothing.
    """
    before, after = _grid(before), _grid(after)
    gained = {
        name: {
            level: after[name][level] - value
            for level, value in cells.items()
            if level in after.get(name, {})
        }
        for name, cells in before.items()
    }
    gained = {name: cells for name, cells in gained.items() if cells}
    largest = max((abs(v) for cells in gained.values() for v in cells.values()), default=0)
    limits = -max(largest, 1.0), max(largest, 1.0)
    return [
        _table(title, part, columns, names, "RdBu", limits, signed=True)
        for title, columns, part in _parts(gained, units)
    ]


def _grid(rows):
    """Returns {degradation: {level: accuracy}} without clean images; the level of one is NaN."""
    grid = {}
    for row in rows:
        if row["name"] != CLEAN:
            level = float(row["level"])  # results.json has "nan" as text
            grid.setdefault(row["name"], {})[None if math.isnan(level) else level] = row["top1"]
    return grid


def _parts(grid, units):
    """Yields (title, levels, {degradation: {level: value}}): one for all severities, then others.

    Degradations without levels come last, in a table of means alone.
    """
    kinds = {}
    for name, cells in grid.items():
        unit = units.get(name) or (SEVERITY if set(cells) <= SEVERITIES else "level")
        if None in cells:
            kind = "levels drawn at random, or none", ""
        else:
            kind = unit, "" if unit == SEVERITY else name
        kinds.setdefault(kind, {})[name] = cells
    for (unit, _), part in kinds.items():
        # In the order of the rows, which is from mild to hard.
        columns = list(dict.fromkeys(level for cells in part.values() for level in cells))
        columns = [level for level in columns if level is not None]
        if unit == SEVERITY:
            columns.sort()
        # No wider than a page; means are of all levels.
        every = max(1, -(-len(columns) // MOST_COLUMNS))
        yield unit, columns[::-1][::every][::-1], part


def _table(title, part, columns, names, colours, limits, signed=False):
    lines = [f'<table class="heat"><caption>{escape(title)}</caption>']
    head = ["", *(f"{level:g}" for level in columns), MEAN]
    lines.append("<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>")
    values = [[cells.get(level, math.nan) for level in columns] for cells in part.values()]
    # A mean over the levels of both.
    means = [float(np.mean(list(cells.values()))) for cells in part.values()]
    shown = [[*row, mean] for row, mean in zip(values, means, strict=True)]
    labels = [names(name) for name in part]
    if len(shown) > 1:
        shown.append(_column_means(shown))
        labels.append(MEAN)
    for label, row in zip(labels, shown, strict=True):
        cells = "".join(_cell(value, colours, limits, signed) for value in row)
        lines.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _column_means(rows):
    columns = [[v for v in column if not math.isnan(v)] for column in zip(*rows, strict=True)]
    return [float(np.mean(column)) if column else math.nan for column in columns]


def _cell(value, colours, limits, signed):
    if math.isnan(value):
        return "<td></td>"
    low, high = limits
    colour = matplotlib.colormaps[colours](min(max((value - low) / (high - low), 0.0), 1.0))
    red, green, blue = (round(255 * part) for part in colour[:3])
    # Rec. 709 luma of the cell.
    dark = np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) < 0.5
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    style = f"background:rgb({red},{green},{blue});color:{'#fff' if dark else '#000'}"
    return f'<td style="{style}">{text}</td>'

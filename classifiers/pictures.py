"""What an evaluation of classifiers shows: accuracy against level, grids, confusion matrices."""

import math
import re

import numpy as np

from classifiers import levels, metrics
from misc.reports import plots

# Above these, lines, cells and labels can no longer be told apart.
MOST_CURVES = 6
MOST_LEVELS = 12
MOST_NUMBERED_CLASSES = 20
MOST_LABELLED_CLASSES = 40
ACCURACY = "top-1 accuracy in percent"


def draw_curves(rows, units):
    """Draws accuracy against level, one line for each degradation that has several levels.

    A panel holds the degradations whose levels mean the same.

    Args:
        rows: see `CorruptionGrid.rows`.
        units: {degradation: what its levels are}; others have severities.

    Returns:
        uint8 RGB picture, `None` if no degradation has several levels.
    """
    by_unit = {}
    for name, points in _points(rows).items():
        if len(points) > 1:
            unit = units.get(name, levels.SEVERITY)
            by_unit.setdefault(unit, {})[name] = [(level, top1) for level, top1, _ in points]
    clean = _clean_accuracy(rows)
    reference = None if clean is None else ("clean images", clean)
    panels = [
        plots.Panel(unit, dict(part), reference=reference)
        for unit, curves in by_unit.items()
        for part in _parts(curves.items())
    ]
    return plots.draw_curves(panels, ACCURACY, y_limits=plots.PERCENT) if panels else None


def draw_grids(rows, units):
    """Draws degradation x level with the accuracies in the cells, and their means.

    A picture holds the degradations whose levels mean the same.

    Args:
        rows: see `CorruptionGrid.rows`.
        units: see `draw_curves`.

    Returns:
        {unit: uint8 RGB picture}, without those of too many different levels for a table.
    """
    by_unit = {}
    for name, points in _points(rows).items():
        by_unit.setdefault(units.get(name, levels.SEVERITY), {})[name] = points
    clean = _clean_accuracy(rows)
    pictures = {unit: _draw_grid(points, unit, clean) for unit, points in by_unit.items()}
    return {unit: picture for unit, picture in pictures.items() if picture is not None}


def _draw_grid(points, unit, clean):
    columns = sorted({level for row in points.values() for level, _, _ in row})
    if not 0 < len(columns) <= MOST_LEVELS:
        return None
    cells = np.full([len(points), len(columns) + 1], np.nan)
    for number, row in enumerate(points.values()):
        for level, top1, _ in row:
            cells[number, columns.index(level)] = top1
        cells[number, -1] = np.mean([top1 for _, top1, _ in row])
    title = "accuracy"
    return plots.draw_heat_map(
        cells,
        list(points),
        [*(f"{level:g}" for level in columns), "mean"],
        unit,
        "degradation",
        title if clean is None else f"{title}; clean images: {clean:.1f} %",
        decimals=1,
        unit=ACCURACY,
    )


def draw_confusion(name, matrix, class_names=None):
    """Draws a confusion matrix in percent of the images of each right class.

    Args:
        name: degradation.
        matrix: counts `[K, K]`, rows by the right class, columns by the predicted one.
        class_names: names of the K classes; `None` for their numbers.
    """
    counts = matrix.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = 100 * matrix / counts
    classes = len(matrix)
    names = class_names or [str(label) for label in range(classes)]
    numbered = classes <= MOST_NUMBERED_CLASSES
    if classes > MOST_LABELLED_CLASSES:
        names = None
    recall = np.nanmean(np.diag(shares)) if counts.any() else math.nan
    suffix = "" if names else ", by its number"
    return plots.draw_heat_map(
        np.where(shares == 0, np.nan, shares) if numbered else shares,
        names,
        names,
        f"predicted class{suffix}",
        f"right class{suffix}",
        f"{name}: mean recall {recall:.1f} %",
        numbers=numbered,
        colours="Blues",
        # Mistakes are a few percent each.
        gamma=0.5,
        unit="percent of the right class",
    )


def file_name(name):
    """Returns a degradation's text as a name that every file system takes."""
    return re.sub(r"[^\w.,=@+-]+", "_", name).strip("_.") or "degradation"


def _points(rows):
    """Returns {degradation: list of (level, top1, top5)} of all that have levels."""
    found = {}
    for row in rows:
        if row["name"] != metrics.CLEAN and not math.isnan(row["level"]):
            found.setdefault(row["name"], []).append((row["level"], row["top1"], row["top5"]))
    return {name: sorted(points) for name, points in found.items()}


def _clean_accuracy(rows):
    found = [row["top1"] for row in rows if row["name"] == metrics.CLEAN]
    return found[0] if found else None


def _parts(items):
    """Splits a sequence into parts of nearly the same length, as few as can be."""
    items = list(items)
    size = math.ceil(len(items) / math.ceil(len(items) / MOST_CURVES))
    return [items[start : start + size] for start in range(0, len(items), size)]

"""The table and the curves that a chain of FusionDistill ends in."""

import csv
import pathlib

import numpy as np

from classifiers import levels
from misc.images import files, image_files
from misc.reports import page, plots

# Columns in the paper's order.
LABELS = {
    "jpeg": "JPEG",
    "blur": "Blur",
    "blur_authors": "Blur",
    "noise": "AWGN",
    "saltpepper": "SAPN",
    "saltpepper_authors": "SAPN",
}
# Rows in the paper's order; the fusion once for each way to treat the moving statistics.
ROWS = {
    "clean": "Clean model",
    "oracle": "Base separate (oracle)",
    "ensemble": "Ensemble",
    "scratch": "Scratch",
    "vanilla": "Vanilla fine-tuning",
    "fused_first": "ModelSoups, statistics of the first",
    "fused_mean": "ModelSoups, mean statistics",
    "fused_reestimated": "ModelSoups, re-estimated statistics",
    "fusing": "Fusing",
    "fusion_distill": "FusionDistill",
}
EXPLANATION = """<p>Accuracy in percent: for each degradation the mean over all its levels; mean:
over the degradations; clean: on images as they are. The separate models are each tested on their
own degradation, and their clean accuracy is the mean of them.</p>"""


def collect(results, names):
    """Returns the table of evaluated runs, and their curves.

    Args:
        results: function of a run's name that returns what validate.py wrote, as a dict.
        names: degradations. The runs of these names make the row of separate models, each tested
            on its own degradation.

    Returns:
        List of rows, the header first, each a title and accuracies in percent; and
        {degradation: {title of a row: list of (level, accuracy)}}, without those degradations whose
        levels were drawn at random.
    """
    known = list(LABELS)
    # Python's sort is stable: others keep their order.
    columns = sorted(names, key=lambda n: known.index(n) if n in known else len(known))
    table = [["Approach", *(LABELS.get(name, name) for name in columns), "mean", "clean"]]
    curves = {column: {} for column in columns}
    for row, title in ROWS.items():
        found = {column: results(column if row == "oracle" else row) for column in columns}
        accuracies = [one["mean"][f"accuracy/{column}"] for column, one in found.items()]
        clean = [one["mean"]["accuracy/clean"] for one in found.values()]
        table.append([title, *accuracies, float(np.mean(accuracies)), float(np.mean(clean))])
        for column, one in found.items():
            curves[column][title] = [
                (image["level"], image["top1"])
                for image in one["images"]
                if image["name"] == column and isinstance(image["level"], int | float)
            ]
    return table, {column: lines for column, lines in curves.items() if all(lines.values())}


def as_text(table):
    """Returns the table as lines of text."""
    return page.align(_cells(table))


def write(table, curves, folder):
    """Writes table.txt, table.csv, curves.png (if any) and index.html; returns the page's path."""
    folder = pathlib.Path(folder)
    with files.write_atomically(folder / "table.txt") as temporary:
        temporary.write_text(as_text(table) + "\n")
    with (
        files.write_atomically(folder / "table.csv") as temporary,
        open(temporary, "w", newline="") as file,
    ):
        csv.writer(file).writerows(table)
    parts = [EXPLANATION, page.table(_cells(table))]
    panels = [
        plots.Panel(levels.unit(name), lines, LABELS.get(name, name))
        for name, lines in curves.items()
    ]
    if panels:
        picture = plots.draw_curves(panels, "top-1 accuracy in percent", y_limits=plots.PERCENT)
        image_files.write_image(folder / "curves.png", picture)
        parts += [
            "<h2>Accuracy against level</h2>",
            page.picture("curves.png", "accuracy against level for each degradation"),
        ]
    else:
        parts.append("<p>Levels were drawn for each image, so there is no accuracy by level.</p>")
    page.write(folder / "index.html", "FusionDistill and its baselines", *parts)
    return folder / "index.html"


def _cells(table):
    header, *rows = table
    return [header, *([title, *(f"{v:.1f}" for v in values)] for title, *values in rows)]

"""The table and the curves that a chain of FusionDistill ends in."""

import csv
import dataclasses
import html
import pathlib

import matplotlib
import numpy as np

from misc.images import files

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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
CLEAN = "clean"


@dataclasses.dataclass(frozen=True)
class Table:
    """Accuracies in percent.

    Attributes:
        degradations: names, in the order of the columns.
        rows: {row: {degradation, "mean" or "clean": accuracy}}.
        curves: {row: {degradation: list of (level, accuracy)}}.
    """

    degradations: tuple
    rows: dict
    curves: dict

    @property
    def header(self):
        """Titles of the columns."""
        named = [LABELS.get(name, name) for name in self.degradations]
        return ["Approach", *named, "mean", "clean"]

    def cells(self):
        """Returns the rows as lists of the title and the numbers."""
        order = [*self.degradations, "mean", CLEAN]
        return [[ROWS[name], *(row[column] for column in order)] for name, row in self.rows.items()]

    def text(self):
        """Returns the table as lines of text."""
        width = max(len(title) for title in ROWS.values())
        widths = [max(len(title), 6) for title in self.header[1:]]

        def line(title, cells):
            cells = (f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            return "  ".join([f"{title:<{width}}", *cells])

        rows = [(title, [f"{value:.1f}" for value in values]) for title, *values in self.cells()]
        return "\n".join(line(*row) for row in [(self.header[0], self.header[1:]), *rows])


def collect(results, names):
    """Returns the `Table` of evaluated runs.

    Args:
        results: function of a run's name that returns what validate.py wrote, as a dict.
        names: degradations. The runs of these names make the row of separate models, each tested
            on its own degradation.
    """
    columns = tuple(sorted(names, key=lambda name: _place(name, names)))
    rows, curves = {}, {}
    for name in ROWS:
        if name == "oracle":
            found = {column: results(column) for column in columns}
            clean = np.mean([one["mean"]["accuracy/clean"] for one in found.values()])
        else:
            found = dict.fromkeys(columns, results(name))
            clean = found[columns[0]]["mean"]["accuracy/clean"]
        row = {column: one["mean"][f"accuracy/{column}"] for column, one in found.items()}
        rows[name] = row | {"mean": float(np.mean(list(row.values()))), CLEAN: float(clean)}
        curves[name] = {
            column: [(r["level"], r["top1"]) for r in one["images"] if r["name"] == column]
            for column, one in found.items()
        }
    return Table(columns, rows, curves)


def _place(name, names):
    known = list(LABELS)
    return (known.index(name), 0) if name in known else (len(known), list(names).index(name))


def write(table, folder):
    """Writes table.txt, table.csv, curves.png and index.html; returns the page's path."""
    folder = pathlib.Path(folder)
    with files.write_atomically(folder / "table.txt") as temporary:
        temporary.write_text(table.text() + "\n")
    with (
        files.write_atomically(folder / "table.csv") as temporary,
        open(temporary, "w", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(table.header)
        writer.writerows(table.cells())
    _plot(table, folder / "curves.png")
    page = folder / "index.html"
    with files.write_atomically(page) as temporary:
        temporary.write_text(_page(table))
    return page


def _plot(table, path):
    columns = table.degradations
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4.2 * len(columns), 4), sharey=True, squeeze=False
    )
    for axis, column in zip(axes[0], columns, strict=True):
        for number, (name, curves) in enumerate(table.curves.items()):
            if curves[column]:
                style = "-" if number < 5 else "--"
                axis.plot(*zip(*curves[column], strict=True), style, label=ROWS[name], lw=1.2)
        axis.set(title=LABELS.get(column, column), xlabel="level")
        axis.grid(alpha=0.3)
    axes[0, 0].set(ylabel="accuracy in percent")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, fontsize=8)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    with files.write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _page(table):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = [
        line([title, *(f"{value:.1f}" for value in values)], "td")
        for title, *values in table.cells()
    ]
    return PAGE.format(header=line(table.header, "th"), rows="\n".join(rows))


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>FusionDistill</title>
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 1800px; }}
td, th {{ padding: 2px 1em; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
</style>
<h1>FusionDistill and its baselines</h1>
<p>Accuracy in percent: for each degradation the mean over all its levels; mean: over the
degradations; clean: on images as they are. The separate models are each tested on their own
degradation, and their clean accuracy is the mean of them.</p>
<table>
{header}
{rows}
</table>
<h2>Accuracy against level</h2>
<img src="curves.png" alt="accuracy against level for each degradation">
</html>
"""

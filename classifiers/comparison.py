"""Accuracy of classifiers without and with a correction before them: figures, tables, pictures."""

import numpy as np

from classifiers.metrics import CLEAN, COLWARP
from misc.reports import contact_sheet, plots

# What stands before a classifier.
NONE, SYMPIE = "none", "sympie"
TILE = 128


def summarize(grids):
    """Returns the figures {name: float} of all classifiers, in percent.

    Of each figure the mean over the classifiers, and, where there are several, those of each under
    "CLASSIFIER/". `accuracy/corrupted`, `accuracy/corrected`: means over the degradations without
    and with the correction; `accuracy/clean`, `accuracy/clean_corrected`: the same on clean images;
    `difference/...`: what is gained in comparison with corrupted and with clean images.

    Args:
        grids: {classifier: {NONE: `CorruptionGrid`, SYMPIE: `CorruptionGrid`}}.
    """
    single = {name: _figures(pair[NONE], pair[SYMPIE]) for name, pair in grids.items()}
    first = next(iter(single.values()))
    means = {key: float(np.mean([one[key] for one in single.values()])) for key in first}
    if len(single) == 1:
        return means
    return means | {f"{n}/{key}": v for n, one in single.items() for key, v in one.items()}


def _figures(before, after):
    without, corrected = before.means(), after.means()
    corrupted, improved = without["accuracy"], corrected["accuracy"]
    figures = {
        "accuracy/corrupted": corrupted,
        "accuracy/corrected": improved,
        "difference/corrupted": improved - corrupted,
    }
    clean = f"accuracy/{CLEAN}"
    if clean in without:
        figures |= {
            clean: without[clean],
            f"{clean}_corrected": corrected[clean],
            f"difference/{CLEAN}": improved - without[clean],
            f"difference/{CLEAN}_corrected": corrected[clean] - without[clean],
        }
    if "mce_alexnet" in without:
        figures |= {
            f"mce/{NONE}": without["mce_alexnet"],
            f"mce/{SYMPIE}": corrected["mce_alexnet"],
        }
    return figures


def show(grids, report):
    """Gives a report the accuracy of each cell, the grids, and pictures of the differences.

    Args:
        grids: see `summarize`.
        report: see `Method.evaluate`.
    """
    table = []
    for classifier, pair in grids.items():
        for before, after in zip(pair[NONE].rows(), pair[SYMPIE].rows(), strict=True):
            figures = {NONE: before["top1"], SYMPIE: after["top1"]}
            difference = {"difference": after["top1"] - before["top1"]}
            place = {"name": before["name"], "level": before["level"], "classifier": classifier}
            report.add_row(place | figures | difference)
        for module in (NONE, SYMPIE):
            start = {"classifier": classifier, "module": module}
            table += [start | row for row in pair[module].grid()]
        report.add_picture(f"difference/{classifier}", draw_difference(classifier, pair))
    report.add_table("grid", table)
    report.add_note("accuracy", "percent; means over degradations leave clean and colwarp out")


def draw_examples(examples, correct):
    """Draws images of each degradation at a middle level beside what becomes of them.

    Args:
        examples: {degradation: {level: float32 RGB `[H, W, 3]` in 0-255}}.
        correct: function of images `[1, H, W, 3]` that returns the corrected ones.

    Returns:
        uint8 RGB picture.
    """
    rows = []
    for name, by_level in examples.items():
        level, image = list(by_level.items())[len(by_level) // 2]
        corrected = np.asarray(correct(image[None]))[0]
        title = name if level is None else f"{name} {level:g}"
        tiles = [("as it is", image), ("corrected", corrected)]
        rows.append((title, [(label, _to_8_bits(pixels)) for label, pixels in tiles]))
    return contact_sheet.draw_sheet(rows, TILE)


def _to_8_bits(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_difference(classifier, pair):
    """Draws degradation x level with what the correction gains, and the means of both.

    Args:
        classifier: its name.
        pair: {NONE: `CorruptionGrid`, SYMPIE: `CorruptionGrid`}.

    Returns:
        uint8 RGB picture.
    """
    before, after = (pair[module].grid() for module in (NONE, SYMPIE))
    names = [row["degradation"] for row in before]
    columns = [key for key in before[0] if key not in ("degradation", "mean")] + ["mean"]
    cells = np.array(
        [
            [after_row[column] - before_row[column] for column in columns]
            for before_row, after_row in zip(before, after, strict=True)
        ]
    )
    counted = [name not in (CLEAN, COLWARP) for name in names]
    if sum(counted) > 1:
        cells = np.concatenate([cells, np.nanmean(cells[counted], axis=0, keepdims=True)])
        names = [*names, "mean"]
    largest = max(1.0, float(np.nanmax(np.abs(cells))))
    return plots.draw_heat_map(
        cells,
        names,
        columns,
        "severity",
        "",
        f"{classifier}: accuracy gained by the correction, in percent",
        limits=(-largest, largest),
        decimals=1,
        colours="RdBu",
    )

"""Accuracy of classifiers without and with a correction before them: figures, tables, pictures."""

import numpy as np

from classifiers import levels
from classifiers.metrics import CLEAN, COLWARP
from misc.reports import contact_sheet, plots

# What is done for a classifier: nothing, the module before it, batch statistics that are estimated
# anew, or both.
NONE, SYMPIE, BATCH_NORM, BOTH = "none", "sympie", "batch_norm", "both"
TILE = 128


def summarize(grids):
    """Returns the figures {name: float} of all classifiers, in percent.

    Of each figure the mean over the classifiers, and, where there are several, those of each under
    "CLASSIFIER/". `accuracy/corrupted`, `accuracy/corrected`: means over the degradations without
    and with the correction; `accuracy/clean`, `accuracy/clean_corrected`: the same on clean images;
    `difference/...`: what is gained in comparison with corrupted and with clean images.

    Where statistics were estimated anew, `accuracy/batch_norm` and `accuracy/both` are as
    `accuracy/corrected`, with these instead of the module, or with both.

    Args:
        grids: {classifier: {NONE, SYMPIE, and maybe others: `CorruptionGrid`}}.
    """
    single = {name: _figures(by_module) for name, by_module in grids.items()}
    first = next(iter(single.values()))
    means = {key: float(np.mean([one[key] for one in single.values()])) for key in first}
    if len(single) == 1:
        return means
    return means | {f"{n}/{key}": v for n, one in single.items() for key, v in one.items()}


def _figures(grids):
    means = {module: grid.means() for module, grid in grids.items()}
    plain, corrected = means.pop(NONE), means.pop(SYMPIE)
    figures = {
        "accuracy/corrupted": plain["accuracy"],
        "accuracy/corrected": corrected["accuracy"],
        "difference/corrupted": corrected["accuracy"] - plain["accuracy"],
    }
    clean = f"accuracy/{CLEAN}"
    if clean in plain:
        figures |= {
            clean: plain[clean],
            f"{clean}_corrected": corrected[clean],
            f"difference/{CLEAN}": corrected["accuracy"] - plain[clean],
            f"difference/{CLEAN}_corrected": corrected[clean] - plain[clean],
        }
    if "mce_alexnet" in plain:
        errors = {NONE: plain, SYMPIE: corrected}
        figures |= {f"mce/{module}": found["mce_alexnet"] for module, found in errors.items()}
    return figures | {f"accuracy/{module}": found["accuracy"] for module, found in means.items()}


def show(grids, report):
    """Gives a report the accuracy of each cell, the grids, and pictures of the differences.

    Args:
        grids: see `summarize`.
        report: see `Method.evaluate`.
    """
    table = []
    for classifier, by_module in grids.items():
        rows = {module: grid.rows() for module, grid in by_module.items()}
        for number, row in enumerate(rows[NONE]):
            place = {"name": row["name"], "level": row["level"], "classifier": classifier}
            report.add_row(place | {module: rows[module][number]["top1"] for module in rows})
        for module, grid in by_module.items():
            start = {"classifier": classifier, "module": module}
            table += [start | row for row in grid.grid()]
            if module != NONE:
                picture = draw_difference(f"{classifier}, {module}", by_module[NONE], grid)
                report.add_picture(f"difference/{classifier}_{module}", picture)
    report.add_table("grid", table)
    report.add_note("accuracy", "percent; means over degradations leave clean and colwarp out")


def answer(classify, batches, report):
    """Reports what classifiers say of images without labels, out of the categories that there are.

    Args:
        classify: function from images `[B, H, W, 3]` to {(classifier, module): logits `[B, K]`}.
        batches: see `classifiers.dataloaders.vizwiz`.
        report: see `Method.evaluate`; its table "predictions" holds the numbers of the classes.

    Returns:
        {"changed": share in percent of the answers that the module changes}.

    Raises:
        ValueError: for a category that is no class of the classifiers.
    """
    rows = []
    for batch in batches:
        answers = {}
        for key, logits in classify(batch["image"]).items():
            if batches.categories.max() >= logits.shape[1]:
                raise ValueError(
                    f"Category {batches.categories.max()} is none of the {logits.shape[1]} classes."
                )
            chosen = np.argmax(np.asarray(logits)[:, batches.categories], axis=1)
            answers.setdefault(key[0], {})[key[1]] = batches.categories[chosen]
        for place, number in enumerate(np.asarray(batch["label"])):
            rows += [
                {"name": batches.names[number], "classifier": classifier}
                | {module: int(values[place]) for module, values in by_module.items()}
                for classifier, by_module in answers.items()
            ]
    if report is not None:
        for row in rows:
            report.add_row(row)
        report.add_table("predictions", rows)
    return {"changed": 100 * float(np.mean([row[NONE] != row[SYMPIE] for row in rows]))}


def correct_examples(examples, correct):
    """Returns images of each degradation at a middle level, and what becomes of them.

    Args:
        examples: {degradation: {level: float32 RGB `[H, W, 3]` in 0-255}}.
        correct: function of images `[1, H, W, 3]` that returns the corrected ones.

    Returns:
        List of (title, image, corrected image), uint8 RGB.
    """
    pairs = []
    for name, by_level in examples.items():
        level, image = list(by_level.items())[len(by_level) // 2]
        corrected = np.asarray(correct(image[None]))[0]
        title = name if level is None else f"{name} {level:g}"
        pairs.append((title, _to_8_bits(image), _to_8_bits(corrected)))
    return pairs


def draw_examples(pairs):
    """Draws what `correct_examples` returns; returns a uint8 RGB picture."""
    rows = [(title, [("as it is", one), ("corrected", other)]) for title, one, other in pairs]
    return contact_sheet.draw_sheet(rows, TILE)


def _to_8_bits(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_difference(title, before, after):
    """Draws degradation x level with what is gained, and the means of rows and columns.

    Args:
        title: what is compared.
        before: `CorruptionGrid` without anything.
        after: `CorruptionGrid` of the same cells.

    Returns:
        uint8 RGB picture.
    """
    before, after = before.grid(), after.grid()
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
        levels.SEVERITY,
        "degradation",
        title,
        limits=(-largest, largest),
        decimals=1,
        colours="RdBu",
        unit="top-1 accuracy gained, in points",
    )

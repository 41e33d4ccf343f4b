"""Accuracy against the size of the compressed images: curves, tables and a page.

A series is a way to compress and recognise, such as a codec, or a network that was trained for it;
its points are levels of the codec.
"""

import dataclasses
import html
import math
import pathlib
import re

from misc.images import files, image_files
from misc.reports import bjontegaard, page, plots, report

RATES = {"bytes": "mean bytes of an image", "bits_per_pixel": "mean bits per pixel"}
FIGURES = {"top1": "top-1 accuracy", "top5": "top-5 accuracy"}
EPOCHS = "epochs.csv"
SPLITS = ("test", "validation")
CLEAN = "clean"


@dataclasses.dataclass(frozen=True)
class Point:
    """One level of a codec.

    Attributes:
        codec: name of the codec that ran, or of the degradation.
        level: its level, NaN where the text itself names it.
        bytes: mean length of the images' bit streams.
        bits_per_pixel: the same per pixel.
        top1: accuracy in percent.
        top5: accuracy in percent.
    """

    codec: str
    level: float
    bytes: float
    bits_per_pixel: float
    top1: float
    top5: float


def read(path):
    """Returns {name of a codec: list of `Point`}, and {figure: accuracy on clean images}.

    Accuracies are those of the images that have a bit stream.

    Args:
        path: folder of validate.py's results, or a run's, whose last validation counts; or the file
            itself, results.json or epochs.csv.

    Raises:
        ValueError: if there is no such file, or nothing in it has bytes.
    """
    path = pathlib.Path(path)
    candidates = [path / report.RESULTS, path / EPOCHS] if path.is_dir() else [path]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise ValueError(
            f"{path} holds neither {report.RESULTS} of validate.py nor {EPOCHS} of a run."
        )
    rows = _epoch_rows(found) if found.suffix == ".csv" else _result_rows(found)
    series, clean = {}, {}
    for row in rows:
        name, size = row.get("name", ""), _number(row, "bytes")
        accuracies = {
            figure: _number(row, f"{figure}_coded", _number(row, figure)) for figure in FIGURES
        }
        if size > 0 and not math.isnan(accuracies["top1"]):
            per_pixel = _number(row, "bits_per_pixel")
            codec = row.get("codec") or name
            point = Point(codec, _number(row, "level"), size, per_pixel, **accuracies)
            series.setdefault(_codec(name), []).append(point)
        elif name == CLEAN:
            clean = {figure: _number(row, figure) for figure in FIGURES}
    if not series:
        raise ValueError(
            f"{found} has no bytes: only degradations by a codec, such as jpeg or webp:30, have "
            "any, and results that were written before bytes were counted have none."
        )
    return series, clean


def _result_rows(path):
    content = files.read_json(path)
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} should hold results of validate.py.")
    return rows


def _epoch_rows(path):
    """Returns the last row of the test or, without one, of the validation split."""
    rows = report.read_table(path)
    for split in SPLITS:
        found = [row for row in rows if row.get("split") == split]
        if found:
            return found[-1:]
    raise ValueError(f"{path} has no row of the {' or '.join(SPLITS)} split.")


def _number(row, name, default=math.nan):
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):
        return default
    return default if math.isnan(value) else value


def _codec(degradation):
    """Returns a degradation's text without the last part's level, which tells points apart."""
    return re.sub(r"(\w)[:@][^|]*$", r"\1", degradation.strip())


def compare(series, reference, rate):
    """Returns rows of Bjontegaard's differences between each series and that of reference.

    Args:
        series: {label: list of `Point`}.
        reference: label.
        rate: one of `RATES`.

    Returns:
        A list of {"series", "figure", "bd_rate" in percent, "bd_accuracy" in points, and the
        lowest and highest accuracy that both reach, "from" and "to"}; NaN without any.
    """
    rows = []
    for label, points in series.items():
        for figure in FIGURES if label != reference else ():
            pair = [_pairs(one, rate, figure) for one in (series[reference], points)]
            low, high = bjontegaard.overlap(*pair) or (math.nan, math.nan)
            rows.append(
                {
                    "series": label,
                    "figure": figure,
                    "bd_rate": bjontegaard.bd_rate(*pair),
                    "bd_accuracy": bjontegaard.bd_quality(*pair),
                    "from": low,
                    "to": high,
                }
            )
    return rows


def _pairs(points, rate, figure):
    return [(getattr(point, rate), getattr(point, figure)) for point in points]


def draw(series, clean, rate):
    """Draws accuracy against rate, a panel for each of `FIGURES`.

    Args:
        series: {label: list of `Point`}.
        clean: {figure: accuracy on clean images} where it is the same for all series; else {}.
        rate: one of `RATES`.

    Returns:
        uint8 RGB picture.
    """
    panels = []
    for figure, title in FIGURES.items():
        curves = {label: sorted(_pairs(points, rate, figure)) for label, points in series.items()}
        reference = ("clean images", clean[figure]) if clean else None
        panels.append(plots.Panel(RATES[rate], curves, title, reference))
    options = {"y_limits": plots.PERCENT, "x_scale": "log", "width": 5.0}
    return plots.draw_curves(panels, "accuracy in percent", **options)


def write(folder, series, clean, reference, rate, command):
    """Writes index.html, rate_accuracy.png, .csv and .json, and bd.csv.

    Args:
        folder: where to.
        series: {label: list of `Point`}.
        clean: see `draw`.
        reference: label of the series that others are compared with.
        rate: one of `RATES`.
        command: how this was made, a text.

    Returns:
        The lines to show on the screen.
    """
    folder = pathlib.Path(folder)
    points = [
        {"series": label} | dataclasses.asdict(point)
        for label, found in series.items()
        for point in sorted(found, key=lambda one: getattr(one, rate))
    ]
    differences = compare(series, reference, rate)
    picture = draw(series, clean, rate)
    image_files.write_image(folder / "rate_accuracy.png", picture)
    report.write_table(folder / "rate_accuracy.csv", points)
    if differences:
        report.write_table(folder / "bd.csv", differences)
    tables = [_point_cells(points), _difference_cells(differences, reference)]
    page.write(
        folder / "index.html",
        "Accuracy against rate",
        page.embedded_picture(picture, "accuracy against rate"),
        "<p>Rates are means over the images that have a bit stream, accuracies are of these.</p>",
        *(_difference_parts(tables[1]) if differences else ()),
        "<h2>All points</h2>",
        page.table(_escaped(tables[0])),
        f"<h2>Command</h2><pre>{html.escape(command)}</pre>",
    )
    content = {"rate": rate, "reference": reference, CLEAN: clean}
    files.write_json(
        folder / "rate_accuracy.json",
        content | {"points": points, "differences": differences, "command": command},
    )
    return [page.align(table) for table in tables if len(table) > 1]


def _difference_parts(table):
    return (
        "<h2>Differences</h2>",
        "<p>Bjontegaard's, with PCHIP over the logarithm of the rate: how much more rate is needed "
        "for the same accuracy (below 0: less), and how much higher the accuracy is at the same "
        "rate. BD-rate counts the points that no cheaper one beats, over the accuracies that both "
        "reach.</p>",
        page.table(_escaped(table)),
    )


def _point_cells(points):
    header = ["series", "codec", "level", "bytes", "bits per pixel", "top 1 (%)", "top 5 (%)"]
    decimals = {"bytes": 0, "bits_per_pixel": 3, "top1": 1, "top5": 1}
    table = [header]
    for point in points:
        numbers = [_text(point[name], f".{digits}f") for name, digits in decimals.items()]
        table.append([point["series"], point["codec"], _text(point["level"], "g"), *numbers])
    return table


def _difference_cells(differences, reference):
    header = [f"compared with {reference}", "of", "BD-rate (%)", "BD-accuracy (points)"]
    table = [[*header, "in common (%)"]]
    for row in differences:
        common = "-" if math.isnan(row["from"]) else f"{row['from']:.1f} to {row['to']:.1f}"
        numbers = _text(row["bd_rate"], "+.1f"), _text(row["bd_accuracy"], "+.2f")
        table.append([row["series"], FIGURES[row["figure"]], *numbers, common])
    return table


def _text(value, form):
    return "-" if math.isnan(value) else f"{value:{form}}"


def _escaped(table):
    return [[html.escape(cell) for cell in row] for row in table]

"""The page of a robustness report: one HTML file, made of what results.json holds and of photos."""

import math

from misc.reports import heat_tables, line_charts, self_contained
from misc.reports.heat_tables import CLEAN, SEVERITY
from misc.reports.self_contained import escape

# Of `means`: what the figures are called, and a key whose `_low` and `_high` are its interval.
FIGURES = {
    "clean": "accuracy on clean images",
    "accuracy": "accuracy on degraded images",
    "clean_present": "accuracy among the classes present, clean",
    "accuracy_present": "accuracy among the classes present, degraded",
    "imagenet_c": "accuracy on ImageNet-C's 15",
    "mce": "mCE (AlexNet: 100)",
    "relative_mce": "relative mCE (AlexNet: 100)",
    "agreement": "agreement with the clean answer",
    "clean_top5": "top 5, clean",
    "top5": "top 5, degraded",
    "clean_ece": "calibration error, clean",
    "ece": "calibration error, degraded",
}
EXPLANATION = """<p><small>In percent. On degraded images: the mean over the degradations of each
one's mean over its levels; in brackets the interval of 95 %, by drawing the images anew
(percentile bootstrap, {resamples} times). mCE and relative mCE: Hendrycks &amp; Dietterich,
ICLR 2019. Calibration error: expected calibration error in {bins} bins, Guo et al.,
ICML 2017.</small></p>"""


def write(path, content, fragile, names=str):
    """Writes the page.

    Args:
        path: of the file.
        content: what results.json holds; see `classifiers.robustness_report`.
        fragile: {model: list of dicts with "clean" and "broken", uint8 RGB images `[H, W, 3]`, and
            "caption_clean" and "caption_broken", lists of lines}.
        names: function that shortens the text of a degradation.
    """
    models = [one["name"] for one in content["models"]]
    rows = {model: [row for row in content["images"] if row["model"] == model] for model in models}
    parts = [
        f"<p>{escape(content['description'])}</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in content["warnings"]),
        _summary(models, content),
        "<h2>Accuracy against level</h2>",
        _legend(models, "dotted: clean images; shaded: intervals of 95 %"),
        _curves(models, rows, content, names),
        "<h2>Accuracy in percent</h2>",
        *_heat_maps(models, rows, content["units"], names),
    ]
    if content["breaking"]:
        parts += ["<h2>Breaking points</h2>", _breaking_explanation()]
        parts += [_legend(models), _holding(models, content, names)]
        parts += _breaking_tables(models, content, names)
    if any(fragile.values()):
        parts += ["<h2>The most fragile images</h2>", _fragile_explanation()]
        for model, pairs in fragile.items():
            parts += [f"<h3>{escape(model)}</h3>", _pairs(pairs)]
    parts += ["<h2>How it was measured</h2>", *_measured(content)]
    self_contained.write(path, content["title"], parts)


def _summary(models, content):
    means = content["mean"]
    rows = [["", *models]]
    for figure, title in FIGURES.items():
        if any(figure in means[model] for model in models):
            rows.append([title, *(_with_interval(means[model], figure) for model in models)])
    text = self_contained.table(rows)
    text += EXPLANATION.format(resamples=content["resamples"], bins=content["bins"])
    lines = [
        f"<li>{escape(one['second'])}: {one['accuracy']:+.1f} points of accuracy on degraded "
        f"images against {escape(one['first'])}; interval {one['low']:+.1f} to {one['high']:+.1f}, "
        "on the same images.</li>"
        for one in content["differences"]
    ]
    return text + (f"<ul>{''.join(lines)}</ul>" if lines else "")


def _with_interval(means, figure):
    value = means.get(figure)
    if value is None or math.isnan(value):
        return ""
    if f"{figure}_low" not in means:
        return f"{value:.1f}"
    return f"{value:.1f} ({means[f'{figure}_low']:.1f}-{means[f'{figure}_high']:.1f})"


def _legend(models, more=""):
    entries = []
    for number, model in enumerate(models):
        colour, line = line_charts.legend(number)
        entries.append(
            f'<span><span style="color:{colour};margin:0">{line}</span> {escape(model)}</span>'
        )
    return f'<p class="legend">{"".join(entries)}<small>{escape(more)}</small></p>'


def _curves(models, rows, content, names):
    panels = []
    degradations = dict.fromkeys(row["name"] for row in content["images"] if row["name"] != CLEAN)
    clean = [
        next((row["top1"] for row in rows[model] if row["name"] == CLEAN), None) for model in models
    ]
    for name in degradations:
        series = [
            sorted(
                (row["level"], row["top1"], row["low"], row["high"])
                for row in rows[model]
                if row["name"] == name and not _is_nan(row["level"])
            )
            for model in models
        ]
        if all(len(points) > 1 for points in series):
            unit = content["units"].get(name, SEVERITY)
            svg = line_charts.draw(
                series, names(name), unit, "accuracy in percent", clean,
                falling=name in content["falling"],
            )  # fmt: skip
            panels.append(self_contained.vector_picture(svg, f"accuracy against level: {name}"))
    return f'<div class="flow">{"".join(panels)}</div>'


def _is_nan(level):
    return math.isnan(float(level))


def _heat_maps(models, rows, units, names):
    for number, model in enumerate(models):
        tables = heat_tables.accuracy_tables(rows[model], units, names)
        yield f"<h3>{escape(model)}</h3>{_side_by_side(tables)}"
        if number:
            tables = heat_tables.difference_tables(rows[models[0]], rows[model], units, names)
            yield f"<h3>{escape(model)} less {escape(models[0])}</h3>{_side_by_side(tables)}"


def _side_by_side(tables):
    """Returns the first table, which is long, and the others beside it, one below the other."""
    first, *others = tables
    return f'<div class="flow">{first}<div>{"".join(others)}</div></div>'


def _breaking_explanation():
    return (
        "<p>From mild to hard, the first level at which the answer to an image is not the one to "
        "the clean image, be that right or wrong. Curves: how many answers still hold.</p>"
    )


def _holding(models, content, names):
    panels = []
    for name in dict.fromkeys(one["name"] for one in content["breaking"]):
        found = {one["model"]: one for one in content["breaking"] if one["name"] == name}
        series = [_held(found[model]) for model in models]
        unit = content["units"].get(name, SEVERITY)
        if unit != SEVERITY and len(series[0]) > 1:
            svg = line_charts.draw(
                series, names(name), unit, "answers that hold, percent",
                falling=name in content["falling"],
            )  # fmt: skip
            panels.append(self_contained.vector_picture(svg, f"answers that hold: {name}"))
    return f'<div class="flow">{"".join(panels)}</div>'


def _held(one):
    """Returns [(level, percent of the images whose answer holds up to it)]."""
    total = sum(one["images"]) + one["holding"]
    held, points = total, []
    for level, broken in zip(one["levels"], one["images"], strict=True):
        held -= broken
        points.append((level, 100 * held / total))
    return points


def _breaking_tables(models, content, names):
    for model in models:
        own = [one for one in content["breaking"] if one["model"] == model]
        severe = [one for one in own if content["units"].get(one["name"], SEVERITY) == SEVERITY]
        tables = []
        if severe:
            levels = severe[0]["levels"]
            rows = [["breaks at severity", *(f"{level:g}" for level in levels), "holds"]]
            for one in severe:
                total = sum(one["images"]) + one["holding"]
                shares = [100 * count / total for count in (*one["images"], one["holding"])]
                if one["levels"] == levels:
                    rows.append([names(one["name"]), *(f"{share:.1f}" for share in shares)])
            tables.append(self_contained.table(rows, "percent of the images"))
        others = [one for one in own if one not in severe]
        if others:
            rows = [["degradation", "half have broken at", "hold at all levels"]]
            for one in others:
                total = sum(one["images"]) + one["holding"]
                median = "-" if one["median"] is None else f"{one['median']:g}"
                rows.append([names(one["name"]), median, f"{100 * one['holding'] / total:.1f} %"])
            units = "; ".join(f"{names(o['name'])}: {content['units'][o['name']]}" for o in others)
            tables.append(self_contained.table(rows, units))
        if tables:
            yield f'<h3>{escape(model)}</h3><div class="flow">{"".join(tables)}</div>'


def _fragile_explanation():
    return (
        "<p>Of the images that are answered rightly when they are clean, those whose answers hold "
        "the smallest share of the levels, on the mean over the degradations; beside each the "
        "degradation that changes its answer first, at that level.</p>"
    )


def _pairs(pairs):
    cells = []
    for pair in pairs:
        texts = "<br>".join(
            f"{'<b>' * (not n)}{escape(line)}{'</b>' * (not n)}"
            for n, line in enumerate((*pair["caption_clean"], *pair["caption_broken"]))
        )
        photos = self_contained.photo(pair["clean"], "clean")
        photos += self_contained.photo(pair["broken"], "degraded")
        cells.append(f'<div class="pair">{photos}<br>{texts}</div>')
    return f'<div class="flow">{"".join(cells)}</div>'


def _measured(content):
    rows = [["model", "file", "classes", "fed with"]]
    rows += [
        [one["name"], one["source"], str(one["classes"]), one["values"]]
        for one in content["models"]
    ]
    yield self_contained.table(rows)
    yield "<ul>"
    for text in content["notes"]:
        yield f"<li>{escape(text)}</li>"
    yield "</ul>"
    yield f"<p>The command:</p><pre>{escape(content['command'])}</pre>"

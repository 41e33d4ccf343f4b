"""The page of an evaluation without and with a correction: grids, differences, corrected images."""

from classifiers.comparison import NONE
from classifiers.metrics import CLEAN, COLWARP
from misc.reports import heat_tables, self_contained

TITLE = "Accuracy without and with the correction"
EXPLANATION = """<p><small>In percent. Corrupted: the mean over the corruptions of each one's mean
over its levels, without clean images and colwarp; change: in comparison with the same classifier
alone (none). mCE, where it is known: Hendrycks &amp; Dietterich, ICLR 2019 (AlexNet: 100).</small>
</p>"""
ALONE = "severity, in no mean"


def describe(grids, pairs, units, names=str):
    """Returns the page's title and its parts in HTML; see `misc.reports.self_contained`.

    Args:
        grids: see `comparison.summarize`.
        pairs: see `comparison.correct_examples`.
        units: {degradation: what its levels are}; others have severities.
        names: function that shortens the text of a degradation.
    """
    units = units | {COLWARP: ALONE}
    parts = [self_contained.table(list(_summary(grids))), EXPLANATION]
    for classifier, by_module in grids.items():
        parts.append(f"<h2>{self_contained.escape(classifier)}</h2>")
        rows = {module: grid.rows() for module, grid in by_module.items()}
        parts.append(f'<div class="flow">{"".join(_heat_maps(rows, units, names))}</div>')
    parts += ["<h2>Corrected images</h2>", _show(pairs)]
    return TITLE, parts


def _summary(grids):
    """Yields the rows of a table: the figures of each classifier without and with a correction."""
    means = {
        (classifier, module): grid.means()
        for classifier, by_module in grids.items()
        for module, grid in by_module.items()
    }
    figures = {"accuracy": "corrupted", f"accuracy/{CLEAN}": CLEAN, "mce_alexnet": "mCE"}
    figures = {name: title for name, title in figures.items() if name in next(iter(means.values()))}
    yield ["classifier", "", *(text for title in figures.values() for text in (title, "change"))]
    for (classifier, module), own in means.items():
        before = means[classifier, NONE]
        cells = []
        for name in figures:
            change = "" if module == NONE else f"{own[name] - before[name]:+.1f}"
            cells += [f"{own[name]:.1f}", change]
        yield [classifier, module, *cells]


def _heat_maps(rows, units, names):
    """Yields titled heat maps: what is gained, then the accuracies."""
    for module, own in rows.items():
        if module != NONE:
            tables = heat_tables.difference_tables(rows[NONE], own, units, names)
            yield _titled(f"gained by {module}, in points", tables)
    for module, own in rows.items():
        yield _titled(f"accuracy, {module}", heat_tables.accuracy_tables(own, units, names))


def _titled(title, tables):
    """Returns tables below a title, nothing where there are none."""
    return f"<div><h3>{self_contained.escape(title)}</h3>{''.join(tables)}</div>" if tables else ""


def _show(pairs):
    cells = []
    for title, image, corrected in pairs:
        photos = self_contained.photo(image, title)
        photos += self_contained.photo(corrected, f"{title}, corrected")
        cells.append(f'<div class="pair">{photos}<br>{self_contained.escape(title)}</div>')
    return f'<div class="flow">{"".join(cells)}</div>'

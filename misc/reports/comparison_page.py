"""What is gained between any results with accuracies by degradation and level, as one page."""

import dataclasses

from misc.images import files
from misc.reports import heat_tables, self_contained
from misc.reports.self_contained import escape


@dataclasses.dataclass(frozen=True)
class Series:
    """One model's results: its name, rows {"name", "level", "top1"}, and units of the levels."""

    name: str
    rows: list
    units: dict


def read(paths):
    """Returns the `Series` of all results.json, of robustness reports or of validate.py.

    Raises:
        ValueError: for a damaged file, or one without accuracies of degradations; names it.
    """
    found = [(path, one) for path in paths for one in _read(path)]
    names = [one.name for _, one in found]
    return [
        dataclasses.replace(one, name=f"{one.name}, {path}") if names.count(one.name) > 1 else one
        for path, one in found
    ]


def _read(path):
    content = files.read_json(path)
    try:
        rows, units = content["images"], dict(content.get("units", {}))
        by_model = {}
        for row in rows:
            row = {**row, "level": float(row["level"])}
            for model, accuracy in _accuracies_by_model(row).items():
                by_model.setdefault(model, []).append({**row, "top1": float(accuracy)})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no accuracies (top1) by degradation (name) and level: {error!r}"
        ) from error
    if not by_model:
        raise ValueError(f"{path} holds no accuracies: its list of images is empty.")
    return [Series(name or str(path), own, units) for name, own in by_model.items()]


def _accuracies_by_model(row):
    """Returns {model: accuracy} of a row; one of a "classifier" has a column for each module."""
    if "classifier" not in row:
        return {row.get("model"): row["top1"]}
    modules = row.keys() - {"name", "level", "classifier"}
    return {f"{row['classifier']}, {module}": row[module] for module in row if module in modules}


def accuracies(series):
    """Returns {degradation: mean accuracy over its levels} of a `Series`, in percent."""
    found = {}
    for row in series.rows:
        found.setdefault(row["name"], []).append(row["top1"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def write(path, series, command, names=str):
    """Writes a page that compares all `Series` with the first one; returns its table as rows.

    Raises:
        ValueError: when nothing was measured of both.
    """
    first, *others = series
    before = accuracies(first)
    parts, table = [], [["degradation", *(one.name for one in series)]]
    for name in before:
        cells = [accuracies(one).get(name) for one in series]
        if any(cell is not None for cell in cells[1:]):
            table.append([names(name), *("" if c is None else f"{c:.1f}" for c in cells)])
    if len(table) == 1:
        raise ValueError(
            f"{first.name} and {others[0].name} have no degradation in common: "
            f"{', '.join(before)}; {', '.join(accuracies(others[0]))}."
        )
    for other in others:
        tables = heat_tables.difference_tables(first.rows, other.rows, first.units, names)
        parts.append(f"<h2>{escape(other.name)} less {escape(first.name)}</h2>")
        parts.append(f'<div class="flow">{"".join(tables)}</div>')
    parts += ["<h2>Means over the levels, in percent</h2>", self_contained.table(table)]
    parts.append(f"<p>The command:</p><pre>{escape(command)}</pre>")
    self_contained.write(path, "Accuracy gained, in percent", parts)
    return table

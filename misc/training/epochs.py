"""The table of a run's epochs: epochs.csv, and its lines on the screen."""

import csv
import io

from misc.images import files

FILE = "epochs.csv"
_STEP = "step"


def append(path, step, rows):
    """Appends rows {"epoch": ..., "split": ..., column: number or `None`} of a step.

    Their first two columns stay the first, before that of the step; `None` is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        first, second, *others = rows[0]
        writer.writerow([first, second, _STEP, *others])
    for row in rows:
        first, second, *others = row.values()
        writer.writerow([first, second, step, *others])
    with files.naming(path), open(path, "a", newline="") as file:
        file.write(text.getvalue())


def cut(path, step):
    """Removes what comes after a step, and a line that a killed run did not finish."""
    if not path.exists():
        return
    text = path.read_text(errors="replace")
    whole = text[: text.rfind("\n") + 1]
    head, *lines = whole.splitlines() or [""]
    columns = head.split(",")
    place = columns.index(_STEP) if _STEP in columns else None
    kept = [line for line in lines if _is_until(step, line.split(","), place)]
    if not kept:
        path.unlink()
    elif len(kept) < len(lines) or whole != text:
        files.write_text(path, "".join(f"{line}\n" for line in (head, *kept)))


def _is_until(step, cells, place):
    try:
        return int(cells[place]) <= step
    except (ValueError, IndexError, TypeError):
        return False


def as_lines(rows, with_header):
    """Returns the rows as lines of a table, under a header with the names of the columns."""
    if not rows:
        return []
    table = [[_as_text(value) for value in row.values()] for row in rows]
    head = [name.replace("_", " ") for name in rows[0]]
    widths = [max(len(name), 10) for name in head]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in ([head, *table] if with_header else table)
    ]


def _as_text(value):
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)

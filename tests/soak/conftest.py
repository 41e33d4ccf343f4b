"""Shows what the attacks came to."""

import json


def pytest_terminal_summary(terminalreporter):
    """Prints a table of figures, one row for each test that recorded some, and it all as JSON."""
    rows = {
        report.nodeid.rpartition("[")[2].rstrip("]"): dict(report.user_properties)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "user_properties", None)
    }
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    for title, row in [("", {name: name for name in columns}), *rows.items()] if rows else ():
        cells = (f"{row.get(name, '')!s:>10}" for name in columns if name != "hits")
        terminalreporter.write_line(f"{title:<18}{' '.join(cells)}")
    if rows:
        terminalreporter.write_line(json.dumps(rows))

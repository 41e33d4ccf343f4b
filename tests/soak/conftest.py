"""Shows what the attacks came to."""

import json


def pytest_terminal_summary(terminalreporter):
    """Prints what tests recorded: tables with a row for each, and all of it as JSON."""
    tables = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            figures = dict(getattr(report, "user_properties", ()))
            title = report.nodeid.rpartition("[")[2].rstrip("]") if figures else ""
            tables.setdefault(tuple(figures), {})[title] = figures
    for columns, rows in tables.items():
        shown = [name for name in columns if not isinstance(next(iter(rows.values()))[name], dict)]
        for title, row in [("", {name: name for name in shown}), *rows.items()] if shown else ():
            cells = (f"{row[name]!s:>10}" for name in shown)
            terminalreporter.write_line(f"{title:<18}{''.join(cells)}")
        if shown:
            terminalreporter.write_line(json.dumps(rows))

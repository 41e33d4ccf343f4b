"""Every damaged file is read or ends in one line that names it: no traceback, no crash."""

import collections
import json
import os
import selectors

import pytest

from tests import commands
from tests.soak import damaged

SEED = 0
FILES_PER_KIND = 40
# Of a file of some kilobytes, whatever it says of its sizes.
LARGEST_MEMORY = 1 << 30
PATIENCE = 60


def examine(folder, seed, count, kinds):
    """Returns the reports on `count` damaged files of each kind, crashes and hangs among them."""
    reports, kinds, first = [], list(kinds), 0
    while kinds:
        last, reason = _run(folder / f"{len(reports)}", seed, first, count, kinds, reports)
        if last is None:
            assert reason is None, f"{reason} before any file was read"
            return reports
        if reason is None:
            break
        reports.append(last | {"outcome": "fault", "message": reason, "memory": 0, "same": False})
        kinds, first = kinds[kinds.index(last["kind"]) :], last["number"] + 1
    return reports


def _run(folder, seed, first, count, kinds, reports):
    """Reads files in a process of its own; returns the one that it died of and why, if it did."""
    arguments = [folder, seed, first, count, *kinds]
    process = commands.start("-m", "tests.soak.damaged", *arguments)
    begun, text, hangs = None, "", False
    with selectors.DefaultSelector() as selector, process:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not hangs:
            hangs = not selector.select(PATIENCE)
            piece = "" if hangs else os.read(process.stdout.fileno(), 1 << 16).decode()
            if not piece:
                break
            *lines, text = (text + piece).split("\n")
            for report in map(json.loads, lines):
                begun = report
                if "outcome" in report:
                    reports.append(report)
                    begun = None
        if hangs:
            process.kill()
        errors = process.stderr.read()
    if hangs:
        return begun, f"no end within {PATIENCE} s"
    if process.returncode:
        return begun, f"exit {process.returncode}: {errors[-2000:]}"
    return None, None


def faults(reports):
    """Returns the reports on files that were neither read nor refused clearly and cheaply."""
    return [
        report
        for report in reports
        if report["outcome"] == "fault" or report["memory"] > LARGEST_MEMORY
    ]


def test_a_few_damaged_files_of_each_light_kind(tmp_path):
    reports = examine(tmp_path, SEED, 2, damaged.LIGHT)
    assert len(reports) == 2 * len(damaged.LIGHT)
    assert faults(reports) == []
    assert {report["outcome"] for report in reports} == {"read", "refused"}


@pytest.mark.soak
@pytest.mark.parametrize("kind", damaged.KINDS)
def test_damaged_files(kind, tmp_path, record_property):
    reports = examine(tmp_path, SEED, FILES_PER_KIND, [kind])
    outcomes = collections.Counter(report["outcome"] for report in reports)
    for outcome in ("read", "refused", "fault"):
        record_property(outcome, outcomes[outcome])
    assert len(reports) == FILES_PER_KIND
    assert faults(reports) == []

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


# What users type for a kind of file; {path} and {folder} are of the damaged one.
COMMANDS = {
    "a frozen graph": "-m misc.predict_folder --frozen_path={path} --scale=2 {images}",
    "a SavedModel's description": (
        "-m misc.predict_folder --frozen_path={folder} --scale=2 {images}"
    ),
    "ONNX": "-m misc.predict_folder --frozen_path={path} {images}",
    "TFLite": "-m misc.predict_folder --frozen_path={path} {images}",
    "the arguments of a run of eusr": (
        "-m misc.predict_folder --restore_path={folder} --scale=2 {images}"
    ),
    "a checkpoint's index": "freeze.py --restore_path={folder} --output_path={folder}/frozen.pb",
    "a checkpoint's values": "validate.py --restore_path={folder}",
    "PyTorch's .pth": (
        "-m misc.convert_weights --network=resnet18 --input_path={path} "
        "--output_path={folder}/out.weights.h5"
    ),
    "a run's .h5": (
        "validate.py --model=classifier --network=cifar_resnet20 --num_classes=10 "
        "--restore_path={path}"
    ),
    "CIFAR's pickles": "train.py --dataloader=cifar10 --data_path={folder} {run}",
    "CIFAR's .npz": "train.py --dataloader=cifar10 --data_path={folder} {run}",
    "AVA's table": (
        "train.py --dataloader=ava --ava_dataset_path={path} --ava_image_path={folder} {run}"
    ),
    "KonIQ-10k's table": (
        "train.py --dataloader=koniq10k --koniq10k_score_path={path} "
        "--koniq10k_image_path={folder} {run}"
    ),
    "photo.png": (
        "-m misc.degrade_folder --input_path={folder} --output_path={folder}/out "
        "--degradations=jpeg:50"
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_end_with_one_line(kind, tmp_path):
    path = damaged.KINDS[kind].make(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    places = {
        "path": path,
        "folder": path.parent,
        "images": f"--input_path={tmp_path} --output_path={tmp_path}/out",
        "run": f"--train_path={tmp_path}/run --max_steps=1",
    }
    output = commands.run(*COMMANDS[kind].format(**places).split(), status=1)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    assert path.name in lines[0] or str(path.parent) in lines[0], output
    assert "Traceback" not in output

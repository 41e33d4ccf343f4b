"""The command that reports robustness, as a user runs it."""

import csv
import json
import os
import signal
import time

import keras
import numpy as np
import pytest

from classifiers import levels, robustness, robustness_report
from classifiers.dataloaders import digits, imagenet_c
from classifiers.robustness_content import short_names
from classifiers.robustness_report import Report
from misc.images import sample_data
from tests import commands, flag_values

COMMAND = ["-m", "misc.robustness_report"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that answers the nearest mean digit, of values in 0-1."""
    images, labels = sample_data.sample_digits("train")
    flat = images.reshape(len(images), -1) / 255.0
    means = np.stack([flat[labels == digit].mean(axis=0) for digit in range(10)])
    inputs = keras.Input((32, 32, 3))
    dense = keras.layers.Dense(10)
    network = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([0.1 * means.T, -0.05 * (means**2).sum(axis=1)])
    path = tmp_path_factory.mktemp("models") / "nearest.keras"
    network.save(path)
    return path


def arguments(model, folder, *more):
    return [
        *(*COMMAND, f"--models={model}", "--input_preset=0-1", "--dataloader=digits"),
        *(f"--output_path={folder}", "--evaluation_batch_size=100", *more),
    ]


def create_report(model, folder, dataloader=digits, **values):
    """Returns a report as the command creates it."""

    class Module:
        @staticmethod
        def define_flags():
            robustness_report.define_flags()
            dataloader.define_flags()

    values = {
        "models": [str(model)],
        "input_preset": ["0-1"],
        "output_path": str(folder),
        "evaluation_batch_size": 20,
        "quick": True,
        "seed": 0,
    } | values
    if dataloader is digits:
        values.setdefault("degradations", ["noise:20-100,step=20", "contrast"])
    flags = flag_values.of(Module, **values)
    flags.__dict__["given"] = frozenset(values)
    return robustness_report.create_report(flags, dataloader.create_data(flags), "the command")


def test_a_report_has_a_page_figures_and_every_image(model, tmp_path):
    create_report(model, tmp_path / "report").run()
    results = json.loads((tmp_path / "report/results.json").read_text())
    means = results["mean"]["nearest.keras"]
    assert means["clean"] > 60 > means["accuracy"] - 20
    rows = list(csv.DictReader((tmp_path / "report/results.csv").open()))
    assert [float(row["top1"]) for row in rows] == [row["top1"] for row in results["images"]]
    assert len(rows) == 1 + 5 + 5
    images = list(csv.DictReader((tmp_path / "report/images.csv").open()))
    assert len(images) == 8
    assert [row["image"] for row in images] == [str(50 * n) for n in range(8)]
    right = [row["answer"] == row["class"] for row in images]
    assert 100 * np.mean(right) == pytest.approx(means["clean"])
    page = (tmp_path / "report/index.html").read_text()
    assert "the command" in page
    assert "The most fragile images" in page
    # Its parts are gone, and it is not replaced unawares.
    assert not list((tmp_path / "report").rglob("*.npz"))
    with pytest.raises(FileExistsError, match="holds a report already"):
        create_report(model, tmp_path / "report").run()
    other = {"levels": "5,3", "degradations": ["contrast"], "overwrite": True}
    create_report(model, tmp_path / "report", **other).run(overwrite=True)
    results = json.loads((tmp_path / "report/results.json").read_text())
    assert [row["level"] for row in results["images"][1:]] == [3, 5]


@pytest.mark.slow
def test_what_was_begun_with_other_settings_stays(model, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(Report, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            create_report(model, tmp_path).run()
    with pytest.raises(ValueError, match="--seed was 0, is 1"):
        create_report(model, tmp_path, seed=1).run()
    create_report(model, tmp_path).run()


def test_classes_that_do_not_fit(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Dense(7)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, x).save(tmp_path / "seven.keras")
    report = create_report(tmp_path / "seven.keras", tmp_path / "report")
    with pytest.raises(
        ValueError, match=r"data have 10 classes, and seven.keras has 7.*class_names"
    ):
        report.run()


@pytest.mark.slow
def test_levels_that_are_drawn_have_no_order(model, tmp_path):
    create_report(model, tmp_path, levels="random").run()
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["level"] for row in results["images"]] == ["nan"] * 3
    assert results["breaking"] == []
    assert "levels drawn at random" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_stored_corruptions_are_measured_as_they_are(model, tmp_path):
    images, labels = sample_data.sample_digits("test")
    images, labels = images[:30], labels[:30]
    stored = [(images * strength).astype(np.uint8) for strength in (0.9, 0.8, 0.7, 0.4, 0.1)]
    (tmp_path / "stored").mkdir()
    np.save(tmp_path / "stored/darkness.npy", np.concatenate(stored))
    np.save(tmp_path / "stored/labels.npy", np.tile(labels, 5))
    report = create_report(
        model, tmp_path / "report", imagenet_c, data_path=str(tmp_path / "stored"), quick=False
    )
    report.run()
    results = json.loads((tmp_path / "report/results.json").read_text())
    (subject,) = report.subjects
    for row, pixels in zip(results["images"], stored, strict=True):
        right = subject.classify(pixels.astype(np.float32)).argmax(axis=1) == labels
        assert row["top1"] == pytest.approx(100 * right.mean())
    assert set(results["mean"]["nearest.keras"]) & {"clean", "agreement", "mce"} == set()


@pytest.mark.parametrize("size", levels.SIZES)
def test_what_is_measured_by_default(size):
    tested = levels.test_degradations(robustness_report.default_degradations(size), "all", size)
    courses = robustness.plan(tested)
    assert len(courses) == 19
    for course in courses:
        assert 5 <= len(course.shown) <= 11
        assert len(course.breaking) >= len(course.shown)


def test_short_names():
    texts = ["jpeg:1-100", "fog", "noise:1-9", "noise:10-20", "blur:2|jpeg:10"]
    assert short_names(texts) == {
        "jpeg:1-100": "jpeg",
        "fog": "fog",
        "noise:1-9": "noise:1-9",
        "noise:10-20": "noise:10-20",
        "blur:2|jpeg:10": "blur:2|jpeg:10",
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(model, tmp_path):
    more = ["--degradations=noise:10-100,step=10", "--degradations=jpeg2000:10-90,step=10"]
    more.append("--final_jpeg=85")
    commands.run(*arguments(model, tmp_path / "whole", *more))
    killed, parts = 0, tmp_path / "report/.robustness_report/parts"
    while not (tmp_path / "report/results.json").exists():
        process = commands.start(*arguments(model, tmp_path / "report", *more))
        wanted = 2 * (killed + 1)
        while process.poll() is None and killed < 3:
            if len(list(parts.glob("0*.npz"))) >= wanted:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        process.communicate()
    assert killed == 3
    for name in ("results.json", "results.csv", "images.csv"):
        texts = [
            (tmp_path / folder / name).read_text().replace(str(tmp_path / folder), "")
            for folder in ("whole", "report")
        ]
        assert texts[0] == texts[1], name


@pytest.mark.slow
def test_mistakes_are_one_line(model, tmp_path):
    output = commands.run(*COMMAND, "--output_path=x", status=1)
    assert "error: --models is missing: Classifiers: .keras, .onnx" in output
    output = commands.run(*COMMAND, "--dataloader=div2k", status=1)
    assert "error: --dataloader=div2k is none of those for classifiers: cifar10" in output
    output = commands.run(*arguments("none.onnx", tmp_path / "r"), status=1)
    assert "error: There is no model none.onnx" in output
    output = commands.run(*arguments(model, tmp_path / "r", "--degradations=fogg"), status=1)
    assert "did you mean 'fog'?" in output


@pytest.mark.slow
def test_results_are_compared(model, tmp_path):
    for name, more in (("plain", []), ("final", ["--final_jpeg=30"])):
        commands.run(*arguments(model, tmp_path / name, "--quick", "--degradations=fog", *more))
    results = [str(tmp_path / name / "results.json") for name in ("plain", "final")]
    page = tmp_path / "page.html"
    output = commands.run("-m", "misc.compare_results", *results, f"--output_path={page}")
    assert "fog" in output
    assert "less" in page.read_text()
    output = commands.run("-m", "misc.compare_results", *results, f"--output_path={page}", status=1)
    assert "--overwrite" in output

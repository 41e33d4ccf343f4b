"""What is made of answers: means, mCE, intervals, breaking points."""

import numpy as np
import pytest

from classifiers import robustness_figures
from classifiers.metrics import ALEXNET_ERRORS, CLEAN, CorruptionGrid
from classifiers.robustness import Answers, Measured
from degradations import GROUPS

CELLS = [(CLEAN, None)] + [(n, s) for n in GROUPS["imagenet_c"] for s in (1, 2, 3, 4, 5)]


def test_errors_beside_alexnet():
    random = np.random.default_rng(0)
    accuracies = random.uniform(10, 60, len(CELLS))
    accuracies[0] = 70
    found = robustness_figures.mean_accuracies(CELLS, accuracies)
    errors = dict.fromkeys(ALEXNET_ERRORS, 0.0)
    for (name, _), accuracy in zip(CELLS[1:], accuracies[1:], strict=True):
        errors[name] += (100 - accuracy) / 5
    mce = np.mean([errors[name] / alexnet for name, alexnet in ALEXNET_ERRORS.items()])
    assert found["mce"] == pytest.approx(100 * mce)
    relative = [(errors[n] - 30) / (alexnet - 43.5) for n, alexnet in ALEXNET_ERRORS.items()]
    assert found["relative_mce"] == pytest.approx(100 * np.mean(relative))
    assert found["accuracy"] == pytest.approx(accuracies[1:].mean())
    # AlexNet itself.
    alexnet = [100 - 43.5] + [100 - ALEXNET_ERRORS[name] for name, _ in CELLS[1:]]
    found = robustness_figures.mean_accuracies(CELLS, alexnet)
    assert (found["mce"], found["relative_mce"]) == pytest.approx((100, 100))


def test_all_resamples_at_once():
    accuracies = np.random.default_rng(1).uniform(0, 100, (4, len(CELLS)))
    together = robustness_figures.mean_accuracies(CELLS, accuracies)
    for number, row in enumerate(accuracies):
        for name, value in robustness_figures.mean_accuracies(CELLS, row).items():
            assert together[name][number] == pytest.approx(value)


def test_without_all_corruptions_there_is_no_mce():
    assert set(robustness_figures.mean_accuracies(CELLS[:-1], np.ones(75))) == {"accuracy"}
    # Frost is frost, wherever its photos lie; but fog at one severity is not all fog.
    cells = [("frost:folder='x'" if n == "frost" else n, s) for n, s in CELLS]
    assert "mce" in robustness_figures.mean_accuracies(cells, np.ones(76))


def measure(classes=20, images=60):
    random = np.random.default_rng(2)
    labels = random.integers(0, classes, images)
    cells = [(CLEAN, None), ("noise:1-3", 1.0), ("noise:1-3", 3.0), ("fog", 1.0)]
    logits = random.normal(size=(2, 4, images, classes))
    for cell, strength in enumerate((5, 3, 1, 2)):
        logits[:, cell, np.arange(images), labels] += strength
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    confidence = 1 / shifted.sum(axis=-1)
    own = logits[:, :, np.arange(images), labels][..., None]
    ranks = (logits > own).sum(axis=-1)
    places = random.integers(0, 4, (2, images))
    breaking = {"noise:1-3": ([1.0, 2.0, 3.0], places)}
    answers = Answers(logits.argmax(axis=-1), ranks, ranks // 2, confidence)
    return logits, Measured(labels, np.arange(images), cells, answers, breaking)


def test_figures_are_those_of_the_grid_and_of_their_definitions():
    logits, measured = measure()
    figures = robustness_figures.compute(measured, ["a", "b"], alexnet=False)
    for model, name in enumerate(["a", "b"]):
        grid = CorruptionGrid(20)
        for cell, (degradation, level) in enumerate(measured.cells):
            grid.update(degradation, level, measured.labels, logits[model, cell])
        rows = [row for row in figures.rows if row["model"] == name]
        for row, expected, cell in zip(rows, grid.rows(), range(4), strict=True):
            assert row["top1"] == pytest.approx(expected["top1"])
            assert row["top5"] == pytest.approx(expected["top5"])
            assert row["low"] <= row["top1"] <= row["high"]
            clean = logits[model, 0].argmax(axis=1)
            agree = (logits[model, cell].argmax(axis=1) == clean).mean()
            assert row["agreement"] == pytest.approx(100 * agree)
        assert figures.means[name]["accuracy"] == pytest.approx(grid.means()["accuracy"])
        assert figures.means[name]["clean"] == pytest.approx(rows[0]["top1"])
    (difference,) = figures.differences
    gained = figures.means["b"]["accuracy"] - figures.means["a"]["accuracy"]
    assert difference["accuracy"] == pytest.approx(gained)
    assert difference["low"] < gained < difference["high"]


def test_accuracy_among_the_classes_that_are_present():
    _, measured = measure()
    figures = robustness_figures.compute(measured, ["a", "b"], some_classes=True)
    for row in figures.rows[:4]:
        assert row["top1_present"] >= row["top1"]
    expected = 100 * (measured.answers.ranks_present[0] == 0).mean(axis=1)
    assert figures.means["a"]["clean_present"] == pytest.approx(expected[0])
    mean = (expected[1:3].mean() + expected[3]) / 2
    assert figures.means["a"]["accuracy_present"] == pytest.approx(mean)


def test_breaking_points_are_counted():
    _, measured = measure()
    figures = robustness_figures.compute(measured, ["a", "b"])
    for model, one in enumerate(figures.breaking):
        places = measured.breaking["noise:1-3"][1][model]
        assert one["images"] == [(places == n).sum() for n in range(3)]
        assert one["holding"] == (places == 3).sum()
        held = np.where(places < 3, np.array([1, 2, 3, np.inf])[places], np.inf)
        expected = np.sort(held)[(len(held) - 1) // 2]
        assert one["median"] == (None if np.isinf(expected) else expected)


def test_the_most_fragile_were_right():
    _, measured = measure()
    found = robustness_figures.most_fragile(measured, 0, 5)
    places = measured.breaking["noise:1-3"][1][0]
    assert [one.score for one in found] == sorted(one.score for one in found)
    for one in found:
        assert measured.answers.ranks[0, 0, one.image] == 0
        assert one.place == places[one.image] < 3
    right = measured.answers.ranks[0, 0] == 0
    assert found[0].score == places[right].min() / 3


def test_rows_of_images():
    _, measured = measure()
    rows = robustness_figures.image_rows(measured, ["a", "b"], [f"n{n}" for n in range(20)])
    assert len(rows) == 120
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    row, image = rows[61], 1
    assert (row["model"], row["image"], row["class"]) == ("b", 1, f"n{measured.labels[1]}")
    assert row["answer"] == f"n{measured.answers.classes[1, 0, image]}"
    place = measured.breaking["noise:1-3"][1][1, image]
    assert row["noise:1-3 breaks at"] == ["1", "2", "3", ""][place]

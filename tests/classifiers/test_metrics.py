import numpy as np
import pytest

from classifiers import metrics
from degradations import GROUPS, expand


def one_hot_logits(predicted, classes):
    return np.eye(classes, dtype=np.float32)[predicted]


def test_rank_of_the_right_class():
    logits = np.array([[0.1, 0.5, 0.3], [2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(metrics.rank_of_label(np.array([2, 0]), logits), [1, 0])
    # Of equal logits the first is the argmax.
    np.testing.assert_array_equal(metrics.rank_of_label(np.array([1, 2]), logits), [0, 2])
    random = np.random.default_rng(0)
    logits, labels = random.integers(0, 4, (200, 7)), random.integers(0, 7, 200)
    rank = metrics.rank_of_label(labels, logits)
    np.testing.assert_array_equal(rank == 0, logits.argmax(1) == labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    np.testing.assert_array_equal(rank < 5, (order[:, :5] == labels[:, None]).any(1))


def test_grid_counts_over_batches():
    grid = metrics.CorruptionGrid(7)
    for predicted in ([0, 1, 2], [3, 3]):
        labels = np.array([0, 1, 3][: len(predicted)])
        grid.update("clean", None, labels, one_hot_logits(predicted, 7))
        grid.update("noise", 10, labels, one_hot_logits([0] * len(labels), 7))
        grid.update("noise", 20, labels, one_hot_logits([6] * len(labels), 7))
        grid.update("blur", 20, labels, one_hot_logits(labels, 7))
    rows = {(row["name"], row["level"]): row for row in grid.rows() if row["name"] != "clean"}
    assert rows["noise", 10.0]["top1"] == pytest.approx(40)
    assert rows["noise", 20.0]["top1"] == 0
    assert rows["noise", 20.0]["top5"] == 100
    means = grid.means()
    assert means["accuracy/clean"] == pytest.approx(40)
    assert means["accuracy/noise"] == pytest.approx(20)
    assert means["accuracy"] == pytest.approx(60)
    assert means["mean_error"] == pytest.approx(40)
    assert "mce_alexnet" not in means
    noise = grid.grid()[1]
    assert noise["degradation"] == "noise"
    assert (noise["10"], noise["20"]) == (pytest.approx(40), 0)
    assert np.isnan(grid.grid()[2]["10"])


def test_answers_out_of_the_classes_that_are_present():
    random = np.random.default_rng(3)
    logits, labels = random.normal(size=(90, 12)), random.choice([2, 3, 7, 8, 9, 11], 90)
    present = sorted(set(labels.tolist()))
    grid = metrics.CorruptionGrid(12, present=present)
    grid.update("clean", None, labels, logits)
    (row,) = grid.rows()
    others = [number for number in range(12) if number not in present]
    logits[:, others] = -np.inf
    order = np.argsort(-logits, axis=1)
    assert row["top1_present"] == pytest.approx(100 * (order[:, 0] == labels).mean())
    among = (order[:, :5] == labels[:, None]).any(1).mean()
    assert row["top5_present"] == pytest.approx(100 * among)
    assert row["top1_present"] > row["top1"]
    assert grid.means()["accuracy_present"] == row["top1_present"]
    every = metrics.CorruptionGrid(12, present=list(range(12)))
    every.update("clean", None, labels, random.normal(size=(90, 12)))
    assert "top1_present" not in every.rows()[0]
    assert "accuracy_present" not in every.means()


def test_bytes_are_means_over_coded_images():
    grid = metrics.CorruptionGrid(4)
    labels = np.array([0, 1, 2])
    grid.update("clean", None, labels, one_hot_logits(labels, 4))
    grid.update("webp:30", None, labels, one_hot_logits([0, 0, 0], 4), [100, 0, 300], 400)
    grid.update("webp:30", None, labels, one_hot_logits([0, 1, 2], 4), [200, 0, 200], 100)
    clean, coded = grid.rows()
    assert np.isnan(clean["bytes"])
    assert np.isnan(clean["top1_coded"])
    assert coded["bytes"] == 200
    assert coded["bits_per_pixel"] == pytest.approx((2 + 6 + 16 + 16) / 4)
    assert (coded["top1"], coded["top1_coded"]) == (pytest.approx(100 * 4 / 6), 75)
    means = grid.means()
    assert means["bytes/webp:30"] == 200
    assert "bytes/clean" not in means


def test_confusion_and_recall():
    grid = metrics.CorruptionGrid(3)
    grid.update("clean", None, np.array([0, 0, 1]), one_hot_logits([0, 2, 1], 3))
    rows = grid.confusion(["a", "b", "c"])
    assert rows[0] == {"degradation": "clean", "class": "a", "a": 1, "b": 0, "c": 1}
    assert rows[1]["b"] == 1
    recall = grid.per_class(["a", "b", "c"])
    assert [row["clean"] for row in recall[:2]] == [50, 100]
    assert np.isnan(recall[2]["clean"])


def test_clean_accuracy_alone_is_the_accuracy():
    grid = metrics.CorruptionGrid(3)
    grid.update("clean", None, np.array([0, 1]), one_hot_logits([0, 0], 3))
    assert grid.means()["accuracy"] == 50


def imagenet_c(classes=1000, wrong=2):
    grid = metrics.CorruptionGrid(classes, confusion=False)
    labels = np.arange(4)
    predicted = np.where(np.arange(4) < wrong, 9, labels)
    for name in GROUPS["imagenet_c"]:
        for severity in metrics.SEVERITIES:
            grid.update(name, float(severity), labels, one_hot_logits(predicted, classes))
    return grid


def test_mce_is_relative_to_alexnet_and_for_imagenet_alone():
    expected = np.mean([50 / metrics.ALEXNET_ERRORS[name] for name in GROUPS["imagenet_c"]])
    assert imagenet_c().means()["mce_alexnet"] == pytest.approx(100 * expected)
    assert imagenet_c().means()["mean_error"] == 50
    assert imagenet_c(classes=10).mean_corruption_error() is None
    assert metrics.CorruptionGrid(1000).mean_corruption_error() is None


def test_severities_that_are_named_one_by_one_count_together():
    together, apart = imagenet_c(), metrics.CorruptionGrid(1000, confusion=False)
    labels = np.arange(4)
    for name in GROUPS["imagenet_c"]:
        for severity in metrics.SEVERITIES:
            predicted = np.where(labels < severity - 1, 9, labels)
            logits = one_hot_logits(predicted, 1000)
            apart.update(f"{name}@{severity}", float(severity), labels, logits)
    assert apart.mean_corruption_error() == pytest.approx(together.mean_corruption_error())


def test_frost_from_photos_counts_for_the_mce():
    grid, labels = metrics.CorruptionGrid(1000, confusion=False), np.arange(4)
    for text in expand(['imagenet_c:folder="photos"']):
        for severity in metrics.SEVERITIES:
            grid.update(text, float(severity), labels, one_hot_logits([0, 1, 9, 9], 1000))
    assert grid.mean_corruption_error() == pytest.approx(imagenet_c().mean_corruption_error())


def test_alexnets_errors_are_the_published_ones():
    # In the order of Hendrycks & Dietterich (ICLR 2019), rounded to whole percents.
    rounded = [round(metrics.ALEXNET_ERRORS[name]) for name in GROUPS["imagenet_c"]]
    assert rounded == [89, 89, 92, 82, 83, 79, 80, 87, 83, 82, 56, 85, 65, 72, 61]


def test_answers_that_are_not_numbers_are_wrong():
    grid = metrics.CorruptionGrid(3)
    logits = one_hot_logits([0, 0], 3).astype(np.float32)
    logits[1, 2] = np.nan
    grid.update("clean", None, np.array([0, 0]), logits)
    assert grid.means()["accuracy"] == 50
    assert list(metrics.rank_of_label(np.array([0, 0]), np.full((2, 3), np.nan))) == [3, 3]

"""Class names of evaluations, and the pictures and tables of whole ones."""

import csv
import io

import numpy as np
import PIL.Image
import pytest
import skimage.data
import tensorflow as tf

from classifiers.dataloaders import class_folders, digits, imagenet_c, tiny_imagenet
from classifiers.evaluation import Evaluation
from classifiers.labelled_images import LabelledImages
from misc.images import image_files
from misc.reports import report
from misc.training.settings import Settings

NAMES = ["cat", "dog", "bird"]
COLOURS = np.eye(3, dtype=np.float32) * 255
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def classify(batch):
    """Says which of three colours an image has; red images with any green are dogs."""
    means = tf.reduce_mean(batch, axis=(1, 2))
    return means * tf.constant([0.01, 1.0, 1.0])


def batches(names=None):
    pixels = np.tile(COLOURS[LABELS][:, None, None], [1, 8, 8, 1])
    dataset = tf.data.Dataset.from_tensor_slices({"image": pixels, "label": LABELS}).batch(4)
    dataset.class_names = names
    return dataset


def evaluate(folder, texts, levels, names=None, trained=None):
    evaluation = Evaluation(texts, levels, classes=3, confusion=True)
    results = report.Results(folder)
    means = evaluation.run(classify, batches(names), results, trained)
    results.finish(means, {})
    return means


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_everything_is_written_with_class_names(tmp_path):
    texts = ["noise:0-40,step=20", "contrast@1-3"]
    evaluate(tmp_path, texts, "all", NAMES)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {
        "curves.png",
        "grid/severity.png",
        "grid/standard_deviation_in_grey_levels_of_0-255.png",
        "confusion/clean.png",
        "confusion/noise_0-40,step=20.png",
        "confusion/contrast@1-3.png",
    }
    assert all(image_files.read_rgb(tmp_path / name).std() > 5 for name in written)
    confusion = read_csv(tmp_path / "confusion.csv")
    assert [row["class"] for row in confusion[:3]] == NAMES
    assert (confusion[0]["cat"], confusion[0]["dog"]) == ("2", "0")
    per_class = read_csv(tmp_path / "per_class.csv")
    assert [row["class"] for row in per_class] == NAMES
    # Noise makes red images partly green.
    assert float(per_class[0]["noise:0-40,step=20"]) < 100


@pytest.mark.slow
@pytest.mark.parametrize("texts", [[], ["noise", "noise:5|saltpepper:0.1"]])
def test_without_levels_there_are_no_curves(texts, tmp_path):
    evaluate(tmp_path, texts, "random", trained=NAMES)
    assert not (tmp_path / "curves.png").exists()
    assert not (tmp_path / "grid.png").exists()
    assert len(list((tmp_path / "confusion").iterdir())) == 1 + len(texts)
    # What the images do not say, the model's run may.
    assert read_csv(tmp_path / "per_class.csv")[1]["class"] == "dog"


def test_names_that_are_equal_are_told_apart(tmp_path):
    evaluate(tmp_path, [], "random", ["crane", "crane", "class"])
    row = read_csv(tmp_path / "confusion.csv")[1]
    assert row["class"] == "crane (1)"
    assert (row["crane (0)"], row["crane (1)"], row["class (2)"]) == ("0", "2", "0")
    evaluate(tmp_path / "other", [], "random", ["a", "b"])
    assert read_csv(tmp_path / "other/per_class.csv")[2]["class"] == "2"


def test_classes_in_another_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bird, dog, cat, \.\.\. instead of cat, dog, bird"):
        evaluate(tmp_path, [], "random", NAMES[::-1], NAMES)
    evaluate(tmp_path, [], "random", ["Katze", "Hund", "Vogel"], NAMES)


def test_each_classifier_gives_its_own_answers_and_is_traced_once():
    traces = []

    def constant(label):
        def classify(batch):
            traces.append(label)
            return tf.one_hot(tf.fill(tf.shape(batch)[:1], label), 3)

        return classify

    evaluation = Evaluation(["contrast@3", "darken@2"], classes=3)
    first, second = constant(0), constant(1)
    for network in (first, second, first):
        means = evaluation.run(network, batches())
        assert means["accuracy/clean"] == pytest.approx(100 / 3)
    assert evaluation.run(lambda batch: batch[:, 0, 0], batches())["accuracy/clean"] == 100
    # Two shapes, of whole batches and the rest.
    assert traces.count(0) == traces.count(1) == 2


def test_bytes_of_codecs_are_those_of_pillow(tmp_path):
    """Of bare codecs, of chains, and where some images are left alone."""
    texts = ["jpeg:20-60,step=40", "blur:1|jpeg:50", "webp:40,p=0.5"]
    photo = skimage.data.astronaut()[:64, 100:180]
    stack = np.stack([np.roll(photo, shift, axis=1) for shift in range(6)])
    data = tf.data.Dataset.from_tensor_slices(
        {"image": stack.astype(np.float32), "label": LABELS}
    ).batch(4)
    results = report.Results(tmp_path)
    means = Evaluation(texts, "random", classes=3).run(classify, data, results)
    results.finish(means, {})
    rows = {row["name"]: row for row in read_csv(tmp_path / "results.csv")}
    assert rows["clean"]["bytes"] == "nan"
    at_levels = Evaluation(["jpeg:20-60,step=40"], "all", classes=3).count(classify, data)[None]
    for row in at_levels.rows()[1:]:
        lengths = [_length(image, "JPEG", quality=int(row["level"])) for image in stack]
        assert row["bytes"] == pytest.approx(np.mean(lengths))
        assert row["bits_per_pixel"] == pytest.approx(8 * np.mean(lengths) / (64 * 80))
    low, high = (row["bytes"] for row in at_levels.rows()[1:])
    assert low < means["bytes/jpeg:20-60,step=40"] < high
    webp = rows["webp:40,p=0.5"]
    lengths = [_length(image, "WEBP", quality=40, method=4) for image in stack]
    assert min(lengths) <= float(webp["bytes"]) <= max(lengths)
    assert float(rows["blur:1|jpeg:50"]["bytes"]) > 0


def _length(image, kind, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **options)
    return file.tell()


def test_stored_bytes_are_counted():
    data = batches(NAMES).map(lambda batch: batch | {"bytes": 7 + batch["label"]})
    means = Evaluation(classes=3).run(classify, data)
    assert means["bytes/clean"] == 8
    assert means["bits_per_pixel/clean"] == 1


def test_stored_corruptions_are_severities(tmp_path):
    stored = imagenet_c.StoredCorruptions(
        parts=[(name, level, _stored_images) for name in ("fog", "snow") for level in (1, 2, 3)],
        batch_size=4,
        class_names=NAMES,
    )
    results = report.Results(tmp_path)
    evaluation = Evaluation(classes=3, confusion=True)
    results.finish(evaluation.run(classify, stored, results), {})
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {"curves.png", "grid.png", "confusion/fog.png", "confusion/snow.png"}
    assert read_csv(tmp_path / "confusion.csv")[2]["class"] == "bird"


def _stored_images():
    pixels = np.tile(COLOURS[LABELS][:, None, None].astype(np.uint8), [1, 8, 8, 1])
    return LabelledImages(pixels, LABELS, NAMES)


def test_dataloaders_describe_their_data(tmp_path):
    common = {"batch_size": 2, "evaluation_batch_size": 2, "data_skip_broken": False}
    common |= {"data_validation": "held_out", "data_held_out": 0.0}

    def describe(dataloader, **values):
        return dataloader.create_data(Settings(common | values)).describe()

    assert describe(digits) == {
        "class_names": [str(digit) for digit in range(10)],
        "resize": 32,
        "crop": 32,
        "size": None,
        "interpolation": "bilinear",
    }
    for name in ("cat", "dog"):
        for number in range(2):
            pixels = np.full((20, 30, 3), 50 * number, np.uint8)
            image_files.write_image(tmp_path / "folders" / name / f"{number}.png", pixels)
    folders = {"data_path": str(tmp_path / "folders"), "data_test_path": None, "data_cached": True}
    folders |= {"data_resize": 18, "data_crop": 16, "data_training_crop": "centre"}
    folders |= {"data_interpolation": "bicubic", "data_size": 8}
    described = {"class_names": ["cat", "dog"], "resize": 18, "crop": 16}
    described |= {"size": 8, "interpolation": "bicubic"}
    assert describe(class_folders, **folders) == described
    assert describe(class_folders, **folders | {"data_resize": 0})["resize"] is None
    for name in ("n01", "n02"):
        pixels = np.zeros((64, 64, 3), np.uint8)
        image_files.write_image(tmp_path / "tiny/train" / name / "images/a.png", pixels)
    (tmp_path / "tiny/val/images").mkdir(parents=True)
    image_files.write_image(tmp_path / "tiny/val/images/v.png", pixels)
    (tmp_path / "tiny/val/val_annotations.txt").write_text("v.png\tn01\t0\n")
    described = {"class_names": ["n01", "n02"], "resize": 64, "crop": 64}
    described |= {"size": None, "interpolation": "bilinear"}
    assert describe(tiny_imagenet, data_path=str(tmp_path / "tiny")) == described

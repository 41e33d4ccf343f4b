"""Classification of files: sizes, batches, votes, names, broken files, results."""

import csv
import json

import numpy as np
import pytest

from classifiers import predict_files
from misc.images import image_files

NAMES = ["red", "green", "blue"]


class Model:
    """Gives images the logits 0, 1, 2 in the order of their colours' strength."""

    def __init__(self, outputs=("logits",), **metadata):
        self.export_names = {"outputs": {name: name for name in outputs}}
        self.metadata = metadata
        self.shapes = []

    def predict(self, batch):
        self.shapes.append(tuple(batch.shape))
        return {"logits": np.mean(batch, axis=(1, 2)) / 100}


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch):
    monkeypatch.setattr(
        predict_files.inference, "compile_outputs", lambda model, names, size: model.predict
    )


def write(path, colour, size=(20, 30)):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., NAMES.index(colour)] = 200
    image_files.write_image(path, pixels)
    return path


def test_files_are_cut_batched_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_files.inference, "BATCH_PIXELS", 2 * 8 * 8)
    colours = ["red", "blue", "green", "blue", "red"]
    paths = [write(tmp_path / f"{i}.png", colour) for i, colour in enumerate(colours)]
    model = Model(class_names=NAMES, resize=10, crop=8)
    classifier = predict_files.FileClassifier(model, top=2)
    predictions, names, broken = classifier(paths, keep=paths[1:2])
    assert model.shapes == [(2, 8, 8, 3), (2, 8, 8, 3), (1, 8, 8, 3)]
    assert (names, broken) == (NAMES, [])
    assert [names[predictions[path].classes[0]] for path in paths] == colours
    expected = np.exp(2) / (np.exp(2) + 2)
    for path in paths:
        assert predictions[path].probabilities[0] == pytest.approx(expected)
        assert len(predictions[path].classes) == 2
        assert predictions[path].votes is None
    assert list(classifier.pictures) == paths[1:2]
    assert classifier.pictures[paths[1]].shape == (8, 8, 3)


def test_images_are_resized_and_cut_as_in_evaluation(tmp_path):
    from misc.images.resizing import resize_and_crop

    pixels = np.random.default_rng(0).integers(0, 256, (30, 47, 3), np.uint8)
    image_files.write_image(tmp_path / "a.png", pixels)
    model = Model(resize=20, crop=16)
    seen = predict_files.FileClassifier(model).prepare(tmp_path / "a.png")
    np.testing.assert_array_equal(seen, resize_and_crop(pixels, 20, 16))
    as_it_is = predict_files.FileClassifier(model, resize=0, crop=24)
    np.testing.assert_array_equal(as_it_is.prepare(tmp_path / "a.png"), pixels[3:27, 12:36])
    with pytest.raises(
        ValueError, match=r"a\.png: it has 30x47 pixels, less than the square of 31"
    ):
        predict_files.FileClassifier(model, resize=0, crop=31).prepare(tmp_path / "a.png")


def test_what_a_model_does_not_say_must_be_given(tmp_path):
    with pytest.raises(ValueError, match="--classify_crop"):
        predict_files.FileClassifier(Model())
    classifier = predict_files.FileClassifier(Model(), crop=8)
    assert classifier.resize == 8
    _, names, _ = classifier([write(tmp_path / "a.png", "green")])
    assert names == ["0", "1", "2"]
    wrong = predict_files.FileClassifier(Model(crop=8, class_names=["a"]))
    with pytest.raises(ValueError, match="has 3 classes"):
        wrong([tmp_path / "a.png"])
    with pytest.raises(ValueError, match="less than the square of 9"):
        predict_files.FileClassifier(Model(crop=8), resize=8, crop=9)


def test_votes_decide_and_logits_rank_the_others():
    logits = np.array([[0.0, 6.0, 4.0, -2.0], [3.0, 0.0, 0.0, 6.0]])
    votes = np.array([[2, 1, 0, 0], [1, 1, 1, 0]])
    first, tied = predict_files.most_likely({"logits": logits, "votes": votes}, 4)
    assert first.classes == [0, 1, 2, 3]
    assert first.votes == [2, 1, 0, 0]
    shares = np.exp(logits[0] / 3) / np.exp(logits[0] / 3).sum()
    np.testing.assert_allclose(first.probabilities, shares[[0, 1, 2, 3]])
    assert tied.classes == [3, 0, 1, 2]
    (several,) = predict_files.most_likely({"logits": np.array([[1.0, 1.0]])}, 5)
    assert several.classes == [0, 1]


def test_large_logits_are_no_problem():
    (prediction,) = predict_files.most_likely({"logits": np.array([[1e4, 0.0]])}, 1)
    assert prediction.probabilities == [1.0]


def test_broken_files_are_named_or_skipped(tmp_path):
    good = write(tmp_path / "good.png", "red")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    classifier = predict_files.FileClassifier(Model(crop=8))
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        classifier([good, broken])
    predictions, names, left_out = classifier([broken, good], skip_broken=True)
    assert (list(predictions), left_out) == ([good], [broken])
    assert len(names) == 3
    predictions, names, _ = classifier([broken], skip_broken=True)
    assert (predictions, names) == ({}, None)


def test_results_are_sorted_by_path_and_not_replaced_silently(tmp_path, capsys):
    prediction = predict_files.Prediction([2, 0], [0.75, 0.2])
    predictions = {tmp_path / f"in/{name}.png": prediction for name in ("sub/b", "a")}
    pictures = {path: np.full((8, 8, 3), 90, np.uint8) for path in predictions}
    arguments = (tmp_path / "out", predictions, tmp_path / "in", NAMES, {"crop": 8})
    predict_files.write_results(*arguments, pictures)
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert content["crop"] == 8
    assert content["class_names"] == NAMES
    assert [row["path"] for row in content["images"]] == ["a.png", "sub/b.png"]
    assert content["images"][0]["predictions"] == [
        {"class": "blue", "number": 2, "probability": 0.75},
        {"class": "red", "number": 0, "probability": 0.2},
    ]
    with open(tmp_path / "out/predictions.csv") as file:
        assert list(csv.DictReader(file))[1] == {
            "path": "sub/b.png",
            "class_1": "blue",
            "probability_1": "0.75",
            "class_2": "red",
            "probability_2": "0.2",
        }
    assert "75.0  blue" in capsys.readouterr().out
    sheet = image_files.read_rgb(tmp_path / "out/predictions.png")
    assert (sheet == 90).all(axis=2).sum() == 2 * predict_files.SHEET_TILE**2


def test_tables_that_are_there_are_kept(tmp_path):
    classifier = predict_files.FileClassifier(Model(crop=8))
    found = [write(tmp_path / "a.png", "red")]
    arguments = (classifier, "run", found, tmp_path, tmp_path / "out")
    assert predict_files.classify_files(*arguments) == 0
    assert json.loads((tmp_path / "out/predictions.json").read_text())["model"] == "run"
    with pytest.raises(FileExistsError, match="--overwrite"):
        predict_files.classify_files(*arguments)
    assert predict_files.classify_files(*arguments, overwrite=True) == 0


def test_votes_are_columns_too(tmp_path):
    prediction = predict_files.Prediction([1], [0.5], [3])
    predictions = {tmp_path / "a.png": prediction}
    pictures = {tmp_path / "a.png": np.zeros((8, 8, 3), np.uint8)}
    predict_files.write_results(tmp_path, predictions, tmp_path, NAMES, {}, pictures)
    with open(tmp_path / "predictions.csv") as file:
        assert next(csv.DictReader(file))["votes_1"] == "3"


def test_the_sheet_shows_images_of_the_whole_list():
    chosen = predict_files.spread(list(range(1000)), 10)
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 999, 10)
    assert predict_files.spread([1, 2], 10) == [1, 2]


def test_names_are_read_from_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tench, Tinca tinca\n\ngoldfish\n")
    assert predict_files.read_names(path) == ["tench, Tinca tinca", "goldfish"]
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"names\.txt should hold a name"):
        predict_files.read_names(path)
    with pytest.raises(ValueError, match="nowhere"):
        predict_files.read_names(tmp_path / "nowhere")

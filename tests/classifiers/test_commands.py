"""From training to the classes of a folder's images, in the words of a user."""

import csv
import json

import numpy as np
import pytest

from classifiers import predict_files
from misc import predict_folder
from misc.export import frozen, loading
from misc.images import image_files, sample_data
from tests import commands

TRAINING = [
    "--model=classifier",
    "--network=cifar_resnet20",
    "--batch_size=4",
    "--max_steps=2",
    "--save_freq=2",
    "--data_held_out=0.02",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "run"
    commands.run("train.py", *TRAINING, f"--train_path={folder}")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits as they are and enlarged, and a file that is no image."""
    folder = tmp_path_factory.mktemp("photos")
    pixels, _ = sample_data.sample_digits("test")
    for number in range(5):
        side = 1 + number % 2
        enlarged = pixels[number].repeat(side, 0).repeat(side, 1)
        image_files.write_image(folder / f"sub{number % 2}/{number}.png", enlarged)
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


def run_command(*arguments, status=0):
    return commands.run("-m", "misc.predict_folder", *arguments, status=status)


@pytest.mark.slow
def test_a_run_keeps_what_its_classes_are_called(trained):
    expected = {"class_names": [str(digit) for digit in range(10)], "resize": 32, "crop": 32}
    for folder in (trained, trained / "best"):
        assert json.loads((folder / "arguments.json").read_text())["metadata"] == expected
    assert loading.restore_trained(trained / "best").metadata == expected


def test_a_folder_is_classified_by_a_run(trained, photos, tmp_path):
    command = [
        f"--restore_path={trained}/best",
        f"--input_path={photos}",
        f"--output_path={tmp_path}/out",
    ]
    output = run_command(*command, "--skip_broken", "--classify_top=3", status=1)
    assert "broken.png" in output
    assert "5 of 6 images classified, 1 failed" in output
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [row["path"] for row in content["images"]] == [
        *("sub0/0.png", "sub0/2.png", "sub0/4.png", "sub1/1.png", "sub1/3.png"),
    ]
    assert [len(row["predictions"]) for row in content["images"]] == [3] * 5
    with open(tmp_path / "out/predictions.csv") as file:
        rows = list(csv.DictReader(file))
    pixels, _ = sample_data.sample_digits("test")
    logits = loading.restore_trained(trained / "best").predict(pixels[:5].astype(np.float32))[
        "logits"
    ]
    best = {row["path"]: row["class_1"] for row in rows}
    for number in (0, 2, 4):
        assert best[f"sub0/{number}.png"] == str(int(np.argmax(logits[number])))
    assert image_files.read_rgb(tmp_path / "out/predictions.png").std() > 5


@pytest.mark.parametrize(
    "formats", [["pb"], pytest.param(["onnx", "tflite"], marks=pytest.mark.slow)]
)
def test_frozen_files_say_the_same_as_their_run(trained, photos, tmp_path, formats):
    method = loading.restore_trained(trained / "best")
    paths = image_files.find_images(photos / "sub0") + image_files.find_images(photos / "sub1")
    expected, names, _ = predict_files.FileClassifier(method)(paths)
    formats = [name for name in formats if not frozen.missing_packages(name)]
    for result in frozen.freeze(method, tmp_path / "model", formats):
        assert result.error is None
        model = frozen.load(result.path)
        assert model.metadata == method.metadata
        assert predict_folder.find_kind(tuple(model.export_names["outputs"])) is predict_files
        found, found_names, _ = predict_files.FileClassifier(model)(paths)
        assert found_names == names
        for path in paths:
            np.testing.assert_allclose(
                found[path].probabilities, expected[path].probabilities, atol=1e-4
            )


@pytest.mark.slow  # test_registry freezes and uses one
def test_an_ensemble_votes_on_files(trained, photos, tmp_path):
    command = [
        "--model=ensemble",
        f"--ensemble_weights={trained}/best,{trained},{trained}/best",
        f"--input_path={photos}/sub0",
        f"--output_path={tmp_path}",
    ]
    run_command(*command)
    content = json.loads((tmp_path / "predictions.json").read_text())
    best = content["images"][0]["predictions"][0]
    assert best["votes"] == 3
    assert best["class"] == content["class_names"][best["number"]]

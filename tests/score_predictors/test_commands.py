"""The whole way in the words of the original project's manual, on a dozen rated pictures."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from misc.export import frozen, loading
from misc.images import image_files
from misc.training import run_folder
from tests import commands
from tests.score_predictors import helpers

COUNT = 12
TINY = [
    "--pretrained_weights=none",
    "--mobilenetv2_alpha=0.35",
    "--input_patch_size=32",
    "--batch_size=4",
    "--log_freq=1",
]


@pytest.fixture(scope="module")
def ava(tmp_path_factory):
    """A folder with AVA.txt and COUNT pictures, and the arguments that name them."""
    folder = tmp_path_factory.mktemp("ava")
    lines = []
    for number in range(COUNT):
        votes = np.random.default_rng(number).integers(0, 40, 10)
        lines.append(f"{number + 1} {1000 + number} {' '.join(map(str, votes))} 1 22 1396")
        pixels = helpers.photo(40 + number, 60, number)
        helpers.save(folder / "images" / f"{1000 + number}.jpg", pixels)
    (folder / "AVA.txt").write_text("\n".join(lines) + "\n")
    return [
        "--dataloader=ava",
        f"--ava_dataset_path={folder}/AVA.txt",
        f"--ava_image_path={folder}/images",
        "--ava_train_range=0,-4",
        "--ava_validate_range=-4,0",
    ]


@pytest.fixture(scope="module")
def trained(ava, tmp_path_factory):
    """--train_path after both stages; the outputs of the two commands are in text files."""
    folder = tmp_path_factory.mktemp("chain") / "train"
    first = commands.run(
        "train.py",
        *ava,
        *TINY,
        "--mobilenetv2_train_last_only",
        "--epochs=2",
        "--learning_rate=0.001",
        f"--train_path={folder}",
        "--weight_filename=ava_lastonly.h5",
    )
    second = commands.run("train.py", *second_stage(ava, folder))
    (folder / "first.txt").write_text(first)
    (folder / "second.txt").write_text(second)
    return folder


def second_stage(ava, folder):
    return [
        *ava,
        *TINY,
        "--epochs=2",
        "--learning_rate=0.0001",
        # Else the statistics stay the initial ones, and nothing of the images reaches the scores.
        "--batch_norm_momentum=0.5",
        f"--train_path={folder}",
        "--weight_filename=ava.h5",
        f"--restore_path={folder}/ava_lastonly.h5",
    ]


def losses(folder):
    return {row["step"]: row["loss"] for row in run_folder.read_history(folder) if "loss" in row}


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_two_stages_share_a_folder_and_never_mix(trained):
    first, second = (trained / f"{name}.txt" for name in ("first", "second"))
    assert "2 epochs of 2 steps (8 images)" in first.read_text()
    assert "validation at step 2: emd_r2" in first.read_text()
    assert f"Starting from {trained}/ava_lastonly.h5" in second.read_text()
    assert sorted(path.name for path in trained.glob("*.h5")) == [
        "ava.h5",
        "ava_best.h5",
        "ava_lastonly.h5",
        "ava_lastonly_best.h5",
    ]
    arguments = json.loads((trained / "ava/arguments.json").read_text())
    assert arguments["model"] == "mobilenetv2"
    assert arguments["max_steps"] == 4
    last_only = loading.restore_trained(trained / "ava_lastonly.h5")
    both = loading.restore_trained(trained / "ava.h5")
    assert last_only.restored_step == both.restored_step == 4
    kernels = [m.predictor.get_layer("Conv1").kernel.numpy() for m in (last_only, both)]
    assert (kernels[0] != kernels[1]).any()
    rows = run_folder.read_history(trained / "ava")
    validated = next(row for row in reversed(rows) if "validation/plcc" in row)
    assert -1 <= validated["validation/plcc"] <= 1
    assert validated["validation/floor/emd_r2"] > 0


@pytest.mark.slow  # two runs; test_entry_points kills one of another method
def test_the_second_stage_resumes_exactly(trained, ava, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "ava_lastonly.h5").write_bytes((trained / "ava_lastonly.h5").read_bytes())
    command = ["train.py", *second_stage(ava, folder)]
    commands.run(*command, "--epochs=1")
    assert f"Going on from {folder}/ava/model.ckpt-2" in commands.run(*command)
    assert losses(folder / "ava") == losses(trained / "ava")
    expected, actual = (loading.restore_trained(path / "ava.h5") for path in (trained, folder))
    for a, b in zip(expected.predictor.weights, actual.predictor.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_two_lengths_are_refused(ava, tmp_path):
    command = ["train.py", *ava, *TINY, f"--train_path={tmp_path}"]
    errors = commands.run(*command, "--epochs=1", "--max_steps=3", status=1)
    assert "--epochs and --max_steps" in errors
    errors = commands.run(*command, "--batch_size=9", status=1)
    assert "--batch_size=9: a step uses 9 images, more than the 8" in errors


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_freezing_needs_no_model_name(trained, tmp_path):
    output = commands.run(
        "freeze.py",
        f"--restore_path={trained}/ava.h5",
        f"--output_path={tmp_path}/ava.pb",
        "--formats=pb",
    )
    assert "mobilenetv2, step 4" in output
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 50, 40, 3)).astype(np.float32)
    expected = loading.restore_trained(trained / "ava").predict(pixels)
    actual = loading.restore_trained(tmp_path / "ava.pb")
    assert isinstance(actual, frozen.FrozenMethod)
    np.testing.assert_allclose(actual.predict(pixels)["scores"], expected["scores"], atol=1e-5)


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_validation_writes_figures_and_pictures(trained, ava, tmp_path):
    output = commands.run(
        "validate.py",
        *ava,
        f"--restore_path={trained}/ava_best.h5",
        f"--save_path={tmp_path}/results",
    )
    for text in ("emd_r1", "emd_r2", "accuracy_above_5", "floor", "4 images"):
        assert text in output
    results = json.loads((tmp_path / "results/results.json").read_text())
    assert len(results["images"]) == 4
    assert results["mean"]["floor/emd_r2"] > 0
    with open(tmp_path / "results/results.csv") as file:
        rows = list(csv.DictReader(file))
    mean = np.mean([float(row["emd_r2"]) for row in rows])
    assert results["mean"]["emd_r2"] == pytest.approx(mean, rel=1e-5)
    for name in ("scatter", "histograms", "mean_histogram"):
        assert image_files.read_rgb(tmp_path / f"results/{name}.png").std() > 5


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_a_folder_is_scored_from_weights(trained, ava, tmp_path):
    folder = ava[2].split("=")[1]
    command = [
        "-m",
        "misc.predict_folder",
        "--model=mobilenetv2",
        f"--restore_path={trained}/ava.h5",
        f"--input_path={folder}",
        f"--output_path={tmp_path}/scores",
    ]
    output = commands.run(*command, "--scoring=patches", "--scoring_patches=2")
    assert f"{COUNT} of {COUNT} images scored" in output
    content = json.loads((tmp_path / "scores/scores.json").read_text())
    means = [row["mean"] for row in content["images"]]
    assert means == sorted(means, reverse=True)
    assert content["patch_size"] == 32
    assert "--overwrite" in commands.run(*command, status=1)
    assert "--scale is for another kind" in commands.run(
        *command, "--overwrite", "--scale=2", status=1
    )


def test_checkpoints_say_what_they_need():
    with pytest.raises(FileNotFoundError, match="Found in"):
        loading.restore_trained("nowhere/ava.h5")


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_weights_without_their_settings_are_explained(trained, tmp_path):
    path = tmp_path / "alone.h5"
    path.write_bytes((trained / "ava.h5").read_bytes())
    with pytest.raises(ValueError, match=r"no arguments\.json"):
        loading.restore_trained(path)


@pytest.mark.slow  # runs of two stages; test_registry has one
def test_summaries_are_written(trained):
    (path,) = (trained / "ava").glob("events.out.tfevents.*")
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"train/loss", "train/image", "validation/emd_r2", "validation/scatter"} <= tags

"""4PP-EUSR as a user trains and applies it, with two frozen predictors of a few convolutions."""

import json
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from eusr import network
from eusr.models import eusr, perceptual_eusr
from misc.export import frozen
from misc.images import image_files
from misc.training import run_folder
from tests import commands
from tests.conftest import train
from tests.eusr.tiny_predictor import TinyPredictor

TRAINING = {
    "model": "4pp_eusr",
    "eusr_weight_las": 0.01,
    "eusr_weight_lar": 0.1,
    "eusr_weight_lss": 0.01,
    "eusr_weight_lsr": 0.1,
    "eusr_learning_rate": 1e-3,
    "max_steps": 24,
    "log_freq": 1,
    "save_freq": 8,
    "summary_freq": 12,
    "seed": 7,
    "eusr_residual_factor": 0.1,
}


def losses(folder):
    rows = run_folder.read_history(folder)
    return {
        row["step"]: {name: value for name, value in row.items() if name.startswith("loss")}
        for row in rows
        if "loss" in row
    }


@pytest.fixture(scope="module")
def arguments(photo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    paths = {}
    for seed, name in enumerate(("aesthetic", "subjective")):
        list(frozen.freeze(TinyPredictor(seed), folder / name, ["pb"]))
        paths[f"eusr_{name}_nima_path"] = folder / f"{name}.pb"
    return [
        *commands.to_arguments(perceptual_eusr.TINY | TRAINING | paths),
        f"--data_truth_path={photo_folder}",
        f"--data_validation_truth_path={photo_folder}",
    ]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a run of EUSR."""
    folder = tmp_path_factory.mktemp("pretrained") / "eusr"
    generator = network.Generator((2, 4, 8), features=4, shared_blocks=1, residual_factor=0.1)
    run_folder.RunFolder(folder, eusr.EUSR(generator), max_to_keep=1).save(5)
    return folder


@pytest.fixture(scope="module")
def command(arguments, pretrained):
    start = [f"--restore_path={pretrained}", "--restore_target=generator"]
    return ["train.py", *arguments, *start]


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    return train(command, tmp_path_factory.mktemp("perceptual") / "run")


@pytest.mark.slow  # runs with both networks; test_registry has one
def test_training_writes_every_loss_rate_and_picture(run):
    assert "step 24/24" in (run / "output.txt").read_text()
    terms = [
        *("reconstruction", "adversarial", "discriminator"),
        *(f"{name}_{kind}" for name in ("aesthetic", "subjective") for kind in ("score", "rep")),
    ]
    tags = set()
    for path in run.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    names = [term.replace("_rep", "_representation") for term in terms]
    assert {"x4/loss", *(f"x4/loss_{name}" for name in names)} <= tags
    assert {"learning_rate/generator", "learning_rate/discriminator"} <= tags
    pictures = ("input", "output_x2", "output_x4", "output_x8", "truth")
    assert {f"x4/{name}" for name in pictures} <= tags
    assert "validation/x4/psnr_y" in tags


@pytest.mark.slow  # two runs; test_entry_points kills one of EUSR
def test_a_killed_run_goes_on_exactly(run, command, tmp_path):
    folder = tmp_path / "run"
    command = [*command, f"--train_path={folder}"]
    process = commands.start(*command)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        history = folder / "history.jsonl"
        if history.exists() and '"step": 10' in history.read_text():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 10 <= max(losses(folder)) < 24
    assert f"Going on from {folder}/model.ckpt-" in commands.run(*command)
    assert losses(folder) == losses(run)
    expected = tf.train.load_checkpoint(str(run / "model.ckpt-24"))
    actual = tf.train.load_checkpoint(str(folder / "model.ckpt-24"))
    for name in expected.get_variable_to_shape_map():
        if "CHECKPOINTABLE" not in name and "save_counter" not in name:
            np.testing.assert_array_equal(expected.get_tensor(name), actual.get_tensor(name))


@pytest.mark.slow  # runs with both networks; test_registry has one
def test_checkpoints_hold_both_networks_and_their_optimizers(run):
    names = tf.train.load_checkpoint(str(run / "model.ckpt-24")).get_variable_to_shape_map()
    for group in ("networks_discriminator", "optimizers_discriminator", "optimizers_generator"):
        assert any(name.startswith(group) for name in names)


@pytest.mark.slow  # runs with both networks; test_registry has one
def test_training_starts_from_a_generator_of_eusr(run, pretrained):
    assert f"Starting from {pretrained}" in (run / "output.txt").read_text()
    before = tf.train.load_checkpoint(str(pretrained / "model.ckpt-5"))
    after = tf.train.load_checkpoint(str(run / "model.ckpt-8"))
    names = [n for n in before.get_variable_to_shape_map() if n.startswith("networks_generator")]
    assert len(names) > 30
    for name in names:
        # No step of Adam moves a weight by much more than the learning rate.
        difference = np.abs(before.get_tensor(name) - after.get_tensor(name)).max()
        assert difference <= 8 * 3 * TRAINING["eusr_learning_rate"]


@pytest.mark.slow  # runs with both networks; test_registry has one
def test_every_path_is_validated_and_applied(run, photo_folder, tmp_path):
    output = commands.run(
        "validate.py",
        f"--restore_path={run}",  # the model is known from its arguments.json
        f"--data_truth_path={photo_folder}",
        f"--save_path={tmp_path}/results",
        "--scales=2,4,8",
        "--compare_bicubic",
    )
    report = json.loads((tmp_path / "results" / "results.json").read_text())
    assert report["model"] == "4pp_eusr"
    assert len(report["images"]) == 24
    bicubic = {report["mean"][f"x{path}/bicubic_psnr_y"] for path in (2, 4, 8)}
    assert len(bicubic) == 1  # all paths start from the x4 images
    assert f"{report['mean']['x8/psnr_y']:.3f}" in output
    for path in (2, 4, 8):
        picture = image_files.read_rgb(tmp_path / "results" / f"x{path}" / "0001.png")
        assert picture.shape == (76, 80, 3)

    commands.run(
        *("-m", "misc.predict_folder", f"--restore_path={run}", "--scale=8"),
        *(f"--input_path={photo_folder}/0001.png", f"--output_path={tmp_path}/upscaled"),
    )
    assert image_files.read_rgb(tmp_path / "upscaled" / "0001.png").shape == (304, 320, 3)


def test_a_missing_predictor_is_one_message(arguments, tmp_path):
    errors = commands.run(
        *("train.py", *arguments, f"--train_path={tmp_path}/run"),
        f"--eusr_aesthetic_nima_path={tmp_path}/nothing.pb",
        status=1,
    )
    assert f"--eusr_aesthetic_nima_path={tmp_path}/nothing.pb" in errors
    assert "--eusr_weight_las=0 and --eusr_weight_lar=0" in errors
    assert "Traceback" not in errors

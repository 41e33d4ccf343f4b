"""Train and validate as a user does."""

import csv
import json
import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from eusr import metrics
from misc.images import image_files, locks
from misc.training import run_folder
from tests import commands
from tests.conftest import train

# Each scale is compiled by itself: what does not depend on their number is tried with one.
ONE_SCALE = ["--scales=2", "--summary_freq=1000"]


def losses(folder):
    return {row["step"]: row["loss"] for row in run_folder.read_history(folder) if "loss" in row}


@pytest.fixture(scope="module")
def one_scale(training_arguments):
    return [*training_arguments, *ONE_SCALE]


@pytest.fixture(scope="module")
def trained_one_scale(one_scale, tmp_path_factory):
    return train(["train.py", *one_scale], tmp_path_factory.mktemp("one_scale") / "run")


@pytest.mark.slow
def test_training_leaves_what_the_manual_says(trained):
    output = (trained / "output.txt").read_text()
    assert f"tensorboard --logdir={trained}" in output
    assert "step 24/24" in output
    assert "steps/s" in output
    assert "left" in output
    arguments = json.loads((trained / "arguments.json").read_text())
    assert arguments["scales"] == [2, 4]
    assert arguments["model"] == "eusr"
    assert {p.name for p in trained.glob("model.ckpt-*.index")} == {
        f"model.ckpt-{step}.index" for step in (8, 16, 24)
    }
    assert len(list((trained / "best").glob("model.ckpt-*.index"))) == 1
    assert len(losses(trained)) == 24


def test_tensorboard_shows_losses_rate_and_pictures_per_scale(trained):
    tags = set()
    for path in trained.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    scales = {tag.split("/")[0] for tag in tags if tag.endswith("/loss")}
    assert scales
    assert scales <= {"x2", "x4"}
    for scale in scales:
        assert {f"{scale}/input", f"{scale}/output", f"{scale}/truth"} <= tags
    assert {"learning_rate/generator", "validation/x2/psnr_y", "arguments"} <= tags
    assert any(tag.startswith("validation/x4/") and tag[-4:].isdigit() for tag in tags)


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(trained_one_scale, one_scale, tmp_path):
    folder = tmp_path / "run"
    command = ["train.py", *one_scale, f"--train_path={folder}"]
    process = commands.start(*command)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        history = folder / "history.jsonl"
        if history.exists() and '"step": 9,' in history.read_text():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 9 <= max(losses(folder)) < 24
    output = commands.run(*command)
    assert f"Going on from {folder}/model.ckpt-" in output
    assert losses(folder) == losses(trained_one_scale)
    expected = tf.train.load_checkpoint(str(trained_one_scale / "model.ckpt-24"))
    actual = tf.train.load_checkpoint(str(folder / "model.ckpt-24"))
    for name in expected.get_variable_to_shape_map():
        if "CHECKPOINTABLE" not in name and "save_counter" not in name:
            np.testing.assert_array_equal(expected.get_tensor(name), actual.get_tensor(name))


def test_ctrl_c_saves_and_the_run_is_refused_with_other_settings(one_scale, tmp_path):
    folder = tmp_path / "run"
    command = ["train.py", *one_scale, f"--train_path={folder}", "--max_steps=100000"]
    process = commands.start(*command, "--save_freq=1000")
    while process.poll() is None and not (folder / "history.jsonl").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, output + errors
    step = max(losses(folder))
    assert f"model.ckpt-{step}" in output
    errors = commands.run(*command, "--eusr_learning_rate=0.5", status=1)
    assert "--eusr_learning_rate: 0.0001 there, 0.5 now" in errors
    assert "Traceback" not in errors


@pytest.mark.slow  # a run of its own; test_training_contract has a cheaper one
def test_a_non_finite_loss_stops_the_run_and_names_the_step(one_scale, tmp_path):
    errors = commands.run(
        "train.py",
        *one_scale,
        f"--train_path={tmp_path}/run",
        "--eusr_learning_rate=1e30",
        "--log_freq=5",
        status=1,
    )
    assert "The loss of step " in errors
    step = int(errors.split("The loss of step ")[1].split()[0])
    assert 1 < step <= 5
    assert not list((tmp_path / "run").glob("model.ckpt*"))


def test_validation_reports_every_image(trained, photo_folder, tmp_path):
    results = tmp_path / "results"
    command = [
        "validate.py",
        "--model=eusr",
        f"--restore_path={trained}/model.ckpt-16",
        f"--data_truth_path={photo_folder}",
        f"--save_path={results}",
    ]
    output = commands.run(*command, "--compare_bicubic", "--shave_size=5")
    report = json.loads((results / "results.json").read_text())
    assert report["step"] == 16
    assert len(report["images"]) == 16  # the scales come from the run's arguments.json
    row = report["images"][3]
    assert row["name"] in output
    assert f"{row['psnr_y']:.3f}" in output
    picture = image_files.read_rgb(results / f"x{row['scale']}" / f"{row['name']}.png")
    truth = image_files.read_rgb(photo_folder / f"{row['name']}.png")
    truth = truth[: picture.shape[0], : picture.shape[1]]
    expected = metrics.compare(picture, truth, row["scale"], 5)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value)
    mean = np.mean([r["bicubic_psnr_y"] for r in report["images"] if r["scale"] == 2])
    assert report["mean"]["x2/bicubic_psnr_y"] == pytest.approx(mean)
    with open(results / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert float(table[3]["rmse_rgb"]) == pytest.approx(row["rmse_rgb"])

    errors = commands.run(*command, status=1)
    assert "--overwrite" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_validation_in_tiles_equals_whole_images(trained, photo_folder, tmp_path):
    command = [
        "validate.py",
        f"--restore_path={trained}",  # the model is known from its arguments.json
        "--restore_global_step=24",
        "--cuda_device=-1",
        "--scales=2",
        f"--data_truth_path={photo_folder}",
    ]
    whole, tiled = tmp_path / "whole", tmp_path / "tiled"
    commands.run(*command, f"--save_path={whole}")
    commands.run(*command, f"--save_path={tiled}", "--tile=62")
    means = [json.loads((path / "results.json").read_text())["mean"] for path in (whole, tiled)]
    assert means[0]["x2/psnr_rgb"] == pytest.approx(means[1]["x2/psnr_rgb"], abs=1e-3)


def test_wrong_checkpoints_are_explained(trained, photo_folder, tmp_path):
    command = ["validate.py", "--model=eusr", f"--data_truth_path={photo_folder}"]
    errors = commands.run(*command, f"--restore_path={trained}/model.ckpt-5", status=1)
    assert "model.ckpt-24" in errors
    errors = commands.run(*command, f"--restore_path={trained}", "--eusr_conv_features=5", status=1)
    assert "shape [3, 3, 3, 4], the model's is [3, 3, 3, 5]" in errors
    assert "missing" in commands.run(*command, status=1)


def test_results_that_another_process_writes_are_left_alone(tmp_path):
    with locks.hold(tmp_path):
        errors = commands.run("validate.py", "--model=eusr", f"--save_path={tmp_path}", status=1)
    assert errors.startswith(f"error: {tmp_path} is in use by process {os.getpid()} ")


@pytest.mark.slow  # a run of its own
def test_fine_tuning_starts_from_the_weights_of_one_network(trained_one_scale, one_scale, tmp_path):
    folder = tmp_path / "tuned"
    output = commands.run(
        "train.py",
        *one_scale,
        f"--train_path={folder}",
        f"--restore_path={trained_one_scale}",
        "--restore_target=generator",
        "--max_steps=1",
        "--average_decay=0.5",
        "--gradient_clip_norm=1",
        "--schedule=plateau",
    )
    assert f"Starting from {trained_one_scale}" in output
    # The data of step 1 are those of the first run, the weights are not.
    assert losses(folder)[1] < losses(trained_one_scale)[1]


def test_help_shows_the_flags_of_the_chosen_model_only():
    text = commands.run("train.py", "--model=eusr", "--helpfull", status=1)
    assert "--eusr_conv_features" in text
    assert "--data_input_path" in text
    text = commands.run("train.py", "--help", status=1)
    assert "eusr" in text
    assert "--eusr_conv_features" not in text


@pytest.mark.slow
def test_unknown_names_list_the_known_ones():
    errors = commands.run("train.py", "--model=esur", status=1, from_scratch=True)
    assert "--model=esur is unknown. Did you mean eusr? Known:" in errors
    assert "4pp_eusr" in errors.split("Known:")[1]


@pytest.mark.slow  # two processes that trace the run at the same time
def test_two_hosts_train_as_one(trained_one_scale, one_scale, tmp_path):
    folder = tmp_path / "run"
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    processes = [
        commands.start(
            "train.py",
            *one_scale,
            f"--train_path={folder}",
            "--distribute=multi_worker",
            environment={
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                )
            },
        )
        for index in range(2)
    ]
    checksums = set()
    for process in processes:
        output, errors = process.communicate(timeout=280)
        assert process.returncode == 0, output + errors
        checksums.add(output.split("checksum of the weights ")[1].split()[0])
    assert len(checksums) == 1

    # Together they did what one process does, but for rounding, and one file restores it.
    alone, together = losses(trained_one_scale), losses(folder)
    assert together.keys() == alone.keys()
    np.testing.assert_allclose(list(together.values()), list(alone.values()), rtol=1e-3)
    assert not list(folder.glob(".worker*"))
    output = commands.run("train.py", *one_scale, f"--train_path={folder}")
    assert f"Going on from {folder}/model.ckpt-24" in output
    assert "already at step 24" in output


def test_several_hosts_need_their_addresses(training_arguments, tmp_path):
    errors = commands.run(
        "train.py",
        *training_arguments,
        f"--train_path={tmp_path}",
        "--distribute=multi_worker",
        environment={"TF_CONFIG": ""},
        status=1,
    )
    assert "TF_CONFIG" in errors


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.mark.slow  # a killed run goes on in the same way
def test_own_copy_of_a_run_can_be_continued_elsewhere(trained_one_scale, one_scale, tmp_path):
    shutil.copytree(trained_one_scale, tmp_path / "copy")
    output = commands.run("train.py", *one_scale, f"--train_path={tmp_path}/copy", "--max_steps=25")
    assert "Going on from" in output
    assert max(losses(tmp_path / "copy")) == 25

import json
import pathlib
import types

import pytest
import tensorflow as tf
from absl import flags

from misc.training import run_folder, settings


@pytest.fixture
def folder(tmp_path):
    checkpoint = tf.train.Checkpoint(value=tf.Variable(1.0))
    for step in (5, 10):
        manager = tf.train.CheckpointManager(checkpoint, tmp_path, 3, checkpoint_name="model.ckpt")
        manager.save(checkpoint_number=step)
    return tmp_path


def test_checkpoints_are_found_by_file_folder_and_step(folder):
    newest = str(folder / "model.ckpt-10")
    assert run_folder.find_checkpoint(newest) == newest
    assert run_folder.find_checkpoint(newest + ".index") == newest
    assert run_folder.find_checkpoint(folder) == newest
    assert run_folder.find_checkpoint(folder, step=5) == str(folder / "model.ckpt-5")
    assert run_folder.find_checkpoint(newest, step=10) == newest


def test_missing_checkpoints_list_what_is_there(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"model.ckpt-10, model.ckpt-5"):
        run_folder.find_checkpoint(folder / "model.ckpt-7")
    with pytest.raises(FileNotFoundError, match="not the checkpoint of step 5"):
        run_folder.find_checkpoint(folder / "model.ckpt-10", step=5)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run_folder.find_checkpoint(tmp_path_factory.mktemp("empty"))


def test_history_keeps_the_last_run_of_a_step_and_drops_a_broken_line(tmp_path):
    lines = [
        {"step": 1, "loss": 5.0},
        {"step": 2, "loss": 4.0},
        {"step": 2, "validation/psnr": 20.0},
        {"step": 2, "loss": 3.0},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 3, "lo'
    (tmp_path / "history.jsonl").write_text(text)
    rows = run_folder.read_history(tmp_path)
    assert {"step": 2, "loss": 3.0} in rows
    assert {"step": 2, "loss": 4.0} not in rows
    assert {"step": 2, "validation/psnr": 20.0} in rows
    assert len(rows) == 3


def test_arguments_are_found_beside_a_checkpoint(folder):
    (folder / "arguments.json").write_text('{"model": "eusr"}')
    assert run_folder.read_arguments(folder / "model.ckpt-5") == {"model": "eusr"}
    assert run_folder.read_arguments(folder) == {"model": "eusr"}
    assert run_folder.read_arguments(folder / "elsewhere" / "model.ckpt-5") == {}


def test_settings_of_weight_files_are_in_the_run_of_their_name(tmp_path):
    (tmp_path / "ava").mkdir()
    (tmp_path / "ava/arguments.json").write_text('{"model": "mobilenetv2"}')
    for name in ("ava.h5", "ava_best.h5", "ava.weights.h5"):
        assert run_folder.read_arguments(tmp_path / name) == {"model": "mobilenetv2"}
    assert run_folder.read_arguments(tmp_path / "other.h5") == {}


def test_weight_files_are_found_or_listed(tmp_path):
    (tmp_path / "ava.h5").write_text("")
    assert run_folder.find_checkpoint(tmp_path / "ava.h5") == str(tmp_path / "ava.h5")
    with pytest.raises(FileNotFoundError, match=r"Found in .*: ava\.h5"):
        run_folder.find_checkpoint(tmp_path / "tid2013.h5")
    with pytest.raises(FileNotFoundError, match="--restore_global_step"):
        run_folder.find_checkpoint(tmp_path / "ava.h5", step=3)


def test_runs_with_a_weight_file_have_a_folder_of_their_own(tmp_path):
    assert run_folder.paths_of_run("train", None) == (pathlib.Path("train"), None)
    folder, weights = run_folder.paths_of_run("train", "ava.h5")
    assert (folder, weights) == (pathlib.Path("train/ava"), pathlib.Path("train/ava.h5"))
    with pytest.raises(ValueError, match="--weight_filename"):
        run_folder.paths_of_run("train", "ava.ckpt")


def test_a_value_and_the_list_of_it_are_the_same_setting(folder):
    run = run_folder.RunFolder(
        folder, types.SimpleNamespace(checkpoint=tf.train.Checkpoint, bests={}), 1
    )
    run.write_arguments({"weights": "a.pth", "seed": 1})
    run.check_settings({"weights": ["a.pth"], "seed": 1}, ())
    with pytest.raises(ValueError, match=r"--weights: 'a.pth' there, \['b.pth'\] now"):
        run.check_settings({"weights": ["b.pth"], "seed": 1}, ())


def test_a_flag_that_an_older_run_did_not_know_counts_as_what_it_did(folder):
    (folder / "arguments.json").write_text('{"batch_size": 4}')
    method = types.SimpleNamespace(bests={}, checkpoint=tf.train.Checkpoint)
    with settings.fresh_flags():
        flags.DEFINE_integer("held_out", None, "")
        settings.introduced("held_out", before=0)
        run = run_folder.RunFolder(folder, method, 3)
        run.check_settings({"batch_size": 4, "held_out": 0, "newer": 1}, set())
        with pytest.raises(ValueError, match="--held_out: 0 there, 5 now"):
            run.check_settings({"batch_size": 4, "held_out": 5}, set())

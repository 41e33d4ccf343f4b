"""Whole checkpoints are told from damaged ones, and kept or removed as asked."""

import json

import numpy as np
import pytest
import tensorflow as tf

from misc.training import run_folder
from misc.training.checkpoints import find_damage, find_newest, list_steps, path_of, write
from tests.test_training_contract import Counting

SETTINGS = {"model": "counting", "rate": 1}


def start(path, keep=3, **kwargs):
    return run_folder.RunFolder(path, Counting(), keep, **kwargs)


def save(path, *steps, keep=3, **kwargs):
    """Writes a run's checkpoints of these steps and its best of the last one."""
    run = start(path, keep, **kwargs)
    run.write_arguments(SETTINGS)
    for step in steps:
        run.append_history(step, {"loss": step})
        run.save(step)
    run.save_best(steps[-1], {"up": 1.0}, "best")
    return run


def index(folder, step):
    return folder / f"model.ckpt-{step}.index"


def data(folder, step):
    return folder / f"model.ckpt-{step}.data-00000-of-00001"


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def change(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("piece", [index, data])
@pytest.mark.parametrize("damage", [cut, change, remove, lambda path: path.write_bytes(b"")])
def test_the_newest_whole_checkpoint_is_gone_on_from(piece, damage, tmp_path, capsys):
    save(tmp_path, 4, 8, 12)
    damage(piece(tmp_path, 12))
    for other in ("checkpoint", "best/checkpoint"):
        (tmp_path / other).unlink()
    run = start(tmp_path)
    assert run.latest_checkpoint() == str(tmp_path / "model.ckpt-8")
    run.check_settings(SETTINGS, ())
    with pytest.raises(ValueError, match="--rate: 1 there, 2 now"):
        run.check_settings(SETTINGS | {"rate": 2}, ())
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert "model.ckpt-12 is damaged (" in output
    assert "model.ckpt-8 is the newest whole one" in output
    assert run_folder.find_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-8")
    with pytest.raises(FileNotFoundError, match=r"model.ckpt-12"):
        run_folder.find_checkpoint(tmp_path / "model.ckpt-12")

    # Nothing goes that is damaged and newer, until the run comes there.
    left = sorted(path.name for path in tmp_path.glob("model.ckpt-12.*"))
    run.write_arguments(SETTINGS)
    run.tidy(8)
    run.save(9)
    assert sorted(path.name for path in tmp_path.glob("model.ckpt-12.*")) == left
    run.save(12)
    assert start(tmp_path).latest_checkpoint() == str(tmp_path / "model.ckpt-12")
    assert list_steps(tmp_path) == [12, 9, 8]


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew(tmp_path):
    save(tmp_path, 4, 8)
    for step in (4, 8):
        index(tmp_path, step).unlink()
    with pytest.raises(ValueError, match=r"model.ckpt-4 is damaged .*best/model.ckpt-8") as caught:
        start(tmp_path).latest_checkpoint()
    assert "model.ckpt-8 is damaged (model.ckpt-8.index is missing)" in str(caught.value)
    for name in ("model.ckpt-4.data*", "model.ckpt-8.data*", "checkpoint", "history.jsonl"):
        next(tmp_path.glob(name)).unlink()
        with pytest.raises(ValueError, match=r"arguments.json"):
            start(tmp_path).latest_checkpoint()
    (tmp_path / "arguments.json").unlink()
    with pytest.raises(ValueError, match=r"no whole checkpoint: best. Nothing was changed"):
        start(tmp_path).latest_checkpoint()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path, capsys):
    run = start(tmp_path, weights_path=tmp_path / "a.h5")
    assert run.latest_checkpoint() is None
    run.write_arguments(SETTINGS)
    run.append_history(1, {"loss": 1.0})
    run.save_best(1, {"up": 1.0}, "best")
    assert "unsaved" not in run_folder.read_arguments(tmp_path / "best")
    data(tmp_path, 2).write_bytes(b"half")

    again = start(tmp_path, weights_path=tmp_path / "a.h5")
    assert again.latest_checkpoint() is None
    assert "ended here before its first checkpoint" in capsys.readouterr().out
    again.write_arguments(SETTINGS)
    again.tidy(0)
    assert not (tmp_path / "history.jsonl").read_text()
    again.save(2)
    assert run_folder.read_arguments(tmp_path) == SETTINGS
    assert start(tmp_path).latest_checkpoint() == str(tmp_path / "model.ckpt-2")


def test_settings_that_are_gone_or_damaged_are_not_guessed(tmp_path):
    save(tmp_path, 4)
    (tmp_path / "arguments.json").write_text('{"model": "cou')
    with pytest.raises(ValueError, match=r"arguments.json is damaged: Unterminated string"):
        start(tmp_path).check_settings(SETTINGS, ())
    (tmp_path / "arguments.json").write_text("[]")
    with pytest.raises(ValueError, match=r"arguments.json is damaged: it holds no settings"):
        start(tmp_path).check_settings(SETTINGS, ())
    (tmp_path / "arguments.json").unlink()
    with pytest.raises(ValueError, match=r"no arguments.json with their settings"):
        start(tmp_path).check_settings(SETTINGS, ())


def test_a_damaged_best_is_replaced_by_the_next_validation(tmp_path, capsys):
    save(tmp_path, 4)
    cut(data(tmp_path / "best", 4))
    with pytest.raises(FileNotFoundError, match=r"model.ckpt-4 is damaged"):
        run_folder.find_checkpoint(tmp_path / "best")
    run = start(tmp_path)
    run.method.best_values["best"].assign(5.0)
    run.tidy(4)
    assert "the next validation makes a new one" in capsys.readouterr().out
    assert run.method.after_validation({"up": 2, "down": 9}).bests[0] == "best"
    run.write_arguments(SETTINGS)
    run.save_best(6, {"up": 2.0}, "best")
    assert list_steps(tmp_path / "best") == [6]
    assert json.loads((tmp_path / "best/results.json").read_text()) == {"step": 6, "up": 2.0}


def test_what_a_killed_process_left_is_taken_back(tmp_path):
    run = save(tmp_path / "w", 4, 8, weights_path=tmp_path / "w.h5")
    weights, tmp_path = tmp_path, tmp_path / "w"
    run.append_history(9, {"loss": 9})
    (tmp_path / "history.jsonl").open("a").write('{"step": 10, "lo')
    lefts = ("model.ckpt-12_temp", "best/model.ckpt-12_temp", ".worker_7")
    lefts += (".arguments.json.0_abcdef.tmp", "best/.results.json.01234567.tmp")
    for folder in (*lefts, "../.w.h5.01234567.tmp", "../.w_best.h5.01234567.tmp", "../.o.tmp"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part-00000-of-00001.index").write_bytes(b"")
    (tmp_path / "checkpoint.tmp0123").write_text("")
    index(tmp_path, 4).unlink()  # killed while it removed this one
    other = tmp_path / "notes_temp"
    other.mkdir()
    run = start(tmp_path, keep=1, weights_path=weights / "w.h5")
    run.write_arguments(SETTINGS)
    run.tidy(8)
    assert {path.name for path in weights.iterdir()} == {"w", "w.h5", "w_best.h5", ".o.tmp"}
    assert [row["step"] for row in run_folder.read_history(tmp_path)] == [4, 8]
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == {
        *("arguments.json", "history.jsonl", "checkpoint", "best", "results.json", "notes_temp"),
        *(piece(tmp_path, 8).name for piece in (index, data)),
    }


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for(keep, tmp_path):
    save(tmp_path, 1, 2, keep=keep)
    run = start(tmp_path, keep)
    run.latest_checkpoint()
    run.write_arguments(SETTINGS)
    for step in (3, 4):
        run.save(step)
    assert list_steps(tmp_path) == [4, 3, 2, 1][:keep]
    assert tf.train.latest_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-4")


def test_weights_of_a_run_that_is_gone_are_not_replaced(tmp_path):
    save(tmp_path / "ava", 4, weights_path=tmp_path / "ava.h5")
    for path in sorted((tmp_path / "ava").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path in (tmp_path / "ava.h5", tmp_path / "ava_best.h5"):
        with pytest.raises(FileExistsError, match=f"{path.name} exists, but not the run"):
            start(tmp_path / "ava", weights_path=tmp_path / "ava.h5").latest_checkpoint()
        path.unlink()
    start(tmp_path / "ava", weights_path=tmp_path / "ava.h5").latest_checkpoint()


@pytest.mark.parametrize("place", ["weights", "averages", "optimizer"])
def test_nothing_undefined_is_saved(place, tmp_path):
    method = Counting(average_decay=0.5)
    variable = {
        "weights": method.networks["network"].variables[0],
        "averages": method.averages["network"].variables[0],
        "optimizer": method.optimizers["network"].learning_rate,
    }[place]
    run = run_folder.RunFolder(tmp_path, method, 3, weights_path=tmp_path / "a.h5")
    run.write_arguments(SETTINGS)
    run.save(1)
    variable.assign(np.full(variable.shape, np.nan))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for save_it in (lambda: run.save(2), lambda: run.save_best(2, {"up": 1.0}, "best")):
        with pytest.raises(ArithmeticError, match="After step 2, 1 of "):
            save_it()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_checkpoints_of_other_versions_count_if_they_can_be_read(tmp_path):
    variables = tf.train.Checkpoint(value=tf.Variable(1.0))
    manager = tf.train.CheckpointManager(variables, tmp_path, 3, checkpoint_name="model.ckpt")
    manager.save(checkpoint_number=7)
    assert find_newest(tmp_path) == (path_of(tmp_path, 7), "")
    assert find_damage(tmp_path / "model.ckpt-8") == "model.ckpt-8.index is missing"
    write(variables, tmp_path, 8)
    assert find_newest(tmp_path) == (path_of(tmp_path, 8), "")

import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from misc.images import locks
from tests import commands


def write_images(folder):
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % 10)


def kill_when(ready, *command):
    """Kills a chain, and so its stage, once `ready` of its output so far is true."""
    chain = commands.start(*command)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(chain.stdout), daemon=True)
    reader.start()
    deadline = time.monotonic() + 900
    while chain.poll() is None and time.monotonic() < deadline and not ready("".join(lines)):
        time.sleep(0.005)
    chain.kill()
    reader.join()  # the stage would keep the stream open
    assert chain.wait() == -signal.SIGKILL, "".join(lines) + chain.stderr.read()


def tensors(path):
    reader = tf.train.load_checkpoint(str(path))
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n.endswith("VALUE") and "save_" not in n}


@pytest.mark.slow  # 26 processes, each of which loads TensorFlow and compiles a network
def test_a_whole_chain_and_one_that_was_killed(tmp_path):
    write_images(tmp_path)
    folder = tmp_path / "chain"
    command = ["-m", "misc.fusion_distill_chain", f"--output_path={folder}"]
    command += ["--dataloader=cifar10", f"--data_path={tmp_path}"]
    command += ["--steps_factor=0.015", "--batch_size=8"]
    command += ["--degradations=saltpepper", "--degradations=noise:0-50,step=25"]
    output = commands.run(*command, timeout=3600)
    assert "FusionDistill" in output
    assert ": done" not in output
    table = (folder / "table.csv").read_text()
    evaluation = folder / "results" / "fusion_distill" / "results.json"
    results = json.loads(evaluation.read_text())
    assert len(results["images"]) == 1 + 26 + 3

    last = folder / "fusion_distill" / "model.ckpt-3"
    expected = tensors(last)
    shutil.rmtree(folder / "fusion_distill")
    shutil.rmtree(evaluation.parent)
    (folder / "table.csv").unlink()
    with locks.hold(folder):
        errors = commands.run(*command, status=1)
        assert f"error: {folder} is in use by process {os.getpid()} " in errors
    checkpoint = folder / "fusion_distill" / "model.ckpt-1.index"
    kill_when(lambda output: checkpoint.exists(), *command)
    assert not last.with_name(last.name + ".index").exists()

    def evaluates(output):
        if "== Evaluation of fusion_distill\n" not in output:
            return False
        time.sleep(5)
        return True

    kill_when(evaluates, *command)
    actual = tensors(last)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(actual[name], tensor, name)
    assert not evaluation.exists()
    again = commands.run(*command, timeout=3600)
    assert again.count(": done") == 20
    assert json.loads(evaluation.read_text()) == results
    assert (folder / "table.csv").read_text() == table

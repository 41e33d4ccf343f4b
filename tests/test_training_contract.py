"""What a method may ask of the training loop: a first validation, bests, restarts, the end."""

import itertools
import json
import os
import signal
import sys
import types

import keras
import tensorflow as tf
from absl import flags

import train
from misc.images import locks
from misc.training import registry, run_folder, settings
from misc.training.method import Decision, Method
from tests import commands

RESULTS = ({"up": 1, "down": 9}, {"up": 2, "down": 8}, {"up": 0, "down": 7}, {"up": 3, "down": 9})


class Counting(Method):
    """A weight that falls by the learning rate in each step; its validations have fixed results."""

    objective = "up"
    higher_is_better = True
    validates_first = True

    def __init__(self, factor=1.0, **kwargs):
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        network = keras.Sequential([keras.Input((1,)), dense])
        super().__init__({"network": network}, {"network": keras.optimizers.SGD(1.0)}, **kwargs)
        self.factor = float(factor)

    @property
    def bests(self):
        return {"best": ("up", True), "best_down": ("down", False)}

    def train_step(self, batch, seed):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self.networks["network"](batch["image"]))
        self.update_weights("network", loss, tape)
        weight = self.networks["network"].weights[0]
        weight.assign(self.factor * weight)
        return {"loss": loss}

    def predict(self, images, scale=None):
        return {"output": self.networks["network"](images)}

    def evaluate(self, batches, report=None):
        assert list(batches) == ["validation"]
        weight = float(self.networks["network"].weights[0][0, 0])
        return RESULTS[{0: 0, -2: 1, -4: 2}.get(weight, 3)]

    def after_validation(self, results):
        decision = super().after_validation(results)
        falls = results["up"] == 0
        return Decision(decision.bests, 0.1 if falls else 1.0, falls, stop=results["up"] == 3)

    def receptive_radius(self, scale=None):
        return 0


class Ones:
    """Batches of ones; 20 images, of which a step uses 3."""

    def __init__(self, signal_before=None):
        self.signal_before = signal_before

    settings = types.MappingProxyType({})
    images_per_step = 3

    def training_batches(self, seed, first_step, shard):
        def generate():
            for step in itertools.count(first_step + 1):
                if step == self.signal_before:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield {"image": [[1.0]]}

        return tf.data.Dataset.from_generator(
            generate, output_signature={"image": tf.TensorSpec([1, 1])}
        )

    def evaluation_batches(self, split):
        return [split]

    def count_images(self):
        return 20

    def describe(self):
        return {"kind": "ones"}


def run(path, *more, factor=1.0, signal_before=None):
    """Trains for at most three epochs; called in a process of its own."""
    model = types.SimpleNamespace(create_model=lambda flags, training: Counting(factor))
    dataloader = types.SimpleNamespace(create_data=lambda flags: Ones(signal_before))
    selection = registry.Selection("counting", model, "ones", dataloader)
    train.define_flags()
    arguments = ["--epochs=3", "--validate_freq=2", "--save_freq=100", "--log_freq=1"]
    flags.FLAGS(["train.py", f"--train_path={path}", *arguments, *more])
    sys.exit(train.main(settings.parsed(), selection))


def start(*arguments, status=0, **kwargs):
    program = "import tests.test_training_contract as test\n"
    program += f"try: test.run(*{arguments!r}, **{kwargs!r})\n"
    program += "except (ArithmeticError, OSError) as error: print(error)"
    return commands.run("-c", program, status=status)


def test_weights_that_are_undefined_after_the_first_step_are_not_saved(tmp_path):
    output = start(str(tmp_path), "--save_freq=1", "--validate_freq=0", factor="nan")
    assert "After step 1, 1 of 2 variables hold values that are not finite" in output
    assert not list(tmp_path.glob("*ckpt*"))


def test_a_folder_in_which_another_process_trains_is_left_alone(tmp_path):
    with locks.hold(tmp_path):
        output = start(str(tmp_path))
        assert f"{tmp_path} is in use by process {os.getpid()} " in output
        assert [path.name for path in tmp_path.iterdir()] == [locks.LOCK]


def test_the_loop_does_what_a_method_asks_for(tmp_path):
    output = start(str(tmp_path))
    assert "3 epochs of 6 steps (20 images)" in output
    assert "validation at step 0: up 1.000 (best so far, best_down so far)" in output
    assert "validation at step 4: up 0.000 (best_down so far)" in output
    assert "The validation ends the run at step 6." in output
    rows = run_folder.read_history(tmp_path)
    rates = {r["step"]: r["learning_rate/network"] for r in rows if "loss" in r}
    assert {step: round(rate, 6) for step, rate in rates.items()} == {
        **dict.fromkeys((1, 2, 3, 4), 1.0),
        **dict.fromkeys((5, 6), 0.1),
    }
    for name, step in (("best", 6), ("best_down", 4)):
        assert json.loads((tmp_path / name / "results.json").read_text())["step"] == step
        assert run_folder.find_checkpoint(tmp_path / name).endswith(f"-{step}")
    assert "is already at step 6: a validation ended it" in start(str(tmp_path))
    # One that is stopped just before a validation does it when it goes on.
    start(str(tmp_path / "stopped"), signal_before=4, status=128 + signal.SIGTERM)
    assert run_folder.find_checkpoint(tmp_path / "stopped").endswith("-4")
    assert "validation at step 4: up 0.000" in start(str(tmp_path / "stopped"))
    assert run_folder.read_history(tmp_path / "stopped") == rows
    # Another run may begin where this one ended.
    more = ["--epochs=4", f"--restore_path={tmp_path}"]
    output = start(str(tmp_path / "other"), *more)
    assert f"Starting from {tmp_path}" in output
    assert "Saved" in output

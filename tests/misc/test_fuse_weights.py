import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from misc import fuse_weights
from misc.images import files
from misc.training import run_folder
from misc.training.method import Method
from tests import commands


class Tiny(Method):
    """A network with batch normalisation, and nothing else."""

    def __init__(self, value, features=3):
        inputs = keras.Input((2,))
        x = keras.layers.Dense(features, name="dense")(inputs)
        outputs = keras.layers.BatchNormalization(name="norm")(x)
        network = keras.Model(inputs, outputs)
        network.set_weights([np.full(v.shape, value) for v in network.variables])
        super().__init__({"network": network})

    def train_step(self, batch, seed):
        raise NotImplementedError

    def predict(self, images, scale=None):
        raise NotImplementedError

    def evaluate(self, batches, report=None):
        raise NotImplementedError

    def receptive_radius(self, scale=None):
        raise NotImplementedError


def save(folder, value, **kwargs):
    run_folder.RunFolder(folder, Tiny(value, **kwargs), 1).save(5)
    return folder


@pytest.mark.parametrize(("statistics", "expected"), [("first", 1.0), ("mean", 3.0)])
def test_weights_are_averaged_and_statistics_as_asked(statistics, expected, tmp_path):
    paths = [save(tmp_path / str(value), value) for value in (2.0, 6.0)]
    method = Tiny(1.0)
    fuse_weights.fuse(method, paths, statistics)
    for variable in method.networks["network"].variables:
        mean = 3.0 if variable.trainable else expected
        np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, mean))


def test_a_model_fused_with_itself_stays_as_it_is(tmp_path):
    method = Tiny(0.1)
    fuse_weights.fuse(method, [save(tmp_path / str(n), 0.1) for n in range(6)], "mean")
    for variable in method.networks["network"].variables:
        np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, np.float32(0.1)))


@pytest.mark.parametrize("statistics", ["first", "mean"])
def test_fusion_is_the_mean_in_float64(statistics, tmp_path):
    random = np.random.default_rng(0)
    methods = [Tiny(0.0) for _ in range(5)]
    values = []
    for number, method in enumerate(methods):
        network = method.networks["network"]
        network.set_weights([random.normal(size=v.shape) for v in network.variables])
        values.append([v.numpy() for v in network.variables])
        run_folder.RunFolder(tmp_path / str(number), method, 1).save(1)
    method = methods[0]
    fuse_weights.fuse(method, [tmp_path / str(number) for number in range(1, 5)], statistics)
    for variable, *each in zip(method.networks["network"].variables, *values, strict=True):
        mean = np.mean(np.array(each, np.float64), axis=0).astype(np.float32)
        averaged = variable.trainable or statistics == "mean"
        np.testing.assert_array_equal(variable.numpy(), mean if averaged else each[0])
    # The result is a model like any other.
    run_folder.RunFolder(tmp_path / "fused", method, 1).save(0)
    before = [variable.numpy() for variable in method.networks["network"].variables]
    fuse_weights.fuse(method, [tmp_path / "fused"], statistics)
    for variable, kept in zip(method.networks["network"].variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), kept)


def test_averaged_weights_of_a_run_are_fused_unless_the_last_are_asked_for(tmp_path):
    method = Tiny(4.0)
    method.averages = Tiny(8.0).networks
    run_folder.RunFolder(tmp_path, method, 1).save(1)
    for use_averages, expected in ((True, 5.0), (False, 3.0)):
        fused = Tiny(2.0)
        fuse_weights.fuse(fused, [tmp_path], "mean", use_averages)
        np.testing.assert_array_equal(
            fused.networks["network"].variables[0], np.full((2, 3), expected)
        )


def test_runs_of_other_networks_are_refused(tmp_path):
    for name, settings in (("a", {"network": "x", "mean": [1]}), ("b", {"network": "y"})):
        files.write_json(tmp_path / name / "arguments.json", settings)
    message = r"--fuse_with=.*b is another network than --restore_path=.*a: --network: x and y"
    with pytest.raises(ValueError, match=message):
        fuse_weights.check_network(tmp_path / "a", tmp_path / "b", ("network", "mean"))
    fuse_weights.check_network(tmp_path / "a", tmp_path / "b", ("mean",))


def test_models_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)--fuse_with=.*dense/kernel has shape \[2, 4\]"):
        fuse_weights.fuse(Tiny(1.0), [save(tmp_path / "other", 1.0, features=4)])
    with pytest.raises(FileNotFoundError, match="is no checkpoint"):
        fuse_weights.fuse(Tiny(1.0), [tmp_path / "missing"])


@pytest.mark.slow  # three processes, each of which loads TensorFlow and compiles a network
def test_fused_statistics_are_measured_on_training_data(tmp_path):
    train = ["train.py", "--model=classifier", "--network=cifar_resnet20", "--batch_size=8"]
    train += ["--max_steps=2", "--save_freq=2", "--validate_freq=0", "--degradations=noise"]
    for number in range(2):
        commands.run(*train, f"--seed={number}", f"--train_path={tmp_path}/{number}")
    command = ["-m", "misc.fuse_weights", f"--restore_path={tmp_path}/0"]
    command += [f"--fuse_with={tmp_path}/1", f"--output_path={tmp_path}/fused"]
    command += ["--moving_statistics=reestimated", "--reestimation_steps=2"]
    commands.run(*command)
    arguments = json.loads((tmp_path / "fused" / "arguments.json").read_text())
    assert arguments["fused_from"] == [f"{tmp_path}/0", f"{tmp_path}/1"]
    assert arguments["network"] == "cifar_resnet20"
    readers = [
        tf.train.load_checkpoint(tf.train.latest_checkpoint(tmp_path / name))
        for name in ("0", "1", "fused")
    ]
    for key in readers[0].get_variable_to_shape_map():
        if key.startswith("networks_classifier") and "seed" not in key:
            first, second, fused = (reader.get_tensor(key) for reader in readers)
            is_mean = np.allclose(fused, (first + second) / 2, atol=1e-6)
            assert is_mean != ("moving" in key), key
    assert "holds a model already" in commands.run(*command, status=1)

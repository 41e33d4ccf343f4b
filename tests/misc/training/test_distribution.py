import re
import textwrap
import types

import pytest

from misc.training import distribution
from tests import commands

# Two replicas on two logical CPUs and one device take the same steps; prints both losses.
SCRIPT = """
import sys, types
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from eusr.models.eusr import EUSR
from eusr.network import Generator
from misc.training import distribution

keras.config.set_dtype_policy(sys.argv[1])
random = np.random.default_rng(0)
shapes = {"low": (24, 6, 6, 3), "high": (24, 12, 12, 3)}
data = {name: random.uniform(0, 255, shape) for name, shape in shapes.items()}
data = {name: value.astype("float32") for name, value in data.items()}
dataset = tf.data.Dataset.from_tensor_slices(data).batch(4, drop_remainder=True)
results, weights = [], None
for strategy in (distribution.create_strategy("none"),
                 distribution.create_strategy("mirrored", ["CPU:0", "CPU:1"])):
    with strategy.scope():
        generator = Generator((2,), 4, 1, residual_factor=0.1)
        weights = weights or generator.get_weights()
        generator.set_weights(weights)
        optimizer = keras.optimizers.Adam(1e-2)
        method = EUSR(generator, optimizers={"generator": optimizer}, average_decay=0.5,
                      gradient_clip_norm=50.0)
        if sys.argv[1] == "mixed_float16":
            # A replica's loss averages fewer images, so its gradients overflow at a smaller scale
            # than one device's: begin below both, or they skip different steps.
            method.optimizers["generator"].dynamic_scale.assign(16.0)

    @tf.function
    def step(batch):
        loss = strategy.run(method.train_step, (batch, None))["loss"]
        method.update_averages()
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)

    losses = [float(step(b)) for b in distribution.distribute(strategy, lambda i, n: dataset)]
    averages = np.concatenate([a.numpy().ravel() for a in method.averages["generator"].variables])
    results.append((losses, averages))
    iterations = method.scaled_optimizer("generator").iterations.numpy()
    assert int(iterations) == 6, "a step was skipped"
    print(strategy.num_replicas_in_sync, losses)
np.testing.assert_allclose(results[0][0], results[1][0], rtol=float(sys.argv[2]))
if sys.argv[1] == "float32":
    np.testing.assert_allclose(results[0][1], results[1][1], atol=2e-3)
assert len(results[1][0]) == 6
"""


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("mixed_float16", 0.05)])
def test_two_replicas_do_what_one_does(precision, tolerance):
    output = commands.run("-c", textwrap.dedent(SCRIPT), precision, tolerance)
    assert "2 [" in output


def test_unknown_strategies_and_missing_addresses_are_named(monkeypatch):
    with pytest.raises(ValueError, match="--distribute=horovod is unknown"):
        distribution.create_strategy("horovod")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        distribution.create_strategy("multi_worker")


@pytest.mark.parametrize(
    ("gpus", "name", "expected"),
    [
        (["H100", "H100"], "none", "H100 (1 more are there: --distribute=mirrored uses all)"),
        (["H100", "A100"], "mirrored", "H100, A100"),
        (["H100"], "none", "H100"),
    ],
)
def test_devices_are_named(monkeypatch, gpus, name, expected):
    config = distribution.tf.config
    found = [types.SimpleNamespace(name=name) for name in gpus]
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: found)
    monkeypatch.setattr(
        config.experimental, "get_device_details", lambda gpu: {"device_name": gpu.name}
    )
    assert distribution.describe_devices(name) == f"Device: {expected}"


@pytest.mark.parametrize(
    ("driver", "visible", "hinted"), [(True, None, True), (True, "-1", False), (False, None, False)]
)
def test_a_driver_without_gpu_is_hinted_at(monkeypatch, driver, visible, hinted):
    monkeypatch.setattr(distribution.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(distribution, "_has_nvidia_driver", lambda: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if driver:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        line = distribution.describe_devices("none")
        assert "finds no GPU among CUDA_VISIBLE_DEVICES=7" in line
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line = distribution.describe_devices("none")
    assert re.match(r"Device: CPU, \d+ processors", line)
    assert ("pip install 'tensorflow[and-cuda]'" in line) == hinted

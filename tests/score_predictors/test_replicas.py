"""Batch statistics of replicas that each see a part of the batch stay equal."""

import pytest

from tests import commands

# A process of its own, because logical devices are set before TensorFlow is used.
SCRIPT = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from misc.training import distribution
from tests.score_predictors.test_nima import create
strategy = distribution.create_strategy("mirrored", ["CPU:0", "CPU:1"])
with strategy.scope():
    method = create(True)
random = np.random.default_rng(0)
batch = {
    "image": random.uniform(0, 255, (4, 32, 32, 3)).astype("float32"),
    "scores": random.dirichlet(np.ones(10), 4).astype("float32"),
}
batches = distribution.distribute(
    strategy, lambda index, count: tf.data.Dataset.from_tensors(batch).repeat()
)
strategy.run(tf.function(method.train_step), (next(iter(batches)), tf.constant([0, 1])))
for variable in method.predictor.variables:
    first, second = strategy.experimental_local_results(variable.value)
    np.testing.assert_array_equal(first, second)
moving = method.predictor.get_layer("bn_Conv1").moving_mean.numpy()
assert np.any(moving)
print("all equal")
"""


@pytest.mark.slow  # the network is traced twice, in a process of its own
def test_batch_statistics_are_equal_on_all_replicas():
    assert "all equal" in commands.run("-c", SCRIPT)

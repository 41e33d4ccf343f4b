import textwrap

import pytest

from tests import commands

# Two replicas that see the same images, on two logical CPUs, take the steps that one device takes
# with half of them; with different images they keep the same statistics.
SCRIPT = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from classifiers import levels
from classifiers.models.expert_training import ExpertTraining
from classifiers.models.fusion_distill import FusionDistill
from classifiers.training_copies import TrainingCopies
from misc.training import distribution, optimizers
from misc.training import method as method_module
from tests.classifiers.test_models import tiny_network

random = np.random.default_rng(0)
half = random.uniform(0, 255, (3, 4, 8, 8, 3)).astype("float32")
labels = random.integers(0, 5, (3, 4)).astype("int32")
same = {"image": np.concatenate([half, half], axis=1), "label": np.tile(labels, 2)}
other = {"image": half.reshape(-1, 8, 8, 3)[None, :8], "label": labels.reshape(1, -1)[:, :8]}
results, weights = [], None
for strategy in (distribution.create_strategy("none"),
                 distribution.create_strategy("mirrored", ["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    # Levels that change nothing: replicas draw apart from each other.
    layers = tuple(levels.training_layers(["noise:0", "saltpepper:0"], 32))
    with strategy.scope():
        networks = [tiny_network(scale) for scale in (1.0, 1.5, 2.0)]
        weights = weights or [network.get_weights() for network in networks]
        for network, values in zip(networks, weights):
            network.set_weights(values)
        settings = {"optimizers": {"classifier": optimizers.RAdam(1e-2, decay=1e-3)},
                    "average_decay": 0.5, "gradient_clip_norm": 0.5}
        METHOD

    @tf.function
    def step(batch, seed):
        loss = strategy.run(method.train_step, (batch, seed))["loss"]
        method.update_averages()
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)

    def run(data):
        dataset = tf.data.Dataset.from_tensor_slices(data)
        batches = distribution.distribute(strategy, lambda index, count: dataset)
        return [float(step(batch, tf.constant([0, 1]))) for batch in batches]

    losses = run(same)
    if hasattr(method, "epoch"):
        method.follow(method_module.Decision(rate_factor=0.2, restart=True))
        np.testing.assert_allclose(method.learning_rates()["classifier"], 2e-3, rtol=1e-6)
        figures = list(method.epoch.means().values())
        np.testing.assert_allclose(figures[2], np.mean(losses), rtol=1e-5)
    averages = np.concatenate([a.numpy().ravel() for a in method.averages["classifier"].variables])
    results.append((losses, averages))
    run(other)
    for variable in networks[0].variables:
        copies = strategy.experimental_local_results(variable.value)
        for copy in copies[1:]:
            np.testing.assert_array_equal(copies[0].numpy(), copy.numpy(), variable.path)
    print(len(copies), "copies", losses)
np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)
"""


METHODS = {
    "fusion_distill": """FusionDistill(
        networks[0], copies=TrainingCopies(layers, flip=False, padding=0), teachers=networks[1:],
        **settings)""",
    # A sum over the batch is one over both parts.
    "expert_training": """ExpertTraining(
        networks[0], copies=TrainingCopies(layers[:1], flip=False, padding=0), weight=0.1,
        teacher=networks[1], **settings)""",
}


@pytest.mark.slow  # another process; test_distribution has the same of EUSR
@pytest.mark.parametrize("name", METHODS)
def test_two_replicas_train_as_one_does(name):
    script = textwrap.dedent(SCRIPT).replace("METHOD", f"method = {METHODS[name]}")
    assert "2 copies" in commands.run("-c", script)

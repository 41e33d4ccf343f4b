"""Loss of stability training, what it trains and what moves."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from classifiers import networks
from classifiers.dataloaders import digits
from classifiers.evaluation import Evaluation
from classifiers.models import stability_training
from classifiers.models.stability_training import StabilityTraining
from misc.training import optimizers
from tests import flag_values
from tests.classifiers.test_models import BATCH, IMAGES, LABELS, SEED, copies, tiny_network

NOISE = "noise:20,quantize=none"


def stable(weight=0.01, **kwargs):
    return StabilityTraining(
        tiny_network(),
        Evaluation([NOISE], classes=5),
        copies([NOISE]),
        {"classifier": optimizers.Adam(1e-2, 0.5, 0.99)},
        weight=weight,
        **{"falls": 1, "plateau_patience": 4, "plateau_factor": 0.2, "batch_size": 6} | kwargs,
    )


def test_the_last_layer_alone_is_trained_and_statistics_move():
    method = stable()
    network = method.network
    assert [variable.path for variable in network.trainable_variables] == [
        "head/kernel",
        "head/bias",
    ]
    before = {variable.path: variable.numpy() for variable in network.variables}
    method.train_step(BATCH, SEED)
    changed = {v.path for v in network.variables if (v.numpy() != before[v.path]).any()}
    assert changed == {"head/kernel", "head/bias", "norm/moving_mean", "norm/moving_variance"}
    assert len(method.optimizers["classifier"].variables) == 2 + 2 * 2  # rate, step, two means each


@pytest.mark.parametrize("name", ["cifar_resnet20", "squeezenet1_0"])
def test_the_last_layer_of_every_family_is_found(name):
    network = networks.build(name, 3)
    head = networks.head_of(network)
    assert head.variables[-1].shape == (3,)
    assert head is [layer for layer in network.layers if layer.weights][-1]


def test_a_step_follows_the_formula_and_gives_the_noisy_answer_no_gradient():
    method = stable()
    seen = method.make_copies(BATCH, SEED)
    assert np.any(seen["degraded"] != np.round(seen["degraded"]))  # no whole numbers
    pooled = keras.Model(method.network.inputs[0], method.network.stages["pooled"])
    clean, noisy = (
        np.asarray(pooled(images, training=True), np.float64)
        for images in (IMAGES, seen["degraded"])
    )
    kernel, bias = (v.numpy().astype(np.float64) for v in method.network.trainable_variables)

    def loss(kernel, bias, noisy_kernel=kernel, noisy_bias=bias):
        answer = scipy.special.log_softmax(clean @ kernel + bias, axis=1)
        other = scipy.special.log_softmax(noisy @ noisy_kernel + noisy_bias, axis=1)
        cross_entropy = -answer[np.arange(len(LABELS)), LABELS].mean()
        divergence = (np.exp(answer) * (answer - other)).sum()
        return cross_entropy + 0.01 * divergence, cross_entropy

    with tf.GradientTape() as tape:
        cross_entropy, divergence, logits = method.measure(seen, training=True)
        total = cross_entropy + method._factor(6.0) * divergence
    np.testing.assert_allclose(logits, noisy @ kernel + bias, atol=1e-4)
    expected, expected_cross_entropy = loss(kernel, bias)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert float(cross_entropy) == pytest.approx(expected_cross_entropy, rel=1e-4)
    gradient = method.gradients("classifier", total, tape)[1].numpy()
    # Central differences, with the noisy answer as it was.
    steps = 1e-5 * np.eye(5)
    differences = [
        (loss(kernel, bias + step)[0] - loss(kernel, bias - step)[0]) / 2e-5 for step in steps
    ]
    np.testing.assert_allclose(gradient, differences, atol=1e-4)


def test_the_first_fall_of_the_rate_ends_the_run():
    method = stable()
    decisions = [method.after_validation({"accuracy": value}) for value in (50, 90, 1, 1, 1, 1)]
    assert [decision.stop for decision in decisions] == [*5 * [False], True]
    assert decisions[-1].restart


def test_the_published_noise_is_taken():
    def create(**values):
        chosen = {"network": "cifar_resnet20", "num_classes": 10, "batch_size": 4} | values
        flags = flag_values.of(stability_training, digits, **chosen)
        return stability_training.create_model(flags, training=True)

    choose = stability_training.create_choice
    flags = flag_values.of(stability_training, digits, network="mnasnet1_0")
    assert choose(flags) == [4e-2, 1e-6]
    flags = flag_values.of(stability_training, digits, network="resnet50")
    assert choose(flags) == [5e-4, 1e-7]
    with pytest.raises(ValueError, match="Nothing is published for --network=cifar_resnet20"):
        create()
    method = create(stability_training_noise=0.125, stability_training_learning_rate=1e-3)
    assert method.settings["degradations"] == ["noise:32,quantize=none"]
    (layer,) = method.copies.layers
    assert (layer.level, layer.quantize) == (32, None)
    assert method.evaluation.tested[0].name == "noise:32,quantize=none"

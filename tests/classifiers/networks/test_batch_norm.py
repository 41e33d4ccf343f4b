import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers.networks.batch_norm import BatchNormalization, with_reestimated_statistics

SETTINGS = {"momentum": 0.7, "epsilon": 1e-3}


def build_pair(shape=(None, None, None, 5), **settings):
    """Our layer and Keras' with the same weights."""
    random = np.random.default_rng(0)
    pair = BatchNormalization(**SETTINGS, **settings), keras.layers.BatchNormalization(**SETTINGS)
    for layer in pair:
        layer.build(shape)
    weights = [random.uniform(0.5, 2, shape[-1]) for _ in pair[0].weights]
    for layer in pair:
        layer.set_weights(weights)
    return pair


def run(layer, inputs, training):
    with tf.GradientTape() as tape:
        inputs = tf.Variable(inputs)
        outputs = layer(inputs, training=training)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
    watched = [inputs, layer.gamma.value, layer.beta.value]
    return [outputs, *tape.gradient(loss, watched), *map(tf.constant, layer.get_weights())]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 6, 7, 5), (1, 2, 1, 5), (3, 1, 1, 5)])
def test_it_equals_keras_layer(training, shape):
    inputs = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    ours, theirs = (run(layer, inputs, training) for layer in build_pair())
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4 * np.abs(other).max())


def test_a_frozen_layer_uses_the_moving_statistics_in_training():
    inputs = np.random.default_rng(1).normal(3, 2, (4, 6, 7, 5)).astype(np.float32)
    layer, _ = build_pair()
    expected = layer(inputs, training=False)
    layer.trainable = False
    np.testing.assert_array_equal(layer(inputs, training=True), expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_reduced_precision_keeps_float32_statistics(policy):
    inputs = np.random.default_rng(1).normal(3, 2, (8, 6, 7, 5)).astype(np.float32)
    layer, reference = build_pair(dtype=policy)
    outputs = layer(inputs, training=True)
    assert outputs.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32), reference(inputs, training=True), atol=0.05
    )
    for one, other in zip(layer.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-3)


def test_what_the_operation_cannot_do_is_left_to_keras():
    vectors = np.random.default_rng(1).normal(3, 2, (8, 5)).astype(np.float32)
    layer, reference = build_pair((None, 5))
    np.testing.assert_allclose(
        layer(vectors, training=True), reference(vectors, training=True), rtol=1e-5
    )
    layer, _ = build_pair(dtype="float64")
    assert layer(vectors[:, None, None].astype(np.float64), training=True).dtype == "float64"


def test_it_is_saved_with_its_settings():
    layer = BatchNormalization(momentum=0.7, epsilon=1e-3)
    again = BatchNormalization.from_config(layer.get_config())
    assert (again.momentum, again.epsilon) == (0.7, 1e-3)


def test_reestimated_statistics_are_mixed_with_those_of_training():
    random = np.random.default_rng(3)
    inputs = keras.Input((None, None, 3))
    norm = BatchNormalization(epsilon=1e-5)
    network = keras.Model(inputs, norm(inputs), name="net")
    network.set_weights([random.uniform(0.5, 2, 3) for _ in network.weights])
    gamma, beta, mean, variance = network.get_weights()
    images = random.normal(4, 2, (6, 5, 4, 3)).astype(np.float32)
    for prior, share in ((0, 1.0), (2, 0.75)):
        own = [images.mean((0, 1, 2)), images.var((0, 1, 2))]
        mixed = [share * a + (1 - share) * b for a, b in zip(own, (mean, variance), strict=True)]
        expected = (images - mixed[0]) / np.sqrt(mixed[1] + 1e-5) * gamma + beta
        copied = with_reestimated_statistics(network, prior)
        np.testing.assert_allclose(copied(images, training=False), expected, atol=1e-4)
        for one, other in zip(copied.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    plain = keras.Model(inputs, keras.layers.ReLU()(inputs), name="plain")
    with pytest.raises(ValueError, match="plain has no batch normalisation"):
        with_reestimated_statistics(plain, 0)

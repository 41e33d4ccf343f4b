"""What all networks share: names, sizes, stages, input, training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import networks

# Parameters with 1000 classes (CIFAR ResNets: 10) without batch-norm statistics. torchvision's
# documentation, less the auxiliary classifiers that are in its figure for Inception v3; CIFAR: by
# hand from the paper's table, with 1x1 shortcuts and 256 features; CLIP: image half of the authors'
# release (38,316,896) and 1000 * 1024 + 1 for the classifier.
PARAMETERS = {
    "cifar_resnet20": 274_394,
    "cifar_resnet56": 857_690,
    "cifar_resnet110": 1_732_634,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnext101_32x8d": 88_791_336,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mnasnet1_0": 4_383_312,
    "squeezenet1_0": 1_248_424,
    "googlenet": 6_624_904,
    "inception_v3": 27_161_264 - 3_326_696,
    "efficientnet_b3": 12_233_232,
    "efficientnet_pytorch_b3": 12_233_232,
    "vit_b16": 86_567_656,
    "swin_t": 28_288_354,
    "clip_rn50": 38_316_896 + 1_024_001,
}
FAST = ("cifar_resnet20", "cifar_resnet56", "mobilenet_v2", "squeezenet1_0")


def images(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS],
)
def test_number_of_parameters(name):
    # Without initial values: hundreds of millions of random numbers take minutes.
    with keras.StatelessScope():
        network = networks.build(name, 10 if name.startswith("cifar") else 1000)
    parameters = [np.prod(variable.shape) for variable in network.trainable_variables]
    assert sum(parameters) == PARAMETERS[name]
    assert {"logits", "pooled", "stage1", "stage3"} <= set(network.stages)


def test_all_networks_are_counted():
    assert tuple(PARAMETERS) == networks.NAMES


@pytest.mark.parametrize("size", [8, 32, 33, 64])
def test_cifar_resnet_takes_any_size(size):
    network = networks.with_stages(networks.build("cifar_resnet20", 5))
    stages = network(images(2, size, size, 3))
    assert stages["pooled"].shape == (2, 256)
    assert stages["logits"].shape == (2, 5)
    side = -(-size // 4)
    assert stages["stage3"].shape == (2, side, side, 64)
    np.testing.assert_array_equal(np.maximum(stages["stage3_preactivation"], 0), stages["stage3"])


def test_chosen_stages_share_their_weights():
    network = networks.build("cifar_resnet20", 5)
    some = networks.with_stages(network, ["logits", "stage2"])
    assert list(some(images(1, 32, 32, 3))) == ["logits", "stage2"]
    assert some.trainable_variables[0] is network.trainable_variables[0]
    with pytest.raises(ValueError, match=r"stages of cifar_resnet20 are stem.*Received: stage4"):
        networks.with_stages(network, ["logits", "stage4"])


@pytest.mark.slow
def test_input_is_normalised_by_mean_and_deviation():
    given = images(2, 32, 32, 3)
    plain = networks.build("cifar_resnet20", 5, mean=(0, 0, 0), std=(1 / 255,) * 3)
    for name in ("cifar10", "cifar100", "tiny_imagenet"):
        mean, std = networks.NORMALISATIONS[name]
        network = networks.build("cifar_resnet20", 5, mean=mean, std=std)
        network.set_weights(plain.get_weights())
        expected = plain((given / 255 - mean) / std)
        np.testing.assert_allclose(network(given), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"mean takes three values .* Received: mean=\(0.5,\)"):
        networks.build("cifar_resnet20", 5, mean=(0.5,))


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match=r"network must be one of cifar_resnet20.*'resnet51'"):
        networks.build("resnet51", 10)
    for classes in (None, 0):
        with pytest.raises(ValueError, match=f"num_classes .* Received: {classes}"):
            networks.build("cifar_resnet20", classes)
    with pytest.raises(ValueError, match=r"load_head=False needs weights"):
        networks.build("cifar_resnet20", 10, load_head=False)
    with pytest.raises(ValueError, match=r"multiples of 32. Received: 50x50"):
        networks.build("clip_rn50", 10, image_size=50)


@pytest.mark.parametrize("name", [pytest.param("swin_t", marks=pytest.mark.slow), "googlenet"])
def test_unknown_size_in_a_graph_equals_the_known_one(name):
    network = networks.build(name, 3)
    given = images(2, 75, 40, 3)
    signature = [tf.TensorSpec((None, None, None, 3))]
    dynamic = tf.function(lambda x: network(x, training=False), input_signature=signature)
    expected = network(given, training=False)
    # A graph fuses layers, which rounds otherwise.
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(dynamic(given), expected, atol=tolerance)


@pytest.mark.slow  # gradients through every layer of all networks
@pytest.mark.parametrize("name", [n for n in networks.NAMES if "vgg" not in n])
def test_every_weight_gets_a_gradient(name):
    fixed = networks.NETWORKS[name].fixed_size
    network = networks.build(name, 3, image_size=64 if fixed else None)
    given = images(2, *((64, 64) if name != "inception_v3" else (75, 75)), 3)
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
            np.array([0, 1]), network(given, training=True), from_logits=True
        )
    values = [variable.value for variable in network.trainable_variables]
    gradients = tape.gradient(loss, values)
    assert all(gradient is not None for gradient in gradients)
    # Looking a bias up gives a sparse gradient.
    gradients = map(tf.convert_to_tensor, gradients)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_keras_file_of_the_whole_network(tmp_path):
    network = networks.build("cifar_resnet20", 5)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    given = images(1, 32, 32, 3)
    np.testing.assert_array_equal(again(given), network(given))

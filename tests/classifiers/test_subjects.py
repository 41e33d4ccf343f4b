"""Classifiers of any kind: names, what they are fed with, and mistakes that can be seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import networks, robustness, subjects

SIDE, CLASSES = 4, 4


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A network that tells four brightnesses apart, of values in 0-1."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(x)
    dense = keras.layers.Dense(CLASSES)
    network = keras.Model(inputs, dense(x))
    centres = np.array([0.125, 0.375, 0.625, 0.875])
    # The nearest centre c has the largest 2 c x - c^2.
    dense.set_weights([200 * centres[None] / 3, -100 * centres**2])
    path = tmp_path_factory.mktemp("subjects") / "brightness.keras"
    network.save(path)
    return path


@pytest.fixture(scope="module")
def data():
    labels = np.arange(40) % CLASSES
    images = np.ones((40, SIDE, SIDE, 3)) * (32 + 63 * labels)[:, None, None, None]
    return images.astype(np.float32), labels


def check(path, presets, data, **values):
    found = subjects.load([str(path)], presets, **values)
    images, labels = data
    answers = robustness.Answers.of([one.classify(images) for one in found], labels)
    return subjects.check(found, images, labels, answers, CLASSES), answers


def test_the_right_preset_is_not_questioned(path, data):
    warnings, answers = check(path, ["0-1"], data)
    assert warnings == {}
    assert (answers.ranks == 0).all()


@pytest.mark.parametrize("preset", ["keras", "caffe", "torchvision"])
def test_a_wrong_preset_is_noticed_and_the_right_one_named(preset, path, data):
    warnings, _ = check(path, [preset], data)
    (text,) = warnings.values()
    assert "with --input_preset=0-1 it would be 100.0 %" in text
    if preset == "keras":
        assert "which is chance (25.0 %)" in text


def test_a_preset_is_changed_by_flags(path, data):
    _, answers = check(path, ["keras"], data, deviation=[255.0] * 3)
    assert (answers.ranks == 0).all()
    (subject,) = subjects.load([str(path)], ["caffe"], mean=[1.0, 2, 3], order="RGB")
    assert subject.values.startswith("RGB, mean 1,2,3, deviation 1,1,1 of 0-255")


def test_one_preset_for_each_and_different_names(path):
    found = subjects.load([str(path)] * 3, ["0-1", "-1-1", "0-1"])
    assert [one.name for one in found] == [
        "brightness.keras",
        "brightness.keras (2)",
        "brightness.keras (3)",
    ]
    with pytest.raises(ValueError, match=r"one for each of the 3 --models. Received: 2"):
        subjects.load([str(path)] * 3, ["0-1", "-1-1"])
    with pytest.raises(ValueError, match=r"--input_preset=torch is unknown. Known: own, torchvis"):
        subjects.load([str(path)], ["torch"])
    with pytest.raises(ValueError, match="does not say what values it takes"):
        subjects.load([str(path)])


def test_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match=r"no such file, nor a network of that name. .*resnet50"):
        subjects.load(["resnet51:weights.pth"])
    with pytest.raises(FileNotFoundError):
        subjects.load([str(tmp_path / "run")])


@pytest.mark.slow
def test_networks_with_weights(tmp_path):
    network = networks.build("cifar_resnet20", 10)
    path = tmp_path / "weights.weights.h5"
    network.save_weights(path)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    (own,) = subjects.load([f"cifar_resnet20:{path}"])
    np.testing.assert_allclose(own.classify(images), network(images), atol=1e-4)
    (other,) = subjects.load([f"cifar_resnet20:{path}"], ["torchvision"])
    scaled = networks.build(
        "cifar_resnet20", 10, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    scaled.set_weights(network.get_weights())
    np.testing.assert_allclose(other.classify(tf.constant(images)), scaled(images), atol=1e-4)
    with pytest.raises(ValueError, match="take RGB, not BGR"):
        subjects.load([f"cifar_resnet20:{path}"], ["caffe"])

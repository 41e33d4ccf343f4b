"""Every network as a .keras file, and with `compile` and `fit`."""

import gc

import keras
import numpy as np
import pytest

from classifiers import correction, networks
from eusr.discriminator import Discriminator
from eusr.network import Generator
from score_predictors import network as score_predictor
from tests.classifiers.networks import examples

SMALL = {
    "generator": lambda: Generator((1, 2, 4), 3, shared_blocks=1, residual_factor=0.3),
    "discriminator": lambda: Discriminator(2),
    "predictor": lambda: score_predictor.create_network(alpha=0.35),
    "estimator": correction.build_estimator,
    "cifar_resnet20": lambda: networks.build("cifar_resnet20", 3),
}
# Classes of their own; the others are put together from layers.
OWN = ("generator", "discriminator")
SIDE = 32


def photos(side=SIDE):
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype("float32")


def check(network, path, images, **options):
    network.save(path)
    again = keras.saving.load_model(path)
    assert type(again) is type(network)
    expected, found = (
        keras.tree.flatten(keras.tree.map_structure(np.asarray, one(images, **options)))
        for one in (network, again)
    )
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OWN else pytest.mark.slow) for n in SMALL]
)
def test_small_networks_come_back(name, tmp_path):
    options = {"scale": 4} if name == "generator" else {}
    check(SMALL[name](), tmp_path / "network.keras", photos(), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NAMES)
def test_every_classifier_comes_back(name, tmp_path):
    size = examples.SIZES[name]
    fixed = size if networks.NETWORKS[name].fixed_size else None
    network = networks.build(name, examples.CLASSES, image_size=fixed)
    check(network, tmp_path / "network.keras", photos(size))
    del network
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", score_predictor.list_backbones())
def test_every_score_predictor_comes_back(backbone, tmp_path):
    check(score_predictor.create_network(backbone), tmp_path / "network.keras", photos(224))
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_fit_trains_each_kind(name):
    network, images = SMALL[name](), photos()
    if name == "generator":
        # Of several scales, a model of one of them.
        inputs = keras.Input((None, None, 3))
        network = keras.Model(inputs, network(inputs, scale=2))
    target = keras.tree.map_structure(lambda y: np.zeros(y.shape), network(images))
    network.compile(keras.optimizers.Adam(1e-4), "mse", jit_compile=False)
    before = [variable.numpy() for variable in network.trainable_variables]
    losses = network.fit(images, target, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    pairs = zip(before, network.trainable_variables, strict=True)
    assert any((one != np.asarray(other)).any() for one, other in pairs)


@pytest.mark.slow
def test_fit_takes_a_generator_of_one_scale():
    network = Generator((2,), 3, shared_blocks=1)
    network.compile("adam", "mae")
    network.fit(photos(8), np.zeros((2, 16, 16, 3)), verbose=0)
    assert network.predict(photos(8), verbose=0).shape == (2, 16, 16, 3)

"""Every network against the PyTorch network whose weights it takes."""

import gc
import json

import keras
import numpy as np
import pytest

from classifiers import networks
from classifiers.networks import pytorch_weights
from tests import references
from tests.classifiers.networks import examples

STORED = references.load("networks")
TRAINING = references.load("training")


def test_all_networks_are_compared():
    assert tuple(examples.SIZES) == networks.NAMES


def assign(network, stored, name):
    """Gives a network the weights that the stored results belong to."""
    state = examples.create_state(**json.loads(stored.tobytes()))
    known = networks.NETWORKS[name]
    state = pytorch_weights.rename(state, known.renamed)
    pytorch_weights.assign(network, state, "example", ignored=known.ignored)


@pytest.fixture
def one_at_a_time():
    yield
    gc.collect()  # networks refer to themselves: the largest would pile up to gigabytes


# Another one of their families is tested by default, or they take seconds.
REPEATED = (
    *("vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19_bn", "resnet34", "cifar_resnet110"),
    *("resnext101_32x8d", "efficientnet_b3", "efficientnet_pytorch_b3", "resnet18", "inception_v3"),
    *("mobilenet_v2", "mnasnet1_0", "vit_b16"),
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in REPEATED else ()) for n in networks.NAMES],
)
@pytest.mark.usefixtures("one_at_a_time")
def test_logits_equal_those_of_pytorch(name):
    size = examples.SIZES[name]
    fixed = size if networks.NETWORKS[name].fixed_size else None
    # Without initial values, which would take longer than all the rest.
    with keras.StatelessScope():
        network = networks.build(name, examples.CLASSES, image_size=fixed)
        assign(network, STORED[f"{name}/state"], name)
        logits = np.array(network(examples.photos(3, size), training=False))
    assert logits.shape == (3, examples.CLASSES)
    np.testing.assert_allclose(logits, STORED[name], atol=1e-4 * np.abs(STORED[name]).max())


def test_stages_of_the_cifar_resnet_equal_those_of_pytorch():
    network = networks.build("cifar_resnet20", 10)
    assign(network, TRAINING["state"], "cifar_resnet20")
    stages = networks.with_stages(network)(examples.photos(2, 16), training=False)
    assert {f"stages/{name}" for name in stages} == {n for n in TRAINING if n[:7] == "stages/"}
    for name, value in stages.items():
        expected = TRAINING[f"stages/{name}"]
        np.testing.assert_allclose(
            references.sample(value), expected, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NAMES)
def test_stored_logits_are_those_of_the_installed_pytorch(name):
    package = {"cifar": "torch", "clip_": "torch"}.get(name[:5], "torchvision")
    if name == "efficientnet_pytorch_b3":
        package = "efficientnet_pytorch"
    pytest.importorskip(package, reason="PyTorch is the reference; its stored logits are compared")
    from tests.classifiers.networks import torch_references

    description, logits = torch_references.describe(name)
    scales = json.loads(STORED[f"{name}/state"].tobytes())["scales"]
    assert description["scales"] == pytest.approx(scales, rel=1e-4)
    np.testing.assert_allclose(logits, STORED[name], atol=1e-4 * np.abs(logits).max())

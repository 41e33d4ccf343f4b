"""--weights: a classifier that starts from a file, or is used as the file has it."""

import types

import numpy as np
import pytest

from classifiers import networks
from classifiers.models import classifier
from tests import commands


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet.weights.h5"
    networks.build("cifar_resnet20", 10).save_weights(path)
    return path


def settings(**values):
    usual = {"network": "cifar_resnet20", "image_mean": [128.0] * 3, "image_deviation": [64.0] * 3}
    return types.SimpleNamespace(**usual, **values)


def test_the_last_layer_is_left_out_for_other_classes(weights):
    with pytest.raises(ValueError, match=r"has 10 classes, the network 4; .*--load_head=false"):
        classifier.create_network(settings(num_classes=4, weights=weights))
    four = classifier.create_network(settings(num_classes=4, weights=weights, load_head=False))
    ten = classifier.create_network(settings(num_classes=10, weights=weights))
    for one, other in zip(four.layers[:-1], ten.layers[:-1], strict=True):
        for value, same in zip(one.weights, other.weights, strict=True):
            np.testing.assert_array_equal(value, same)


def test_validation_needs_no_run(weights, tmp_path):
    arguments = ["--model=classifier", "--network=cifar_resnet20", f"--weights={weights}"]
    output = commands.run("validate.py", *arguments, f"--save_path={tmp_path / 'results'}")
    assert "accuracy" in output
    assert str(weights) in (tmp_path / "results/results.json").read_text()

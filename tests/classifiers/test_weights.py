"""--weights: a classifier that is used as a file has it."""

import pytest

from classifiers import networks
from tests import commands


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet.weights.h5"
    networks.build("cifar_resnet20", 10).save_weights(path)
    return path


def test_validation_needs_no_run(weights, tmp_path):
    arguments = ["--model=classifier", "--network=cifar_resnet20", f"--weights={weights}"]
    output = commands.run("validate.py", *arguments, f"--save_path={tmp_path / 'results'}")
    assert "accuracy" in output
    assert str(weights) in (tmp_path / "results/results.json").read_text()

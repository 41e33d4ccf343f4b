import json

import numpy as np
import pytest

from classifiers import networks
from misc import convert_weights
from tests import commands
from tests.classifiers.networks import examples
from tests.classifiers.networks.test_parity import TRAINING
from tests.classifiers.networks.test_pytorch_files import write_safetensors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model_best.safetensors"
    state = examples.create_state(**json.loads(TRAINING["state"].tobytes()))
    write_safetensors(path, state)
    return path


@pytest.mark.parametrize("name", ["new/resnet.weights.h5", "resnet.keras"])
def test_a_converted_file_gives_the_same_logits(checkpoint, tmp_path, name):
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = networks.build("cifar_resnet20", weights=checkpoint)(images)
    convert_weights.convert("cifar_resnet20", [checkpoint], tmp_path / name)
    network = networks.build("cifar_resnet20", 10, weights=tmp_path / name)
    np.testing.assert_array_equal(network(images), expected)
    assert np.ptp(expected) > 0


@pytest.mark.slow
def test_the_command_keeps_what_is_there(checkpoint, tmp_path):
    path = tmp_path / "resnet.weights.h5"
    arguments = ["--network=cifar_resnet20", f"--input_path={checkpoint}", f"--output_path={path}"]
    output = commands.run("-m", "misc.convert_weights", *arguments)
    assert "10 classes" in output
    before = path.read_bytes()
    output = commands.run("-m", "misc.convert_weights", *arguments, status=1)
    assert "there already" in output
    assert path.read_bytes() == before


def test_other_outputs_and_misfits_are_errors(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"must end in .weights.h5 or .keras"):
        convert_weights.convert("cifar_resnet20", [checkpoint], tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"does not fit cifar_resnet56"):
        convert_weights.convert("cifar_resnet56", [checkpoint], tmp_path / "a.keras")
    assert not list(tmp_path.iterdir())

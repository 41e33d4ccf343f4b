"""Files that fit, or fit in part, or do not."""

import json
import re

import keras
import numpy as np
import pytest

from classifiers import networks
from tests.classifiers.networks import examples
from tests.classifiers.networks.test_parity import STORED, TRAINING
from tests.classifiers.networks.test_pytorch_files import write_safetensors


@pytest.fixture(scope="module")
def state():
    return examples.create_state(**json.loads(TRAINING["state"].tobytes()))


def save(path, state):
    write_safetensors(path, state)
    return path


def test_one_error_lists_missing_extra_and_other_shapes(state, tmp_path):
    wrong = dict(state)
    del wrong["res2.0.ds.1.running_mean"]
    wrong["extra.weight"] = np.ones(2, np.float32)
    wrong["conv1.weight"] = np.ones((16, 3, 5, 5), np.float32)
    path = save(tmp_path / "wrong.safetensors", wrong)
    with pytest.raises(ValueError, match=r"wrong.safetensors does not fit cifar_resnet20") as error:
        networks.build("cifar_resnet20", 10, weights=path)
    lines = str(error.value).splitlines()
    assert lines[1:] == [
        "  missing (1): res2.0.ds.1.running_mean",
        "  extra (1): extra.weight",
        "  other shape (1): conv1.weight has the shape (16, 3, 5, 5) instead of (16, 3, 3, 3)",
    ]


@pytest.mark.slow
def test_weights_of_a_deeper_network_do_not_fit(state, tmp_path):
    path = save(tmp_path / "shallow.safetensors", state)
    with pytest.raises(ValueError, match=r"missing \(\d+\).* and \d+ more"):
        networks.build("cifar_resnet56", 10, weights=path)
    deep = networks.build("cifar_resnet56", 10)
    deep.save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(ValueError, match=r"deep.weights.h5 does not fit .*\n  extra \(\d+\)"):
        networks.build("cifar_resnet20", 10, weights=tmp_path / "deep.weights.h5")


def test_other_classes_need_the_head_left_out(state, tmp_path):
    path = save(tmp_path / "ten.safetensors", state)
    with pytest.raises(
        ValueError, match=r"fc.weight has the shape \(10, 256\)[^~]*load_head=False"
    ):
        networks.build("cifar_resnet20", 4, weights=path)
    full = networks.build("cifar_resnet20", weights=path)
    assert full.output_shape == (None, 10)
    full.save_weights(tmp_path / "ten.weights.h5")
    with pytest.raises(ValueError, match=r"other shape"):
        networks.build("cifar_resnet20", 4, weights=tmp_path / "ten.weights.h5")
    for file in (path, tmp_path / "ten.weights.h5"):
        four = networks.build("cifar_resnet20", 4, weights=file, load_head=False)
        for before, after in zip(full.layers, four.layers, strict=True):
            for old, new in zip(before.weights, after.weights, strict=True):
                same = old.shape == new.shape and np.array_equal(old, new)
                assert same == (before.name != "fc")


def test_a_file_without_the_last_layer_says_so(state, tmp_path):
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    path = save(tmp_path / "body.safetensors", body)
    with pytest.raises(
        ValueError, match=r"body.safetensors does not fit .*\n  missing \(2\): fc.weight, fc"
    ):
        networks.build("cifar_resnet20", weights=path)


@pytest.mark.slow  # test_parity assigns the same tensors
def test_files_of_efficientnet_pytorch(tmp_path):
    state = examples.create_state(**json.loads(STORED["efficientnet_pytorch_b3/state"].tobytes()))
    path = save(tmp_path / "efficientnet-b3.safetensors", state)
    with keras.StatelessScope():
        network = networks.build("efficientnet_pytorch_b3", weights=path)
        kernel = np.array(network.get_layer("fc").kernel)
    np.testing.assert_array_equal(kernel.T, state["_fc.weight"])
    assert network.output_shape == (None, examples.CLASSES)


def test_efficientnets_that_pad_otherwise_have_their_own_name(tmp_path):
    for tensor, name, other in (
        ("_conv_stem.weight", "efficientnet_b3", "efficientnet_pytorch_b3"),
        ("features.0.0.weight", "efficientnet_pytorch_b3", "efficientnet_b3"),
    ):
        path = save(tmp_path / f"{other}.safetensors", {tensor: np.ones((40, 3, 3, 3), np.float32)})
        with pytest.raises(ValueError, match=rf"{other}\.safe.* tensors of --network={other},"):
            networks.build(name, 10, weights=path)


def test_half_precision_and_several_files(state, tmp_path):
    head = {name: value for name, value in state.items() if name.startswith("fc.")}
    body = {name: value.astype(np.float16) for name, value in state.items() if name not in head}
    paths = [save(tmp_path / "body.safetensors", body), save(tmp_path / "head.safetensors", head)]
    network = networks.build("cifar_resnet20", weights=paths)
    assert all(variable.dtype == "float32" for variable in network.weights)
    kernel = network.get_layer("conv1").kernel
    expected = body["conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


def test_files_that_are_no_weights(tmp_path):
    for name in ("a.weights.h5", "a.keras", "a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ValueError, match=f"Cannot read .*{name}"):
            networks.build("cifar_resnet20", 10, weights=tmp_path / name)
        with pytest.raises(FileNotFoundError):
            networks.build("cifar_resnet20", 10, weights=tmp_path / f"missing_{name}")


def test_parameter_free_shortcuts_become_convolutions(state, tmp_path):
    """A network whose shortcuts take every second pixel and pad the channels computes the same."""
    random = np.random.default_rng(0)
    other = {name.replace("res", "layer", 1): v for name, v in state.items() if ".ds." not in name}
    del other["fc.weight"], other["fc.bias"]
    other["linear.weight"] = random.normal(size=(10, 64)).astype(np.float32)
    other["linear.bias"] = random.normal(size=10).astype(np.float32)
    network = networks.build("cifar_resnet20", weights=save(tmp_path / "a.safetensors", other))
    model = networks.with_stages(network, ["stage1", "stage3", "logits"])
    stages = model(examples.photos(2, 32), training=False)
    logits = np.mean(stages["stage3"], axis=(1, 2)) @ other["linear.weight"].T
    np.testing.assert_allclose(stages["logits"], logits + other["linear.bias"], atol=1e-4)
    x = random.normal(size=(2, 5, 6, 16)).astype(np.float32)
    shortcut = network.get_layer("res2.0.ds.1")(network.get_layer("res2.0.ds.0")(x), training=False)
    padded = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8)))
    np.testing.assert_allclose(shortcut, padded, atol=1e-6)


@pytest.mark.parametrize(
    ("shortcut", "head", "prefix"),
    [("shortcut", "linear", "module."), ("downsample", "fc", "")],
)
def test_names_of_other_cifar_resnets(shortcut, head, prefix, state, tmp_path):
    names = {
        name: re.sub(r"^res", "layer", name).replace(".ds.", f".{shortcut}.")
        for name in state
        if not name.startswith("fc.")
    }
    other = {f"{prefix}{new}": state[name] for name, new in names.items()}
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(5, 64)), random.normal(size=5)
    head = {f"{prefix}{head}.weight": weight, f"{prefix}{head}.bias": bias}
    head = {name: value.astype(np.float32) for name, value in head.items()}
    network = networks.build(
        "cifar_resnet20", weights=save(tmp_path / "a.safetensors", other | head)
    )
    assert network.output_shape == (None, 5)
    kernel = np.transpose(network.get_layer("res2.0.ds.0").kernel, (3, 2, 0, 1))
    np.testing.assert_array_equal(kernel, state["res2.0.ds.0.weight"])
    model = networks.with_stages(network, ["stage3", "logits"])
    stages = model(examples.photos(1, 32), training=False)
    logits = np.mean(stages["stage3"], axis=(1, 2)) @ weight.T + bias
    np.testing.assert_allclose(stages["logits"], logits, atol=1e-4)


def test_other_networks_keep_their_names(tmp_path):
    tensors = {"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3), np.float32)}
    path = save(tmp_path / "resnet18.safetensors", tensors)
    with pytest.raises(ValueError, match=r"extra \(1\): layer1\.0\.conv1\.weight"):
        networks.build("cifar_resnet20", 10, weights=path)

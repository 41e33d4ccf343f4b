"""Training steps of the CIFAR ResNet against PyTorch: loss, gradients, statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import losses, networks
from classifiers.networks import pytorch_weights
from misc.training import optimizers
from tests import commands

torch = pytest.importorskip("torch", reason="PyTorch is the reference")
from tests.classifiers.networks import torch_references  # noqa: E402
from tests.classifiers.networks.test_parity import photos  # noqa: E402

LABELS = np.array([3, 1, 4, 1], np.int32)
SIDE = 16
# Relative to the largest value of each tensor. Under float64 the logits stay float32.
TOLERANCE = {"float32": 2e-5, "float64": 3e-6}
# The share of its statistics that batch normalisation keeps in both.
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-2
RATES = {"sgd": 0.02, "radam": 2e-3}
STEPS = [("sgd", "float32"), ("radam", "float64")]


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture
def weights(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture
def images():
    return photos(len(LABELS), SIDE)


@pytest.fixture
def reference(weights, images):
    """PyTorch's network in float64, ready to train; its weights lie in the file `weights`."""
    torch.manual_seed(5)  # one with every value clear of 0, see below
    network = torch_references.create("cifar_resnet20", 10)
    normalised = torch_references.to_torch(images, *networks.NORMALISATIONS["cifar10"])
    torch_references.randomise(network, normalised)
    for norm in norms_of(network).values():
        norm.momentum = 1 - MOMENTUM
    torch.save(network.state_dict(), weights)
    return network.double().train()


def norms_of(network):
    modules = network.named_modules()
    return {name: module for name, module in modules if isinstance(module, torch.nn.BatchNorm2d)}


def torch_loss(network, images):
    mean, std = networks.NORMALISATIONS["cifar10"]
    normalised = (images.astype(np.float64) / 255 - mean) / std
    logits = network(torch.tensor(normalised).permute(0, 3, 1, 2))
    return torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS, dtype=torch.int64))


def watch(network):
    """Returns {norm: values per channel}, and of all a ReLU takes how near 0 it comes, once run."""
    counts, nearest = {}, {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, __, x, name=name: counts.update({name: x[:, 0].numel()})
            )
        if name.endswith("bn1") or (name.count(".") == 1 and name.startswith("res")):
            module.register_forward_hook(
                lambda _, __, x, name=name: nearest.update({name: float(x.abs().min())})
            )
    return counts, nearest


def assert_close(got, expected, tolerance, name):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale, err_msg=name)


def check_step(network, images, got, tolerance):
    """Compares {"loss", names of gradients and of statistics: array} with a step of PyTorch."""
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    counts, nearest = watch(network)
    loss = torch_loss(network, images)
    loss.backward()
    assert (len(counts), len(nearest)) == (21, 19)
    # Rounding must not decide on which side of a ReLU a value lies: it would turn a gradient off.
    assert min(nearest.values()) > 5e-6
    expected = {"loss": np.array(loss.item())}
    expected |= {name: value.grad.numpy() for name, value in network.named_parameters()}
    after = {name: value.numpy() for name, value in network.state_dict().items()}
    for name, count in counts.items():
        mean, variance = f"{name}.running_mean", f"{name}.running_var"
        expected[mean] = after[mean]
        # PyTorch follows the unbiased variance, n / (n - 1) of the batch's own.
        newest = (after[variance] - MOMENTUM * before[variance]) * (count - 1) / count
        expected[variance] = MOMENTUM * before[variance] + newest
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert_close(got[name], value, tolerance, name)


def test_loss_gradients_and_statistics_equal_those_of_pytorch(reference, weights, images, dtype):
    network = networks.build("cifar_resnet20", weights=weights)
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy(LABELS, network(images, training=True))
    targets = pytorch_weights.tensor_names(network)
    trained = {name: target for name, target in targets.items() if target[0].trainable}
    gradients = tape.gradient(loss, [variable.value for variable, _ in trained.values()])
    got = {"loss": loss} | {
        name: np.transpose(gradient, np.argsort(axes))
        for gradient, (name, (_, axes)) in zip(gradients, trained.items(), strict=True)
    }
    got |= {
        name: variable.numpy() for name, (variable, _) in targets.items() if name not in trained
    }
    check_step(reference, images, got, TOLERANCE[dtype])


@pytest.mark.parametrize(("name", "dtype"), STEPS, indirect=["dtype"])
def test_training_steps_equal_those_of_pytorch(reference, weights, images, dtype, name):
    network = networks.build("cifar_resnet20", weights=weights)
    optimizer = optimizers.create(name, RATES[name], WEIGHT_DECAY)
    settings = {"lr": RATES[name], "weight_decay": WEIGHT_DECAY}
    if name == "sgd":
        theirs = torch.optim.SGD(reference.parameters(), momentum=0.9, **settings)
    else:
        theirs = torch.optim.RAdam(reference.parameters(), **settings)
    variables = network.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = losses.cross_entropy(LABELS, network(images, training=True))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    got, expected = [], []
    # The steps of RAdam are adaptive from the sixth on.
    for _ in range(8 if name == "radam" else 4):
        got.append(float(step()))
        loss = torch_loss(reference, images)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        expected.append(loss.item())
    assert expected[0] - expected[-1] > 0.1
    np.testing.assert_allclose(got[:3], expected[:3], rtol=10 * TOLERANCE[dtype])
    # Rounding grows from step to step, as values cross 0 sooner or later.
    np.testing.assert_allclose(got, expected, rtol=500 * TOLERANCE[dtype])


JAX_STEP = """
import sys
import jax, numpy as np
from classifiers import losses, networks
from classifiers.networks import pytorch_weights

weights, given, result = sys.argv[1:]
images, labels = np.load(given)["images"], np.load(given)["labels"]
network = networks.build("cifar_resnet20", weights=weights)

def compute_loss(trained, others):
    logits, others = network.stateless_call(trained, others, images, training=True)
    return losses.cross_entropy(labels, logits), others

variables = network.trainable_variables, network.non_trainable_variables
values = [[variable.value for variable in part] for part in variables]
(loss, others), gradients = jax.value_and_grad(compute_loss, has_aux=True)(*values)
names = {v.path: (n, axes) for n, (v, axes) in pytorch_weights.tensor_names(network).items()}
found = {"loss": loss}
for part, results in zip(variables, (gradients, others), strict=True):
    for variable, value in zip(part, results, strict=True):
        name, axes = names[variable.path]
        found[name] = np.transpose(value, np.argsort(axes))
np.savez(result, **found)
assert "tensorflow" not in sys.modules
"""


def test_a_step_on_jax_equals_that_of_pytorch(reference, weights, images, tmp_path):
    pytest.importorskip("jax", reason="JAX is an optional second backend")
    np.savez(tmp_path / "given.npz", images=images, labels=LABELS)
    paths = weights, tmp_path / "given.npz", tmp_path / "result.npz"
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    commands.run("-c", JAX_STEP, *paths, environment=environment)
    with np.load(paths[-1]) as got:
        check_step(reference, images, dict(got), TOLERANCE["float32"])

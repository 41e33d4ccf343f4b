"""Training steps of the CIFAR ResNet against PyTorch and JAX: loss, gradients, statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import losses, networks
from classifiers.networks import pytorch_weights
from misc.training import optimizers
from tests import commands, references
from tests.classifiers.networks import examples
from tests.classifiers.networks.test_parity import TRAINING, assign

# Relative to the largest value of each tensor. Under float64 the logits stay float32.
TOLERANCE = {"float32": 2e-5, "float64": 3e-6}
# In float32 a value may cross 0 in the third step already, on some processors.
STEPS = [("sgd", "float64"), pytest.param("radam", "float64", marks=pytest.mark.slow)]


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture
def network(dtype):
    network = networks.build("cifar_resnet20", 10)
    assign(network, TRAINING["state"], "cifar_resnet20")
    return network


def check_step(results, tolerance, stored=TRAINING):
    """Compares {"loss", names of gradients and of statistics: sample} with a stored step."""
    expected = {n.removeprefix("step/"): v for n, v in stored.items() if n.startswith("step/")}
    assert set(results) == set(expected)
    for name, value in expected.items():
        largest = np.abs(value).max()
        np.testing.assert_allclose(
            results[name], value, rtol=0, atol=tolerance * largest, err_msg=name
        )


def test_loss_gradients_and_statistics_equal_those_of_pytorch_and_jax(network, dtype):
    with tf.GradientTape() as tape:
        logits = network(examples.training_images(), training=True)
        loss = losses.cross_entropy(examples.LABELS, logits)
    targets = pytorch_weights.tensor_names(network)
    trained = {name: target for name, target in targets.items() if target[0].trainable}
    gradients = tape.gradient(loss, [variable.value for variable, _ in trained.values()])
    results = {"loss": loss} | {
        name: np.transpose(gradient, np.argsort(axes))
        for gradient, (name, (_, axes)) in zip(gradients, trained.items(), strict=True)
    }
    results |= {
        name: variable.numpy() for name, (variable, _) in targets.items() if name not in trained
    }
    samples = {name: references.sample(value) for name, value in results.items()}
    check_step(samples, TOLERANCE[dtype])
    check_step(samples, TOLERANCE["float32"], references.load("jax"))


@pytest.mark.parametrize(("name", "dtype"), STEPS, indirect=["dtype"])
def test_training_steps_equal_those_of_pytorch(network, dtype, name):
    optimizer = optimizers.create(name, examples.RATES[name], examples.WEIGHT_DECAY)
    variables = network.trainable_variables
    optimizer.build(variables)
    images = examples.training_images()

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = losses.cross_entropy(examples.LABELS, network(images, training=True))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    expected = TRAINING[f"course/{name}"]
    assert expected[0] - expected[-1] > 0.1
    found = [float(step()) for _ in expected]
    np.testing.assert_allclose(found[:3], expected[:3], rtol=10 * TOLERANCE[dtype])
    # Rounding grows from step to step, as values cross 0 sooner or later.
    np.testing.assert_allclose(found, expected, rtol=500 * TOLERANCE[dtype])


@pytest.mark.slow
def test_a_step_on_jax_equals_that_of_pytorch(tmp_path):
    pytest.importorskip("jax", reason="JAX is an optional second backend")
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    program = (
        "import sys, numpy as np; from tests.references import make_jax;"
        "np.savez(sys.argv[1], **make_jax.step()); assert 'tensorflow' not in sys.modules"
    )
    commands.run("-c", program, tmp_path / "step.npz", environment=environment)
    with np.load(tmp_path / "step.npz") as step:
        check_step(dict(step), TOLERANCE["float32"])


@pytest.mark.slow
def test_stored_steps_are_those_of_the_installed_pytorch():
    pytest.importorskip("torch", reason="PyTorch is the reference")
    from tests.classifiers.networks import torch_references

    samples = {n: references.sample(v) for n, v in torch_references.step().items()}
    check_step(samples, 1e-6)
    for name in examples.RATES:
        np.testing.assert_allclose(
            torch_references.course(name), TRAINING[f"course/{name}"], rtol=1e-4
        )

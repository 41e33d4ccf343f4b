import keras
import numpy as np
import pytest
import tensorflow as tf

from misc.training import optimizers, schedules
from tests import references

STORED = references.load("training")
KINDS = [(0.0, "l2"), (0.05, "l2"), (0.05, "decoupled")]
MATRIX = np.random.default_rng(0).normal(size=(5, 5))
MATRIX = (MATRIX @ MATRIX.T / 5 + np.eye(5)).astype(np.float32)
TARGET = np.linspace(-1, 2, 5).astype(np.float32)
RATES = [0.05] * 20 + [0.01] * 20


def descend(optimizer):
    """40 steps on a quadratic whose rate drops half-way; returns the weights of every step."""
    weights = keras.Variable(np.zeros(5, np.float32))
    optimizer.build([weights])

    @tf.function
    def step():
        gradient = tf.linalg.matvec(MATRIX, weights.value - TARGET)
        optimizer.apply([gradient], [weights])

    course = []
    for rate in RATES:
        optimizer.learning_rate = rate
        step()
        course.append(weights.numpy())
    return np.array(course)


def formula(name, decay, kind, momentum=0.9):
    """The same in float64, from the papers' formulas."""
    weights, mean, square = np.zeros(5), np.zeros(5), np.zeros(5)
    course = []
    for step, rate in enumerate(RATES, 1):
        gradient = MATRIX.astype(float) @ (weights - TARGET)
        if kind == "l2":
            gradient = gradient + decay * weights
        else:
            weights = weights * (1 - rate * decay)
        if name == "sgd":
            mean = momentum * mean + gradient
            weights = weights - rate * mean
        else:
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            limit = 2 / (1 - 0.999) - 1
            rho = limit - 2 * step * 0.999**step / (1 - 0.999**step)
            update = mean / (1 - 0.9**step)
            if rho > 5:
                rectified = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
                corrected = np.sqrt(1 - 0.999**step) / (np.sqrt(square) + 1e-8)
                update = update * np.sqrt(rectified) * corrected
            weights = weights - rate * update
        course.append(weights)
    return np.array(course)


@pytest.mark.parametrize(("decay", "kind"), KINDS)
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_steps_follow_the_formula(name, decay, kind):
    course = descend(optimizers.create(name, 0.05, decay, kind))
    np.testing.assert_allclose(course, formula(name, decay, kind), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("decay", "kind"), KINDS)
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_steps_equal_those_of_pytorch(name, decay, kind):
    key = f"descent/{name}/{decay}/{kind}"
    if name == "sgd" and kind == "decoupled":
        assert key not in STORED  # which PyTorch's SGD does not have
        return
    course = descend(optimizers.create(name, 0.05, decay, kind))
    np.testing.assert_allclose(course, STORED[key], rtol=0, atol=1e-6)


def test_configuration_comes_back():
    for name in optimizers.OPTIMIZERS:
        optimizer = optimizers.create(name, 0.5, 0.25, "decoupled")
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adam", 0.1), "sgd, radam"),
        (("sgd", 0.1, 0.1, "other"), "l2, decoupled"),
        (("sgd", 0.1, -1.0), "at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.create(*arguments)


def test_milestones_act_from_the_step_after_them():
    rate = schedules.create("milestones", 1.0, 0.2, None, None, milestones=[3, 5])
    rates = [float(rate(step)) for step in range(7)]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.2, 0.2, 0.04, 0.04], rtol=1e-6)
    with pytest.raises(ValueError, match="--milestones"):
        schedules.create("milestones", 1.0, 0.2, None, None)
    with pytest.raises(ValueError, match="--milestones"):
        schedules.create("milestones", 1.0, 0.2, None, None, milestones=[5, 3])


def test_adam_follows_its_algorithm():
    rate, beta_1, beta_2 = 0.1, 0.5, 0.99
    random = np.random.default_rng(0)
    gradients = random.normal(size=(6, 5))
    variable = keras.Variable(np.zeros(5, np.float32))
    optimizer = optimizers.Adam(rate, beta_1, beta_2)
    weights, mean, square = np.zeros(5), np.zeros(5), np.zeros(5)
    for step, gradient in enumerate(gradients, 1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        corrected = square / (1 - beta_2**step)
        weights -= rate * mean / (1 - beta_1**step) / (np.sqrt(corrected) + 1e-8)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        np.testing.assert_allclose(variable.numpy(), weights, atol=1e-6)
    again = optimizers.Adam.from_config(optimizer.get_config())
    assert (again.beta_1, again.beta_2, again.epsilon) == (beta_1, beta_2, 1e-8)

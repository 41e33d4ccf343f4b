"""Values against NumPy; gradients against finite differences in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from eusr import losses
from eusr.discriminator import Discriminator
from tests.eusr.tiny_predictor import TinyPredictor


def cross_entropy(logits, label):
    probability = 1 / (1 + np.exp(-logits))
    return -np.mean(label * np.log(probability) + (1 - label) * np.log(1 - probability))


def test_values_follow_their_formulas():
    random = np.random.default_rng(0)
    output, truth = random.normal(0, 3, (2, 4, 6, 6, 1))
    assert float(losses.adversarial(output)) == pytest.approx(cross_entropy(output, 1))
    assert float(losses.discrimination(output, truth)) == pytest.approx(
        cross_entropy(output, 0) + cross_entropy(truth, 1)
    )
    p, q = random.dirichlet(np.ones(10), (2, 7))
    distances = [10 - sum(i * s[:, i - 1] for i in range(1, 11)) for s in (p, q)]
    np.testing.assert_allclose(losses.distance_from_best(p), distances[0])
    expected = np.mean(np.maximum(0, distances[0] - 0.8 * distances[1]))
    assert float(losses.score(p, q)) == pytest.approx(expected)
    features = random.normal(size=(2, 7, 5))
    assert float(losses.representation(*features)) == pytest.approx(
        np.mean((features[0] - features[1]) ** 2)
    )
    assert float(losses.reconstruction(p, q)) == pytest.approx(np.mean(np.abs(p - q)))


def test_best_and_worst_scores():
    best, worst = np.eye(10)[[9]], np.eye(10)[[0]]
    assert float(losses.distance_from_best(best)[0]) == 0
    assert float(losses.distance_from_best(worst)[0]) == 9
    assert float(losses.score(best, worst)) == 0
    assert float(losses.score(worst, best)) == 9


def test_large_logits_stay_finite():
    logits = np.array([-1e4, 1e4], "float32")
    assert float(losses.adversarial(logits)) == 5000
    assert float(losses.discrimination(logits, logits)) == 10000


@pytest.fixture
def float64():
    kept = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(kept)


def generator_losses():
    """Returns {name: function of outputs and truth}, all six of the generator."""
    predictors = {"aesthetic": TinyPredictor(1), "subjective": TinyPredictor(2)}
    discriminator = Discriminator(2)

    def of_predictor(loss, name, key):
        predict = predictors[name].predict
        return lambda output, truth: loss(predict(output)[key], predict(truth)[key])

    found = {
        "reconstruction": losses.reconstruction,
        "adversarial": lambda output, truth: losses.adversarial(discriminator(output)),
    }
    for name in predictors:
        found[f"{name}_score"] = of_predictor(losses.score, name, "scores")
        found[f"{name}_representation"] = of_predictor(losses.representation, name, "features")
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("reconstruction", "adversarial"),
        *("aesthetic_score", "aesthetic_representation"),
        *("subjective_score", "subjective_representation"),
    ],
)
def test_gradients_at_the_generators_output(float64, name):
    loss = generator_losses()[name]
    random = np.random.default_rng(3)
    output, truth = random.uniform(-20, 275, (2, 2, 36, 33, 3))
    tensor = tf.constant(output)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = loss(tensor, truth)
    assert value.dtype == "float64"
    gradient = tape.gradient(value, tensor).numpy()
    assert np.count_nonzero(gradient) > 0.9 * gradient.size
    directions = [random.normal(size=output.shape) for _ in range(3)]
    for index in random.choice(output.size, 12, replace=False):
        directions.append(np.zeros(output.shape))
        directions[-1].flat[index] = 1
    step = 1e-4
    expected = [
        float(loss(output + step * d, truth) - loss(output - step * d, truth)) / (2 * step)
        for d in directions
    ]
    actual = [np.sum(gradient * d) for d in directions]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())

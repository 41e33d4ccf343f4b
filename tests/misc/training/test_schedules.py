import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from misc.training import schedules
from misc.training.method import Method


def rates(name, steps):
    schedule = schedules.create(name, 0.4, decay=0.5, decay_steps=10, max_steps=40)
    return [float(schedule(step)) for step in steps]


def test_step_halves_at_once():
    np.testing.assert_allclose(rates("step", [0, 9, 10, 19, 20]), [0.4, 0.4, 0.2, 0.2, 0.1])


def test_cosine_ends_at_zero():
    expected = 0.4 * (1 + np.cos(np.pi * np.array([0, 10, 20, 40]) / 40)) / 2
    np.testing.assert_allclose(rates("cosine", [0, 10, 20, 40]), expected, atol=1e-7)


def test_unknown_schedules_are_named():
    with pytest.raises(ValueError, match=r"--schedule=linear is unknown. Known: step"):
        schedules.create("linear", 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("higher", "values"), [(True, [1, 2, 1.5, 2, 1, 3]), (False, [9, 8, 8.5, 8, 9, 7])]
)
def test_plateau_reduces_after_patience(higher, values):
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(schedules.create("plateau", 0.4, 0.5, 10, 40))
    method = types.SimpleNamespace(
        optimizers={"net": optimizer},
        higher_is_better=higher,
        scaled_optimizer=lambda name: optimizer,
        best_value=tf.Variable(-np.inf if higher else np.inf, dtype=tf.float64),
        validations_since_best=tf.Variable(0, dtype=tf.int64),
    )
    optimizer.build(network.trainable_variables)
    found = []
    for value in values:
        best = schedules.follow_validation(method, value, patience=2, factor=0.1)
        found.append((best, round(float(optimizer.learning_rate.numpy()), 6)))
    assert found == [
        (True, 0.4), (True, 0.4), (False, 0.4), (False, 0.04), (False, 0.04), (True, 0.04),
    ]  # fmt: skip


def test_methods_start_with_the_worst_value():
    class Empty(Method):
        higher_is_better = True
        train_step = predict = evaluate = receptive_radius = None

    assert Empty({}).best_value.numpy() == -np.inf

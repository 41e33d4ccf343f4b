import numpy as np
import pytest

from misc.training import schedules


def rates(name, steps):
    schedule = schedules.create(name, 0.4, decay=0.5, decay_steps=10, max_steps=40)
    return [float(schedule(step)) for step in steps]


def test_step_halves_at_once():
    np.testing.assert_allclose(rates("step", [0, 9, 10, 19, 20]), [0.4, 0.4, 0.2, 0.2, 0.1])


def test_cosine_ends_at_zero():
    expected = 0.4 * (1 + np.cos(np.pi * np.array([0, 10, 20, 40]) / 40)) / 2
    np.testing.assert_allclose(rates("cosine", [0, 10, 20, 40]), expected, atol=1e-7)


def test_staircase_follows_the_cosine_once_an_epoch():
    # What PyTorch's CosineAnnealingLR(optimizer, T_max=4) gives in four epochs of ten steps.
    of_epochs = [0.4, 0.3414213562, 0.2, 0.0585786438]
    steps = [0, 9, 10, 19, 20, 29, 30, 39]
    np.testing.assert_allclose(rates("cosine_staircase", steps), np.repeat(of_epochs, 2), rtol=1e-6)


def test_unknown_schedules_are_named():
    with pytest.raises(ValueError, match=r"--schedule=linear is unknown. Known: step"):
        schedules.create("linear", 1, 1, 1, 1)

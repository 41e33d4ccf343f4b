import numpy as np
import pytest
import tensorflow as tf

from score_predictors import losses, metrics


def distributions(count, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(10), count)


@pytest.mark.parametrize("r", [1.0, 2.0, 3.5])
def test_distance_is_the_formula_in_float64(r):
    predicted, target = distributions(6, 0), distributions(6, 1)
    gaps = np.abs(np.cumsum(predicted, axis=1) - np.cumsum(target, axis=1))
    expected = np.mean(np.mean(gaps**r, axis=1) ** (1 / r))
    actual = losses.earth_movers_distance(predicted, target, r)
    assert float(actual) == pytest.approx(expected, rel=1e-6)
    assert np.mean(metrics.earth_movers_distances(predicted, target, r)) == pytest.approx(expected)


@pytest.mark.parametrize("r", [1.0, 2.0, 3.0])
def test_gradient_is_zero_at_a_perfect_match_and_right_elsewhere(r):
    target = tf.constant(distributions(3, 0))
    for predicted in (target, tf.constant(distributions(3, 1))):
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            loss = losses.earth_movers_distance(predicted, tf.constant(target.numpy()), r)
        gradient = tape.gradient(loss, predicted).numpy()
        assert np.all(np.isfinite(gradient))
        if float(loss) == 0:
            np.testing.assert_array_equal(gradient, 0)
            continue
        step = np.zeros((3, 10))
        step[1, 4], step[1, 5] = 1e-6, -1e-6  # the sum stays 1
        ends = [
            float(losses.earth_movers_distance(predicted + sign * step, target, r))
            for sign in (1, -1)
        ]
        slope = gradient[1, 4] - gradient[1, 5]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_one_match_in_a_batch_does_not_hurt_the_others():
    predicted = tf.constant(distributions(2, 0), tf.float32)
    target = tf.constant(np.stack([predicted[0], distributions(1, 1)[0]]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        loss = losses.earth_movers_distance(predicted, target)
    gradient = tape.gradient(loss, predicted).numpy()
    assert not gradient[0].any()
    assert gradient[1].any()


def test_small_exponents_are_refused():
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0.5"):
        losses.earth_movers_distance(np.ones((1, 1)), np.ones((1, 1)), 0.5)

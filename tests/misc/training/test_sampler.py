import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from misc.training import pipeline


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(count=st.integers(1, 300), seed=st.integers(-(2**40), 2**40))
def test_every_pass_reads_every_image_once(count, seed):
    counter = tf.range(3 * count, dtype=tf.int64)
    order = pipeline.shuffled_index(
        counter, tf.constant(count, tf.int64), tf.constant(seed, tf.int64)
    )
    passes = np.sort(order.numpy().reshape(3, count), axis=1)
    np.testing.assert_array_equal(passes, np.tile(np.arange(count), (3, 1)))


def test_passes_have_different_orders_and_all_images_come_first():
    counter = tf.range(5 * 500, dtype=tf.int64)
    order = pipeline.shuffled_index(counter, tf.constant(5, tf.int64), tf.constant(1, tf.int64))
    passes = order.numpy().reshape(500, 5)
    for place in range(5):
        found = np.bincount(passes[:, place], minlength=5)
        # Five standard deviations of a fair draw.
        assert np.abs(found - 100).max() < 5 * np.sqrt(500 * 0.2 * 0.8)


def test_a_part_of_the_run_equals_the_whole():
    count, seed = tf.constant(7, tf.int64), tf.constant(3, tf.int64)
    whole = pipeline.shuffled_index(tf.range(60, dtype=tf.int64), count, seed)
    part = pipeline.shuffled_index(tf.range(16, 32, dtype=tf.int64), count, seed)
    np.testing.assert_array_equal(whole[16:32], part)


def test_stream_starts_anywhere():
    def make(step):
        return tf.random.stateless_uniform([2], tf.stack([step, 7]), alg="philox")

    whole = [value.numpy() for value in pipeline.step_stream(make).take(9)]
    tail = [value.numpy() for value in pipeline.step_stream(make, 6).take(3)]
    np.testing.assert_array_equal(whole[6:], tail)

import hypothesis
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from hypothesis import strategies as st

from misc.training.sampler import Sampler, shuffled


def run(first, last, count, seed):
    counter = tf.range(first, last, dtype=tf.int64)
    return shuffled(counter, tf.constant(count, tf.int64), tf.constant(seed, tf.int64)).numpy()


def passes(number, count, seed):
    return run(0, number * count, count, seed).reshape(number, count)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    count=st.integers(1, 300) | st.sampled_from([1023, 1024, 1025, 65536]),
    seed=st.integers(-(2**63), 2**63 - 1),
    first=st.sampled_from([0, 10**9]),
)
def test_every_pass_reads_every_image_once(count, seed, first):
    order = run(first * count, (first + 3) * count, count, seed).reshape(3, count)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(count), (3, 1)))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_every_order_of_few_images_is_equally_frequent(count):
    orders = passes(20_000, count, seed=count)
    codes = orders @ count ** np.arange(count)
    _, found = np.unique(codes, return_counts=True)
    assert len(found) == scipy.special.factorial(count)
    assert scipy.stats.chisquare(found).pvalue > 1e-4


@pytest.mark.parametrize("count", [7, 9, 12, 16, 25])
def test_places_and_pairs_are_uniform(count):
    orders = passes(8_000, count, seed=1)
    for place in range(count):
        found = np.bincount(orders[:, place], minlength=count)
        assert scipy.stats.chisquare(found).pvalue > 1e-5
    for one, other in [(0, 1), (0, count - 1), (count // 2, count - 1)]:
        found = np.bincount(orders[:, one] * count + orders[:, other], minlength=count**2)
        assert scipy.stats.chisquare(found.reshape(count, count)[~np.eye(count, dtype=bool)])[1] > (
            1e-5
        )
    # Half of all orders are even permutations.
    inversions = sum(
        (orders[:, one] > orders[:, other]).astype(int)
        for one in range(count)
        for other in range(one + 1, count)
    )
    assert abs(np.mean(inversions % 2) - 0.5) < 5 * 0.5 / np.sqrt(8_000)


def test_orders_of_many_images_look_random():
    count = 1_281_167
    order = run(0, 20_000, count, 3)
    assert len(set(order)) == 20_000
    assert scipy.stats.kstest(order / count, "uniform").pvalue > 1e-4
    steps = np.diff(order) % count
    assert scipy.stats.kstest(steps / count, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(order, run(0, 20_000, count, 4))[0, 1]) < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(order, run(count, count + 20_000, count, 3))[0, 1]) < 5 / np.sqrt(20_000)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    count=st.integers(1, 100),
    rows=st.integers(1, 6),
    shards=st.integers(1, 4),
    step=st.integers(0, 2**40),
    seed=st.integers(-(2**70), 2**70),
)
def test_shards_put_together_are_the_batch(count, rows, shards, step, seed):
    def read(shard):
        sampler = Sampler(rows * shards, seed, shard)
        number = tf.constant(step, tf.int64)
        return [value.numpy() for value in (sampler.order(number, count), *sampler.draw(number, 2))]

    order, shared, own = read((0, 1))
    parts = [read((index, shards)) for index in range(shards)]
    np.testing.assert_array_equal(order, np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(own, np.concatenate([part[2] for part in parts]))
    assert all(np.array_equal(shared, part[1]) for part in parts)


@pytest.mark.slow
def test_streams_start_anywhere_and_have_a_static_shape():
    sampler = Sampler(3, seed=7)

    def make(step):
        return step, sampler.order(step, 10), sampler.draw(step, 2)[1]

    whole = list(sampler.stream(make).take(9).as_numpy_iterator())
    np.testing.assert_equal(list(sampler.stream(make, 6).take(3).as_numpy_iterator()), whole[6:])
    assert [element.shape for element in sampler.stream(make).element_spec] == [[], [3], [3, 2]]
    for step, order, draws in whole:
        np.testing.assert_array_equal(sampler.order(tf.constant(step), 10), order)
        np.testing.assert_array_equal(sampler.draw(tf.constant(step), 2)[1], draws)


def test_draws_are_uniform_and_differ_between_steps_and_seeds():
    draws = [
        Sampler(500, seed).draw(tf.constant(step, tf.int64), 4)[1].numpy()
        for seed in (0, 2**63, -1)
        for step in (0, 1)
    ]
    assert len({draw.tobytes() for draw in draws}) == 6
    together = np.concatenate(draws)
    assert 0 <= together.min() < 0.01 < 0.99 < together.max() < 1
    assert np.abs(np.corrcoef(together.T) - np.eye(4)).max() < 5 / np.sqrt(3000)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match=r"--batch_size must be a positive multiple.* 0 of 3"):
        Sampler(8, 0, (0, 3))

import gc
import os

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from misc.training.reader import Reader
from misc.training.sampler import Sampler

COUNT = 7


def read(number, uniform):
    """An image of its number and what was drawn; the third one is broken."""
    if number == 3:
        raise ValueError("Cannot read the image folder/3.png: broken.")
    drawn = 0 if uniform is None else int(250 * uniform[0])
    return np.full((2, 2, 3), [number, drawn, 7], np.uint8)


def whole(number, uniform):
    return read(number + (number >= 3), uniform)


def train(source, steps=7, first=0, batch_size=4, **options):
    reader = Reader(source, COUNT, [2, 2, 3], **options)
    batches = reader.training_batches(Sampler(batch_size, seed=1), 2, first)
    return [[value.numpy() for value in batch] for batch in batches.take(steps)]


def evaluate(source, **options):
    return list(Reader(source, COUNT, [2, 2, 3], **options).evaluation_batches(3))


@pytest.mark.slow
def test_training_shows_each_image_once_per_pass_whatever_the_threads():
    batches = train(whole)
    assert [batch[0].shape for batch in batches] == [(4, 2, 2, 3)] * 7
    numbers = np.concatenate([numbers for _, numbers in batches]).reshape(4, COUNT)
    np.testing.assert_array_equal(np.sort(numbers, axis=1), np.tile(np.arange(COUNT), (4, 1)))
    for images, numbers in batches:
        np.testing.assert_array_equal(images[:, 0, 0, 0], numbers + (numbers >= 3))
    for others in (train(whole, threads=1), train(whole, threads=16)):
        np.testing.assert_equal(others, batches)
    np.testing.assert_equal(train(whole, 2, first=5), batches[5:])


def test_broken_images_are_named_once_and_replaced_or_left_out(monkeypatch):
    message = r"folder/3\.png: broken\. --data_skip_broken leaves such images out"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        train(read)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        evaluate(read)
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    numbers = np.concatenate([numbers for _, numbers in train(read, skip_broken=True)])
    for order in np.sort(numbers.reshape(4, COUNT), axis=1):
        np.testing.assert_array_equal(order, [0, 1, 2, 4, 4, 5, 6])
    assert lines == ["Skipped: Cannot read the image folder/3.png: broken. (1 of 7 so far)"]
    reader = Reader(read, COUNT, [2, 2, 3], skip_broken=True)
    for _ in range(2):
        found = list(reader.evaluation_batches(3))
        assert [len(images) for images, _ in found] == [3, 3]
        np.testing.assert_array_equal(np.concatenate([n for _, n in found]), [0, 1, 2, 4, 5, 6])
    assert len(lines) == 2


def test_nothing_but_broken_images_is_an_error():
    def fail(number, uniform):
        raise ValueError(f"{number} is broken")

    with pytest.raises(tf.errors.InvalidArgumentError, match="All 7 images are broken"):
        train(fail, skip_broken=True)
    assert not evaluate(fail, skip_broken=True)
    with pytest.raises(ValueError, match="no image to read"):
        Reader(read, 0, [2, 2, 3])


def count_threads():
    gc.collect()
    return len(os.listdir("/proc/self/task"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted on Linux")
def test_no_thread_is_left_by_evaluations_and_abandoned_training():
    evaluate(whole)
    train(whole)
    before = count_threads()
    for _ in range(25):
        assert len(evaluate(whole)) == 3
    batches = Reader(whole, COUNT, [2, 2, 3]).training_batches(Sampler(4, 0), 1)
    abandoned = [iter(batches.prefetch(2)) for _ in range(3)]
    next(abandoned[0])
    assert count_threads() > before
    abandoned.clear()
    assert count_threads() <= before + 1

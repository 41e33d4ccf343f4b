"""Graph functions that read the images of a data set, from memory or from files, side by side."""

import concurrent.futures
import os
import threading

import numpy as np
import tensorflow as tf
from absl import logging

from classifiers import random_resized_crop
from degradations import random

# First half of the seed of random crops: no other draws of a run have it.
_CROP_SEED = 0x5EED


def create(data, cropping=None, seed=0):
    """Returns a function that reads images for training.

    Args:
        data: `labelled_images.LabelledImages`.
        cropping: `None`, or the share of the area that random windows take, see
            `random_resized_crop`; then the images must be files.
        seed: integer seed of the windows.

    Returns:
        Function of the numbers of a batch's images, int64 `[B]`, the batch's step and `(first,
        count)`: which rows of the step's whole batch of `count` images it begins with. It returns
        float32 images `[B, height, width, 3]` and their numbers `[B]`: a broken image is replaced
        by its successor, where the data say so.
    """
    if not isinstance(data.images, list):
        read = _from_memory(data)
        return lambda numbers, step, rows: read(numbers)
    files = _Files(data, cropping)

    def read_files(numbers, step, rows):
        first, count = rows
        # Drawn for the whole batch: how many hosts share it changes nothing.
        key = random.fold_in(tf.constant([_CROP_SEED, seed], tf.int32), tf.cast(step, tf.int32))
        uniform = random.uniform([count, random_resized_crop.DRAWS], key)
        return files.read(numbers, uniform[first : first + numbers.shape[0]])

    return read_files


def create_for_evaluation(data):
    """Returns a function of numbers `[B]` that returns float32 images and their numbers.

    Both leave broken images out, where the data say so.
    """
    if isinstance(data.images, list):
        return _Files(data).read_whole
    whole = tf.constant(data.is_whole())
    read = _from_memory(data)
    return lambda numbers: read(tf.boolean_mask(numbers, tf.gather(whole, numbers)))


def _from_memory(data):
    # On the host: the set may be larger than an accelerator's memory.
    with tf.device("CPU:0"):
        pixels = tf.constant(data.images)
        successors = tf.constant(_next_whole(data.is_whole()))

    def read(numbers):
        numbers = tf.gather(successors, numbers)
        return tf.cast(tf.gather(pixels, numbers), tf.float32), numbers

    return read


def _next_whole(is_whole):
    """Returns for each image its own number, or that of the next one that is whole."""
    numbers = np.flatnonzero(is_whole)
    if not len(numbers):
        raise ValueError(f"All {len(is_whole)} images are broken.")
    places = np.searchsorted(numbers, np.arange(len(is_whole)))
    return numbers[places % len(numbers)].astype(np.int64)


class _Files:
    """Decodes image files on all cores."""

    def __init__(self, data, cropping=None):
        self._data = data
        self._cropping = cropping
        self._broken = set()
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1))

    def read(self, numbers, uniform):
        """Returns images and numbers, broken images replaced; see `create`."""
        images, numbers = self._call(self._read_batch, [numbers, uniform], numbers.shape[0])
        return images, numbers

    def read_whole(self, numbers):
        """Returns images and numbers, broken images left out."""
        return self._call(self._read_all, [numbers], None)

    def _call(self, function, arguments, count):
        side = self._data.crop
        # Functions that count as stateful would run one after the other.
        images, numbers = tf.numpy_function(
            function, arguments, [tf.uint8, tf.int64], stateful=False
        )
        images = tf.ensure_shape(images, [count, side, side, 3])
        return tf.cast(images, tf.float32), tf.ensure_shape(numbers, [count])

    def _read_batch(self, numbers, uniform):
        results = list(self._pool.map(self._read_or_successor, numbers, uniform))
        return np.stack([pixels for pixels, _ in results]), np.array([n for _, n in results])

    def _read_all(self, numbers):
        results = [
            (pixels, number)
            for pixels, number in zip(self._pool.map(self._read, numbers), numbers, strict=True)
            if pixels is not None
        ]
        side = self._data.crop
        images = np.zeros([len(results), side, side, 3], np.uint8)
        for row, (pixels, _) in enumerate(results):
            images[row] = pixels
        return images, np.array([number for _, number in results], np.int64)

    def _read_or_successor(self, number, uniform):
        for following in range(len(self._data)):
            candidate = (int(number) + following) % len(self._data)
            pixels = self._read(candidate, uniform)
            if pixels is not None:
                return pixels, candidate
        raise ValueError(f"All {len(self._data)} images are broken.")

    def _read(self, number, uniform=None):
        """Returns an image, or `None` if it is broken and may be left out."""
        if number in self._broken:
            return None
        try:
            return self._data.read(number, self._decode(uniform))
        except ValueError as error:
            if not self._data.skip_broken:
                raise
            with self._lock:
                if number not in self._broken:
                    self._broken.add(int(number))
                    logging.warning("Skipped: %s", error)
            return None

    def _decode(self, uniform):
        """Returns a function of a path that cuts a random window, `None` for the centre."""
        if self._cropping is None:
            return None
        side, area = self._data.crop, self._cropping
        return lambda path: random_resized_crop.read(path, side, uniform, area)

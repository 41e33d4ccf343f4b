"""Numbers of images -> decoded images; broken files are named, replaced or left out."""

import os
import threading

import numpy as np
import tensorflow as tf
from absl import logging


def name_remedy(error):
    """Returns a ValueError that says what an error about a broken file says, and what helps."""
    return ValueError(f"{str(error).rstrip('.')}. --data_skip_broken leaves such images out.")


class Reader:
    """Reads the images of a list by their numbers.

    tf.data calls the reading function on its own threads: no pool is left when a run of batches
    ends or is abandoned.

    Args:
        read: function of a number and of what was drawn for it, numbers in [0, 1), None in
            evaluation; returns uint8 pixels. A ValueError that it raises names a broken file.
        count: number of images.
        shape: shape of what `read` returns.
        skip_broken: whether broken files are reported once and left out; in training the next one
            of the list takes the place.
        threads: images that are read at the same time; default: two for each core, at least 4.

    Raises:
        ValueError: without images. Iterating raises tf.errors.InvalidArgumentError with the message
            of the first broken file, or if all are broken.
    """

    def __init__(self, read, count, shape, skip_broken=False, threads=None):
        if not count:
            raise ValueError("There is no image to read.")
        self._read = read
        self._count = count
        self._shape = shape
        self._skip_broken = skip_broken
        self._threads = threads or max(4, 2 * (os.cpu_count() or 1))
        self._broken = set()
        self._lock = threading.Lock()

    def training_batches(self, sampler, draws, first_step=0):
        """Returns the endless dataset of (pixels `[b, ...]`, numbers `[b]`) of a `Sampler`'s steps.

        Args:
            sampler: `Sampler`.
            draws: how many numbers in [0, 1) are drawn for each image.
            first_step: step of the first batch.
        """

        def draw(step):
            return sampler.order(step, self._count), sampler.draw(step, draws)[1]

        rows = self._map(self._read_or_next, sampler.stream(draw, first_step).unbatch())
        return rows.batch(sampler.rows, drop_remainder=True)

    def evaluation_batches(self, batch_size):
        """Returns the dataset of (pixels `[b, ...]`, numbers `[b]`) of all images in order."""
        rows = self._map(self._read_or_none, tf.data.Dataset.range(self._count))
        if self._skip_broken:
            rows = rows.filter(lambda pixels, number: number >= 0)
        return rows.batch(batch_size)

    def _map(self, function, rows):
        def call(*row):
            # Functions that count as stateful would run one after the other.
            pixels, number = tf.numpy_function(function, row, [tf.uint8, tf.int64], stateful=False)
            return tf.ensure_shape(pixels, self._shape), tf.ensure_shape(number, [])

        return rows.map(call, num_parallel_calls=self._threads, deterministic=True)

    def _read_or_next(self, number, uniform):
        for following in range(self._count):
            candidate = (number + following) % self._count
            pixels = self._try(candidate, uniform)
            if pixels is not None:
                return pixels, candidate
        raise ValueError(f"All {self._count} images are broken.")

    def _read_or_none(self, number):
        pixels = self._try(number, None)
        if pixels is None:
            return np.zeros(self._shape, np.uint8), np.int64(-1)
        return pixels, number

    def _try(self, number, uniform):
        """Returns an image, or None if it is broken and may be left out."""
        if int(number) in self._broken:
            return None
        try:
            return self._read(int(number), uniform)
        except ValueError as error:
            if not self._skip_broken:
                raise name_remedy(error) from error
            with self._lock:
                if int(number) not in self._broken:
                    self._broken.add(int(number))
                    found = len(self._broken)
                    logging.warning("Skipped: %s (%d of %d so far)", error, found, self._count)
            return None

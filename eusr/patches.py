"""Random pairs of LR and HR patches, cut from decoded images."""

import typing

import cv2
import numpy as np
import tensorflow as tf
from absl import logging

from misc.training.sampler import Sampler

_QUARTER_TURNS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


class Draw(typing.NamedTuple):
    """What one batch shows.

    Attributes:
        scale: scalar, position in the list of scales.
        image: `[B]`, group of the store.
        top: `[B]`, first row of the window in the LR image.
        left: `[B]`, first column.
        turns: `[B]`, counter-clockwise quarter turns, 0 to 3.
        flip: `[B]`, 1 to mirror left and right after turning.
    """

    scale: tf.Tensor
    image: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    turns: tf.Tensor
    flip: tf.Tensor


class PatchSampler:
    """Batches of patches from a store whose groups are [HR, LR at scales[0], LR at ...].

    Attributes:
        repairs_nothing: whether a scale is 1 and its LR images are the HR images.

    Args:
        store: `PixelStore`; the HR image of a group has at least `scale` times the rows and
            columns of its LR images. Without an image of its own for scale 1, it is that, too.
        scales: scale factors.
        patch_size: rows and columns of an LR patch.
        batch_size: patches per step over all shards.
        seed: seed of all draws.
        shard: `(index, count)`; this shard reads rows `index * batch_size / count` and following.

    Raises:
        ValueError: if at some scale no image is large enough, or the batch cannot be divided.
    """

    def __init__(self, store, scales, patch_size, batch_size, seed, shard=(0, 1)):
        self._sampler = Sampler(batch_size, seed, shard)
        self._store = store
        self._scales = list(scales)
        self._patch_size = patch_size
        self.repairs_nothing = 1 in scales and len(store.shapes[0]) == len(self._scales)
        stored = [scale for scale in self._scales if scale != 1 or not self.repairs_nothing]
        # Place in a group of each scale's image.
        self._places = [stored.index(s) + 1 if s in stored else 0 for s in self._scales]
        self._sizes = np.array(
            [[shapes[place][:2] for place in self._places] for shapes in store.shapes], np.int64
        ).reshape(len(store.shapes), len(self._scales), 2)
        candidates = [self._large_enough(place) for place in range(len(self._scales))]
        self._counts = np.array([len(numbers) for numbers in candidates], np.int64)
        # One row per scale; what stands beyond the count of a row is never looked up.
        self._candidates = np.stack(
            [np.resize(numbers, self._counts.max()) for numbers in candidates]
        ).astype(np.int64)

    def _large_enough(self, place):
        fits = self._sizes[:, place].min(axis=1) >= self._patch_size
        scale, patch = self._scales[place], self._patch_size
        needed = f"{patch * scale} pixels a side for patches of {patch} at x{scale}"
        if not fits.any():
            raise ValueError(
                f"None of the {len(fits)} images has the {needed}: "
                "give larger images or a smaller --input_patch_size"
            )
        if not fits.all():
            logging.info(
                "%d of %d images lack the %s and are left out at that scale",
                np.sum(~fits),
                len(fits),
                needed,
            )
        return np.flatnonzero(fits)

    def local_batches(self, first_step=0):
        """Returns the endless dataset of batches from `first_step` on, cut in this process."""

        def make(step):
            draw = self.draw(step)
            low, high = tf.numpy_function(
                self.cut,
                list(draw),
                [tf.uint8, tf.uint8],
                stateful=False,  # others run one after the other
            )
            return self._batch(low, high)

        return self._sampler.stream(make, first_step).prefetch(2)

    def service_batches(self, address, first_step=0):
        """Returns the same batches made by a tf.data service, in the order of their arrival.

        The store must be on a disk that all workers see under the same path. The workers share the
        steps between them: none is lost or repeated.
        """
        paths = [
            [self._store.path(group, place) for place in range(len(shapes))]
            for group, shapes in enumerate(self._store.shapes)
        ]

        def make(step):
            draw = self.draw(step)
            return self._batch(*self._cut_in_graph(draw, tf.constant(paths)))

        service = tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=address,
            compression=None,
        )
        return self._sampler.stream(make, first_step).apply(service).prefetch(2)

    def draw(self, step):
        """Returns this shard's `Draw` of a step, given as an int64 scalar tensor."""
        shared, uniform = self._sampler.draw(step, 4)
        scale = _scaled(shared[0], len(self._scales))
        order = self._sampler.order(step, tf.gather(tf.constant(self._counts), scale))
        image = tf.gather(tf.gather(tf.constant(self._candidates), scale), order)
        sizes = tf.gather(tf.gather(tf.constant(self._sizes), image), scale, axis=1)
        places = sizes - self._patch_size + 1
        return Draw(
            scale,
            image,
            _scaled(uniform[:, 0], places[:, 0]),
            _scaled(uniform[:, 1], places[:, 1]),
            _scaled(uniform[:, 2], 4),
            _scaled(uniform[:, 3], 2),
        )

    def cut(self, scale, image, top, left, turns, flip):
        """Returns the patches of a draw (NumPy): uint8 `[B, p, p, 3]` and `[B, sp, sp, 3]`."""
        return tuple(
            np.stack(
                [
                    _cut_window(self._store.image(*source), size, factor, *window)
                    for source, window in zip(
                        ((group, position) for group in image),
                        zip(top, left, turns, flip, strict=True),
                        strict=True,
                    )
                ]
            )
            for position, factor, size in self._parts(int(scale))
        )

    def _parts(self, scale):
        """Returns (position in the group, window factor, window size) of the LR and HR patches."""
        factor = self._scales[scale]
        return (
            (self._places[scale], 1, self._patch_size),
            (0, factor, self._patch_size * factor),
        )

    def _cut_in_graph(self, draw, paths):
        factor = tf.gather(tf.constant(self._scales, tf.int64), draw.scale)
        one = tf.constant(1, tf.int64)
        sizes = tf.constant(
            [[shape[:2] for shape in shapes] for shapes in self._store.shapes], tf.int64
        )

        def cut_all(position, factor):
            def cut(row):
                image, top, left, turns, flip = tf.unstack(row)
                window = _read_window(
                    paths[image, position],
                    tf.unstack(sizes[image, position]),
                    (top * factor, left * factor),
                    self._patch_size * factor,
                )
                window = tf.image.rot90(window, tf.cast(turns, tf.int32))
                return tf.cond(flip > 0, lambda: window[:, ::-1], lambda: window)

            rows = tf.stack([draw.image, draw.top, draw.left, draw.turns, draw.flip], axis=1)
            return tf.map_fn(cut, rows, fn_output_signature=tf.TensorSpec([None, None, 3], "uint8"))

        place = tf.gather(tf.constant(self._places, tf.int64), draw.scale)
        return cut_all(place, one), cut_all(tf.zeros_like(draw.scale), factor)

    def _batch(self, low, high):
        batch = self._sampler.rows
        low.set_shape([batch, self._patch_size, self._patch_size, 3])
        high.set_shape([batch, None, None, 3])
        return {"low": tf.cast(low, tf.float32), "high": tf.cast(high, tf.float32)}


def _scaled(uniform, count):
    """Turns uniform numbers of [0, 1) into integers of [0, count)."""
    return tf.cast(tf.floor(uniform * tf.cast(count, tf.float64)), tf.int64)


def _cut_window(pixels, size, factor, top, left, turns, flip):
    window = pixels[top * factor : top * factor + size, left * factor : left * factor + size]
    # OpenCV turns pixels several times as fast as a copy of NumPy's strided views.
    if turns:
        window = cv2.rotate(window, _QUARTER_TURNS[int(turns)])
    return cv2.flip(window, 1) if flip else window


def _read_window(path, shape, corner, size):
    """Reads rows of a raw file (no header) and cuts the columns, with graph operations."""
    height, width = shape
    top, left = corner
    row_bytes = width * 3
    rows = tf.data.FixedLengthRecordDataset(
        path,
        record_bytes=row_bytes,
        header_bytes=top * row_bytes,
        footer_bytes=(height - top - size) * row_bytes,
    )
    pixels = tf.io.decode_raw(rows.batch(size).get_single_element(), tf.uint8)
    return tf.reshape(pixels, [size, width, 3])[:, left : left + size]

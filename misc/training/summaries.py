"""TensorBoard: scalars and rows of pictures."""

import numpy as np
import tensorflow as tf

MAX_PICTURES = 4


class Writer:
    """Writes to TensorBoard, or nowhere."""

    def __init__(self, path):
        """Opens an event file under `path`; with `None`, all calls do nothing."""
        create = tf.summary.create_file_writer
        self._writer = create(str(path)) if path else tf.summary.create_noop_writer()

    def scalars(self, step, values, prefix=""):
        """Writes {name: number} under `prefix`."""
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(prefix + name, value, step)

    def pictures(self, step, images, prefix=""):
        """Writes {name: images `[batch, height, width, 3]` in 0-255}, the first few of each."""
        with self._writer.as_default():
            for name, batch in images.items():
                pixels = np.clip(np.rint(batch[:MAX_PICTURES]), 0, 255).astype(np.uint8)
                tf.summary.image(prefix + name, pixels, step, max_outputs=MAX_PICTURES)

    def text(self, name, value, step=0):
        """Writes Markdown text."""
        with self._writer.as_default():
            tf.summary.text(name, value, step)

    def flush(self):
        """Writes out what is buffered."""
        self._writer.flush()

"""TensorBoard: scalars and rows of pictures."""

import numpy as np
import tensorflow as tf

MAX_PICTURES = 4


class Writer:
    """Writes to TensorBoard, or nowhere."""

    def __init__(self, path):
        """Opens an event file under `path`; with `None`, all calls do nothing."""
        self._writer = tf.summary.create_file_writer(str(path)) if path else None

    def scalars(self, step, values, prefix=""):
        """Writes {name: number} under `prefix`."""
        if self._writer:
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(prefix + name, value, step)

    def pictures(self, step, images, prefix=""):
        """Writes {name: images `[batch, height, width, 3]` in 0-255}, the first few of each."""
        if self._writer:
            with self._writer.as_default():
                for name, batch in images.items():
                    pixels = np.clip(np.rint(batch[:MAX_PICTURES]), 0, 255).astype(np.uint8)
                    tf.summary.image(prefix + name, pixels, step, max_outputs=MAX_PICTURES)

    def text(self, name, value, step=0):
        """Writes Markdown text."""
        if self._writer:
            with self._writer.as_default():
                tf.summary.text(name, value, step)

    def flush(self):
        """Writes out what is buffered."""
        if self._writer:
            self._writer.flush()

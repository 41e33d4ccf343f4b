"""TensorBoard: scalars and rows of pictures."""

import time

import numpy as np
import tensorflow as tf

MAX_PICTURES = 4


class Writer:
    """Writes to TensorBoard, or nowhere."""

    def __init__(self, path, first=0):
        """Opens an event file under `path`; with `None`, all calls do nothing.

        TensorBoard no longer shows what earlier files hold of step `first` and later ones.
        """
        if not path:
            self._writer = tf.summary.create_noop_writer()
            return
        self._writer = tf.summary.create_file_writer(str(path))
        start = tf.compat.v1.Event(
            wall_time=time.time(),
            step=first,
            session_log=tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START),
        )
        tf.raw_ops.ImportEvent(writer=self._writer._resource, event=start.SerializeToString())

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

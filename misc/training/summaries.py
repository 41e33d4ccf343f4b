"""TensorBoard: scalars, histograms and rows of pictures."""

import os
import pathlib
import struct

import numpy as np
import tensorflow as tf
from google.protobuf import message

MAX_PICTURES = 4


class Writer:
    """Writes to TensorBoard, or nowhere."""

    def __init__(self, path):
        """Opens an event file under `path`; with `None`, all calls do nothing."""
        create = tf.summary.create_file_writer
        self._writer = create(str(path)) if path else tf.summary.create_noop_writer()

    def scalars(self, step, values, prefix=""):
        """Writes {name: number, or array whose histogram is shown} under `prefix`."""
        with self._writer.as_default():
            for name, value in values.items():
                write = tf.summary.histogram if np.ndim(value) else tf.summary.scalar
                write(prefix + name, value, step)

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


def cut(folder, step):
    """Takes back the points after a step that a run will write once more.

    A `SessionLog` with that step would let only some readers of event files leave them out.

    Args:
        folder: folder with the event files of a `Writer`.
        step: the last step that stays; -1 takes back all.
    """
    for path in sorted(pathlib.Path(folder).glob("events.out.tfevents.*"), reverse=True):
        kept = _cut_file(path, step)
        if kept:
            return  # earlier files hold earlier steps
        if kept == 0:
            path.unlink()


def _cut_file(path, step):
    """Cuts a file before its first point after a step.

    Returns the number of points that it keeps, `None` for what is no event file.
    """
    kept, size = None, path.stat().st_size
    with open(path, "rb+") as file:
        # A record: its length, a checksum of that, an event, a checksum of that.
        while len(header := file.read(12)) == 12:
            start, length = file.tell() - 12, struct.unpack("<Q", header[:8])[0]
            try:
                event = tf.compat.v1.Event.FromString(file.read(min(length, size)))
            except message.DecodeError:
                break  # of a process that was killed
            is_point = event.HasField("summary")
            if is_point and event.step > step:
                file.truncate(start)
                break
            kept = (kept or 0) + is_point
            file.seek(4, os.SEEK_CUR)
    return kept

"""Trained and frozen models as functions of 8-bit batches, and the files that they are fed with."""

import collections
import contextlib

import numpy as np
import tensorflow as tf
from absl import logging

from misc.export import frozen, frozen_graph
from misc.images import progress, threads

# Pixels that are worked on together, and files that are read before they are asked for.
BATCH_PIXELS = 32 * 224 * 224
READ_AHEAD = 64


def apply_to_files(function, prepare, paths, description, skip_broken=False):
    """Applies a function of batches to what is made of files; threads read ahead.

    Args:
        function: uint8 RGB `[batch, height, width, 3]` -> {name: array `[batch, ...]`}.
        prepare: function of a path that returns a list of images to show to `function`.
        paths: list of files.
        description: what the progress bar is called.
        skip_broken: report files that cannot be used and go on; else the first is a ValueError.

    Returns:
        `(found, broken)`: {path: {name: array `[images, ...]`}} in the order of the paths, and the
        list of the paths that were left out.
    """
    results, broken = collections.defaultdict(list), []
    waiting = collections.defaultdict(list)

    def run(group):
        outputs = function(np.stack([image for _, image in group]))
        for row, (path, _) in enumerate(group):
            results[path].append({name: values[row] for name, values in outputs.items()})

    with (
        progress.track(total=len(paths), description=description, unit="image") as bar,
        contextlib.closing(threads.ahead(prepare, paths, READ_AHEAD)) as done,
    ):
        for path, images, error in done:
            bar.update()
            if error is not None:
                if not skip_broken:
                    raise error
                bar.clear()
                logging.error("skipped: %s", error)
                broken.append(path)
                continue
            for image in images:
                group = waiting[image.shape]
                group.append((path, image))
                if (len(group) + 1) * image.shape[0] * image.shape[1] > BATCH_PIXELS:
                    run(waiting.pop(image.shape))
        for group in waiting.values():
            run(group)
    found = {
        path: {name: np.stack([row[name] for row in results[path]]) for name in results[path][0]}
        for path in paths
        if path in results
    }
    return found, broken


def compile_outputs(model, names, size=(None, None)):
    """Returns a function of uint8 RGB `[batch, height, width, 3]` that gives {name: array}.

    One trace serves all batches of a `Method` or `FrozenMethod`; later changes of its weights have
    no effect. `size` is (height, width) of all images, where they are the same.
    """
    if isinstance(model, frozen.FrozenMethod):

        def run_frozen(batch):
            results = model.predict(batch.astype(np.float32))
            return {name: np.asarray(results[name]) for name in names}

        return run_frozen

    def predict(batch):
        results = model.predict(tf.cast(batch, tf.float32))
        return [tf.identity(results[name]) for name in names]

    function = tf.function(
        predict,
        input_signature=[tf.TensorSpec([None, *size, 3], tf.uint8)],
        autograph=False,
    )
    constant = frozen_graph.with_constants(function)

    def run(batch):
        results = tf.nest.flatten(constant(tf.convert_to_tensor(batch)))
        return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}

    return run

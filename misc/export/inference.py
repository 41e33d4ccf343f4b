"""Trained and frozen models as functions of 8-bit batches, and the files that they are fed with."""

import numpy as np
import tensorflow as tf
from absl import logging

from misc.export import frozen, frozen_graph
from misc.images import progress, threads


def prepare_files(prepare, paths, count, description, skip_broken, broken):
    """Yields (path, what was made of the file), with a progress bar; works ahead on threads.

    Args:
        prepare: function of a path.
        paths: list of files.
        count: how many files are prepared before they are asked for.
        description: what the bar is called.
        skip_broken: report files that cannot be used and go on, instead of stopping.
        broken: list that takes the paths which were left out.

    Raises:
        ValueError: for the first broken file, without `skip_broken`; the message names it.
    """
    with progress.track(total=len(paths), description=description, unit="image") as bar:
        for path, result, error in threads.ahead(prepare, paths, count):
            bar.update()
            if error is None:
                yield path, result
            elif skip_broken:
                bar.clear()
                logging.error("skipped: %s", error)
                broken.append(path)
            else:
                raise error


def compile_outputs(model, names, size=(None, None)):
    """Returns a function of uint8 RGB `[batch, height, width, 3]` that gives {name: array}.

    One trace serves all batches. A model's later changes of weights have no effect on it.

    Args:
        model: `Method` or `FrozenMethod`.
        names: outputs of `predict` that are wanted.
        size: (height, width) of all images, where they are the same.
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

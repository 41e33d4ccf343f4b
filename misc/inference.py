"""Trained and frozen models as functions of 8-bit batches."""

import numpy as np
import tensorflow as tf

from misc import frozen, frozen_graph


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

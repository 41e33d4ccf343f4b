"""Features that a frozen network gave for images that come again unchanged."""

import numpy as np
import tensorflow as tf


class FeatureCache:
    """Keeps features by the index of their image, in the host's memory, up to a limit.

    A batch is looked up as a whole: if one of its images is missing, all are computed.
    """

    def __init__(self, limit_bytes):
        """Starts empty.

        Args:
            limit_bytes: what the features may need; images beyond it are computed every time.
        """
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._features = {}

    def get(self, index, compute, shape):
        """Returns the features of a batch; works inside a `tf.function`.

        Args:
            index: integers `[B]`: equal ones stand for equal images.
            compute: function without arguments that returns the features, float32 `[B, ...]`.
            shape: static shape of the features.
        """
        found, stored = tf.numpy_function(self._find, [index], [tf.bool, tf.float32])

        def fresh():
            features = tf.stop_gradient(compute())
            kept = tf.numpy_function(self._store, [index, features], tf.bool)
            with tf.control_dependencies([kept]):
                return tf.identity(features)

        features = tf.cond(tf.ensure_shape(found, []), lambda: stored, fresh)
        return tf.ensure_shape(features, shape)

    def _find(self, index):
        try:
            return np.True_, np.stack([self._features[number] for number in index.tolist()])
        except KeyError:
            return np.False_, np.zeros([0], np.float32)

    def _store(self, index, features):
        for number, row in zip(index.tolist(), features, strict=True):
            if number not in self._features and self.used_bytes + row.nbytes <= self.limit_bytes:
                # A copy: a view would keep the whole batch alive.
                self._features[number] = row.copy()
                self.used_bytes += row.nbytes
        return np.True_

"""Features that a frozen network gave for images that come again unchanged."""

import numpy as np
import tensorflow as tf


class FeatureCache:
    """Keeps features by the index of their image, in the host's memory, up to a limit of bytes.

    Of a batch, only the images that are missing are computed: a cache for half of the images saves
    half of the work.
    """

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._features = {}

    def get(self, index, compute, shape):
        """Returns the features of a batch; works inside a `tf.function`.

        Args:
            index: integers `[B]`: equal ones stand for equal images.
            compute: function of the places in the batch, integers `[M]`, of the images that are
                missing; returns their features, float32 `[M, ...]`.
            shape: static shape of the features of a batch.
        """
        features, missing = tf.numpy_function(
            lambda index: self._find(index, shape[1:]), [index], [tf.float32, tf.int64]
        )
        features, missing = tf.ensure_shape(features, shape), tf.ensure_shape(missing, [None])

        def filled():
            computed = tf.stop_gradient(compute(missing))
            kept = tf.numpy_function(self._store, [tf.gather(index, missing), computed], tf.bool)
            with tf.control_dependencies([kept]):
                return tf.tensor_scatter_nd_update(features, missing[:, None], computed)

        return tf.cond(tf.size(missing) > 0, filled, lambda: features)

    def _find(self, index, shape):
        features = np.zeros([len(index), *shape], np.float32)
        missing = []
        for place, number in enumerate(index.tolist()):
            found = self._features.get(number)
            if found is None:
                missing.append(place)
            else:
                features[place] = found
        return features, np.array(missing, np.int64)

    def _store(self, index, features):
        for number, row in zip(index.tolist(), features, strict=True):
            if number not in self._features and self.used_bytes + row.nbytes <= self.limit_bytes:
                # A copy: a view would keep the whole batch alive.
                self._features[number] = row.copy()
                self.used_bytes += row.nbytes
        return np.True_

"""Batch normalisation by one fused operation where the backend has it.

The only backend-specific file of the networks: Keras' own layer takes the mean, the variance and
the result apart, which on TensorFlow makes a training step of a ResNet a third longer.
"""

import keras
from keras import ops

_IS_TENSORFLOW = keras.backend.backend() == "tensorflow"

if _IS_TENSORFLOW:
    import tensorflow as tf


@keras.saving.register_keras_serializable("classifiers")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the last axis of images, with the same results.

    Inner layers of reduced precision keep it, instead of computing in float32 and converting twice;
    mean and variance are float32 always.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalises `[batch, height, width, channels]`; see Keras' layer."""
        if not self._is_fused(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        by_batch = bool(training) and self.trainable
        nothing = tf.zeros([0], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma, "float32"),
            offset=ops.convert_to_tensor(self.beta, "float32"),
            mean=nothing if by_batch else ops.convert_to_tensor(self.moving_mean),
            variance=nothing if by_batch else ops.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=by_batch,
        )
        if by_batch:
            # The operation estimates the variance of a population: n / (n - 1) of the batch's.
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def _is_fused(self, inputs, mask):
        standard = self.scale and self.center and not (self.renorm or self.synchronized)
        images = len(inputs.shape) == 4 and self.axis in (-1, 3)
        # What the operation takes; smaller values of epsilon are not allowed on every device.
        numbers = self.compute_dtype in ("float32", "float16", "bfloat16") and self.epsilon >= 1e-5
        return _IS_TENSORFLOW and standard and images and numbers and mask is None

    def _follow(self, moving, newest):
        moving.assign(moving * self.momentum + newest * (1.0 - self.momentum))


@keras.saving.register_keras_serializable("classifiers")
class ReestimatedBatchNormalization(BatchNormalization):
    """Batch normalisation with statistics of the images at hand, mixed with those of training.

    Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation", NeurIPS 2020, section 3: of n images and those of training, which weigh as much as
    `prior` images, mean and variance are the weighted means.
    """

    def __init__(self, prior=0, **kwargs):
        super().__init__(**kwargs)
        self.prior = prior

    def call(self, inputs, training=None, mask=None):
        """Normalises `[batch, height, width, channels]`; the moving statistics stay."""
        del training, mask
        values = ops.cast(inputs, "float32")
        mean, variance = ops.moments(values, axes=tuple(range(len(inputs.shape) - 1)))
        count = ops.cast(ops.shape(inputs)[0], "float32")
        share = count / (count + self.prior)
        mean = share * mean + (1 - share) * self.moving_mean
        variance = share * variance + (1 - share) * self.moving_variance
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast((values - mean) * scale + self.beta, inputs.dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "prior": self.prior}


def with_reestimated_statistics(network, prior):
    """Returns a copy of a network whose batch normalisation takes each batch's own statistics.

    Args:
        network: network of `networks.build`.
        prior: number of images that the statistics of training weigh as.

    Raises:
        ValueError: if the network has no batch normalisation.
    """

    def clone(layer):
        if isinstance(layer, BatchNormalization):
            return ReestimatedBatchNormalization(prior, **layer.get_config())
        return type(layer).from_config(layer.get_config())

    if not any(isinstance(layer, BatchNormalization) for layer in network.layers):
        raise ValueError(f"{network.name} has no batch normalisation to re-estimate.")
    copied = keras.models.clone_model(network, clone_function=clone)
    copied.set_weights(network.get_weights())
    copied.trainable = False
    return copied

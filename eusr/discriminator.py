"""Discriminator of 4PP-EUSR: says for each region of an image whether it is a photograph.

Choi, Kim, Cheon and Lee, "Deep learning-based image super-resolution considering quantitative and
perceptual quality", Neurocomputing 2019; sizes of the authors' public code.
"""

import keras

# Every second of the ten convolutions halves rows and columns, and every pair has twice the
# features of the pair before it.
CONVOLUTIONS = 10
STRIDES = (1, 2) * (CONVOLUTIONS // 2)
NEGATIVE_SLOPE = 0.2


@keras.saving.register_keras_serializable(package="eusr")
class Discriminator(keras.Model):
    """Rates regions of images; one logit belongs to each 32x32 pixels.

    Call it with images `[batch, height, width, 3]`, float32 RGB in 0-255; it returns logits
    `[batch, ceil(height / 32), ceil(width / 32), 1]`, float32, positive for photographs.
    The first and the last convolution stay in float32 under mixed precision, because of the range
    of pixels and of logits.
    """

    def __init__(self, features=32, name="discriminator"):
        """Builds all weights, with at least 1 feature in the first convolution.

        The last of the ten has 16 times as many, the layer before the logit 32 times.
        """
        full = keras.config.floatx()
        super().__init__(name=name, dtype=full)
        if features < 1:
            raise ValueError(f"features must be at least 1. Received: {features}")
        self.features = features
        self.convolutions = [
            keras.layers.Conv2D(
                features * 2 ** (index // 2),
                3,
                strides=stride,
                padding="same",
                dtype=full if index == 0 else None,
                # Names are part of the checkpoint format: variables are stored by their path.
                name=f"convolution{index + 1}",
            )
            for index, stride in enumerate(STRIDES)
        ]
        # Dense layers at every position, as convolutions of one pixel.
        self.hidden = keras.layers.Conv2D(32 * features, 1, name="hidden")
        self.logits = keras.layers.Conv2D(1, 1, dtype=full, name="logits")
        channels = 3
        for layer in (*self.convolutions, self.hidden, self.logits):
            layer.build((None, None, None, channels))
            channels = layer.filters
        self.built = True

    def call(self, images):
        """Returns the logits; see the class."""
        for layer in (*self.convolutions, self.hidden):
            images = keras.ops.leaky_relu(layer(images), NEGATIVE_SLOPE)
        return self.logits(images)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"features": self.features, "name": self.name}

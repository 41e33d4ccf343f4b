"""A score predictor of a few convolutions, for tests of what uses one."""

import keras

from misc.training.method import Method


class TinyPredictor(Method):
    """Ten scores and six features, smooth in the pixels."""

    def __init__(self, seed=0):
        initializer = keras.initializers.GlorotUniform(seed)
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
        for features in (4, 6):
            x = keras.layers.Conv2D(
                features, 3, 2, "same", activation="tanh", kernel_initializer=initializer
            )(x)
        features = keras.layers.GlobalAveragePooling2D()(x)
        scores = keras.layers.Dense(10, "softmax", kernel_initializer=initializer)(4 * features)
        outputs = {"scores": scores, "features": features}
        super().__init__({"predictor": keras.Model(inputs, outputs)})
        self.export_names = {
            "images": "images",
            "scale": None,
            "outputs": {"scores": "output_scores", "features": "output_features"},
        }

    def train_step(self, batch, seed):
        raise NotImplementedError

    def evaluate(self, batches, report=None):
        raise NotImplementedError

    def receptive_radius(self, scale=None):
        return None

    def predict(self, images, scale=None):
        return self.networks["predictor"](images, training=False)

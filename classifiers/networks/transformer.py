"""Layers of transformers on images."""

import keras
from keras import ops


def initial():
    """Returns a new initializer N(0, 0.02), truncated at twice the deviation.

    As in the codes of Dosovitskiy et al., ICLR 2021, and Liu et al., ICCV 2021. Every weight needs
    one of its own: an initializer gives the same values each time it is used.
    """
    return keras.initializers.TruncatedNormal(stddev=0.02)


def layer_norm(x, name, epsilon):
    """Normalises over the channels."""
    return keras.layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def projection(x, features, name, bias=True):
    """Applies a linear layer to every token."""
    return keras.layers.Dense(features, use_bias=bias, kernel_initializer=initial(), name=name)(x)


def perceptron(x, features, name):
    """Applies two linear layers with an exact GELU between them."""
    channels = x.shape[-1]
    x = projection(x, features, f"{name}.0")
    x = keras.layers.Activation(_exact_gelu)(x)
    return projection(x, channels, f"{name}.3")


def attend(query, key, value, heads, bias=None):
    """Returns softmax(query key' / sqrt(d) + bias) value (Vaswani et al., 2017, eq. 1), per head.

    Args:
        query: `[batch, queries, channels]`, as the result.
        key: `[batch, tokens, channels]`.
        value: `[batch, tokens, channels]`.
        heads: number of heads that the channels are divided among.
        bias: broadcastable to `[batch, heads, queries, tokens]`, or `None`.
    """
    channels = query.shape[-1]
    query, key, value = (_split(x, heads) for x in (query, key, value))
    scores = ops.matmul(query * (channels // heads) ** -0.5, ops.transpose(key, (0, 1, 3, 2)))
    if bias is not None:
        scores = scores + bias
    result = ops.matmul(ops.softmax(scores), value)
    return ops.reshape(ops.transpose(result, (0, 2, 1, 3)), (-1, result.shape[2], channels))


def _split(x, heads):
    tokens, channels = x.shape[1:]
    return ops.transpose(ops.reshape(x, (-1, tokens, heads, channels // heads)), (0, 2, 1, 3))


@keras.saving.register_keras_serializable("classifiers")
def _exact_gelu(x):
    return ops.gelu(x, approximate=False)


@keras.saving.register_keras_serializable("classifiers")
class SelfAttention(keras.layers.Layer):
    """Attention among tokens whose query, key and value stand beside each other in the channels."""

    def __init__(self, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs):
        """Takes `[batch, tokens, 3 * channels]`, returns `[batch, tokens, channels]`."""
        return attend(*ops.split(inputs, 3, axis=-1), self.heads)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("classifiers")
class ClassToken(keras.layers.Layer):
    """Puts a learned token before the others."""

    pytorch_tensors = ("",)

    def build(self, input_shape):
        """Makes the token."""
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="zeros")

    def call(self, inputs):
        """Takes `[batch, tokens, channels]`, returns `[batch, 1 + tokens, channels]`."""
        token = ops.cast(self.token, inputs.dtype)
        token = ops.broadcast_to(token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([token, inputs], axis=1)


@keras.saving.register_keras_serializable("classifiers")
class FirstToken(keras.layers.Layer):
    """Takes the first token alone."""

    def call(self, inputs):
        """Takes `[batch, tokens, channels]`, returns `[batch, channels]`."""
        return inputs[:, 0]


@keras.saving.register_keras_serializable("classifiers")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector to each token."""

    pytorch_tensors = ("",)

    def build(self, input_shape):
        """Makes the vectors."""
        self.embedding = self.add_weight(shape=(1, *input_shape[1:]), initializer=initial())

    def call(self, inputs):
        """Takes and returns `[batch, tokens, channels]`."""
        return inputs + ops.cast(self.embedding, inputs.dtype)

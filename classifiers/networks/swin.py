"""Swin Transformer, tiny, as torchvision builds it.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
sections 3.1 to 3.3.
"""

import keras
import numpy as np
from keras import ops

from classifiers.networks import layers, transformer

PATCH_SIZE = 4
CHANNELS = 96
BLOCKS = (2, 2, 6, 2)
HEADS = (3, 6, 12, 24)
WINDOW = 7
DROP_RATE = 0.2
EPSILON = 1e-5
# Added to the score of two pixels that only the cyclic shift brought together (authors' code).
MASKED = -100.0


def build(x, num_classes):
    """Returns the stages for images from 4x4 pixels on; what does not fill a window is padded.

    They are "stem", "stage1" to "stage4", and the head.
    """
    stages = {}
    x = layers.convolution(
        x, CHANNELS, PATCH_SIZE, "features.0.0", stride=PATCH_SIZE, padding=0, bias=True
    )
    x = stages["stem"] = transformer.layer_norm(x, "features.0.2", EPSILON)
    count = 0
    for stage, (blocks, heads) in enumerate(zip(BLOCKS, HEADS, strict=True)):
        if stage:
            x = _merge_patches(x, f"features.{2 * stage}")
        for block in range(blocks):
            drop_rate = DROP_RATE * count / (sum(BLOCKS) - 1)
            shift = WINDOW // 2 if block % 2 else 0
            x = _block(x, heads, shift, drop_rate, f"features.{2 * stage + 1}.{block}")
            count += 1
        stages[f"stage{stage + 1}"] = x
    x = transformer.layer_norm(x, "norm", EPSILON)
    return layers.classify(layers.global_average_pool(x), num_classes, "head", stages)


def _block(inputs, heads, shift, drop_rate, name):
    x = transformer.layer_norm(inputs, f"{name}.norm1", EPSILON)
    x = ShiftedWindowAttention(heads, WINDOW, shift, name=f"{name}.attn")(x)
    x = layers.stochastic_depth(x, drop_rate, f"{name}.attn.drop")
    inputs = keras.layers.Add()([inputs, x])
    x = transformer.layer_norm(inputs, f"{name}.norm2", EPSILON)
    x = transformer.perceptron(x, 4 * x.shape[-1], f"{name}.mlp")
    x = layers.stochastic_depth(x, drop_rate, f"{name}.mlp.drop")
    return keras.layers.Add()([inputs, x])


def _merge_patches(x, name):
    channels = x.shape[-1]
    x = Neighbours()(x)
    x = transformer.layer_norm(x, f"{name}.norm", EPSILON)
    return transformer.projection(x, 2 * channels, f"{name}.reduction", bias=False)


@keras.saving.register_keras_serializable("classifiers")
class Neighbours(keras.layers.Layer):
    """Puts the four pixels of each 2x2 square side by side in the channels; odd sides are padded.

    The order is top left, bottom left, top right, bottom right (authors' code).
    """

    def call(self, inputs):
        """Takes `[batch, height, width, C]`, returns `[batch, height / 2, width / 2, 4 * C]`."""
        height, width = ops.shape(inputs)[1:3]
        x = ops.pad(inputs, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        return ops.concatenate(
            [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1
        )

    def compute_output_shape(self, input_shape):
        """Returns it, which JAX cannot trace for images of unknown size."""
        batch, *sides, channels = input_shape
        sides = [None if side is None else (side + 1) // 2 for side in sides]
        return (batch, *sides, 4 * channels)


@keras.saving.register_keras_serializable("classifiers")
class ShiftedWindowAttention(keras.layers.Layer):
    """Attention within square windows that may be shifted cyclically, with learned relative bias.

    Windows have a side of `window` pixels, and are shifted by `shift` pixels down and right.

    An image that is at most one window high (or wide) is not shifted that way, and images are
    padded with zeros below and to the right to whole windows, as in torchvision.
    """

    pytorch_tensors = (
        "qkv.weight",
        "qkv.bias",
        "proj.weight",
        "proj.bias",
        "relative_position_bias_table",
    )

    def __init__(self, heads, window, shift, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.window = window
        self.shift = shift
        place = np.stack(np.meshgrid(*2 * [np.arange(window)], indexing="ij")).reshape(2, -1)
        offset = place[:, :, None] - place[:, None, :] + window - 1
        self._offset_index = offset[0] * (2 * window - 1) + offset[1]

    def build(self, input_shape):
        """Makes the weights."""
        channels = input_shape[-1]
        self.qkv_kernel = self.add_weight(
            shape=(channels, 3 * channels), name="qkv_kernel", initializer=transformer.initial()
        )
        self.qkv_bias = self.add_weight(shape=(3 * channels,), initializer="zeros", name="qkv_bias")
        self.proj_kernel = self.add_weight(
            shape=(channels, channels), name="proj_kernel", initializer=transformer.initial()
        )
        self.proj_bias = self.add_weight(shape=(channels,), initializer="zeros", name="proj_bias")
        self.bias_table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads),
            name="bias_table",
            initializer=transformer.initial(),
        )

    def call(self, inputs):
        """Takes and returns `[batch, height, width, channels]`."""
        height, width = ops.shape(inputs)[1:3]
        padding = [-side % self.window for side in (height, width)]
        x = ops.pad(inputs, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
        sides = ops.shape(x)[1:3]
        shifts = [self._shift(side) for side in sides]

        x = self._roll(x, shifts)
        rows, columns = (side // self.window for side in sides)
        x = self._to_windows(x, rows, columns)
        qkv = ops.matmul(x, ops.cast(self.qkv_kernel, x.dtype)) + ops.cast(self.qkv_bias, x.dtype)
        bias = self._relative_bias(x.dtype)
        if self.shift:
            mask = ops.cast(self._mask(sides, shifts, rows, columns), x.dtype)
            # Each image repeats the windows' masks.
            mask = ops.tile(mask[:, None], (ops.shape(inputs)[0], 1, 1, 1))
            bias = bias + mask
        x = transformer.attend(*ops.split(qkv, 3, axis=-1), self.heads, bias)
        x = ops.matmul(x, ops.cast(self.proj_kernel, x.dtype)) + ops.cast(self.proj_bias, x.dtype)
        x = self._from_windows(x, rows, columns)
        x = self._roll(x, [side - shift for side, shift in zip(sides, shifts, strict=True)])
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape):
        """Returns it at once: to trace all windows would take a second."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"heads": self.heads, "window": self.window, "shift": self.shift}
        return {**super().get_config(), **own}

    def _shift(self, side):
        if isinstance(side, int):
            return self.shift if side > self.window else 0
        return ops.where(side > self.window, self.shift, 0)

    def _roll(self, x, shifts):
        if not self.shift:
            return x
        rows, columns = shifts
        x = ops.concatenate([x[:, rows:], x[:, :rows]], axis=1)
        return ops.concatenate([x[:, :, columns:], x[:, :, :columns]], axis=2)

    def _to_windows(self, x, rows, columns):
        channels = x.shape[-1]
        x = ops.reshape(x, (-1, rows, self.window, columns, self.window, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, self.window**2, channels))

    def _from_windows(self, x, rows, columns):
        channels = x.shape[-1]
        x = ops.reshape(x, (-1, rows, columns, self.window, self.window, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, rows * self.window, columns * self.window, channels))

    def _relative_bias(self, dtype):
        table = ops.cast(self.bias_table, dtype)
        bias = ops.take(table, self._offset_index.reshape(-1), axis=0)
        bias = ops.reshape(bias, (self.window**2, self.window**2, self.heads))
        return ops.transpose(bias, (2, 0, 1))[None]

    def _mask(self, sides, shifts, rows, columns):
        # The last window of a shifted side holds pixels of its beginning; they form a region.
        regions = [
            ops.cast(ops.arange(side) >= side - shift, "int32")
            for side, shift in zip(sides, shifts, strict=True)
        ]
        region = regions[0][:, None] * 2 + regions[1][None, :]
        region = self._to_windows(region[None, :, :, None], rows, columns)[..., 0]
        return ops.where(region[:, :, None] == region[:, None, :], 0.0, MASKED)

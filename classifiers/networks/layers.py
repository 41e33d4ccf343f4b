"""Layers that the networks share, with the padding, epsilon and initial values of PyTorch.

A layer with weights is named after the module of the PyTorch network that it stands for, such as
`layer1.0.conv1`: `pytorch_weights` finds its tensors by that name.
"""

import keras
from keras import ops

from classifiers.networks.batch_norm import BatchNormalization


def kaiming_fan_out():
    """Returns a new initializer with the variance 2 / (outputs * kernel area).

    He et al., "Delving Deep into Rectifiers", ICCV 2015. Every layer needs one of its own: an
    initializer gives the same values each time it is used, and has its seed from when it was made.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def normalise(x, mean, std):
    """Scales 0-255 to 0-1, subtracts three means and divides by three deviations, in float32."""
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(
            "mean takes three values and std three positive ones, on the scale 0-1. "
            f"Received: mean={mean}, std={std}"
        )
    # float32 under every policy: bfloat16 would lose what weak noise adds to a bright pixel.
    return keras.layers.Rescaling(
        scale=[1 / (255 * deviation) for deviation in std],
        offset=[-value / deviation for value, deviation in zip(mean, std, strict=True)],
        dtype="float32",
        name="normalise",
    )(x)


def convolution(
    x,
    features,
    kernel_size,
    name,
    stride=1,
    padding=None,
    groups=1,
    bias=False,
    dilation=1,
    dtype=None,
):
    """Applies a convolution with the same zero padding on both sides, as PyTorch does.

    Args:
        x: `[batch, height, width, channels]`.
        features: number of output channels.
        kernel_size: side of the kernel, or (height, width).
        name: name of the layer.
        stride: step in both directions.
        padding: zeros on each side, or (vertical, horizontal); `None` for half the kernel (times
            the dilation); "same"
            for what TensorFlow adds, which depends on the size of `x` and may be one more at its
            end.
        groups: number of groups of channels; as many as channels is a depthwise convolution.
        bias: whether to add a bias.
        dilation: distance in pixels of the kernel's taps.
        dtype: dtype policy; `None` for the usual one.
    """
    kernel_size = _pair(kernel_size)
    half = tuple((length - 1) // 2 * dilation for length in kernel_size)
    same = padding == "same"
    if not same:
        padding = half if padding is None else _pair(padding)
        # "same" is symmetric only at stride 1; it saves the copy that explicit padding costs.
        same = stride == 1 and padding == half and all(length % 2 for length in kernel_size)
    if not same and any(padding):
        x = keras.layers.ZeroPadding2D(padding)(x)
    settings = {
        "strides": stride,
        "padding": "same" if same else "valid",
        "use_bias": bias,
        "dilation_rate": dilation,
        "dtype": dtype,
        "name": name,
    }
    if groups > 1 and groups == x.shape[-1] == features:
        # Each channel feeds one: the fan-out is the kernel's area.
        kernel_area = kernel_size[0] * kernel_size[1]
        initializer = keras.initializers.RandomNormal(stddev=(2.0 / kernel_area) ** 0.5)
        return keras.layers.DepthwiseConv2D(
            kernel_size, depthwise_initializer=initializer, **settings
        )(x)
    return keras.layers.Conv2D(
        features, kernel_size, groups=groups, kernel_initializer=kaiming_fan_out(), **settings
    )(x)


def batch_norm(x, name, epsilon=1e-5, momentum=0.9):
    """Applies batch normalisation; `momentum` is the share of the old statistics that stays.

    The moving variance follows the batch's variance itself, where PyTorch takes n / (n - 1) of it.
    """
    return BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)


def conv_norm(x, features, kernel_size, names, activation="relu", norm=batch_norm, **kwargs):
    """Applies a convolution, batch normalisation and an activation.

    Args:
        x: `[batch, height, width, channels]`.
        features: number of output channels.
        kernel_size: side of the kernel, or (height, width).
        names: names of the convolution and of the normalisation; one stands for its parts 0 and 1.
        activation: name of a Keras activation, or `None`.
        norm: function of a tensor and a name that normalises.
        **kwargs: further arguments of `convolution`.
    """
    if isinstance(names, str):
        names = f"{names}.0", f"{names}.1"
    x = norm(convolution(x, features, kernel_size, names[0], **kwargs), names[1])
    return x if activation is None else keras.layers.Activation(activation)(x)


def linear(x, features, name, dtype=None):
    """Applies a fully connected layer that starts from N(0, 0.01)."""
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    return keras.layers.Dense(features, kernel_initializer=initializer, dtype=dtype, name=name)(x)


def classify(x, num_classes, name, stages, dropout=None):
    """Completes stages by the head: `x` as "pooled", and the linear classifier's "logits".

    Args:
        x: `[batch, features]`.
        num_classes: number of logits, which are float32 under every dtype policy.
        name: name of the classifier.
        stages: dict that takes the two, and is returned.
        dropout: rate and name of a dropout between them.
    """
    stages["pooled"] = x
    if dropout:
        rate, dropout_name = dropout
        x = keras.layers.Dropout(rate, name=dropout_name)(x)
    stages["logits"] = linear(x, num_classes, name, dtype="float32")
    return stages


def max_pool(x, size, stride, padding=0, ceil_mode=False):
    """Takes the maximum over windows of values that are not negative, as they are after a ReLU.

    Padding is made of zeros; with `ceil_mode`, a last window that reaches over the edge by less
    than a stride counts.
    """
    after = padding + (stride - 1 if ceil_mode else 0)
    if padding or after:
        x = keras.layers.ZeroPadding2D(((padding, after), (padding, after)))(x)
    return keras.layers.MaxPooling2D(size, stride, "valid")(x)


def global_average_pool(x):
    """Averages over all pixels: `[batch, channels]`."""
    return keras.layers.GlobalAveragePooling2D()(x)


def flatten_channels_first(x):
    """Flattens `[batch, height, width, channels]` with the pixels varying fastest, as PyTorch."""
    return keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(x))


def stochastic_depth(x, rate, name):
    """Drops the whole branch of an image with probability `rate` (Huang et al., ECCV 2016)."""
    if not rate:
        return x
    noise_shape = (None,) + (1,) * (len(x.shape) - 1)
    return keras.layers.Dropout(rate, noise_shape=noise_shape, name=name)(x)


@keras.saving.register_keras_serializable("classifiers")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages an image of any size to a fixed number of windows.

    Window i of n covers the pixels from floor(i * length / n) to ceil((i + 1) * length / n), as
    PyTorch's AdaptiveAvgPool2d; unlike Keras' own layer, it needs no static size.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        """Returns `[batch, size, size, channels]`."""
        height, width = ops.shape(inputs)[1:3]
        if tuple(inputs.shape[1:3]) == (self.size, self.size):
            return inputs
        if self._divides(height) and self._divides(width):
            window = (height // self.size, width // self.size)
            return ops.average_pool(inputs, window, strides=window)
        rows, columns = self._weights(height), self._weights(width)
        return ops.einsum("ih,jw,bhwc->bijc", rows, columns, inputs)

    def compute_output_shape(self, input_shape):
        """Returns it, which JAX cannot trace for images of unknown size."""
        return (input_shape[0], self.size, self.size, input_shape[-1])

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size}

    def _divides(self, length):
        return isinstance(length, int) and length >= self.size and length % self.size == 0

    def _weights(self, length):
        length = ops.cast(length, "int32")
        window = ops.arange(self.size, dtype="int32")[:, None]
        position = ops.arange(length, dtype="int32")[None, :]
        first = window * length // self.size
        last = ((window + 1) * length + self.size - 1) // self.size
        inside = ops.logical_and(position >= first, position < last)
        inside = ops.cast(inside, self.compute_dtype)
        return inside / ops.sum(inside, axis=1, keepdims=True)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)

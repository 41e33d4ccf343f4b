"""SyMPIE's correction: a small network looks at an image and predicts how to correct it.

Barbato, Michieli, Yucel, Zanuttigh and Ozay, "A Modular System for Enhanced Robustness of
Multimedia Understanding Networks via Deep Parametric Estimation", ACM MMSys 2024.

The 37 numbers that `build_estimator` predicts are a 3x3 colour matrix (row by row), a shift of the
three channels and one 5x5 filter (row by row). They act on images that are normalised by ImageNet's
mean and deviation.
"""

import keras
import numpy as np
from keras import ops

from classifiers import networks
from classifiers.networks import keras_weights, layers, pytorch_files, pytorch_weights
from classifiers.networks.batch_norm import BatchNormalization
from misc.training import weight_files

MATRIX, SHIFT, KERNEL = slice(0, 9), slice(9, 12), slice(12, 37)
KERNEL_SIDE = 5
PARAMETERS = 37
FEATURES = (64, 128, 256, 512)
MEAN, DEVIATION = networks.NORMALISATIONS["imagenet"]
# Sides in pixels: smaller images leave nothing to the last block; of larger ones the estimator sees
# the central square of WINDOW, once their shorter side is RESIZED.
SMALLEST, RESIZED, WINDOW = 43, 232, 224
# What a module of PyTorch is, by the rank of its weights.
KINDS = {1: "batch norm", 2: "linear", 4: "convolution"}


def build_estimator(synchronized=False):
    """Returns the network from images `[B, H, W, 3]` in 0-255 to the parameters `[B, 37]`, float32.

    It begins as the identity: what it predicts at first leaves images nearly as they are.

    Args:
        synchronized: whether batch normalisation in training takes the statistics of all devices.
    """

    def normalised(x, name):
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=synchronized, name=name)(x)
        return keras.layers.ReLU()(x)

    def convolution(x, features, name):
        return layers.convolution(x, features, 3, name, bias=True)

    inputs = keras.Input((None, None, 3), name="images")
    x = layers.normalise(View(name="view", dtype="float32")(inputs), MEAN, DEVIATION)
    x = normalised(convolution(x, FEATURES[0], "conv1"), "bn1")
    for number, features in enumerate(FEATURES[1:], start=1):
        # Zeros beside the image count in the mean.
        x = keras.layers.AveragePooling2D(5, 4)(keras.layers.ZeroPadding2D(1)(x))
        first = convolution(x, features, f"block{number}.conv1")
        x = convolution(normalised(first, f"block{number}.bn1"), features, f"block{number}.conv2")
        x = keras.layers.Add()([normalised(x, f"block{number}.bn2"), first])
    outputs = keras.layers.Dense(
        PARAMETERS,
        kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
        bias_initializer=identity,
        dtype="float32",
        name="fc",
    )(layers.global_average_pool(x))
    return keras.Model(inputs, outputs, name="estimator")


def for_use(estimator):
    """Returns an estimator that predicts the same as `estimator(images, training=False)`, faster.

    Batch normalisation behind a convolution is a part of it. Both share their weights.
    """
    norms = {"conv1": "bn1"} | {f"block{n}.conv2": f"block{n}.bn2" for n in (1, 2, 3)}

    def clone(layer):
        if layer.name in norms:
            return FoldedConvolution(layer, estimator.get_layer(norms[layer.name]))
        return layer

    def call(layer, inputs, **kwargs):
        return inputs if layer.name in norms.values() else layer(inputs, **kwargs)

    return keras.models.clone_model(estimator, clone_function=clone, call_function=call)


class FoldedConvolution(keras.layers.Layer):
    """A convolution of images and the batch normalisation behind it, with the weights of both."""

    def __init__(self, convolution, norm):
        super().__init__(dtype=convolution.dtype_policy, autocast=False)
        self.convolution, self.norm = convolution, norm

    def call(self, inputs):
        """Takes and returns `[B, H, W, channels]`."""
        norm = self.norm
        scale = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
        bias = (self.convolution.bias - norm.moving_mean) * scale + norm.beta
        inputs, kernel, bias = (
            ops.cast(value, self.compute_dtype)
            for value in (inputs, self.convolution.kernel * scale, bias)
        )
        return ops.conv(inputs, kernel, padding="same") + bias


@keras.saving.register_keras_serializable("classifiers")
def identity(shape=(PARAMETERS,), dtype=None):
    """Returns the parameters that leave images as they are; an initial value of biases."""
    del shape
    values = np.zeros(PARAMETERS, np.float32)
    values[MATRIX] = np.eye(3).reshape(-1)
    values[KERNEL.start + KERNEL_SIDE**2 // 2] = 1
    return ops.convert_to_tensor(values, dtype)


@keras.saving.register_keras_serializable("classifiers")
class View(keras.layers.Layer):
    """What the estimator sees of images: all of them, or the middle of large ones, resized.

    The filter is a triangle that grows with the reduction, as Pillow's and torchvision's.
    """

    def call(self, images):
        """Takes images `[B, H, W, 3]`, returns images of at least 43 pixels a side."""
        height, width = ops.shape(images)[1:3]
        if isinstance(height, int) and isinstance(width, int):
            shorter = min(height, width)
            if SMALLEST <= shorter <= RESIZED:
                return images
            limited = min(max(shorter, SMALLEST), RESIZED)
        else:
            shorter = ops.minimum(height, width)
            limited = ops.clip(shorter, SMALLEST, RESIZED)
        step = ops.cast(shorter, "float32") / ops.cast(limited, "float32")
        is_large = ops.cast(shorter > RESIZED, "float32")
        rows, columns = (_weights(length, step, is_large) for length in (height, width))
        return ops.einsum("ih,jw,bhwc->bijc", rows, columns, images)

    def compute_output_shape(self, input_shape):
        """Returns it, with sides that depend on the images."""
        return (input_shape[0], None, None, input_shape[-1])


def _weights(length, step, is_large):
    """Returns what each of the places seen, `step` pixels apart, takes from a side's pixels."""
    length = ops.cast(length, "float32")
    count = is_large * WINDOW + (1 - is_large) * ops.round(length / step)
    places = ops.arange(ops.cast(count, "int32"), dtype="float32")
    centres = length / 2 + (places + 0.5 - count / 2) * step
    pixels = ops.arange(ops.cast(length, "int32"), dtype="float32") + 0.5
    distances = ops.abs(pixels[None, :] - centres[:, None]) / ops.maximum(step, 1.0)
    weights = ops.maximum(1.0 - distances, 0.0)
    return weights / ops.sum(weights, axis=1, keepdims=True)


def correct(images, parameters, clamp=True, portable=False):
    """Returns images corrected by the parameters of each.

    Args:
        images: float32 `[B, H, W, 3]` in 0-255, of any size.
        parameters: float32 `[B, 37]`.
        clamp: whether to cut the result to 0-255, as in use; training does without.
        portable: see `warp`.
    """
    mean, deviation = (255 * np.array(values, np.float32) for values in (MEAN, DEVIATION))
    # Normalising and its inverse are a part of the matrix and the shift.
    factors, terms = np.ones(PARAMETERS, np.float32), np.zeros(PARAMETERS, np.float32)
    factors[MATRIX] = (deviation / deviation[:, None]).reshape(-1)
    factors[SHIFT], terms[SHIFT] = deviation, -mean
    corrected = warp(images, parameters * factors + terms, portable) + mean
    return ops.clip(corrected, 0.0, 255.0) if clamp else corrected


def warp(images, parameters, portable=False):
    """Adds the shift, applies the colour matrix, then the filter, zero beyond the image's edge.

    Args:
        images: normalised images, float32 `[B, H, W, 3]`.
        parameters: float32 `[B, 37]`; out[c] is the sum over d of (images + shift)[d] matrix[d, c].
        portable: whether to do without a convolution with as many channels as there are images,
            which ONNX and TFLite cannot have where their number is open; it takes longer.
    """
    batch, height, width, channels = ops.shape(images)
    matrix = ops.reshape(parameters[:, MATRIX], (-1, channels, channels))
    pixels = ops.reshape(images, (batch, height * width, channels))
    pixels = ops.matmul(pixels + parameters[:, None, SHIFT], matrix)
    images = ops.reshape(pixels, (batch, height, width, channels))
    kernels = ops.reshape(parameters[:, KERNEL], (batch, KERNEL_SIDE, KERNEL_SIDE))
    return (_filter_by_taps if portable else _filter)(images, kernels)


def _filter(images, kernels):
    """Filters all images by one depthwise convolution, in which they are channels side by side."""
    batch, height, width, channels = ops.shape(images)
    # Matrices are transposed faster than axes in the middle: images are the last of the channels.
    values = height * width * channels
    columns = ops.transpose(ops.reshape(images, (batch, values)))
    columns = ops.reshape(columns, (1, height, width, channels * batch))
    kernels = ops.tile(ops.transpose(kernels, (1, 2, 0)), (1, 1, channels))
    filtered = ops.depthwise_conv(columns, kernels[..., None], padding="same")
    filtered = ops.transpose(ops.reshape(filtered, (values, batch)))
    return ops.reshape(filtered, (batch, height, width, channels))


def _filter_by_taps(images, kernels):
    """Adds up the images that each tap of the filter moves and weights."""
    _, height, width, _ = ops.shape(images)
    half = KERNEL_SIDE // 2
    padded = ops.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] * kernels[:, i, j, None, None, None]
        for i in range(KERNEL_SIDE)
        for j in range(KERNEL_SIDE)
    )


def load_weights(estimator, path):
    """Assigns the weights of a file to an estimator: Keras' .h5 or .keras, or PyTorch's.

    PyTorch's tensors are told apart by their kind and their order, whatever their modules are
    called; convolutions without a bias get zeros.

    Raises:
        ValueError: when the file is broken or does not fit.
        FileNotFoundError: when there is no such file.
    """
    if weight_files.is_weight_file(path):
        weight_files.restore(path, {estimator.name: estimator})
    elif str(path).endswith(keras_weights.SUFFIXES):
        keras_weights.assign(estimator, keras_weights.read(path), path)
    else:
        targets = pytorch_weights.tensor_names(estimator)
        own = {name: variable for name, (variable, _) in targets.items()}
        found = _renamed(pytorch_files.read(path), own, path)
        for name, variable in own.items():
            if "conv" in name and name.endswith(".bias"):
                found.setdefault(name, np.zeros(variable.shape, np.float32))
        pytorch_weights.assign_all(targets, found, estimator.name, path)


def _renamed(tensors, own, path):
    """Returns tensors under the names of the estimator's modules of the same kind and place."""
    ours, theirs = _modules(own), _modules(tensors)
    counts = [{kind: len(modules) for kind, modules in part.items()} for part in (ours, theirs)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{path} is no estimator of SyMPIE, which has these modules: {_described(counts[0])}. "
            f"Received: {_described(counts[1])}"
        )
    return {
        f"{name}.{part}": value
        for kind, modules in ours.items()
        for name, values in zip(modules, theirs[kind].values(), strict=True)
        for part, value in values.items()
        if part != "num_batches_tracked"
    }


def _modules(tensors):
    """Returns {kind: {module: {part: tensor}}}; the order of `tensors` stays."""
    modules = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = tensor
    kinds = {}
    for module, parts in modules.items():
        if "weight" in parts:
            rank = len(parts["weight"].shape)
            kinds.setdefault(KINDS.get(rank, f"rank {rank}"), {})[module] = parts
    return kinds


def _described(counts):
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))

"""What is fed to the networks here and in PyTorch: settings, images, and weights by a formula."""

import math
import zlib

import numpy as np
import scipy.ndimage

from classifiers import networks

# Side of the test images: odd results on the way where the network takes any size.
SIZES = {
    "cifar_resnet20": 32,
    "cifar_resnet56": 32,
    "cifar_resnet110": 37,
    "resnet18": 75,
    "resnet34": 75,
    "resnet50": 91,
    "resnext101_32x8d": 70,
    "vgg13": 64,
    "vgg13_bn": 64,
    "vgg16": 64,
    "vgg16_bn": 75,
    "vgg19_bn": 64,
    "mobilenet_v2": 91,
    "mobilenet_v3_large": 91,
    "mnasnet1_0": 91,
    "squeezenet1_0": 91,
    "googlenet": 91,
    "inception_v3": 107,
    "efficientnet_b3": 123,
    "efficientnet_pytorch_b3": 122,
    "vit_b16": 64,
    "swin_t": 150,
    "clip_rn50": 64,
}
CLASSES = 37
LABELS = np.array([3, 1, 4, 1], np.int32)
# The share of its statistics that batch normalisation keeps in training, here and there.
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-2
RATES = {"sgd": 3e-4, "radam": 3e-4}
# The steps of RAdam are adaptive from the sixth on.
STEPS = {"sgd": 4, "radam": 8}
# What a network is trained on is chosen such that no value comes too near 0 before a ReLU.
TRAINING_SEED = 5
LARGEST = 2**21  # values of a kernel that are drawn


def normalisation(name):
    """Returns the means and deviations that a network's checkpoints are used with."""
    key = {"cifar": "cifar10", "clip_": "clip"}.get(name[:5], "imagenet")
    return networks.NORMALISATIONS[key]


def uniform(name, shape):
    """Returns float32 values in -1 to 1, always the same for a name."""
    count = math.prod(shape)
    # Unlike NumPy's distributions, the raw bits are the same in every version.
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(count // 2 + 1)
    values = bits.view(np.uint32)[:count].astype(np.float32)
    values *= np.float32(2**-31)
    values -= np.float32(1)
    return values.reshape(shape)


def create_kernel(name, shape):
    """Returns a kernel of PyTorch, `[outputs, inputs, ...]`, that keeps the size of its inputs."""
    inputs = math.prod(shape[1:])
    # The largest repeat a few outputs, each time with another factor.
    drawn = min(shape[0], 1 + LARGEST // inputs)
    values = uniform(name, (inputs, drawn)) * np.float32(math.sqrt(6 / inputs))
    if shape[1] > 1:
        # What all inputs have in common would drown the images, layer after layer.
        values -= values.mean(axis=0)
    factors = 1 + 0.3 * uniform(f"{name} factors", (shape[0],))
    # Outputs last, as Keras keeps them: turning the largest round would take seconds.
    kernel = np.empty((inputs, shape[0]), np.float32)
    for first in range(0, shape[0], drawn):
        part = kernel[:, first : first + drawn]
        np.multiply(values[:, : part.shape[1]], factors[first : first + drawn], out=part)
    return kernel.T.reshape(shape)


def create_tensor(name, shape, scale=1.0):
    """Returns the values of a PyTorch tensor such that the logits depend on the images.

    Args:
        name: name of the tensor in the network's state.
        shape: its shape.
        scale: mean square of what a batch normalisation takes, if it is one of its statistics.
    """
    if len(shape) in (2, 4) and name.endswith("weight"):
        # Gates of squeeze and excitation: shut ones would hide what comes before them.
        factor = 0.2 if ".fc2." in name or "._se_expand." in name else 1
        return create_kernel(name, shape) * np.float32(factor)
    if name.endswith("logit_scale"):
        return np.full(shape, 2, np.float32)
    values = uniform(name, shape)
    if name.endswith("running_var"):
        return np.float32(scale) * (1 + 0.4 * values)
    if name.endswith("running_mean"):
        return np.float32(0.3 * math.sqrt(scale)) * values
    if name.endswith("weight"):  # of a normalisation
        return 1 + 0.5 * values
    return values * np.float32(0.3 if name.endswith("bias") else 0.8)


def create_state(shapes, scales):
    """Returns {name: array} of all tensors of a network.

    Args:
        shapes: {name: shape}.
        scales: {name of the batch normalisation: mean square of what it takes}.
    """
    return {
        name: create_tensor(name, tuple(shape), scales.get(name.rpartition(".")[0], 1.0))
        for name, shape in shapes.items()
    }


def photos(count, side, seed=0):
    """Returns smooth random images of different contrast, float32 in 0-255."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, side, side, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0.4))
    contrast = np.linspace(20, 60, count)[:, None, None, None]
    pixels = 127 + contrast * smooth / smooth.std() + random.normal(0, 40, (count, 1, 1, 3))
    return np.clip(pixels, 0, 255).astype(np.float32)


def training_images():
    """Returns the images that belong to `LABELS`."""
    return photos(len(LABELS), 16, TRAINING_SEED)

"""Inception v3, as torchvision builds it.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, table 1 and
figures 5 to 7. The auxiliary classifier, which serves only the original training, is left out.
"""

import keras

from classifiers.networks import layers
from classifiers.networks.googlenet import convolution


def build(x, num_classes):
    """Returns the stages for images from 75x75 pixels on; usually 299x299.

    They are "stem" and "stage1" (after the second and the fifth convolution), "stage2" to "stage4"
    (after the modules 5, 6 and 7), and the head.
    """
    stages = {}
    x = convolution(x, 32, 3, "Conv2d_1a_3x3", stride=2, padding=0)
    x = convolution(x, 32, 3, "Conv2d_2a_3x3", padding=0)
    x = stages["stem"] = convolution(x, 64, 3, "Conv2d_2b_3x3")
    x = layers.max_pool(x, 3, 2)
    x = convolution(x, 80, 1, "Conv2d_3b_1x1")
    x = stages["stage1"] = convolution(x, 192, 3, "Conv2d_4a_3x3", padding=0)
    x = layers.max_pool(x, 3, 2)
    for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
        x = _module_5(x, pooled, f"Mixed_5{letter}")
    stages["stage2"] = x
    x = _reduction_6(x, "Mixed_6a")
    for letter, features in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        x = _module_6(x, features, f"Mixed_6{letter}")
    stages["stage3"] = x
    x = _reduction_7(x, "Mixed_7a")
    for letter in "bc":
        x = _module_7(x, f"Mixed_7{letter}")
    stages["stage4"] = x
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, "fc", stages, (0.5, "dropout"))


def _module_5(x, pooled, name):
    return _concatenate(
        _chain(x, f"{name}.branch1x1", {"": (64, 1)}),
        _chain(x, f"{name}.branch5x5", {"_1": (48, 1), "_2": (64, 5)}),
        _chain(x, f"{name}.branch3x3dbl", {"_1": (64, 1), "_2": (96, 3), "_3": (96, 3)}),
        _chain(_average(x), f"{name}.branch_pool", {"": (pooled, 1)}),
    )


def _module_6(x, features, name):
    row, column = (1, 7), (7, 1)
    double = {
        "_1": (features, 1),
        "_2": (features, column),
        "_3": (features, row),
        "_4": (features, column),
        "_5": (192, row),
    }
    single = {"_1": (features, 1), "_2": (features, row), "_3": (192, column)}
    return _concatenate(
        _chain(x, f"{name}.branch1x1", {"": (192, 1)}),
        _chain(x, f"{name}.branch7x7", single),
        _chain(x, f"{name}.branch7x7dbl", double),
        _chain(_average(x), f"{name}.branch_pool", {"": (192, 1)}),
    )


def _module_7(x, name):
    single = _chain(x, f"{name}.branch3x3", {"_1": (384, 1)})
    double = _chain(x, f"{name}.branch3x3dbl", {"_1": (448, 1), "_2": (384, 3)})
    return _concatenate(
        _chain(x, f"{name}.branch1x1", {"": (320, 1)}),
        _chain(single, f"{name}.branch3x3", {"_2a": (384, (1, 3))}),
        _chain(single, f"{name}.branch3x3", {"_2b": (384, (3, 1))}),
        _chain(double, f"{name}.branch3x3dbl", {"_3a": (384, (1, 3))}),
        _chain(double, f"{name}.branch3x3dbl", {"_3b": (384, (3, 1))}),
        _chain(_average(x), f"{name}.branch_pool", {"": (192, 1)}),
    )


def _reduction_6(x, name):
    double = _chain(x, f"{name}.branch3x3dbl", {"_1": (64, 1), "_2": (96, 3)})
    return _concatenate(
        _halve(x, 384, f"{name}.branch3x3"),
        _halve(double, 96, f"{name}.branch3x3dbl_3"),
        layers.max_pool(x, 3, 2),
    )


def _reduction_7(x, name):
    single = _chain(x, f"{name}.branch3x3", {"_1": (192, 1)})
    path = {"_1": (192, 1), "_2": (192, (1, 7)), "_3": (192, (7, 1))}
    return _concatenate(
        _halve(single, 320, f"{name}.branch3x3_2"),
        _halve(_chain(x, f"{name}.branch7x7x3", path), 192, f"{name}.branch7x7x3_4"),
        layers.max_pool(x, 3, 2),
    )


def _chain(x, name, steps):
    for suffix, (features, kernel_size) in steps.items():
        x = convolution(x, features, kernel_size, name + suffix)
    return x


def _halve(x, features, name):
    return convolution(x, features, 3, name, stride=2, padding=0)


def _average(x):
    # PyTorch counts the zeros of the padding; Keras' "same" does not.
    return keras.layers.AveragePooling2D(3, 1, "valid")(keras.layers.ZeroPadding2D(1)(x))


def _concatenate(*branches):
    return keras.layers.Concatenate()(list(branches))

"""GoogLeNet with batch normalisation, as torchvision builds it.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1. As in torchvision, the branch
that the paper gives 5x5 convolutions has 3x3 ones. The auxiliary classifiers, which serve only the
original training, are left out.
"""

import functools

import keras

from classifiers.networks import layers

norm = functools.partial(layers.batch_norm, epsilon=1e-3)

# Features of the 1x1 branch; of the 3x3 branch, reduced and full; of the "5x5" branch, reduced and
# full; of the pooling branch.
MODULES = {
    3: {"a": (64, 96, 128, 16, 32, 32), "b": (128, 128, 192, 32, 96, 64)},
    4: {
        "a": (192, 96, 208, 16, 48, 64),
        "b": (160, 112, 224, 24, 64, 64),
        "c": (128, 128, 256, 24, 64, 64),
        "d": (112, 144, 288, 32, 64, 64),
        "e": (256, 160, 320, 32, 128, 128),
    },
    5: {"a": (256, 160, 320, 32, 128, 128), "b": (384, 192, 384, 48, 128, 128)},
}


def build(x, num_classes):
    """Returns the stages for images from 15x15 pixels on.

    They are "stem" and "stage1" (after conv1 and conv3), "stage2" to "stage4" (after the modules 3,
    4 and 5), and the head.
    """
    stages = {}
    x = stages["stem"] = convolution(x, 64, 7, "conv1", stride=2)
    x = layers.max_pool(x, 3, 2, ceil_mode=True)
    x = convolution(x, 64, 1, "conv2")
    x = stages["stage1"] = convolution(x, 192, 3, "conv3")
    x = layers.max_pool(x, 3, 2, ceil_mode=True)
    for number, modules in MODULES.items():
        if number > 3:
            x = layers.max_pool(x, 3 if number == 4 else 2, 2, ceil_mode=True)
        for letter, features in modules.items():
            x = _inception(x, features, f"inception{number}{letter}")
        stages[f"stage{number - 1}"] = x
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, "fc", stages, (0.2, "dropout"))


def convolution(x, features, kernel_size, name, **kwargs):
    """Applies a convolution, batch normalisation and ReLU; see `layers.conv_norm`."""
    names = f"{name}.conv", f"{name}.bn"
    return layers.conv_norm(x, features, kernel_size, names, norm=norm, **kwargs)


def _inception(x, features, name):
    one, reduced3, full3, reduced5, full5, pooled = features
    branches = [convolution(x, one, 1, f"{name}.branch1")]
    for branch, reduced, full in ((2, reduced3, full3), (3, reduced5, full5)):
        y = convolution(x, reduced, 1, f"{name}.branch{branch}.0")
        branches.append(convolution(y, full, 3, f"{name}.branch{branch}.1"))
    y = keras.layers.MaxPooling2D(3, 1, "same")(x)
    branches.append(convolution(y, pooled, 1, f"{name}.branch4.1"))
    return keras.layers.Concatenate()(branches)

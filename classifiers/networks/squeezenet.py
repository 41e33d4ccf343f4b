"""SqueezeNet 1.0, as torchvision builds it.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size", 2016, table 1.
"""

import keras

from classifiers.networks import layers

# (squeeze, expand) features of the fire modules between two max pools, by their place.
FIRE_MODULES = (
    {3: (16, 64), 4: (16, 64), 5: (32, 128)},
    {7: (32, 128), 8: (48, 192), 9: (48, 192), 10: (64, 256)},
    {12: (64, 256)},
)


def build(x, num_classes):
    """Returns the stages for images from 21x21 pixels on.

    They are "stem", "stage1" to "stage3", "pooled" (the 512 features of the last stage, averaged;
    the classifier is a convolution before the pool) and "logits".
    """
    stages = {}
    x = layers.convolution(x, 96, 7, "features.0", stride=2, padding=0, bias=True)
    x = stages["stem"] = keras.layers.ReLU()(x)
    for stage, modules in enumerate(FIRE_MODULES, start=1):
        x = layers.max_pool(x, 3, 2, ceil_mode=True)
        for index, (squeeze, expand) in modules.items():
            x = _fire(x, squeeze, expand, f"features.{index}")
        stages[f"stage{stage}"] = x
    stages["pooled"] = layers.global_average_pool(x)
    x = keras.layers.Dropout(0.5, name="classifier.0")(x)
    # N(0, 0.01): as the linear classifiers of the other networks.
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="classifier.1",
    )(x)
    x = keras.layers.ReLU(dtype="float32")(x)
    stages["logits"] = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return stages


def _fire(x, squeeze, expand, name):
    x = _convolution(x, squeeze, 1, f"{name}.squeeze")
    branches = [_convolution(x, expand, size, f"{name}.expand{size}x{size}") for size in (1, 3)]
    return keras.layers.Concatenate()(branches)


def _convolution(x, features, kernel_size, name):
    return keras.layers.ReLU()(layers.convolution(x, features, kernel_size, name, bias=True))

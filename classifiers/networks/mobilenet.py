"""MobileNetV2 and MobileNetV3-Large, as torchvision builds them.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2;
Howard et al., "Searching for MobileNetV3", ICCV 2019, table 1.
"""

import functools

import keras

from classifiers.networks import inverted_residual, layers

# Expansion, features, blocks, stride of the first block.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Kernel, inner features, features, squeeze and excitation, activation, stride.
V3_BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)


def build_v2(x, num_classes):
    """Returns the stages of MobileNetV2 1.0.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.

    Returns:
        {name: tensor}: "stem", "stage1" to "stage5" (one for each resolution), "pooled", "logits".
    """
    stages = {}
    x = _convolution(x, 32, 3, "features.0", "relu6", stride=2)
    stages["stem"] = x
    x = inverted_residual.apply_stages(x, _v2_blocks(), layers.batch_norm, stages)
    x = _convolution(x, 1280, 1, "features.18", "relu6")
    stages["pooled"] = layers.global_average_pool(x)
    x = keras.layers.Dropout(0.2, name="classifier.0")(stages["pooled"])
    stages["logits"] = layers.logits(x, num_classes, "classifier.1")
    return stages


def build_v3_large(x, num_classes):
    """Returns the stages of MobileNetV3-Large 1.0.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.

    Returns:
        {name: tensor}: "stem", "stage1" to "stage5" (one for each resolution), "pooled" (the 1280
        features before the last layer) and "logits".
    """
    norm = functools.partial(layers.batch_norm, epsilon=1e-3, momentum=0.99)
    stages = {}
    x = _convolution(x, 16, 3, "features.0", "hard_swish", norm=norm, stride=2)
    stages["stem"] = x
    x = inverted_residual.apply_stages(x, _v3_blocks(), norm, stages)
    x = _convolution(x, 960, 1, "features.16", "hard_swish", norm=norm)
    x = layers.linear(layers.global_average_pool(x), 1280, "classifier.0")
    stages["pooled"] = keras.layers.Activation("hard_swish")(x)
    x = keras.layers.Dropout(0.2, name="classifier.2")(stages["pooled"])
    stages["logits"] = layers.logits(x, num_classes, "classifier.3")
    return stages


def _v2_blocks():
    blocks = []
    before = 32
    for expansion, features, count, stride in V2_STAGES:
        for block in range(count):
            steps = ["expand"] if expansion > 1 else []
            steps.append("depthwise")
            name = f"features.{len(blocks) + 1}.conv"
            names = {step: (f"{name}.{i}.0", f"{name}.{i}.1") for i, step in enumerate(steps)}
            names["project"] = f"{name}.{len(steps)}", f"{name}.{len(steps) + 1}"
            blocks.append(
                inverted_residual.Block(
                    expanded=before * expansion,
                    features=features,
                    kernel_size=3,
                    stride=stride if block == 0 else 1,
                    names=names,
                    activation="relu6",
                )
            )
            before = features
    return blocks


def _v3_blocks():
    blocks = []
    before = 16
    for index, (kernel, expanded, features, squeeze, activation, stride) in enumerate(V3_BLOCKS, 1):
        blocks.append(
            inverted_residual.Block(
                expanded=expanded,
                features=features,
                kernel_size=kernel,
                stride=stride,
                names=numbered_names(f"features.{index}.block", expanded != before, squeeze),
                activation=activation,
                squeezed=inverted_residual.divisible(expanded // 4) if squeeze else 0,
            )
        )
        before = features
    return blocks


def numbered_names(name, expand, squeeze):
    """Returns the names of a `Block` whose steps are numbered modules, as in V3 and EfficientNet.

    Args:
        name: name of the block's list of modules.
        expand: whether there is an expansion.
        squeeze: whether there is squeeze and excitation.
    """
    steps = ["expand"] * expand + ["depthwise"] + ["squeeze"] * squeeze + ["project"]
    endings = {"squeeze": ("fc1", "fc2")}
    return {
        step: tuple(f"{name}.{index}.{ending}" for ending in endings.get(step, ("0", "1")))
        for index, step in enumerate(steps)
    }


def _convolution(x, features, kernel_size, name, activation, **kwargs):
    names = f"{name}.0", f"{name}.1"
    return layers.conv_norm(x, features, kernel_size, names, activation, **kwargs)

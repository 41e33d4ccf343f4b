"""MobileNetV2 and MobileNetV3-Large, as torchvision builds them.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2;
Howard et al., "Searching for MobileNetV3", ICCV 2019, table 1.
"""

import functools

import keras

from classifiers.networks import inverted_residual, layers

# Expansion, kernel, stride of the first block, features, blocks.
V2_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
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
    """Returns the stages: "stem", "stage1" to "stage5" (one for each resolution), and the head."""
    stages = {}
    x = stages["stem"] = layers.conv_norm(x, 32, 3, "features.0", "relu6", stride=2)
    x = inverted_residual.apply_stages(x, _v2_blocks(), layers.batch_norm, stages)
    x = layers.conv_norm(x, 1280, 1, "features.18", "relu6")
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, "classifier.1", stages, (0.2, "classifier.0"))


def build_v3_large(x, num_classes):
    """Returns the stages: "stem", "stage1" to "stage5" (one for each resolution), and the head.

    "pooled" are the 1280 features before the last layer.
    """
    norm = functools.partial(layers.batch_norm, epsilon=1e-3, momentum=0.99)
    stages = {}
    x = layers.conv_norm(x, 16, 3, "features.0", "hard_swish", norm=norm, stride=2)
    stages["stem"] = x
    x = inverted_residual.apply_stages(x, _v3_blocks(), norm, stages)
    x = layers.conv_norm(x, 960, 1, "features.16", "hard_swish", norm=norm)
    x = layers.linear(layers.global_average_pool(x), 1280, "classifier.0")
    x = keras.layers.Activation("hard_swish")(x)
    return layers.classify(x, num_classes, "classifier.3", stages, (0.2, "classifier.2"))


def _v2_blocks():
    blocks = []
    for stack, _, _, shape in inverted_residual.unroll(V2_STAGES, 32):
        name = f"features.{len(blocks) + 1}.conv"
        names = inverted_residual.numbered_names(name, expand=stack > 0, squeeze=False)
        # Here the projection and its normalisation are modules of the list itself.
        names["project"] = f"{name}.{len(names) - 1}", f"{name}.{len(names)}"
        blocks.append(inverted_residual.Block(**shape, names=names, activation="relu6"))
    return blocks


def _v3_blocks():
    blocks = []
    before = 16
    for index, (kernel, expanded, features, squeeze, activation, stride) in enumerate(V3_BLOCKS, 1):
        name = f"features.{index}.block"
        blocks.append(
            inverted_residual.Block(
                expanded=expanded,
                features=features,
                kernel_size=kernel,
                stride=stride,
                names=inverted_residual.numbered_names(name, expanded != before, squeeze),
                activation=activation,
                squeezed=inverted_residual.divisible(expanded // 4) if squeeze else 0,
            )
        )
        before = features
    return blocks

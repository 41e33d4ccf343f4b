"""EfficientNet-B3, as torchvision builds it.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1, with the width 1.2 and depth 1.4 of B3.
"""

import math

from classifiers.networks import inverted_residual, layers

WIDTH = 1.2
DEPTH = 1.4
# Expansion, kernel, stride of the first block, features, blocks: those of B0.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def build(x, num_classes):
    """Returns the stages: "stem", "stage1" to "stage5" (one for each resolution), and the head."""
    stages = {}
    stem = inverted_residual.divisible(32 * WIDTH)
    x = stages["stem"] = layers.conv_norm(x, stem, 3, "features.0", "silu", stride=2)
    blocks = _blocks(stem)
    x = inverted_residual.apply_stages(x, blocks, layers.batch_norm, stages)
    name = f"features.{len(STAGES) + 1}"
    x = layers.conv_norm(x, 4 * blocks[-1].features, 1, name, "silu")
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, "classifier.1", stages, (0.3, "classifier.0"))


def _blocks(stem):
    stacks = [
        (*others, inverted_residual.divisible(features * WIDTH), math.ceil(count * DEPTH))
        for *others, features, count in STAGES
    ]
    shapes = list(inverted_residual.unroll(stacks, stem))
    return [
        inverted_residual.Block(
            **shape,
            names=inverted_residual.numbered_names(
                f"features.{stack + 1}.{place}.block", expand=stack > 0, squeeze=True
            ),
            activation="silu",
            squeezed=max(1, before // 4),
            squeeze_activations=("silu", "sigmoid"),
            # torchvision's code: rises linearly with the block to 0.2.
            drop_rate=0.2 * number / len(shapes),
        )
        for number, (stack, place, before, shape) in enumerate(shapes)
    ]

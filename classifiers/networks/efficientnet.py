"""EfficientNet-B3, as torchvision builds it.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1, with the width 1.2 and depth 1.4 of B3.
"""

import math

import keras

from classifiers.networks import inverted_residual, layers, mobilenet

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


def build(x, num_classes, width=1.2, depth=1.4, dropout=0.3):
    """Returns the stages of an EfficientNet.

    Args:
        x: normalised images `[batch, height, width, 3]`; usually 300x300 for B3.
        num_classes: number of logits.
        width: factor of the features.
        depth: factor of the number of blocks.
        dropout: share of the pooled features dropped in training.

    Returns:
        {name: tensor}: "stem", "stage1" to "stage5" (one for each resolution), "pooled", "logits".
    """
    stages = {}
    stem = inverted_residual.divisible(32 * width)
    x = stages["stem"] = _convolution(x, stem, 3, "features.0", stride=2)
    blocks = _blocks(stem, width, depth)
    x = inverted_residual.apply_stages(x, blocks, layers.batch_norm, stages)
    x = _convolution(x, 4 * blocks[-1].features, 1, f"features.{len(STAGES) + 1}")
    stages["pooled"] = layers.global_average_pool(x)
    x = keras.layers.Dropout(dropout, name="classifier.0")(stages["pooled"])
    stages["logits"] = layers.logits(x, num_classes, "classifier.1")
    return stages


def _blocks(before, width, depth):
    counts = [math.ceil(stage[-1] * depth) for stage in STAGES]
    blocks = []
    for number, (expansion, kernel, stride, features, _) in enumerate(STAGES, start=1):
        features = inverted_residual.divisible(features * width)
        for block in range(counts[number - 1]):
            name = f"features.{number}.{block}.block"
            blocks.append(
                inverted_residual.Block(
                    expanded=inverted_residual.divisible(before * expansion),
                    features=features,
                    kernel_size=kernel,
                    stride=stride if block == 0 else 1,
                    names=mobilenet.numbered_names(name, expansion > 1, squeeze=True),
                    activation="silu",
                    squeezed=max(1, before // 4),
                    squeeze_activations=("silu", "sigmoid"),
                    # torchvision's code: rises linearly with the block to 0.2.
                    drop_rate=0.2 * len(blocks) / sum(counts),
                )
            )
            before = features
    return blocks


def _convolution(x, features, kernel_size, name, **kwargs):
    names = f"{name}.0", f"{name}.1"
    return layers.conv_norm(x, features, kernel_size, names, "silu", **kwargs)

"""MnasNet-B1 1.0, as torchvision builds it.

Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019, figure 7
without squeeze and excitation.
"""

import functools

import keras

from classifiers.networks import inverted_residual, layers

# Expansion, features, blocks, stride of the first block, kernel.
STACKS = (
    (3, 24, 3, 2, 3),
    (3, 40, 3, 2, 5),
    (6, 80, 3, 2, 5),
    (6, 96, 2, 1, 3),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
FIRST_STACK = 8  # its place among the modules of torchvision's network
# torchvision's code: 0.9997, which the paper gives for TensorFlow.
norm = functools.partial(layers.batch_norm, momentum=0.9997)


def build(x, num_classes):
    """Returns the stages of MnasNet 1.0.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.

    Returns:
        {name: tensor}: "stem", "stage1" to "stage5" (one for each resolution), "pooled", "logits".
    """
    stages = {}
    x = stages["stem"] = _convolution(x, 32, 3, 0, stride=2)
    x = inverted_residual.apply_stages(x, _blocks(), norm, stages)
    x = _convolution(x, 1280, 1, 14)
    stages["pooled"] = layers.global_average_pool(x)
    x = keras.layers.Dropout(0.2, name="classifier.0")(stages["pooled"])
    stages["logits"] = layers.logits(x, num_classes, "classifier.1")
    return stages


def _blocks():
    names = {"depthwise": ("layers.3", "layers.4"), "project": ("layers.6", "layers.7")}
    blocks = [inverted_residual.Block(32, 16, 3, 1, names)]
    before = 16
    for stack, (expansion, features, count, stride, kernel) in enumerate(STACKS, FIRST_STACK):
        for block in range(count):
            name = f"layers.{stack}.{block}.layers"
            names = {
                step: (f"{name}.{index}", f"{name}.{index + 1}")
                for step, index in (("expand", 0), ("depthwise", 3), ("project", 6))
            }
            blocks.append(
                inverted_residual.Block(
                    expanded=before * expansion,
                    features=features,
                    kernel_size=kernel,
                    stride=stride if block == 0 else 1,
                    names=names,
                )
            )
            before = features
    return blocks


def _convolution(x, features, kernel_size, index, **kwargs):
    names = f"layers.{index}", f"layers.{index + 1}"
    return layers.conv_norm(x, features, kernel_size, names, norm=norm, **kwargs)

"""MnasNet-B1 1.0, as torchvision builds it.

Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019, figure 7
without squeeze and excitation.
"""

import functools

from classifiers.networks import inverted_residual, layers

# Expansion, kernel, stride of the first block, features, blocks.
STACKS = (
    (3, 3, 2, 24, 3),
    (3, 5, 2, 40, 3),
    (6, 5, 2, 80, 3),
    (6, 3, 1, 96, 2),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
FIRST_STACK = 8  # its place among the modules of torchvision's network
# torchvision's code: 0.9997, which the paper gives for TensorFlow.
norm = functools.partial(layers.batch_norm, momentum=0.9997)


def build(x, num_classes):
    """Returns the stages: "stem", "stage1" to "stage5" (one for each resolution), and the head."""
    stages = {}
    x = layers.conv_norm(x, 32, 3, _names("layers", 0), norm=norm, stride=2)
    stages["stem"] = x
    x = inverted_residual.apply_stages(x, _blocks(), norm, stages)
    x = layers.conv_norm(x, 1280, 1, _names("layers", 14), norm=norm)
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, "classifier.1", stages, (0.2, "classifier.0"))


def _blocks():
    names = {"depthwise": _names("layers", 3), "project": _names("layers", 6)}
    blocks = [inverted_residual.Block(32, 16, 3, 1, names)]
    for stack, place, _, shape in inverted_residual.unroll(STACKS, 16):
        name = f"layers.{FIRST_STACK + stack}.{place}.layers"
        names = {
            step: _names(name, index)
            for step, index in (("expand", 0), ("depthwise", 3), ("project", 6))
        }
        blocks.append(inverted_residual.Block(**shape, names=names))
    return blocks


def _names(name, index):
    return f"{name}.{index}", f"{name}.{index + 1}"

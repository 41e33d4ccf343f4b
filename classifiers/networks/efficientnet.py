"""EfficientNet-B3, as torchvision builds it, and as the package efficientnet_pytorch does.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1, with the width 1.2 and depth 1.4 of B3. The package (L. Melas-Kyriazi) computes what the
authors' TensorFlow code does: it pads and normalises otherwise, and its tensors have other names.
"""

import functools
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
# Without the underscores that all names in the package's files begin with.
PACKAGE_NAMES = {
    "expand": ("expand_conv", "bn0"),
    "depthwise": ("depthwise_conv", "bn1"),
    "squeeze": ("se_reduce", "se_expand"),
    "project": ("project_conv", "bn2"),
}


def build(x, num_classes):
    """Returns the stages: "stem", "stage1" to "stage5" (one for each resolution), and the head."""

    def name_block(number, stack, place):
        del number
        name = f"features.{stack + 1}.{place}.block"
        return inverted_residual.numbered_names(name, expand=stack > 0, squeeze=True)

    ends = "features.0", f"features.{len(STAGES) + 1}", "classifier.1", "classifier.0"
    return _build(x, num_classes, name_block, ends, layers.batch_norm)


def build_package(x, num_classes):
    """Returns the same stages of efficientnet_pytorch's network.

    It pads as for the size of the images that are given; the package, unless it is told a size,
    pads images of every size as those of 300 pixels.
    """

    def name_block(number, stack, place):
        del stack, place
        return {
            step: tuple(f"blocks.{number}.{name}" for name in names)
            for step, names in PACKAGE_NAMES.items()
        }

    norm = functools.partial(layers.batch_norm, epsilon=1e-3, momentum=0.99)
    ends = ("conv_stem", "bn0"), ("conv_head", "bn1"), "fc", "dropout"
    return _build(x, num_classes, name_block, ends, norm, padding="same")


def _build(x, num_classes, name_block, ends, norm, padding=None):
    """Returns the stages of a variant.

    Args:
        x: normalised images.
        num_classes: number of logits.
        name_block: function of the number of a block, of its stack and of its place in there, that
            returns the names of `inverted_residual.Block`.
        ends: names of the first and of the last convolution with its norm, of the classifier, and
            of the dropout before it.
        norm: function of a tensor and a name that normalises.
        padding: that of convolutions, see `layers.convolution`.
    """
    first, last, head, dropout = ends
    stages, settings = {}, {"activation": "silu", "norm": norm}
    stem = inverted_residual.divisible(32 * WIDTH)
    x = layers.conv_norm(x, stem, 3, first, stride=2, padding=padding, **settings)
    stages["stem"] = x
    blocks = _blocks(stem, name_block, padding)
    x = inverted_residual.apply_stages(x, blocks, norm, stages)
    x = layers.conv_norm(x, 4 * blocks[-1].features, 1, last, **settings)
    x = layers.global_average_pool(x)
    return layers.classify(x, num_classes, head, stages, (0.3, dropout))


def _blocks(stem, name_block, padding):
    stacks = [
        (*others, inverted_residual.divisible(features * WIDTH), math.ceil(count * DEPTH))
        for *others, features, count in STAGES
    ]
    shapes = list(inverted_residual.unroll(stacks, stem))
    return [
        inverted_residual.Block(
            **shape,
            names=name_block(number, stack, place),
            activation="silu",
            squeezed=max(1, before // 4),
            squeeze_activations=("silu", "sigmoid"),
            # Both packages' code: rises linearly with the block to 0.2.
            drop_rate=0.2 * number / len(shapes),
            padding=padding,
        )
        for number, (stack, place, before, shape) in enumerate(shapes)
    ]

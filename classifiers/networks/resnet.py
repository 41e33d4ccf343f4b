"""ResNet and ResNeXt for ImageNet, as torchvision builds them.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride in the 3x3
convolution of a bottleneck (Goyal et al., 2017, section 5.1); Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", CVPR 2017.
"""

import functools

import keras

from classifiers.networks import layers

FEATURES = (64, 128, 256, 512)


def build(x, num_classes, blocks, bottleneck=True, groups=1, width_per_group=64):
    """Returns the stages: "stem", "stage1" to "stage4", and the head.

    All but the head are there with "_preactivation" too: the values before the last ReLU.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.
        blocks: number of residual blocks in each of the four stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions with four times the features, or of two
            3x3 convolutions.
        groups: groups of the 3x3 convolution in a bottleneck.
        width_per_group: features of each group in the first stage.
    """
    block, stages = basic, {}
    if bottleneck:
        block = functools.partial(_bottleneck, groups=groups, width_per_group=width_per_group)
    x = apply_stages(_stem(x, stages), blocks, FEATURES, block, "layer", stages)
    return layers.classify(layers.global_average_pool(x), num_classes, "fc", stages)


def build_features(x, blocks, dilations):
    """Returns the last stage of a ResNet of bottlenecks, for a head of another kind.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        blocks: see `build`.
        dilations: those of the 3x3 convolutions of each stage, instead of its stride where above 1.
    """
    return apply_stages(
        _stem(x, {}), blocks, FEATURES, _bottleneck, "layer", stages={}, dilations=dilations
    )


def _stem(x, stages):
    x = layers.batch_norm(layers.convolution(x, 64, 7, "conv1", stride=2), "bn1")
    return layers.max_pool(activate_stage("stem", x, stages), 3, 2, padding=1)


def apply_stages(x, blocks, features, block, name, stages, dilations=None):
    """Applies residual blocks, and notes what each stage ends with.

    Args:
        x: `[batch, height, width, channels]`.
        blocks: number of blocks of each stage.
        features: features of each stage.
        block: function of a tensor, features, stride and name, without the last ReLU.
        name: what the names of the blocks begin with, before "1.0".
        stages: dict that takes the stages.
        dilations: of each stage, given to its blocks; above 1, it stands in for the stride.
    """
    for stage, (count, width) in enumerate(zip(blocks, features, strict=True), start=1):
        dilation = dilations[stage - 1] if dilations else 1
        if dilation > 1:
            block = functools.partial(block, dilation=dilation)
        for number in range(count):
            stride = 2 if stage > 1 and number == 0 and dilation == 1 else 1
            x = block(x, width, stride, f"{name}{stage}.{number}")
            if number < count - 1:
                x = keras.layers.ReLU()(x)
        x = activate_stage(f"stage{stage}", x, stages)
    return x


def activate_stage(name, x, stages):
    """Returns `x` after a ReLU, and notes the values before and after it as a stage."""
    stages[f"{name}_preactivation"] = x
    stages[name] = keras.layers.ReLU()(x)
    return stages[name]


def basic(inputs, features, stride, name, shortcut="downsample"):
    """Applies two 3x3 convolutions beside a shortcut, whose name is given."""
    x = layers.conv_norm(inputs, features, 3, _names(name, 1), stride=stride)
    x = layers.conv_norm(x, features, 3, _names(name, 2), activation=None)
    return _add_shortcut(x, inputs, features, stride, f"{name}.{shortcut}")


def _bottleneck(inputs, features, stride, name, groups=1, width_per_group=64, dilation=1):
    width = features * width_per_group // 64 * groups
    x = layers.conv_norm(inputs, width, 1, _names(name, 1))
    spread = {"stride": stride, "groups": groups, "dilation": dilation}
    x = layers.conv_norm(x, width, 3, _names(name, 2), **spread)
    x = layers.conv_norm(x, 4 * features, 1, _names(name, 3), activation=None)
    return _add_shortcut(x, inputs, 4 * features, stride, f"{name}.downsample")


def _add_shortcut(x, inputs, features, stride, name):
    if stride > 1 or inputs.shape[-1] != features:
        inputs = layers.conv_norm(inputs, features, 1, name, activation=None, stride=stride)
    return keras.layers.Add()([x, inputs])


def _names(block, number):
    return f"{block}.conv{number}", f"{block}.bn{number}"

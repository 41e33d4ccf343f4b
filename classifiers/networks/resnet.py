"""ResNet and ResNeXt for ImageNet, as torchvision builds them.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride in the 3x3
convolution of a bottleneck (Goyal et al., 2017, section 5.1); Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", CVPR 2017.
"""

import keras

from classifiers.networks import layers

FEATURES = (64, 128, 256, 512)


def build(x, num_classes, blocks, bottleneck=True, groups=1, width_per_group=64):
    """Returns the stages of a residual network.

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.
        blocks: number of residual blocks in each of the four stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions with four times the features, or of two
            3x3 convolutions.
        groups: groups of the 3x3 convolution in a bottleneck.
        width_per_group: features of each group in the first stage.

    Returns:
        {name: tensor}: "stem", "stage1" to "stage4", each also with "_preactivation" for the values
        before its last ReLU, "pooled" and "logits".
    """
    stages = {}
    x = layers.batch_norm(layers.convolution(x, 64, 7, "conv1", stride=2), "bn1")
    x = activate_stage("stem", x, stages)
    x = layers.max_pool(x, 3, 2, padding=1)
    for stage, (count, features) in enumerate(zip(blocks, FEATURES, strict=True), start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            if bottleneck:
                width = features * width_per_group // 64 * groups
                x = _bottleneck(x, features, width, stride, groups, name)
            else:
                x = _basic(x, features, stride, name)
            if block < count - 1:
                x = keras.layers.ReLU()(x)
        x = activate_stage(f"stage{stage}", x, stages)
    stages["pooled"] = layers.global_average_pool(x)
    stages["logits"] = layers.logits(stages["pooled"], num_classes, "fc")
    return stages


def activate_stage(name, x, stages):
    """Returns `x` after a ReLU, and notes the values before and after it as a stage."""
    stages[f"{name}_preactivation"] = x
    stages[name] = keras.layers.ReLU()(x)
    return stages[name]


def _basic(inputs, features, stride, name):
    x = layers.conv_norm(inputs, features, 3, _names(name, 1), stride=stride)
    x = layers.conv_norm(x, features, 3, _names(name, 2), activation=None)
    return _add_shortcut(x, inputs, features, stride, name)


def _bottleneck(inputs, features, width, stride, groups, name):
    x = layers.conv_norm(inputs, width, 1, _names(name, 1))
    x = layers.conv_norm(x, width, 3, _names(name, 2), stride=stride, groups=groups)
    x = layers.conv_norm(x, 4 * features, 1, _names(name, 3), activation=None)
    return _add_shortcut(x, inputs, 4 * features, stride, name)


def _add_shortcut(x, inputs, features, stride, name):
    if stride > 1 or inputs.shape[-1] != features:
        names = f"{name}.downsample.0", f"{name}.downsample.1"
        inputs = layers.conv_norm(inputs, features, 1, names, activation=None, stride=stride)
    return keras.layers.Add()([x, inputs])


def _names(block, number):
    return f"{block}.conv{number}", f"{block}.bn{number}"

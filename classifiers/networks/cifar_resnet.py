"""ResNet-20, 56 and 110 for small images, with the stages that distillation compares.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with two
differences of Daultani and Larochelle, "Consolidating Separate Degradations Model via Weights
Fusion and Distillation", WACV Workshops 2024: shortcuts that change the shape are 1x1
convolutions, and the last average pool leaves 2x2 windows, 256 features.

Layers bear the names of the authors' PyTorch modules.
"""

import keras

from classifiers.networks import layers, resnet

FEATURES = (16, 32, 64)
POOLED_SIZE = 2


def build(x, num_classes, blocks):
    """Returns the stages of a ResNet with `6 * blocks + 2` layers.

    Args:
        x: normalised images `[batch, height, width, 3]`; any size from 8x8 on.
        num_classes: number of logits.
        blocks: residual blocks in each of the three stages.

    Returns:
        {name: tensor}: "stem" and "stage1" to "stage3", each also with "_preactivation" for the
        values before its last ReLU, "pooled" `[batch, 256]` and "logits" `[batch, num_classes]`.
    """
    stages = {}
    x = layers.convolution(x, FEATURES[0], 3, "conv1")
    x = resnet.activate_stage("stem", layers.batch_norm(x, "bn1"), stages)
    for stage, features in enumerate(FEATURES, start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, features, stride, f"res{stage}.{block}")
            if block < blocks - 1:
                x = keras.layers.ReLU()(x)
        x = resnet.activate_stage(f"stage{stage}", x, stages)
    x = layers.AdaptiveAveragePooling(POOLED_SIZE)(x)
    stages["pooled"] = layers.flatten_channels_first(x)
    stages["logits"] = layers.logits(stages["pooled"], num_classes, "fc")
    return stages


def _block(inputs, features, stride, name):
    x = layers.conv_norm(inputs, features, 3, (f"{name}.conv1", f"{name}.bn1"), stride=stride)
    x = layers.conv_norm(x, features, 3, (f"{name}.conv2", f"{name}.bn2"), activation=None)
    if stride > 1:
        names = f"{name}.ds.0", f"{name}.ds.1"
        inputs = layers.conv_norm(inputs, features, 1, names, activation=None, stride=stride)
    return keras.layers.Add()([x, inputs])

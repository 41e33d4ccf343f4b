"""ResNet-20, 56 and 110 for small images, with the stages that distillation compares.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with two
differences of Daultani and Larochelle, "Consolidating Separate Degradations Model via Weights
Fusion and Distillation", WACV Workshops 2024: shortcuts that change the shape are 1x1
convolutions, and the last average pool leaves 2x2 windows, 256 features.

Layers bear the names of the authors' PyTorch modules.
"""

import functools

from classifiers.networks import layers, resnet

FEATURES = (16, 32, 64)
POOLED_SIZE = 2


def build(x, num_classes, blocks):
    """Returns the stages of a ResNet with `6 * blocks + 2` layers, for images from 8x8 pixels on.

    They are "stem" and "stage1" to "stage3", each also with "_preactivation" for the values before
    its last ReLU, and the head.
    """
    stages = {}
    x = layers.convolution(x, FEATURES[0], 3, "conv1")
    x = resnet.activate_stage("stem", layers.batch_norm(x, "bn1"), stages)
    block = functools.partial(resnet.basic, shortcut="ds")
    x = resnet.apply_stages(x, (blocks,) * 3, FEATURES, block, "res", stages)
    x = layers.AdaptiveAveragePooling(POOLED_SIZE)(x)
    return layers.classify(layers.flatten_channels_first(x), num_classes, "fc", stages)

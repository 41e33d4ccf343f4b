"""ResNet-20, 56 and 110 for small images, with the stages that distillation compares.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with two
differences of Daultani and Larochelle, "Consolidating Separate Degradations Model via Weights
Fusion and Distillation", WACV Workshops 2024: shortcuts that change the shape are 1x1
convolutions, and the last average pool leaves 2x2 windows, 256 features.

Layers bear the names of the authors' PyTorch modules.
"""

import functools
import itertools
import re

import numpy as np

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


def from_other_names(tensors):
    """Returns tensors of other authors' ResNets for CIFAR as those of `build`, exactly.

    Their blocks are called layer1.0, ..., their last layer linear (as akamaster's
    pytorch_resnet_cifar10 has it) or fc (chenyaofo's pytorch-cifar-models), after a mean over the
    whole image: that of the four windows here. Shortcuts that change the shape are convolutions
    called "shortcut" or "downsample", or, where the file has none, without parameters (He et al.'s
    option A): every second pixel, and channels padded with zeros, a quarter of the new ones on each
    side. That is a 1x1 convolution with ones and zeros. Tensors of other networks are returned as
    they are.
    """
    first = tensors.get("layer1.0.conv1.weight")
    if first is None or tuple(first.shape) != (FEATURES[0], FEATURES[0], 3, 3):
        return tensors
    found = {}
    for name, value in tensors.items():
        name = re.sub(r"^layer(?=\d)", "res", name)
        name = re.sub(r"\.(shortcut|downsample)\.", ".ds.", name)
        found[re.sub(r"^linear\.", "fc.", name)] = value
    head = found.get("fc.weight")
    if head is not None and tuple(head.shape[1:]) == FEATURES[-1:]:
        windows = POOLED_SIZE**2
        found["fc.weight"] = np.repeat(np.asarray(head) / windows, windows, axis=1)
    if not any(".ds." in name for name in found):
        found |= _parameter_free_shortcuts()
    return found


def _parameter_free_shortcuts():
    made = {}
    for stage, (before, after) in enumerate(itertools.pairwise(FEATURES), start=2):
        ones = np.ones(after, np.float32)
        shortcut = np.eye(after, before, (before - after) // 2, np.float32)
        made |= {
            f"res{stage}.0.ds.0.weight": shortcut[:, :, None, None],
            # A normalisation that changes nothing.
            f"res{stage}.0.ds.1.weight": np.sqrt(ones + np.float32(1e-5)),
            f"res{stage}.0.ds.1.bias": 0 * ones,
            f"res{stage}.0.ds.1.running_mean": 0 * ones,
            f"res{stage}.0.ds.1.running_var": ones,
        }
    return made

"""DeepLab v2 on ResNet50: a class for every pixel.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution,
and Fully Connected CRFs", TPAMI 2018: instead of the last two strides the convolutions are dilated
(section 3.1), and convolutions of four dilations are added up (section 3.2, ASPP-L).
"""

import keras
from keras import ops

from classifiers import networks
from classifiers.networks import layers, pytorch_files, pytorch_weights, resnet

BLOCKS = (3, 4, 6, 3)
# Of the four stages, the first two of which keep their strides.
DILATIONS = (1, 1, 2, 4)
HEAD = "layer5.conv2d_list"
HEAD_DILATIONS = (6, 12, 18, 24)


def build(num_classes, weights=None):
    """Returns the network from images `[B, H, W, 3]` in 0-255 to logits `[B, H/8, W/8, K]`.

    Args:
        num_classes: number of classes K.
        weights: file of PyTorch's tensors: those of torchvision's ResNet50 without its last layer,
            and the four convolutions of the head, whose names may be others than
            `layer5.conv2d_list.0`, ...; `None` for random weights.

    Raises:
        ValueError: for a file that does not fit; lists the tensors.
        FileNotFoundError: when there is no such file.
    """
    inputs = keras.Input((None, None, 3), name="images")
    x = resnet.build_features(
        layers.normalise(inputs, *networks.NORMALISATIONS["imagenet"]),
        BLOCKS,
        dilations=DILATIONS,
    )
    logits = [
        layers.convolution(
            x, num_classes, 3, f"{HEAD}.{number}", dilation=dilation, bias=True, dtype="float32"
        )
        for number, dilation in enumerate(HEAD_DILATIONS)
    ]
    model = keras.Model(inputs, keras.layers.Add(dtype="float32")(logits), name="deeplab")
    if weights is not None:
        tensors = _rename_head(pytorch_files.read(weights), num_classes)
        pytorch_weights.assign(model, tensors, weights, ignored=(r"fc\..*",))
    return model


def _rename_head(tensors, num_classes):
    """Returns the tensors with the modules that give the classes under our names, in order."""
    modules = [
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if len(tensor.shape) == 4 and tensor.shape[0] == num_classes
    ]
    if len(modules) != len(HEAD_DILATIONS):
        return tensors  # what is missing will be listed
    renamed = dict(tensors)
    for number, module in enumerate(modules):
        for part in ("weight", "bias"):
            if f"{module}.{part}" in renamed:
                renamed[f"{HEAD}.{number}.{part}"] = renamed.pop(f"{module}.{part}")
    return renamed


def segment(network, images, size):
    """Returns logits `[B, height, width, K]`, added up over images and their mirror images.

    Args:
        network: network of `build`.
        images: float32 RGB `[B, H, W, 3]` in 0-255.
        size: height and width of the result, to which logits are enlarged bilinearly.
    """
    mirrored = ops.flip(network(ops.flip(images, axis=2), training=False), axis=2)
    return ops.image.resize(network(images, training=False) + mirrored, size, "bilinear")

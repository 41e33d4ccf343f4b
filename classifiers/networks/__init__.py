"""Networks by name: `build("cifar_resnet56", num_classes=10)`.

Every network takes float32 RGB images `[batch, height, width, 3]` in 0-255, normalises them itself
and returns logits `[batch, num_classes]`, float32. `with_stages` gives the inner results as well.
"""

import functools

import keras

from classifiers.networks import cifar_resnet, layers

# Mean and standard deviation of the channels, on the scale 0-1. CIFAR: Zagoruyko and Komodakis,
# "Wide Residual Networks", BMVC 2016, code; ImageNet: torchvision's documentation.
NORMALISATIONS = {
    "cifar10": (
        tuple(value / 255 for value in (125.3, 123.0, 113.9)),
        tuple(value / 255 for value in (63.0, 62.1, 66.7)),
    ),
    "cifar100": (
        tuple(value / 255 for value in (129.3, 124.1, 112.4)),
        tuple(value / 255 for value in (68.2, 65.4, 70.4)),
    ),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# Tiny ImageNet is a part of ImageNet and is normalised like it.
NORMALISATIONS["tiny_imagenet"] = NORMALISATIONS["imagenet"]

_BUILDERS = {
    "cifar_resnet20": functools.partial(cifar_resnet.build, blocks=3),
    "cifar_resnet56": functools.partial(cifar_resnet.build, blocks=9),
    "cifar_resnet110": functools.partial(cifar_resnet.build, blocks=18),
}
NAMES = tuple(_BUILDERS)


def build(name, num_classes, weights=None, mean=None, std=None):
    """Returns a network, with random weights or those of a file.

    Args:
        name: one of `NAMES`.
        num_classes: number of logits.
        weights: `None` for random weights.
        mean: three means on the scale 0-1; `None` for those that the network is usually fed with.
        std: three standard deviations on the scale 0-1; `None` as for `mean`.

    Returns:
        `keras.Model` from images `[batch, height, width, 3]` to logits `[batch, num_classes]`. Its
        attribute `stages` holds symbolic tensors by name, see `with_stages`.

    Raises:
        ValueError: for an unknown name or a bad argument.
    """
    if name not in _BUILDERS:
        raise ValueError(f"network must be one of {', '.join(NAMES)}. Received: {name!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1. Received: {num_classes}")
    usual_mean, usual_std = NORMALISATIONS["cifar10"]
    inputs = keras.Input((None, None, 3), name="images")
    x = layers.normalise(
        inputs, usual_mean if mean is None else mean, usual_std if std is None else std
    )
    stages = _BUILDERS[name](x, num_classes)
    model = keras.Model(inputs, stages["logits"], name=name)
    model.stages = stages
    return model


def with_stages(model, names=None):
    """Returns the network with its inner results; both share their weights.

    Args:
        model: network from `build`.
        names: those of `model.stages` to return; `None` for all. Every network has "pooled", the
            features that the classifier sees, "logits", and "stage1", "stage2", ...; most have
            "stem", and ResNets "stage1_preactivation", ..., the values before the last ReLU.

    Returns:
        `keras.Model` from images to {name: tensor}.

    Raises:
        ValueError: for a stage that the network does not have.
    """
    names = list(model.stages) if names is None else list(names)
    unknown = [name for name in names if name not in model.stages]
    if unknown:
        raise ValueError(
            f"The stages of {model.name} are {', '.join(model.stages)}. "
            f"Received: {', '.join(unknown)}"
        )
    outputs = {name: model.stages[name] for name in names}
    return keras.Model(model.inputs[0], outputs, name=f"{model.name}_with_stages")

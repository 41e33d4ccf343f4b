"""Networks by name: `build("resnet50", num_classes=1000, weights="resnet50.pth")`.

Every network takes float32 RGB images `[batch, height, width, 3]` in 0-255, normalises them itself
and returns logits `[batch, num_classes]`, float32. `with_stages` gives the inner results as well.

All are defined here, after the PyTorch networks whose weights users hold, because the variants of
keras.applications compute something else: strides in other layers of ResNet50, other padding and
epsilon in MobileNet, EfficientNet and Inception. keras-hub would bring tensorflow-text with it.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras

from classifiers.networks import (
    cifar_resnet,
    clip,
    clip_text,
    efficientnet,
    googlenet,
    inception,
    keras_weights,
    layers,
    mnasnet,
    mobilenet,
    pytorch_files,
    pytorch_weights,
    resnet,
    squeezenet,
    swin,
    vgg,
    vit,
)

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
    # -1 to 1: what torchvision's GoogLeNet and Inception v3 change the usual values to.
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": (clip.MEAN, clip.STD),
}
# The embedded digits, enlarged to 32x32; the channels are equal.
NORMALISATIONS["digits"] = ((78.9 / 255,) * 3, (88.8 / 255,) * 3)
# Tiny ImageNet is a part of ImageNet and is normalised like it.
NORMALISATIONS["tiny_imagenet"] = NORMALISATIONS["imagenet"]


@dataclasses.dataclass(frozen=True)
class Network:
    """What is known of a network.

    Attributes:
        builder: function of normalised images `[batch, height, width, 3]` and the number of classes
            that returns the stages, {name: tensor}; see `with_stages`.
        head: name of the classifying layer.
        normalisation: the one of `NORMALISATIONS` that it is usually fed with.
        image_size: side of the images that it is usually fed with, in pixels.
        fixed_size: whether its weights serve one image size only.
        smallest_size: shortest side of images that it can take, in pixels.
        ignored: regular expressions of PyTorch tensors that serve only training or other uses.
        renamed: {regular expression: replacement} for names in PyTorch files that are called
            otherwise here.
        lookalikes: {name of a tensor: the other network whose files have it}.
        adapt: `None`, or function of the tensors {name: array} of other PyTorch networks that
            compute the same with other modules; returns those of this one.
    """

    builder: Callable
    head: str = "fc"
    normalisation: str = "imagenet"
    image_size: int = 224
    fixed_size: bool = False
    smallest_size: int = 1
    ignored: tuple = ()
    renamed: dict = dataclasses.field(default_factory=dict)
    lookalikes: dict = dataclasses.field(default_factory=dict)
    adapt: Callable | None = None


def _cifar_resnet(blocks):
    builder = functools.partial(cifar_resnet.build, blocks=blocks)
    return Network(
        builder,
        normalisation="cifar10",
        image_size=32,
        adapt=cifar_resnet.from_other_names,
    )


def _resnet(*blocks, **settings):
    return Network(functools.partial(resnet.build, blocks=blocks, **settings))


def _vgg(depth, batch_norm=False):
    builder = functools.partial(vgg.build, depth=depth, batch_norm=batch_norm)
    return Network(builder, "classifier.6", smallest_size=32)


NETWORKS = {
    "cifar_resnet20": _cifar_resnet(3),
    "cifar_resnet56": _cifar_resnet(9),
    "cifar_resnet110": _cifar_resnet(18),
    "resnet18": _resnet(2, 2, 2, 2, bottleneck=False),
    "resnet34": _resnet(3, 4, 6, 3, bottleneck=False),
    "resnet50": _resnet(3, 4, 6, 3),
    "resnext101_32x8d": _resnet(3, 4, 23, 3, groups=32, width_per_group=8),
    "vgg13": _vgg(13),
    "vgg13_bn": _vgg(13, batch_norm=True),
    "vgg16": _vgg(16),
    "vgg16_bn": _vgg(16, batch_norm=True),
    "vgg19_bn": _vgg(19, batch_norm=True),
    "mobilenet_v2": Network(mobilenet.build_v2, "classifier.1"),
    "mobilenet_v3_large": Network(mobilenet.build_v3_large, "classifier.3"),
    "mnasnet1_0": Network(mnasnet.build, "classifier.1"),
    "squeezenet1_0": Network(squeezenet.build, "classifier.1"),
    "googlenet": Network(
        googlenet.build, normalisation="inception", ignored=(r"aux1\..*", r"aux2\..*")
    ),
    "inception_v3": Network(
        inception.build,
        normalisation="inception",
        image_size=299,
        smallest_size=75,
        ignored=(r"AuxLogits\..*",),
    ),
    "efficientnet_b3": Network(
        efficientnet.build,
        "classifier.1",
        image_size=300,
        lookalikes={"_conv_stem.weight": "efficientnet_pytorch_b3"},
    ),
    "efficientnet_pytorch_b3": Network(
        efficientnet.build_package,
        image_size=300,
        renamed={r"(^|\.)_": r"\1"},
        lookalikes={"features.0.0.weight": "efficientnet_b3"},
    ),
    "vit_b16": Network(
        vit.build,
        "heads.head",
        fixed_size=True,
        renamed={r"\.mlp\.linear_1\.": ".mlp.0.", r"\.mlp\.linear_2\.": ".mlp.3."},
    ),
    "swin_t": Network(swin.build, "head", ignored=(r".*\.relative_position_index",)),
    "clip_rn50": Network(
        clip.build,
        "head",
        normalisation="clip",
        fixed_size=True,
        # The text half and its settings.
        ignored=(
            r"(transformer|token_embedding|ln_final)\..*",
            r"positional_embedding|text_projection|input_resolution|context_length|vocab_size",
        ),
    ),
}
NAMES = tuple(NETWORKS)


def build(
    name, num_classes=None, weights=None, load_head=True, mean=None, std=None, image_size=None
):
    """Returns a network, with random weights or those of a file.

    Args:
        name: one of `NAMES`.
        num_classes: number of logits; `None` for that of the weights.
        weights: `None` for random weights, or a file: .weights.h5 or .keras of this network, or
            PyTorch's .pth, .pt, .th or .safetensors with the tensors of torchvision's network of
            that name (CIFAR ResNets: of the authors' code, or see `cifar_resnet.from_other_names`;
            CLIP: of the authors' releases, with the text embeddings of the classes as
            `head.weight`, or as a .json file of them, or with the file of merges that they are
            computed with and maybe one of the classes' names, see `clip_text`;
            efficientnet_pytorch_b3: of that package). A list of such files is taken together.
        load_head: whether the last layer's weights are taken from the file too; without them it
            starts at random, for another number of classes.
        mean: three means on the scale 0-1; `None` for those that the network is usually fed with,
            see `NORMALISATIONS`.
        std: three standard deviations on the scale 0-1; `None` as for `mean`.
        image_size: side of the images in pixels; `None` for any, and for 224 where the weights
            serve one size only (vit_b16, clip_rn50).

    Returns:
        `keras.Model` from images `[batch, height, width, 3]` to logits `[batch, num_classes]`. Its
        attribute `stages` holds symbolic tensors by name, see `with_stages`.

    Raises:
        ValueError: for an unknown name, a bad argument, or a file that does not fit; the message
            lists the tensors that are missing, extra, or have another shape.
        FileNotFoundError: when there is no such file.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NAMES)}. Received: {name!r}")
    network = NETWORKS[name]
    if weights is None and not load_head:
        raise ValueError(f"load_head=False needs weights. Received: weights={weights}")
    stored_classes = None
    if weights is not None:
        tensors, kind, settings = _read(weights, network)
        stored_classes = kind.count_classes(tensors, network.head)
        if num_classes is None and load_head:
            # Without a last layer there, any number serves to list that among what is missing.
            num_classes = stored_classes or 1
    if num_classes is None or num_classes < 1:
        raise ValueError(
            f"num_classes must be at least 1, --num_classes=... Received: {num_classes}"
        )

    if image_size is None and network.fixed_size:
        image_size = network.image_size
    inputs = keras.Input((image_size, image_size, 3), name="images")
    usual_mean, usual_std = NORMALISATIONS[network.normalisation]
    x = layers.normalise(
        inputs, usual_mean if mean is None else mean, usual_std if std is None else std
    )
    stages = network.builder(x, num_classes)
    model = keras.Model(inputs, stages["logits"], name=name)
    model.stages = stages
    if weights is not None:
        try:
            kind.assign(model, tensors, head=None if load_head else network.head, **settings)
        except ValueError as error:
            if not load_head or stored_classes in (None, num_classes):
                raise
            raise ValueError(
                f"{error}\n  The file has {stored_classes} classes, the network {num_classes}. If "
                "the data are of some of the file's classes, name all of them: --class_names. To "
                "train for other ones, load_head=False (with --weights: --noweights_head) leaves "
                "the file's last layer out."
            ) from error
    return model


def head_of(model):
    """Returns the layer of a network that classifies: its last one with weights."""
    known = NETWORKS.get(model.name)
    if known is not None:
        return model.get_layer(known.head)
    return [layer for layer in model.layers if layer.weights][-1]


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


def _read(weights, network):
    """Returns {name: array} of files, and the module that assigns these, with its settings."""
    paths = [weights] if isinstance(weights, str | pathlib.Path) else list(weights)
    settings = {"source": ", ".join(map(str, paths))}
    if len(paths) == 1 and str(paths[0]).endswith(keras_weights.SUFFIXES):
        return keras_weights.read(paths[0]), keras_weights, settings
    tensors = {}
    merges = [path for path in paths if str(path).endswith(clip_text.MERGES)]
    names = [path for path in paths if str(path).endswith(clip_text.NAMES)]
    for path in paths:
        if path not in merges + names:
            is_json = str(path).endswith(".json")
            tensors |= clip.read_embeddings(path) if is_json else pytorch_files.read(path)
    if merges:
        embeddings = clip_text.embed_classes(tensors, merges[0], *names[:1])
        tensors[f"{network.head}.weight"] = embeddings
    elif names:
        raise ValueError(f"{names[0]} needs CLIP's merges beside it, a file in {clip_text.MERGES}.")
    for tensor, other in network.lookalikes.items():
        if tensor in tensors:
            raise ValueError(
                f"{settings['source']} has the tensors of --network={other}, which pads and "
                "normalises otherwise."
            )
    if network.adapt is not None:
        tensors = network.adapt(tensors)
    settings["ignored"] = network.ignored
    return pytorch_weights.rename(tensors, network.renamed), pytorch_weights, settings

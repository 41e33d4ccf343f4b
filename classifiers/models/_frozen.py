"""The frozen networks behind SyMPIE's module: --sympie_classifiers and --sympie_segmenter."""

import pathlib
import re

from classifiers import networks, segmentation
from classifiers.models import classifier
from classifiers.models.classifier import Classifier
from classifiers.networks import deeplab
from misc.training import data

# In place of a file: for tests and first tries.
RANDOM = "random"
# What SyMPIE's authors call the classifiers: networks here.
CLASSIFIERS = {
    **dict.fromkeys(("rn50_1", "rn50_2", "augmix", "yucel", "prime", "pixmix"), "resnet50"),
    **{"rn18": "resnet18", "rn34": "resnet34", "vgg13bn": "vgg13_bn", "vgg16bn": "vgg16_bn"},
    **dict.fromkeys(("mnet_1", "mnet_2"), "mobilenet_v3_large"),
    **{"vitb16": "vit_b16", "swint": "swin_t", "clip": "clip_rn50"},
}


def create_classifiers(flags):
    """Returns {name: `Classifier`} of --sympie_classifiers, which nothing trains.

    Raises:
        ValueError: without any, for weights that do not fit, or for other numbers of classes.
        FileNotFoundError: if there is no such file or run.
    """
    if not flags.sympie_classifiers:
        raise ValueError(
            "--sympie_classifiers is missing: runs of classifiers, or files of weights, such as "
            "rn50_1:resnet50.pth"
        )
    found = {}
    for text in flags.sympie_classifiers:
        name, path = _split(text)
        own = flags | {"network": CLASSIFIERS.get(name, name)} if name else flags
        parts = [path] if pathlib.Path(path).exists() else path.split("+")
        if path == RANDOM:
            network = classifier.create_network(own)
        elif len(parts) > 1:
            network = classifier.create_network(own, weights=parts)
        else:
            network = classifier.create_trained_network(own, path, "sympie_classifiers")
        network.trainable = False
        name = name or network.name
        found[name if name not in found else text] = Classifier(network)
    classes = {name: one.network.output_shape[-1] for name, one in found.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"--sympie_classifiers have different numbers of classes: {classes}")
    return found


def create_segmenter(flags):
    """Returns the network of --sympie_segmenter.

    Raises:
        ValueError: without one, or for weights that do not fit.
        FileNotFoundError: if there is no such file.
    """
    if not flags.sympie_segmenter:
        raise ValueError(
            "--sympie_segmenter is missing: PyTorch's weights of a DeepLab v2 on ResNet50."
        )
    data.check_file(flags.sympie_segmenter, "sympie_segmenter")
    return deeplab.build(len(segmentation.CLASSES), flags.sympie_segmenter)


def _split(text):
    """Returns the name, `None` if there is none, and the path of one of --sympie_classifiers."""
    match = re.fullmatch(r"(\w+):(.+)", text)
    if match and match[1] in (*CLASSIFIERS, *networks.NAMES):
        return match.groups()
    return None, text

"""Tiny ImageNet: 64x64 photos of 200 classes, 100,000 to train and 10,000 with labels to test.

    python train.py --model=classifier --dataloader=tiny_imagenet --data_path=tiny-imagenet-200

Le & Yang, "Tiny ImageNet Visual Recognition Challenge", 2015. The official test images have no
labels: as usual, the validation images are the test set.
"""

import pathlib

from absl import flags

from classifiers import labelled_images
from classifiers.dataloaders import class_folders
from misc.images import files
from misc.training import common_flags, data, settings

MODEL = "classifier"
SIDE = 64


def define_flags():
    """Defines the flags of this dataloader."""
    labelled_images.define_flags()
    flags.DEFINE_string("data_path", None, "The official folder, with train and val in it.")
    common_flags.define_skip_broken_flag()
    labelled_images.define_defaults(
        num_classes=200,
        degradation_size=SIDE,
        data_normalisation="tiny_imagenet",
    )
    settings.local("data_path")


def create_data(flags):
    """Returns the `LabelledData`; raises ValueError without --data_path."""
    if not flags.data_path:
        raise ValueError("--dataloader=tiny_imagenet needs --data_path, the official folder.")
    data.check_folder(flags.data_path, "data_path")
    folder, skip_broken = pathlib.Path(flags.data_path), flags.data_skip_broken
    return labelled_images.create_data(flags, lambda split: _read(folder, split, skip_broken), SIDE)


def _read(folder, split, skip_broken):
    names = class_folders.find_classes(folder / "train")
    if split == "train":
        found = class_folders.find_images(folder / "train", names, "images")
    else:
        found = _test_images(folder, names)
    images = labelled_images.from_files(found, names, SIDE, SIDE, skip_broken)
    return images.decoded(cached=True)


def _test_images(folder, names):
    annotations = folder / "val" / "val_annotations.txt"
    if not annotations.is_file():
        raise FileNotFoundError(
            f"--data_path={folder} is not the official folder: {annotations} is missing."
        )
    found = []
    for line in files.read_text(annotations).splitlines():
        name, label = [*line.split("\t"), ""][:2]
        if label not in names:
            raise ValueError(
                f"{annotations}: each line is an image and its class, a folder of train. "
                f"Received: {line!r}"
            )
        found.append((folder / "val" / "images" / name, names.index(label)))
    if not found:
        raise ValueError(f"{annotations} names no images.")
    return found

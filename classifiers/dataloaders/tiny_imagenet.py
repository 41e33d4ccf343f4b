"""Tiny ImageNet: 64x64 photos of 200 classes, 100,000 to train and 10,000 with labels to test.

    python train.py --model=classifier --dataloader=tiny_imagenet --data_path=tiny-imagenet-200

Le & Yang, "Tiny ImageNet Visual Recognition Challenge", 2015. The official test images have no
labels: as usual, the validation images are the test set.
"""

import pathlib

import numpy as np
from absl import flags

from classifiers import labelled_images
from classifiers.dataloaders import class_folders
from misc.images import image_files

MODEL = "classifier"
SIDE = 64


def define_flags():
    """Defines the flags of this dataloader."""
    labelled_images.define_flags()
    flags.DEFINE_string("data_path", None, "The official folder, with train and val in it.")
    labelled_images.define_broken_flag()
    labelled_images.define_defaults(
        num_classes=200,
        degradation_size=SIDE,
        data_normalisation="tiny_imagenet",
    )


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split; see `labelled_images.create_batches`."""
    return labelled_images.create_batches(_reader(flags), flags, split, seed, first_step, shard)


def count_images(flags):
    """Returns the number of training images."""
    return len(labelled_images.part(_reader(flags), flags, "train"))


def describe_data(flags):
    """Returns what a run keeps of its data; see `labelled_images.describe`."""
    # Other images than its own have other sizes.
    return labelled_images.describe(_reader(flags), flags) | {"resize": SIDE}


def _reader(flags):
    if not flags.data_path:
        raise ValueError("--dataloader=tiny_imagenet needs --data_path, the official folder.")
    return lambda split: _read(flags.data_path, split, flags.data_skip_broken)


@labelled_images.remember
def _read(path, split, skip_broken):
    folder = pathlib.Path(path)
    names = class_folders.find_classes(folder / "train")
    found = _training_images(folder, names) if split == "train" else _test_images(folder, names)
    paths, labels = zip(*found, strict=True)
    # Every image has this size; cutting it out also checks that.
    data = labelled_images.LabelledImages(
        list(paths), np.array(labels, np.int32), names, None, SIDE, skip_broken
    )
    return data.decoded(cached=True)


def _training_images(folder, names):
    return [
        (path, label)
        for label, name in enumerate(names)
        for path in image_files.find_images(folder / "train" / name / "images")
    ]


def _test_images(folder, names):
    annotations = folder / "val" / "val_annotations.txt"
    if not annotations.is_file():
        raise FileNotFoundError(
            f"--data_path={folder} is not the official folder: {annotations} is missing."
        )
    found = []
    for line in annotations.read_text().splitlines():
        name, label = [*line.split("\t"), ""][:2]
        if label not in names:
            raise ValueError(
                f"{annotations}: each line is an image and its class, a folder of train. "
                f"Received: {line!r}"
            )
        found.append((folder / "val" / "images" / name, names.index(label)))
    return found

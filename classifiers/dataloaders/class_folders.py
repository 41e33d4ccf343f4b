"""A folder with one folder of images per class, as ImageNet is stored.

    python train.py --model=classifier --dataloader=class_folders --data_path=TRAIN \\
        --data_test_path=TEST --num_classes=5

Classes are numbered in the order of their folders' names. Images are resized and the central square
is cut out, as torchvision's evaluation does it.
"""

import pathlib

import numpy as np
from absl import flags

from classifiers import labelled_images
from misc import images

MODEL = "classifier"
# ImageNet's, in 0-255: 255 times the (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) of
# torchvision's models.
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)


def define_flags():
    """Defines the flags of this dataloader."""
    labelled_images.define_flags()
    flags.DEFINE_string("data_path", None, "Folder that holds a folder of images for each class.")
    flags.DEFINE_string(
        "data_test_path",
        None,
        "As --data_path, for testing; absent: the held-out part of --data_path.",
    )
    flags.DEFINE_integer(
        "data_resize", 256, "Length that the shorter side is resized to; 0: as it is."
    )
    flags.DEFINE_integer(
        "data_crop", 224, "Side of the square that is cut out, in pixels.", lower_bound=1
    )
    flags.DEFINE_bool(
        "data_cached",
        None,
        "Keep the decoded images in memory; default: if they need less than half of what is "
        "available.",
    )
    labelled_images.define_defaults(
        image_mean=list(MEAN), image_deviation=list(DEVIATION), degradation_size=224
    )


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split; see `labelled_images.create_batches`."""
    return labelled_images.create_batches(_reader(flags), flags, split, seed, first_step, shard)


def count_images(flags):
    """Returns the number of training images."""
    return len(labelled_images.part(_reader(flags), flags, "train"))


def describe_data(flags):
    """Returns what a run keeps of its data; see `labelled_images.describe`."""
    return labelled_images.describe(_reader(flags), flags)


def _reader(flags):
    if not flags.data_path:
        raise ValueError("--dataloader=class_folders needs --data_path, a folder of class folders.")
    return lambda split: _read(
        flags.data_path,
        flags.data_test_path,
        split,
        flags.data_resize or None,
        flags.data_crop,
        flags.data_cached,
    )


@labelled_images.remember
def _read(path, test_path, split, resize, crop, cached):
    names = find_classes(path)
    if split == "test" and not test_path:
        return None
    folder = pathlib.Path(path if split == "train" else test_path)
    unknown = sorted(set(find_classes(folder)) - set(names))
    if unknown:
        raise ValueError(
            f"--data_test_path={folder} holds classes that --data_path={path} does not: "
            f"{', '.join(unknown[:8])}"
        )
    paths, labels = [], []
    for label, name in enumerate(names):
        if (folder / name).is_dir():
            found = images.find_images(folder / name)
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise ValueError(f"No images in the class folders of {folder}.")
    found = labelled_images.LabelledImages(paths, np.array(labels, np.int32), names, resize, crop)
    return found.decoded(cached)


def find_classes(path):
    """Returns the sorted names of the folders in a folder.

    Raises:
        ValueError: if there is no such folder, or it holds none.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise ValueError(f"Images are searched for in a folder. Received: {path}")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{path} should hold a folder for each class. It holds no folder.")
    return names

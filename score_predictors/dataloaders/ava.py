"""AVA: AVA.txt with ten vote counts per image, and a folder tree of JPEG files.

Murray, Marchesotti and Perronnin, "AVA: A Large-Scale Database for Aesthetic Visual Analysis",
CVPR 2012. A line of AVA.txt has 15 columns: running index, image id, counts of the votes 1 to 10,
two tags and the challenge. The images are ID.jpg, anywhere below the folder.
"""

import functools
import os

import numpy as np
from absl import flags, logging

from misc.images import files
from misc.training import common_flags, data, settings
from score_predictors import metrics, rated_images, targets, windows

MODEL = "mobilenetv2"
VALUES = np.arange(1, 11)
COLUMNS = 15
# titu1994/neural-image-assessment: these files of the distributed archive cannot be decoded.
BROKEN_IDS = {440774, 179118, 371434, 277832, 230701, 729377}


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string("ava_dataset_path", "AVA.txt", "Table of the votes, as distributed.")
    flags.DEFINE_string("ava_image_path", None, "Folder of ID.jpg files, with its subfolders.")
    common_flags.define_numbers(
        "ava_train_range",
        [0, -5000],
        "Images to train on: start and end in the list of rated images that are there. "
        "Negative numbers count from the end of the list, an end of 0 is the list's end.",
        length=2,
    )
    common_flags.define_numbers(
        "ava_validate_range", [-5000, 0], "As --ava_train_range, for validation.", length=2
    )
    flags.DEFINE_bool(
        "ava_validate_images",
        False,
        "First decode every image once, and leave out those that are broken. Takes a while.",
    )
    common_flags.define_skip_broken_flag()
    rated_images.define_thread_flag("ava")
    flags.FLAGS.set_default("score_values", VALUES.tolist())
    settings.local("ava_dataset_path", "ava_image_path", "ava_validate_images")


def create_data(flags):
    """Returns the `RatedData`; `'test'` is the same as `'validation'`.

    Patches are cut out of a square of the short side, as tf-perceptual-eusr does; smaller pictures
    are enlarged.

    Raises:
        ValueError: without --ava_image_path.
    """
    path = rated_images.require(flags.ava_image_path, "ava_image_path", "the folder of AVA's JPEGs")
    table, validate = flags.ava_dataset_path, flags.ava_validate_images
    data.check_file(table, "ava_dataset_path")
    train, validation = flags.ava_train_range, flags.ava_validate_range
    load = functools.cache(lambda: _load(table, path, validate))

    def find(split):
        if split == "train":
            return rated_images.take_range(load(), train, "ava_train_range")
        return rated_images.take_range(load(), validation, "ava_validate_range")

    cropping = windows.Cropping(flags.input_patch_size, square=True, small="resize")
    return rated_images.create_data(flags, find, cropping, flags.ava_num_threads)


def _load(table_path, image_path, validate):
    ids, counts = read_table(table_path)
    names = [f"{number}.jpg" for number in ids]
    # Nobody has all images: the archive lacks some, and many people keep a part of it.
    paths = rated_images.find_images(
        names, image_path, "ava_image_path", skip=True, extensions=(".jpg", ".jpeg")
    )
    broken = [
        path for path, number in zip(paths, ids, strict=True) if path and number in BROKEN_IDS
    ]
    if broken:
        logging.warning(
            "%d images are known to be broken and are left out: %s",
            len(broken),
            rated_images.shorten_list(broken),
        )
    scores = targets.from_counts(counts, table_path)
    rated = rated_images.RatedImages(
        [None if path in broken else path for path in paths],
        scores,
        metrics.mean_scores(scores, VALUES).astype(np.float32),
        metrics.score_deviations(scores, VALUES).astype(np.float32),
        [str(number) for number in ids],
    ).with_files()
    if validate:
        rated = rated_images.drop_broken(rated, "Checking AVA")
    logging.info("AVA: %d images with votes", len(rated))
    return rated


def read_table(path):
    """Returns image ids int64 `[N]` and counts of the votes 1 to 10, int64 `[N, 10]`.

    Raises:
        ValueError: for a missing file, or lines that are not 15 whole numbers.
    """
    try:
        lines = files.read_text(os.path.expanduser(path)).splitlines()
    except OSError as error:
        raise ValueError(f"--ava_dataset_path: there is no such file: {path}") from error
    try:
        table = np.loadtxt(lines, np.int64, ndmin=2, comments=None)
    except ValueError as error:
        raise ValueError(f"{path} is no AVA.txt of {COLUMNS} columns: {error}") from error
    if not table.size or table.shape[1] != COLUMNS:
        raise ValueError(
            f"{path} must have lines of {COLUMNS} whole numbers. "
            f"Received: {len(table)} lines of {table.shape[1]}"
        )
    return table[:, 1], table[:, 2:12]

"""Street scenes with a class for every pixel: Cityscapes, ACDC, Dark Zurich; for evaluation alone.

    python validate.py --model=sympie --dataloader=cityscapes --data_path=Cityscapes \\
        --weights=sympie.pth --sympie_segmenter=deeplab.pth --save_path=results

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; Sakaridis
et al., "ACDC", ICCV 2021; Sakaridis et al., "Guided Curriculum Model Adaptation and
Uncertainty-Aware Evaluation for Semantic Nighttime Image Segmentation" (Dark Zurich), ICCV 2019.
The files are found by their names, as the data sets have them:
`leftImg8bit/val/CITY/X_leftImg8bit.png` and `gtFine/val/CITY/X_gtFine_labelIds.png`;
`rgb_anon/CONDITION/val/SEQUENCE/X_rgb_anon.png` and `gt/.../X_gt_labelTrainIds.png`.
"""

import dataclasses
import pathlib
import re

import cv2
import numpy as np
from absl import flags

from classifiers import labelled_images, segmentation
from misc.images import image_files, threads
from misc.training import common_flags, data, settings

MODEL = "sympie"
# Ends of the labels' names, and of the images'; folders that the one and the other lie in.
LAYOUTS = (
    (r"_gtFine_(labelIds|labelTrainIds)\.png", "_leftImg8bit.png", "gtFine", "leftImg8bit"),
    (r"_gt_(labelIds|labelTrainIds)\.png", "_rgb_anon.png", "gt", "rgb_anon"),
)


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "data_path",
        None,
        "Folder of Cityscapes (with leftImg8bit/ and gtFine/), or of ACDC or Dark Zurich (with "
        "rgb_anon/ and gt/).",
    )
    flags.DEFINE_string(
        "data_split", "val", "Folder whose scenes are measured, somewhere below these: val, test."
    )
    flags.DEFINE_integer(
        "data_long_side", 1024, "Length that the longer side is resized to.", lower_bound=1
    )
    labelled_images.define_evaluation_flags()
    common_flags.define_skip_broken_flag()
    settings.local("data_path", "data_split")


def create_data(flags):
    """Returns the `StreetScenes`.

    Raises:
        ValueError: if there are none.
    """
    if not flags.data_path:
        raise ValueError("--dataloader=cityscapes needs --data_path, the folder of the data set.")
    data.check_folder(flags.data_path, "data_path")
    found = find_scenes(pathlib.Path(flags.data_path), flags.data_split)
    step = labelled_images.QUICK_STEP if flags.quick else 1
    return StreetScenes(found[::step], flags.data_long_side, flags.data_skip_broken)


def find_scenes(folder, split):
    """Returns the list of (path of the image, path of its labels), by name.

    Where a scene has both, labels with the 19 classes' own numbers ("labelTrainIds") are taken.

    Raises:
        ValueError: if there are none, or an image is missing.
    """
    scenes = {}
    for path in sorted(folder.rglob("*.png")):
        parts = path.relative_to(folder).parts
        for pattern, ending, labels, images in LAYOUTS:
            match = re.search(pattern, path.name)
            if match and labels in parts and split in parts:
                place = parts.index(labels)
                image = folder.joinpath(*parts[:place], images, *parts[place + 1 : -1])
                # Sorted, labelTrainIds come after labelIds.
                scenes[image / (path.name[: match.start()] + ending)] = path
    if not scenes:
        raise ValueError(
            f"--data_path={folder} holds no labels of the split {split}: "
            f"gtFine/{split}/CITY/*_gtFine_labelIds.png or gt/**/{split}/**/*_gt_labelTrainIds.png."
        )
    missing = [path for path in scenes if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing: {scenes[missing[0]]} holds its labels.")
    return list(scenes.items())


@dataclasses.dataclass(eq=False)
class StreetScenes(data.Data):
    """Scenes and their classes; see `Data`.

    Evaluation batches hold `image`, one scene, float32 RGB `[1, h, w, 3]` in 0-255, whose longer
    side is `long_side`, `classes`, int `[H, W]` in 0-18 and `segmentation.IGNORED`, in the size of
    the labels, and `name`. Their attribute `segmented` tells them from batches of labels.
    """

    scenes: list
    long_side: int
    skip_broken: bool
    images_per_step: int = dataclasses.field(default=0, kw_only=True)

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Raises ValueError: these are for evaluation."""
        raise ValueError("--dataloader=cityscapes is for evaluation, not for training.")

    def evaluation_batches(self, split):
        """Returns the same for both splits."""
        data.check_split(split)
        return Scenes(self)


class Scenes:
    """One pass over `StreetScenes`, which can be iterated again."""

    segmented = True

    def __init__(self, data):
        self._data = data

    def __len__(self):
        return len(self._data.scenes)

    def __iter__(self):
        for (path, _), batch, error in threads.ahead(self._read, self._data.scenes, 2):
            if error is None:
                yield batch | {"name": path.stem}
            elif not self._data.skip_broken:
                raise error

    def _read(self, scene):
        path, labels = scene
        pixels = image_files.read_rgb(path)
        factor = self._data.long_side / max(pixels.shape[:2])
        size = [max(1, round(factor * length)) for length in pixels.shape[1::-1]]
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, size, interpolation=method)
        return {"image": pixels[None].astype(np.float32), "classes": read_classes(labels)}


def read_classes(path):
    """Returns the classes, int32 `[H, W]`, of a file of labels.

    Raises:
        ValueError: for a broken file, or one that is no such labels.
    """
    pixels = image_files.read_rgb(path)
    numbers = pixels[..., 0]
    if (pixels != numbers[..., None]).any():
        raise ValueError(f"{path} holds colours instead of the numbers of classes.")
    table = segmentation.TRAIN_IDS if "TrainIds" in path.name else segmentation.IDS
    classes = table[numbers]
    if (classes < 0).any():
        unknown = np.unique(numbers[classes < 0]).tolist()
        raise ValueError(f"{path} holds numbers that are no classes: {unknown}.")
    return classes

"""VizWiz-Classification: photos by blind people of 200 of ImageNet's classes, without labels.

    python validate.py --model=sympie --dataloader=vizwiz --data_path=dataset/images \\
        --vizwiz_annotations=dataset/annotations.json --weights=sympie.pth \\
        --sympie_classifiers=rn50_1:resnet50.pth --save_path=results

Bafghi & Gurari, "A New Dataset Based on Images Taken by Blind People for Testing the Robustness of
Image Classification Models Trained for ImageNet Categories", CVPR 2023. annotations.json names the
images and the numbers of the classes that an answer may be; the labels are kept by the challenge.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from classifiers import labelled_images
from misc.images import files
from misc.training import common_flags, settings
from misc.training.data import Data, check_split

MODEL = "sympie"


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string("data_path", None, "Folder of the images.")
    flags.DEFINE_string(
        "vizwiz_annotations", None, "The official annotations.json, with images and categories."
    )
    flags.DEFINE_integer(
        "data_resize", 256, "Length that the shorter side is resized to.", lower_bound=1
    )
    flags.DEFINE_integer(
        "data_crop", 224, "Side of the central square that is cut out.", lower_bound=1
    )
    labelled_images.define_interpolation_flag()
    labelled_images.define_evaluation_flags()
    common_flags.define_skip_broken_flag()
    settings.local("data_path", "vizwiz_annotations")


def create_data(flags):
    """Returns the data, which are for evaluation alone.

    Raises:
        ValueError: without the flags of the files, or for annotations that cannot be read.
    """
    for name in ("data_path", "vizwiz_annotations"):
        if not flags.get(name):
            raise ValueError(f"--dataloader=vizwiz needs --{name}.")
    names, categories = _read(flags.vizwiz_annotations)
    # An image's label is its number: it leads back to the name.
    found = [(pathlib.Path(flags.data_path) / name, number) for number, name in enumerate(names)]
    images = labelled_images.from_files(
        found,
        names,
        flags.data_resize,
        flags.data_crop,
        flags.data_skip_broken,
        flags.data_interpolation,
    )
    shuffled = flags.get("reestimated_prior") is not None
    images = images.sampled(flags.quick, shuffled, flags.get("max_images"), flags.get("seed", 0))
    return VizWiz(images, categories, flags.evaluation_batch_size)


@dataclasses.dataclass(eq=False)
class VizWiz(Data):
    """Images without labels; see `Data`.

    Evaluation batches hold `image` and `label`, the image's number; their attributes are `names`
    of the images and `categories`, numbers of the classes that may be answered.
    """

    images: labelled_images.LabelledImages
    categories: np.ndarray
    batch_size: int
    images_per_step: int = dataclasses.field(default=0, kw_only=True)

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Raises ValueError: there are no labels to train on."""
        raise ValueError("--dataloader=vizwiz holds images without labels.")

    def evaluation_batches(self, split):
        """Returns these batches for both splits."""
        check_split(split)
        batches = self.images.one_pass(self.batch_size)
        batches.names, batches.categories = self.images.class_names, self.categories
        return batches


def _read(path):
    """Returns the names of the images and the numbers of the categories."""
    try:
        content = files.read_json(path)
        names = [str(name) for name in content["images"]]
        categories = np.array([int(category["id"]) for category in content["categories"]])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"--vizwiz_annotations={path} should hold images and categories with an id: {error!r}"
        ) from error
    if not names or not len(categories):
        raise ValueError(f"--vizwiz_annotations={path} names no images or no categories.")
    return names, categories

"""Stored corruptions, for evaluation: ImageNet-C, and CIFAR-10-C and -100-C in their own form.

    python validate.py --model=classifier --dataloader=imagenet_c --data_path=ImageNet-C ...

Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019. ImageNet-C is CORRUPTION/SEVERITY/CLASS/image files, a layout that
`misc.degrade_folder` writes too, with or without folders for categories of corruptions above it.
Beside it may lie, as SyMPIE's authors have them, color/SEVERITY/CLASS, which is counted as
"colwarp", and clean/CLASS. Severities of ImageNet-C-bar (Mintun, Kirillov & Xie, "On
Interaction Between Data Augmentations and Corruptions in Natural Corruption Robustness", NeurIPS
2021) are numbers such as 2.40. CIFAR-10-C and CIFAR-10-C-bar are CORRUPTION.npy with severity 1 to
5 one after the other, and labels.npy.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from classifiers import class_names, labelled_images
from classifiers.dataloaders import class_folders
from classifiers.labelled_images import LabelledImages
from classifiers.metrics import CLEAN, COLWARP
from misc.images import files
from misc.training import common_flags, data, settings
from misc.training.data import Data, check_split

MODEL = "classifier"
SEVERITIES = (1, 2, 3, 4, 5)
LABELS = "labels.npy"


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "data_path", None, "Folder of CORRUPTION/SEVERITY/CLASS, or of CORRUPTION.npy, labels.npy."
    )
    common_flags.define_names(
        "data_corruptions", None, "Corruptions to read; default: all that are there."
    )
    flags.DEFINE_integer(
        "data_resize", 0, "Length that the shorter side is resized to; 0: as it is.", lower_bound=0
    )
    flags.DEFINE_integer(
        "data_crop", 224, "Side of the square that is cut out of image files.", lower_bound=1
    )
    class_names.define_flag()
    labelled_images.define_interpolation_flag()
    labelled_images.define_evaluation_flags()
    common_flags.define_skip_broken_flag()
    settings.local("data_path")


def create_data(flags):
    """Returns the data, which are for evaluation alone.

    Raises:
        ValueError: without --data_path, or for labels that cannot be read.
    """
    if not flags.data_path:
        raise ValueError("--dataloader=imagenet_c needs --data_path, the folder of corruptions.")
    data.check_folder(flags.data_path, "data_path")
    folder, wanted = pathlib.Path(flags.data_path), flags.data_corruptions
    num_classes, settings = flags.get("num_classes"), {}
    if (folder / LABELS).is_file():
        labels = _read_labels(folder / LABELS)
        names = present = None  # CIFAR-10-C holds numbers alone
        found = int(labels.max()) + 1
    else:
        severities = _find_severities(folder)
        folders = _find_classes(severities)
        names = class_names.create(flags) or folders
        class_names.check_among(folders, names, f"--class_names={flags.get('class_names')}")
        present = [names.index(name) for name in folders]
        found = len(names) if folders else 0
    if num_classes is None and found:
        num_classes = settings["num_classes"] = found
    if names is None:
        parts = _array_parts(folder, labels, wanted, num_classes)
    else:
        reading = (
            *(flags.data_resize or None, flags.data_crop),
            *(flags.data_skip_broken, flags.data_interpolation),
        )
        parts = _folder_parts(folder, severities, names, wanted, num_classes, reading)
    if not parts:
        raise ValueError(
            f"--data_path={folder} holds no corruptions: neither CORRUPTION/SEVERITY/CLASS, maybe "
            f"below CATEGORY, nor CORRUPTION.npy with {LABELS}."
        )
    return StoredCorruptions(
        parts=parts,
        class_names=names,
        classes_present=present,
        batch_size=flags.evaluation_batch_size,
        quick=flags.quick,
        max_images=flags.get("max_images"),
        seed=flags.get("seed", 0),
        shuffled=flags.get("reestimated_prior") is not None,
        settings=settings,
    )


@dataclasses.dataclass(kw_only=True, eq=False)
class StoredCorruptions(Data):
    """Test images of all corruptions and severities; may be iterated again.

    Elements: `image`, `label`, and, the same for a whole batch, `corruption` and `severity`.

    Attributes:
        parts: list of (corruption, severity, function that returns `LabelledImages`).
        batch_size: images per batch.
        class_names: names of the classes, `None` if unknown.
        classes_present: numbers of those that there are images of, `None` if unknown.
        quick: whether to take a fixed fiftieth of the images.
        max_images: see `LabelledImages.sampled`.
        seed: see `LabelledImages.sampled`.
        shuffled: whether to take them in a fixed random order.
    """

    parts: list
    batch_size: int
    class_names: list | None = None
    classes_present: list | None = None
    quick: bool = False
    max_images: int | None = None
    seed: int = 0
    shuffled: bool = False
    images_per_step: int = 0

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Raises ValueError: there are no training images."""
        raise ValueError("--dataloader=imagenet_c holds test images alone.")

    def evaluation_batches(self, split):
        """Returns these batches for both splits."""
        check_split(split)
        return self

    def __iter__(self):
        for corruption, severity, read in self.parts:
            images = read().sampled(self.quick, self.shuffled, self.max_images, self.seed)
            for batch in images.one_pass(self.batch_size):
                yield batch | {"corruption": corruption, "severity": severity}


def _chosen(found, wanted):
    missing = sorted(set(wanted or ()) - set(found))
    if missing:
        raise ValueError(
            f"--data_corruptions={','.join(missing)} are not there. Found: {', '.join(found)}"
        )
    return wanted or found


def _load_array(path):
    try:
        # Not numpy.load, which takes other kinds of files as well.
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header raises many kinds
        raise ValueError(f"{path} is no whole .npy file: {error}. {files.FETCH_AGAIN}") from error


def _read_labels(path):
    labels = _load_array(path)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise ValueError(
            f"{path} must hold integers [N]. Received: {labels.dtype} {list(labels.shape)}"
        )
    if len(labels) % len(SEVERITIES):
        raise ValueError(
            f"{path} must hold the labels of {len(SEVERITIES)} severities. Received: {len(labels)}"
        )
    if labels.max() >= len(labels):
        raise ValueError(
            f"{path} should not name more classes than images. Received: a label {labels.max()}"
        )
    return labels.astype(np.int32)


def _array_parts(folder, labels, wanted, num_classes):
    found = sorted(path.stem for path in folder.glob("*.npy") if path.name != LABELS)
    count = len(labels) // len(SEVERITIES)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{folder / LABELS} holds labels from {labels.min()} to {labels.max()}. "
            f"Received: --num_classes={num_classes}"
        )
    names = [str(label) for label in range(num_classes)]

    def reader(corruption, severity):
        def read():
            path = folder / f"{corruption}.npy"
            pixels = _load_array(path)
            shape = pixels.shape
            if pixels.dtype != np.uint8 or len(shape) != 4 or shape[::3] != (len(labels), 3):
                raise ValueError(
                    f"{path} must be uint8 [{len(labels)}, height, width, 3]. "
                    f"Received: {pixels.dtype} {list(shape)}"
                )
            rows = slice((severity - 1) * count, severity * count)
            return LabelledImages(np.array(pixels[rows]), labels[rows], names)

        return read

    return [
        (corruption, severity, reader(corruption, severity))
        for corruption in _chosen(found, wanted)
        for severity in SEVERITIES
    ]


def _find_severities(folder):
    """Returns {corruption: {severity: folder}}; clean images have the severity `None`."""
    severities = {}
    for path in (*folder.glob("*/*/"), *folder.glob("*/*/*/")):
        severity, corruption = _severity(path.name), path.parent.name
        # Classes may be called by numbers too: those lie below a severity, or are of clean images.
        if severity is not None and corruption != CLEAN and _severity(corruption) is None:
            corruption = COLWARP if corruption == "color" else corruption
            severities.setdefault(corruption, {})[severity] = path
    if severities and (folder / CLEAN).is_dir():
        severities.setdefault(CLEAN, {None: folder / CLEAN})
    return severities


def _find_classes(severities):
    names = {
        name
        for paths in severities.values()
        for path in paths.values()
        for name in class_folders.find_classes(path)
    }
    return sorted(names)


def _folder_parts(folder, severities, names, wanted, num_classes, reading):
    if names:
        # Without all of them the numbers of the classes would be others than in training.
        class_names.check_count(names, num_classes)

    def reader(path):
        return lambda: labelled_images.from_files(
            class_folders.find_images(path, names), names, *reading
        )

    return [
        (corruption, severity, reader(path))
        for corruption in _chosen(sorted(severities), wanted)
        for severity, path in sorted(severities.get(corruption, {}).items())
    ]


def _severity(name):
    """Returns the number that a folder is called by, `None` if it is called otherwise."""
    try:
        severity = float(name)
    except ValueError:
        return None
    if not np.isfinite(severity):  # "nan" and "infinity" are numbers to Python
        return None
    return int(severity) if severity.is_integer() else severity

"""CIFAR-10 and CIFAR-100 from disk, in each of the forms in which they are passed around.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read are the official
python version, the official binary version, .npz files with `images` and `labels`, and
tensorflow-datasets.
"""

import dataclasses
import os
import pathlib
import zipfile

import numpy as np
from absl import flags

from classifiers import labelled_images, pickles
from classifiers.labelled_images import LabelledImages
from misc.images import archives, files
from misc.training import data, settings

_SIDE = 32
_PIXELS = _SIDE * _SIDE * 3
# The longest official file, the 50,000 images of CIFAR-100, has 155 MB.
_LARGEST_FILE = 1 << 30


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the official files of one of the two sets are called and what they hold.

    Attributes:
        name: name in tensorflow-datasets.
        classes: number of classes.
        files: {split: names of the python version's files}; the binary ones end in .bin.
        label_key: key of the labels in the python version.
        label_bytes: bytes before the pixels of each image in the binary version; the last one is
            the (fine) label.
        folders: names of the folders that the official archives unpack to.
        names_files: (python file, key, text file) of the class names.
    """

    name: str
    classes: int
    files: dict
    label_key: str
    label_bytes: int
    folders: tuple
    names_files: tuple


CIFAR10 = Layout(
    "cifar10",
    10,
    {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    "labels",
    1,
    ("cifar-10-batches-py", "cifar-10-batches-bin"),
    ("batches.meta", "label_names", "batches.meta.txt"),
)
CIFAR100 = Layout(
    "cifar100",
    100,
    {"train": ["train"], "test": ["test"]},
    "fine_labels",
    2,
    ("cifar-100-python", "cifar-100-binary"),
    ("meta", "fine_label_names", "fine_label_names.txt"),
)


def define_flags(layout):
    """Defines the flags of the dataloader of `layout`."""
    labelled_images.define_flags()
    flags.DEFINE_string(
        "data_path",
        None,
        f"Folder of the official python or binary files of {layout.name}, or of train.npz and "
        "test.npz with images and labels.",
    )
    flags.DEFINE_bool(
        "data_tfds",
        False,
        "Read from tensorflow-datasets instead, which keeps its data in --data_path (default: "
        "~/tensorflow_datasets) and downloads what is missing.",
    )
    labelled_images.define_defaults(num_classes=layout.classes, data_normalisation=layout.name)
    settings.local("data_path")


def create_data(layout, flags):
    """Returns the `LabelledData` of `layout`."""
    path, tfds = flags.data_path, flags.data_tfds
    if not tfds:
        _require_path(layout, path)
    return labelled_images.create_data(flags, lambda split: read(layout, path, tfds, split), _SIDE)


def read(layout, path, tfds, split):
    """Returns the `LabelledImages` of "train" or "test"; `path` and `tfds` as in `define_flags`.

    Raises:
        ValueError: if the folder is not given, or a file is not what it should be.
        FileNotFoundError: if the folder holds none of the forms; says what was looked for.
        ImportError: if tensorflow-datasets is asked for and not installed.
    """
    if tfds:
        return _read_tfds(layout, path, split)
    _require_path(layout, path)
    folder = pathlib.Path(path)
    for candidate in (folder, *(folder / name for name in layout.folders)):
        forms = (
            ("", layout.files[split], lambda file: read_python(file, layout.label_key)),
            (".bin", layout.files[split], lambda file: read_binary(file, layout.label_bytes)),
            (".npz", [split], read_npz),
        )
        for ending, names, reader in forms:
            files = [candidate / f"{name}{ending}" for name in names]
            if files[0].is_file():
                parts = [reader(file) for file in files]
                return _checked(layout, candidate, parts)
    raise FileNotFoundError(
        f"--data_path={path} holds no {split} part of {layout.name}. Looked for: "
        f"{layout.files[split][0]}, {layout.files[split][0]}.bin, {split}.npz, there and in "
        f"{', '.join(layout.folders)}."
    )


def _require_path(layout, path):
    if not path:
        raise ValueError(
            f"--dataloader={layout.name} needs --data_path: the folder of the official python or "
            "binary files or of train.npz and test.npz; or --data_tfds."
        )
    data.check_folder(path, "data_path")


def read_python(path, label_key):
    """Returns (images, labels) of a file of the official python version.

    Such files are pickles, of Python 2 or 3. They are read without running what they name: only
    dictionaries, lists, texts, numbers and arrays of numbers are allowed.

    Raises:
        ValueError: if the file is missing, broken, or holds anything else; names the file.
    """
    content = _load_pickle(path)
    pixels = content.get(b"data")
    pixels = pixels.values if isinstance(pixels, pickles.Array) else None
    labels = _plain_labels(content.get(label_key.encode()))
    right = pixels is not None and pixels.dtype == np.uint8 and pixels.shape[1:] == (_PIXELS,)
    if not right or labels is None or labels.shape != pixels.shape[:1]:
        found = [None if values is None else list(values.shape) for values in (pixels, labels)]
        raise ValueError(
            f"{path} is no file of the python version: it should hold data [N, {_PIXELS}] and "
            f"{label_key} [N]. Received: {found[0]} and {found[1]}"
        )
    return _from_planes(pixels), labels


def read_binary(path, label_bytes):
    """Returns (images, labels) of a file of the official binary version.

    Raises:
        ValueError: if the file's length is not that of whole images; names the file.
    """
    _check_size(path)
    content = np.fromfile(path, np.uint8)
    row = label_bytes + _PIXELS
    if not content.size or content.size % row:
        raise ValueError(
            f"{path} should hold images of {row} bytes each. Received: {content.size} bytes"
        )
    content = content.reshape(-1, row)
    return _from_planes(content[:, label_bytes:]), content[:, label_bytes - 1].astype(np.int32)


def read_npz(path):
    """Returns (images, labels) or (images, labels, class names) of an .npz file.

    Raises:
        ValueError: if the arrays are missing, of another type or shape, or would fill memory; names
            the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                archives.check_member(member)
        with np.load(path, allow_pickle=False) as content:
            images, labels = content["images"], content["labels"]
            names = content["label_names"] if "label_names" in content.files else None
    except Exception as error:  # damaged archives raise many kinds
        raise ValueError(
            f"{path} should be an .npz with images and labels: {error}. {files.FETCH_AGAIN}"
        ) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images in {path} must be uint8 [N, height, width, 3]. "
            f"Received: {images.dtype} {list(images.shape)}"
        )
    if labels.size != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels in {path} must be one integer for each of the {len(images)} images. "
            f"Received: {labels.dtype} {list(labels.shape)}"
        )
    labels = labels.reshape(-1)
    if names is None:
        return images, labels
    return images, labels, [str(name) for name in names.reshape(-1)]


def _read_tfds(layout, path, split):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "--data_tfds needs tensorflow-datasets: pip install 'degraded-vision[datasets]'"
        ) from error
    data, info = tfds.load(
        layout.name, split=split, data_dir=path, batch_size=-1, shuffle_files=False, with_info=True
    )
    names = info.features["label"].names
    return _checked(layout, layout.name, [(data["image"].numpy(), data["label"].numpy(), names)])


def _checked(layout, source, parts):
    """Joins the parts, and returns them as `LabelledImages`."""
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    if not len(labels):
        raise ValueError(f"{source} holds no images.")
    if labels.min() < 0 or labels.max() >= layout.classes:
        raise ValueError(
            f"The labels in {source} must be from 0 to {layout.classes - 1}. "
            f"Received: {labels.min()} to {labels.max()}"
        )
    names = parts[0][2] if len(parts[0]) > 2 else _class_names(layout, source)
    return LabelledImages(images, labels.astype(np.int32), list(names))


def _class_names(layout, folder):
    python, key, text = layout.names_files
    if (folder / python).is_file():
        content = _load_pickle(folder / python)
        try:
            return [name.decode() for name in content[key.encode()]]
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"{folder / python} should hold {key}, a list of texts") from error
    if (folder / text).is_file():
        lines = files.read_text(folder / text).split("\n")
        return [line for line in lines if line.strip()]
    return [str(label) for label in range(layout.classes)]


def _from_planes(values):
    """Returns images [N, 32, 32, 3] of rows that hold the red, green and blue plane."""
    return np.ascontiguousarray(values.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def _plain_labels(found):
    """Returns the array in a pickled array or list of whole numbers, `None` of anything else."""
    if isinstance(found, list) and all(type(n) is int and n.bit_length() < 63 for n in found):
        return np.array(found, np.int64)
    return found.values if isinstance(found, pickles.Array) else None


def _load_pickle(path):
    _check_size(path)
    try:
        with open(path, "rb") as file:
            content = pickles.ArrayUnpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it should hold a dictionary")
    except OSError:
        raise
    except Exception as error:  # what a broken pickle raises depends on where it is broken
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is no file of the python version: {reason}. {files.FETCH_AGAIN}"
        ) from error
    return content


def _check_size(path):
    size = os.path.getsize(path)
    if size > _LARGEST_FILE:
        raise ValueError(
            f"{path} has {size / 1e9:.1f} GB; the official files have less than "
            f"{_LARGEST_FILE / 1e9:.1f}"
        )

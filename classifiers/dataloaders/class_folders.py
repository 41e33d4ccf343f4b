"""A folder with one folder of images per class, as ImageNet is stored.

    python train.py --model=classifier --dataloader=class_folders --data_path=TRAIN \\
        --data_test_path=TEST --data_training_crop=random_resized --augment_padding=0

Classes are numbered in the order of their folders' names, or as --class_names lists them; test
images may also lie in one folder, with their classes in --data_test_labels. Images are resized and
the central square is cut out, as torchvision's evaluation does it; training may cut random windows
instead. Images are turned as their EXIF orientation says, but for ImageNet's, whose published
figures leave it out. With --data_degraded_path come images that `misc.dataset_preprocessing` has
degraded and stored.
"""

import dataclasses
import pathlib

from absl import flags

from classifiers import class_names, label_files, labelled_images, random_resized_crop
from misc.images import image_files, stored_sets
from misc.training import common_flags, data, settings

MODEL = "classifier"
TRAINING_CROPS = ("centre", labelled_images.RANDOM_PLACE, "random_resized")
# Flags that a stored set answers, and what of its manifest does.
_PREPARATION = {
    "data_resize": "resize",
    "data_crop": "crop",
    "data_size": "size",
    "data_interpolation": "interpolation",
}


def define_flags():
    """Defines the flags of this dataloader."""
    labelled_images.define_flags()
    flags.DEFINE_string("data_path", None, "Folder that holds a folder of images for each class.")
    flags.DEFINE_string(
        "data_test_path",
        None,
        "As --data_path, for testing, where it may stand alone; absent: the held-out part of "
        "--data_path, which also chose the best weights: its accuracy is a little too good.",
    )
    flags.DEFINE_string(
        "data_test_labels",
        None,
        "For images that lie in --data_test_path without folders of classes: table with a file's "
        "name and its class, by name or number from 0 on, in each line.",
    )
    class_names.define_flag()
    flags.DEFINE_string(
        "data_degraded_path",
        None,
        "Folder that misc.dataset_preprocessing made of --data_path and --data_test_path: its "
        "degraded images are read instead of these; sizes and interpolation are the folder's.",
    )
    flags.DEFINE_integer(
        "data_resize",
        None,
        "Length that the shorter side is resized to before the central square is cut out; default: "
        "8/7 of --data_crop, 256 for 224; 0: as it is.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "data_crop", 224, "Side of the square that is cut out, in pixels.", lower_bound=1
    )
    flags.DEFINE_integer(
        "data_size",
        None,
        "Side that the square is then resized to, in pixels: Expert Training cuts 224 for networks "
        "that take less. Default: --data_crop.",
        lower_bound=1,
    )
    labelled_images.define_interpolation_flag()
    flags.DEFINE_enum(
        "data_training_crop",
        TRAINING_CROPS[0],
        TRAINING_CROPS,
        "What training sees of an image: centre: as evaluations, the central square; random: such "
        "a square from anywhere; "
        "random_resized: a window of random size, shape and place, as ImageNet is usually trained "
        "on (give --augment_padding=0 with it).",
    )
    common_flags.define_numbers(
        "data_crop_area",
        list(random_resized_crop.AREA),
        "Smallest and largest share of an image's area that --data_training_crop=random_resized "
        "takes.",
        float,
        length=2,
        above=0,
        at_most=1,
    )
    flags.DEFINE_bool(
        "data_cached",
        None,
        "Keep decoded central squares in memory; default: if they need less than half of what is "
        "available. Files that are cut at random are read each time.",
    )
    common_flags.define_skip_broken_flag()
    labelled_images.define_defaults(data_normalisation="imagenet", degradation_size=224)
    settings.local("data_path", "data_test_path", "data_test_labels", "data_degraded_path")
    settings.local("data_cached", changeable=True)


def create_data(flags):
    """Returns the `LabelledData`; the classes are those of the folders, or of --class_names.

    Raises:
        ValueError: for missing folders, or flags that contradict each other.
    """
    path, test_path = flags.data_path, flags.data_test_path
    if not (path or test_path):
        raise ValueError("--dataloader=class_folders needs --data_path, a folder of class folders.")
    for flag in ("data_path", "data_test_path"):
        if flags.get(flag):
            data.check_folder(flags.get(flag), flag)
    labels_path = flags.get("data_test_labels")
    if labels_path and not test_path:
        raise ValueError("--data_test_labels needs --data_test_path, the folder of its images.")
    names, listed = class_names.create(flags), f"--class_names={flags.get('class_names')}"
    if names is None:
        names, listed = _find_names(path, test_path, labels_path)
    stored = None
    if flags.get("data_degraded_path"):
        stored, flags = create_stored_set(flags)
    crop, resize, size = flags.data_crop, flags.data_resize, flags.get("data_size")
    resize = resize_for(crop) if resize is None else resize
    if 0 < resize < crop:
        raise ValueError(
            f"--data_resize={resize} leaves less than the square of --data_crop={crop}."
        )
    area = None if flags.data_training_crop == "centre" else flags.data_training_crop
    if area == "random_resized":
        area = _check_area(flags.data_crop_area)
    if area and (stored or size):
        name = "data_degraded_path" if stored else "data_size"
        raise ValueError(
            f"--{name} takes whole central squares: --data_training_crop=centre. "
            f"Received: {flags.data_training_crop}"
        )
    cached = flags.data_cached
    reading = (
        *(resize or None, crop, flags.data_skip_broken, flags.data_interpolation),
        *(not class_names.are_imagenet(names), size),
    )

    def read(split, degraded=stored):
        if split == "test" and not test_path:
            return None
        if split == "train" and not path:
            raise ValueError("--data_path is missing: --data_test_path is for testing alone.")
        folder = pathlib.Path(path if split == "train" else test_path)
        if split == "test" and labels_path:
            found, _ = label_files.read(labels_path, folder, names)
        else:
            class_names.check_among(find_classes(folder), names, listed)
            found = find_images(folder, names)
        found = labelled_images.from_files(found, names, *reading)
        if degraded:
            found = _degraded(found, folder, degraded)
        # Of images in memory only the centre is there.
        return found.decoded(False if area and split == "train" else cached)

    settings = {"data_resize": resize}
    if stored:
        settings |= {name: flags.get(name) for name in _PREPARATION}
        settings["stored_degradation"] = stored.manifest.degradation
    if flags.get("num_classes") is None:
        settings["num_classes"] = len(names)
    read_clean = (lambda split: read(split, None)) if stored else None
    return labelled_images.create_data(flags, read, size or crop, area, settings, read_clean)


def resize_for(crop):
    """Returns the length that the shorter side is resized to for a square: 256 for 224."""
    return 256 * crop // 224


def create_stored_set(flags):
    """Returns the `StoredSet` of --data_degraded_path, and the flags with its sizes."""
    path = flags.data_degraded_path
    data.check_folder(path, "data_degraded_path")
    if flags.get("degradations"):
        raise ValueError(
            "--degradations would degrade the stored images of --data_degraded_path once more: "
            "leave it out."
        )
    stored = stored_sets.StoredSet(path)
    values = {name: getattr(stored.manifest, own) for name, own in _PREPARATION.items()}
    values["data_resize"] = values["data_resize"] or 0
    given = getattr(flags, "given", ())
    for name, value in values.items():
        if name in given and flags.get(name) != value:
            raise ValueError(
                f"--data_degraded_path={path} was made with --{name}={value}. "
                f"Received: {flags.get(name)}"
            )
    return stored, flags | values


def _degraded(clean, folder, stored):
    """Returns the `LabelledImages` of a stored set that stand for clean ones of a folder."""
    names = [path.relative_to(folder).as_posix() for path in clean.images]
    if stored.manifest.upright != clean.upright:
        turned = "turned as EXIF says" if stored.manifest.upright else "not turned as EXIF says"
        raise ValueError(
            f"--data_degraded_path holds images that were {turned}; those of {folder} are read "
            "otherwise, as ImageNet's names of classes decide."
        )
    paths, sizes = stored.find(folder, names)
    return dataclasses.replace(clean, images=paths, read=stored.read, bytes=sizes)


def _check_area(area):
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
        raise ValueError(
            "--data_crop_area takes two shares above 0, the smaller one first, such as 0.08,1. "
            f"Received: {','.join(map(str, area))}"
        )
    return tuple(area)


def _find_names(path, test_path, labels_path):
    """Returns the list of the classes' names, and which flag they come from."""
    if path:
        return find_classes(path), f"--data_path={path}"
    if labels_path:
        names = label_files.read(labels_path, test_path)[1]
        return names, f"--data_test_labels={labels_path}"
    return find_classes(test_path), f"--data_test_path={test_path}"


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


def find_images(folder, names, below=""):
    """Returns the list of (path, label) of the images in FOLDER/NAME/BELOW, by name.

    Raises:
        ValueError: if there are none.
    """
    found = [
        (path, label)
        for label, name in enumerate(names)
        if (folder / name / below).is_dir()
        for path in image_files.find_images(folder / name / below)
    ]
    if not found:
        raise ValueError(f"No images in the class folders of {folder}.")
    return found

"""Command: puts images into a folder for each class, as --dataloader=class_folders takes them.

    python -m misc.sort_into_classes --input_path=ILSVRC2012_img_val --output_path=imagenet/val \\
        --labels=ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt \\
        --classes=ILSVRC2012_devkit_t12/data/meta.mat
    python -m misc.sort_into_classes ... --labels=LOC_val_solution.csv
    python -m misc.sort_into_classes ... --labels=ILSVRC/Annotations/CLS-LOC/val
    python -m misc.sort_into_classes --tfds=imagenet2012 --output_path=imagenet

ImageNet's validation images come in one folder, and their classes in a file of another one. The
command stops before it begins where an image or its class is missing; the same command again goes
on where it was stopped. Of a data set of tensorflow-datasets the images' own files are written.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import csv
import errno
import functools
import os
import pathlib
import re
import shutil
import xml.etree.ElementTree

import scipy.io
from absl import flags

from misc.images import files, image_files, locks, threads
from misc.training import command_line

HOW = ("link", "copy", "move")
# Names of splits in tensorflow-datasets, where ours differ.
SPLITS = {"validation": "val"}
# What class folders are called by.
CLASS = r"[\w-][\w.-]*"
COLUMNS = ("ImageId", "PredictionString")


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_string("input_path", None, "Folder of images; with --tfds: where its data lie.")
    flags.DEFINE_string("output_path", None, "Folder for the folders of classes.")
    flags.DEFINE_string(
        "labels",
        None,
        "What tells the classes: a text file with one line for each image, in the order of their "
        "names: a class, or its number from 1, which --classes names; a CSV with the columns "
        "ImageId and PredictionString; or a folder of XML annotations.",
    )
    flags.DEFINE_string(
        "classes",
        None,
        "Names of the classes by their numbers: ImageNet's meta.mat, or a text file with one in "
        "each line.",
    )
    flags.DEFINE_enum(
        "how",
        HOW[0],
        HOW,
        "link: hard links, which take no room; copy; or move, which empties --input_path.",
    )
    flags.DEFINE_string(
        "tfds", None, "Name of a prepared data set of tensorflow-datasets, such as imagenet2012."
    )


def main(settings):
    """Runs the command; returns its exit status."""
    if not settings.output_path:
        raise ValueError(command_line.describe_missing("output_path"))
    with locks.hold(settings.output_path):
        if settings.tfds:
            count = export(settings.tfds, settings.input_path, settings.output_path)
        else:
            for name in ("input_path", "labels"):
                if not settings.get(name):
                    raise ValueError(command_line.describe_missing(name))
            count = sort(
                settings.input_path,
                settings.output_path,
                settings.labels,
                settings.classes,
                settings.how,
            )
    print(f"{count} images in {settings.output_path}")
    return 0


def sort(input_path, output_path, labels, classes=None, how="link"):
    """Puts the images of a folder into folders of their classes; returns how many they are.

    Args:
        input_path: folder of the images.
        output_path: folder for the folders.
        labels: see `define_flags`.
        classes: see there.
        how: one of `HOW`.

    Raises:
        ValueError: for labels that cannot be read or do not fit the images; nothing is done then.
    """
    source, target = pathlib.Path(input_path), pathlib.Path(output_path)
    if not source.is_dir():
        raise ValueError(f"--input_path is a folder of images. Received: {input_path}")
    if os.path.realpath(source) == os.path.realpath(target):
        raise ValueError(f"--output_path must be another folder than --input_path={input_path}")
    # What was moved before counts as well.
    there = {p.name: p for p in image_files.find_images(target)} if target.is_dir() else {}
    here = {path.name: path for path in image_files.find_images(source)}
    names = sorted({*here, *there} if how == "move" else here)
    if not names:
        raise ValueError(f"--input_path={input_path} holds no images.")
    found = read_labels(pathlib.Path(labels), names, classes)
    wrong = [name for name in found.values() if not re.fullmatch(CLASS, name)]
    if wrong:
        raise ValueError(f"--labels={labels}: {wrong[0]!r} cannot be the name of a folder.")

    def place(name):
        if name in here:
            _put(here[name], target / found[name] / name, how)

    threads.for_each(place, names, "Sorting")
    return len(names)


def _put(source, target, how):
    """Puts one file in its place, whole or not at all; one that is there already stays."""
    if how != "move" and target.exists():
        if not os.path.samefile(source, target) and not _same_size(source, target):
            raise ValueError(f"{target} is there already, and is another file than {source}.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if how == "link":
            os.link(source, target)
            return
        if how == "move":
            os.rename(source, target)
            return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if how == "link":
            raise ValueError(
                f"{source} and {target} are on different disks, where --how=link is impossible: "
                "give --how=copy, or move."
            ) from error
    with files.write_atomically(target) as temporary:
        shutil.copyfile(source, temporary)
    if how == "move":
        source.unlink()


def _same_size(first, second):
    return first.stat().st_size == second.stat().st_size


def read_labels(path, names, classes=None):
    """Returns {name of an image: name of its class}.

    Args:
        path: `pathlib.Path` of the labels, see `define_flags`.
        names: sorted names of all images.
        classes: path of the classes' names, or `None`.

    Raises:
        ValueError: unless each image has one class; names the file.
        OSError: if there is no such file.
    """
    if path.is_dir():
        return {name: _read_annotation(path / f"{pathlib.Path(name).stem}.xml") for name in names}
    if path.suffix.lower() == ".csv":
        labels = _read_table(path)
        missing = [name for name in names if pathlib.Path(name).stem not in labels]
        if missing:
            raise ValueError(f"{path} has no class for {len(missing)} images, such as {missing[0]}")
        return {name: labels[pathlib.Path(name).stem] for name in names}
    labels = files.read_text(path).split()
    if len(labels) != len(names):
        raise ValueError(
            f"{path} should have one line for each of the {len(names)} images. "
            f"Received: {len(labels)}"
        )
    if all(label.isdecimal() for label in labels):
        if not classes:
            raise ValueError(f"{path} has numbers: --classes names the classes.")
        known = read_classes(pathlib.Path(classes))
        wrong = [label for label in labels if not 1 <= int(label) <= len(known)]
        if wrong:
            raise ValueError(
                f"{path} has numbers beyond the {len(known)} classes of {classes}: {wrong[0]}"
            )
        labels = [known[int(label) - 1] for label in labels]
    return dict(zip(names, labels, strict=True))


def _read_annotation(path):
    """Returns the class in an annotation of ILSVRC; all of its objects are of one."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: each image needs its annotation.")
    try:
        root = xml.etree.ElementTree.fromstring(files.read_text(path))
    except (xml.etree.ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is no XML annotation: {error}") from error
    found = {name.text for name in root.iterfind("object/name") if name.text}
    if len(found) != 1:
        raise ValueError(f"{path} should name one class. Received: {len(found)}")
    return found.pop()


def _read_table(path):
    rows = csv.DictReader(files.read_text(path).splitlines())
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise ValueError(f"{path} should have the columns {' and '.join(COLUMNS)}.")
    # The class of the first box comes first; all are of one class.
    return {row[COLUMNS[0]]: [*(row[COLUMNS[1]] or "").split(), ""][0] for row in rows}


def read_classes(path):
    """Returns the names of the classes by number, less one: of meta.mat, or lines of text.

    Raises:
        ValueError: if the file holds none; names it.
    """
    if path.suffix != ".mat":
        return [line.split()[0] for line in files.read_text(path).splitlines() if line.strip()]
    try:
        # Of the devkit of 2012: numbers 1 to 1000 are the classes, those behind them their groups.
        synsets = scipy.io.loadmat(path, squeeze_me=True)["synsets"]
        names = {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in synsets
            if int(row["num_children"]) == 0
        }
        return [names[number] for number in range(1, len(names) + 1)]
    except OSError:
        raise
    except Exception as error:  # a damaged file raises many kinds
        raise ValueError(f"{path} is not ImageNet's meta.mat: {error!r}") from error


def export(name, data_path, output_path):
    """Writes the image files of a data set of tensorflow-datasets; returns how many they are.

    They become SPLIT/CLASS/FILE. Their bytes are those that the data set was made of.

    Args:
        name: name of the data set.
        data_path: folder that tensorflow-datasets keeps its data in; `None`: its own.
        output_path: folder for the splits.

    Raises:
        ValueError: if it is not there, or holds no images with labels.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError("--tfds needs tensorflow-datasets: pip install it") from error
    folder = pathlib.Path(data_path or tfds.core.constants.DATA_DIR).expanduser() / name
    versions = sorted(path.parent for path in folder.glob("**/dataset_info.json"))
    if not versions:
        raise ValueError(f"--tfds={name}: there is no prepared data set in {folder}.")
    builder = tfds.builder_from_directory(versions[-1])
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise ValueError(f"--tfds={name} should have images and labels. It has: {list(features)}")
    count = 0
    for split, info in builder.info.splits.items():
        rows = builder.as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        target = pathlib.Path(output_path, SPLITS.get(split, split))
        write = functools.partial(_write_row, target, features["label"])
        numbered = enumerate(rows.as_numpy_iterator())
        threads.for_each(write, numbered, f"Writing {target}", total=info.num_examples)
        count += info.num_examples
    return count


def _write_row(folder, labels, numbered):
    number, row = numbered
    content = row["image"]
    name = row.get("file_name", b"%08d" % number).decode()
    if not pathlib.Path(name).suffix:
        name += ".png" if content.startswith(b"\x89PNG") else ".jpg"
    path = folder / labels.int2str(int(row["label"])) / pathlib.Path(name).name
    if path.exists() and path.stat().st_size == len(content):
        return
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)

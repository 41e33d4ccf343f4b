"""Classifies image files of any size with a trained classifier, or several that vote.

Files are decoded, resized and cut on several threads while the classifier works on batches.
"""

import dataclasses
import functools
import pathlib

import numpy as np
import scipy.special
from absl import flags

from classifiers import voting
from misc.export import inference, tiling
from misc.images import files, image_files, pixel_store, resizing
from misc.reports import contact_sheet, report

# What models give that are applied here, and what for.
TASK = "classify"
OUTPUTS = (("logits",), ("votes", "logits"))
RESULTS = "predictions.json"
TABLE = "predictions.csv"
SHEET = "predictions.png"
SHOWN_ROWS = 20
SHEET_IMAGES = 60
SHEET_TILE = 128
SHEET_COLUMNS = 10


def define_flags():
    """Defines the flags of classifying files."""
    flags.DEFINE_integer(
        "classify_top", 5, "Likeliest classes to write of an image.", lower_bound=1
    )
    flags.DEFINE_integer(
        "classify_resize",
        None,
        "Length that the shorter side is resized to for a classifier, 0: none; default: as in the "
        "evaluation of its run.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "classify_crop",
        None,
        "Side of the central square that a classifier sees; default: as in the evaluation of its "
        "run.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "classify_names",
        None,
        "Text file with the name of a class in each line; default: the names in the run's data.",
    )


def create_predictor(flags, model, source):
    """Returns the function `classify_files` with the model and the settings of the flags."""
    names = read_names(flags.classify_names) if flags.classify_names else None
    classifier = FileClassifier(
        model, flags.classify_resize, flags.classify_crop, names, flags.classify_top
    )
    return functools.partial(classify_files, classifier, source)


def on_pixels(model, top):
    """Returns a function of uint8 or float32 `[H, W, 3]` in 0-255 that gives its likeliest classes.

    They are {"class": name, "number": number, "probability": 0-1} and maybe "votes".
    """
    classifier = FileClassifier(model, top=top)

    def classify(pixels):
        image = classifier.cut(tiling.from_float(pixels, np.uint8))
        outputs = classifier.function(image[None])
        names = classifier.class_names(outputs["logits"].shape[-1])
        return _entries(most_likely(outputs, top)[0], names)

    return classify


def classify_files(
    classifier, source, found, folder, output_path, overwrite=False, skip_broken=False
):
    """Classifies images in a folder, and writes their table and contact sheet.

    Returns:
        Exit status: 0 if every image was classified.
    """
    files.check_free(output_path, (RESULTS, TABLE, SHEET), overwrite)
    predictions, names, broken = classifier(found, skip_broken, spread(found))
    description = {
        "model": source,
        "resize": classifier.resize,
        "crop": classifier.crop,
        "broken": [str(path) for path in broken],
    }
    if predictions:
        write_results(output_path, predictions, folder, names, description, classifier.pictures)
    print(f"{len(predictions)} of {len(found)} images classified, {len(broken)} failed")
    return 1 if broken else 0


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most likely classes of an image, the best first.

    Attributes:
        classes: numbers of the classes.
        probabilities: theirs, of all classes together 1.
        votes: how many of several classifiers chose each of them, `None` for a single one.
    """

    classes: list
    probabilities: list
    votes: list | None = None


class FileClassifier:
    """Applies a model with "logits", and maybe "votes", to files.

    `pictures` holds {path: what the model saw of it, uint8 RGB} of the files that it was to keep.
    """

    def __init__(self, model, resize=None, crop=None, class_names=None, top=5):
        """Sets how images become classes.

        Args:
            model: `Method` or `FrozenMethod`.
            resize: length that the shorter side is resized to; 0: images stay as they are; `None`:
                what the model was evaluated with.
            crop: side of the central square; `None`: what the model was evaluated with.
            class_names: list of names; `None`: those that the model was trained with.
            top: number of classes to keep.

        Raises:
            ValueError: for values that cannot be, or where the model does not say the size.
        """
        metadata = model.metadata
        if crop is None and "crop" not in metadata:
            raise ValueError(
                "The model does not say what size of images it takes: give --classify_crop, and "
                "--classify_resize where the shorter side is to be resized to another length."
            )
        self.crop = metadata["crop"] if crop is None else crop
        # Without a word about it, the square is all of the image's shorter side.
        usual = metadata.get("resize", self.crop)
        self.resize = usual if resize is None else resize or None
        self.size = metadata.get("size") if crop is None else None
        self.interpolation = metadata.get("interpolation", resizing.INTERPOLATIONS[0])
        if self.resize and self.resize < self.crop:
            raise ValueError(
                f"Images are resized to {self.resize} pixels, less than the square of {self.crop} "
                "that is cut out: give --classify_resize and --classify_crop that fit."
            )
        pixel_store.check_pixels(self.crop, self.crop, "--classify_crop: a square")
        self.top = top
        self.pictures = {}
        self._names = class_names or metadata.get("class_names")
        outputs = tuple(model.export_names["outputs"])
        side = self.size or self.crop
        self.function = inference.compile_outputs(model, outputs, (side, side))

    def class_names(self, classes):
        """Returns the names of the classes; their numbers where neither flag nor model has them."""
        if not self._names:
            return [str(number) for number in range(classes)]
        if len(self._names) != classes:
            raise ValueError(f"The model has {classes} classes. Received: {len(self._names)} names")
        return list(self._names)

    def __call__(self, paths, skip_broken=False, keep=()):
        """Classifies files, with a progress bar; see `inference.apply_to_files`.

        Args:
            paths: list of image files.
            skip_broken: report files that cannot be used and go on, instead of stopping.
            keep: paths whose pixels are kept in `pictures`.

        Returns:
            `(predictions, class_names, broken)`: {path: `Prediction`}; list of names, `None` if no
            file could be used; and the list of the files left out.
        """
        keep = set(keep)

        def prepare(path):
            pixels = self.prepare(path)
            if path in keep:
                self.pictures[path] = pixels
            return [pixels]

        found, broken = inference.apply_to_files(
            self.function, prepare, paths, "classifying", skip_broken
        )
        if not found:
            return {}, None, broken
        outputs = list(found.values())
        together = {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}
        names = self.class_names(together["logits"].shape[-1])
        return dict(zip(found, most_likely(together, self.top), strict=True)), names, broken

    def prepare(self, path):
        """Returns what the model sees of a file, uint8 RGB `[size, size, 3]`."""
        pixels = image_files.read_rgb(path)
        try:
            return self.cut(pixels)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def cut(self, pixels):
        """Returns what the model sees of uint8 RGB pixels `[height, width, 3]`."""
        height, width = pixels.shape[:2]
        if not self.resize and min(height, width) < self.crop:
            raise ValueError(
                f"it has {height}x{width} pixels, less than the square of {self.crop}: give "
                "--classify_resize"
            )
        return resizing.resize_and_crop(
            pixels, self.resize, self.crop, self.interpolation, self.size
        )


def most_likely(outputs, top):
    """Returns a `Prediction` for each image.

    Classes are ranked by their logits and, where several classifiers vote, by `voting.rank`. The
    probabilities are the softmax of the logits, of several classifiers of the mean of theirs.

    Args:
        outputs: {"logits": `[B, K]`} and, of several classifiers, {"votes": `[B, K]`}.
        top: number of classes to keep.
    """
    logits = np.asarray(outputs["logits"], np.float64)
    votes, ranks = None, logits
    if "votes" in outputs:
        votes = np.asarray(outputs["votes"], np.float32)
        ranks = np.asarray(voting.rank(votes, np.asarray(outputs["logits"], np.float32)))
        logits = logits / votes.sum(axis=1, keepdims=True)
    probabilities = scipy.special.softmax(logits, axis=1)
    # Stable: of equal values the first is the largest, as in an argmax.
    order = np.argsort(-ranks, axis=1, kind="stable")[:, :top]
    return [
        Prediction(
            chosen.tolist(),
            probabilities[image, chosen].tolist(),
            None if votes is None else votes[image, chosen].astype(int).tolist(),
        )
        for image, chosen in enumerate(order)
    ]


def spread(paths, count=SHEET_IMAGES):
    """Returns at most `count` of the paths, spread evenly over the list."""
    places = np.linspace(0, len(paths) - 1, min(count, len(paths)))
    return [paths[index] for index in places.round().astype(int)]


def write_results(folder, predictions, root, class_names, description, pictures):
    """Prints the classes, and writes predictions.json, .csv and .png, sorted by path.

    Args:
        folder: where to write.
        predictions: {path: `Prediction`}.
        root: folder that paths are shown relative to.
        class_names: list of names of all classes.
        description: {name: value} of how it was classified, for the JSON file.
        pictures: {path: uint8 RGB} for a contact sheet.
    """
    folder = pathlib.Path(folder)
    by_name = {pathlib.Path(path).relative_to(root).as_posix(): path for path in predictions}
    rows = [
        {"path": name, "predictions": _entries(predictions[by_name[name]], class_names)}
        for name in sorted(by_name)
    ]
    _print_rows(rows)
    content = description | {"class_names": list(class_names), "images": rows}
    files.write_json(folder / RESULTS, content)
    report.write_table(folder / TABLE, [_flat(row) for row in rows])
    tiles = [
        (pictures[by_name[row["path"]]], _caption(row))
        for row in rows
        if by_name[row["path"]] in pictures
    ]
    sheet = contact_sheet.draw_captioned(tiles, SHEET_TILE, SHEET_COLUMNS)
    image_files.write_image(folder / SHEET, sheet)
    print(f"Results: {folder / RESULTS}, {folder / TABLE}, {folder / SHEET}")


def read_names(path):
    """Returns the names in a text file with one in each line."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--classify_names={path} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"--classify_names={path} should hold a name in each line.")
    return names


def _entries(prediction, class_names):
    entries = [
        # The networks compute with seven digits.
        {"class": class_names[number], "number": number, "probability": round(probability, 6)}
        for number, probability in zip(prediction.classes, prediction.probabilities, strict=True)
    ]
    for entry, votes in zip(entries, prediction.votes or (), strict=False):
        entry["votes"] = votes
    return entries


def _flat(row):
    cells = {"path": row["path"]}
    for place, entry in enumerate(row["predictions"], 1):
        cells |= {f"{n}_{place}": entry[n] for n in ("class", "probability", "votes") if n in entry}
    return cells


def _caption(row):
    best = row["predictions"][0]
    return [best["class"], f"{100 * best['probability']:.1f} %", row["path"]]


def _print_rows(rows):
    print(f"{'percent':>8}  {'class':<24}  path")
    lines = []
    for row in rows:
        best = row["predictions"][0]
        lines.append(f"{100 * best['probability']:8.1f}  {best['class']:<24}  {row['path']}")
    report.print_ends(lines, SHOWN_ROWS)

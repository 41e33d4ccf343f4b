"""A report of how robust classifiers are: measured, or gone on with, and written."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
import shutil

import numpy as np
from absl import flags

import degradations
from classifiers import (
    bootstrap,
    calibration,
    class_names,
    levels,
    metrics,
    robustness,
    robustness_figures,
    subjects,
)
from classifiers import flags as classifier_flags
from misc.export import input_values
from misc.images import files, result_folder
from misc.reports import report, robustness_page
from misc.training import common_flags, run_folder

RESULTS, TABLE, IMAGES, PAGE = "results.json", "results.csv", "images.csv", "index.html"
RECORD = ".robustness_report"
# ImageNet-C's 15, and ranges from mild to hard, whose steps are those of breaking points.
DEGRADATIONS = (
    "imagenet_c",
    "jpeg:1-100",
    "jpeg2000:10-200,step=10",
    "blur:0.1-5,step=0.1",
    "noise:1-50,step=1",
)
SHOWN_FRAGILE = 8
# What changes neither the figures nor the parts that they are made of.
_FREE_FLAGS = ("output_path", "overwrite", "cuda_device", "data_cached")


def define_flags():
    """Defines the flags of a report, but for those of its data."""
    common_flags.define_names(
        "models",
        None,
        "Classifiers: .keras, .onnx, .tflite, .pb, SavedModel folders, runs of this project, or "
        "NETWORK:FILE, a network's name and PyTorch's weights (resnet50:resnet50.pth).",
    )
    common_flags.define_names(
        "input_preset",
        [subjects.OWN],
        "What --models are fed with, where a file does not tell: "
        f"{', '.join(input_values.PRESETS)} (keras: 0-255, as networks take it that normalise in a "
        f"layer), or {subjects.OWN}: as the file says, or as is usual for the network. One for all "
        "models, or one for each.",
        repeats=True,
    )
    common_flags.define_numbers(
        "input_mean",
        None,
        "Mean of R, G and B in 0-255 that --models are fed with, instead of the preset's.",
        float,
        length=3,
        at_least=0,
        at_most=255,
    )
    common_flags.define_numbers(
        "input_deviation",
        None,
        "Standard deviation of R, G and B in 0-255, by which values are divided, instead of the "
        "preset's.",
        float,
        length=3,
        above=0,
        at_most=255,
    )
    flags.DEFINE_enum(
        "input_order", None, input_values.ORDERS, "Order of the channels, instead of the preset's."
    )
    flags.DEFINE_enum(
        "input_layout",
        None,
        input_values.LAYOUTS,
        "Layout of the input of files whose shape does not tell.",
    )
    flags.DEFINE_string("output_path", None, "Folder for the report.")
    flags.DEFINE_bool("overwrite", False, "Replace the report that --output_path holds already.")
    flags.DEFINE_integer(
        "final_jpeg",
        None,
        "Quality of a JPEG step behind each degradation, as stored images of ImageNet-C have it "
        "(85); default: none.",
        lower_bound=1,
        upper_bound=100,
    )
    flags.DEFINE_string(
        "levels",
        "all",
        "Levels of --degradations: all, random, or numbers such as 1,3,5. Of more than "
        f"{robustness.SHOWN_LEVELS} all images are measured at round ones alone, and at the others "
        "those whose answer still holds, for breaking points.",
    )
    classifier_flags.define_degradation_flags()
    flags.FLAGS.set_default("degradations", list(DEGRADATIONS))


def create_report(flags, data, command):
    """Returns the `Report` that the flags describe.

    Args:
        flags: values of the flags of `define_flags` and of the dataloader.
        data: `Data` of labelled images.
        command: the command line, for the page.

    Raises:
        ValueError: for models, degradations or data that cannot be used.
    """
    chosen = flags.degradations
    if "data_corruptions" in flags and "degradations" not in flags.given:  # they are degraded
        chosen = []
    tested = levels.test_degradations(chosen, flags.levels, flags.degradation_size)
    found = subjects.load(
        flags.models,
        flags.input_preset,
        flags.input_mean,
        flags.input_deviation,
        flags.input_order,
        flags.input_layout,
    )
    batches = data.evaluation_batches("test")
    if batches is None:
        raise ValueError("The data have no test images.")
    kept = {name: value for name, value in flags.to_dict().items() if name not in _FREE_FLAGS} | {
        "model_contents": [_fingerprint(text) for text in flags.models]
    }
    return Report(
        subjects=found,
        batches=batches,
        courses=robustness.plan(tested),
        folder=flags.output_path,
        seed=flags.seed,
        final_jpeg=flags.final_jpeg,
        size=flags.degradation_size,
        kept=kept,
        command=command,
    )


def _fingerprint(text):
    """Returns what changes with the weights in a file or run."""
    path = pathlib.Path(text.partition(":")[2] if not pathlib.Path(text).exists() else text)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if (path / "saved_model.pb").is_file():
        return _fingerprint(str(path / "saved_model.pb"))
    try:
        return str(run_folder.find_checkpoint(path))
    except (OSError, ValueError):
        return ""


@dataclasses.dataclass(kw_only=True, eq=False)
class Report:
    """One report.

    Attributes:
        subjects: list of `Subject`s.
        batches: what `evaluation_batches` gives; iterated more than once.
        courses: list of `Course`s.
        folder: for the report.
        seed: of all draws.
        final_jpeg: see `robustness.Degrader`.
        size: whose severities: 224, 64 or 32.
        kept: {flag: value}: with other settings a report is not gone on with.
        command: the command line.
    """

    subjects: list
    batches: object
    courses: list
    folder: str
    seed: int
    final_jpeg: int | None
    size: int
    kept: dict
    command: str

    def __post_init__(self):
        self.folder = pathlib.Path(self.folder)
        self.degrader = robustness.Degrader(self.seed, self.final_jpeg)
        self.warnings = {}

    @property
    def names(self):
        """Names of the models."""
        return [subject.name for subject in self.subjects]

    def run(self, overwrite=False):
        """Measures, or goes on with what was begun, and writes the report.

        Raises:
            FileExistsError: if the folder holds a report and `overwrite` is false.
            ValueError: if it holds parts of one with other settings, or models and data do not fit.
        """
        self._check_free(overwrite)
        record = self.folder / RECORD
        classes = self._count_classes()
        result_folder.keep_settings(record, self.kept, replaced=not result_folder.is_kept(record))
        measurement = robustness.Measurement(
            [subject.classify for subject in self.subjects],
            self.courses,
            self.degrader,
            record / "parts",
            self.batches.classes_present if self._has_some_classes(classes) else None,
        )
        measurement.run(self.batches, lambda *first: self._check(record, *first, classes))
        measured = robustness.read(measurement.folder, self.courses)
        self._write(measured, classes, self._read_warnings(record))
        measurement.remove_parts()

    def _check_free(self, overwrite):
        results = self.folder / RESULTS
        if results.exists() and not overwrite:
            raise FileExistsError(
                f"--output_path={self.folder} holds a report already. Give another folder, or "
                "--overwrite."
            )
        if results.exists():
            # What was begun before is not gone on with.
            shutil.rmtree(self.folder / RECORD, ignore_errors=True)
            results.unlink()

    def _count_classes(self):
        """Returns the number of classes of the models, which must be that of the data."""
        first = next(iter(self.batches), None)
        if first is None:
            raise ValueError("The dataloader gave no image.")
        images = first["image"][:2]
        found = {s.name: np.asarray(s.classify(images)).shape[1] for s in self.subjects}
        if len(set(found.values())) > 1:
            raise ValueError(f"--models have different numbers of classes: {found}")
        (classes,) = set(found.values())
        names = getattr(self.batches, "class_names", None)
        if names and len(names) != classes:
            raise ValueError(
                f"The data have {len(names)} classes, and {next(iter(found))} has {classes}: give "
                "the data set that the models are for, or say which classes the data's are "
                "(--class_names=imagenet, or a file)."
            )
        return classes

    def _has_some_classes(self, classes):
        """Returns whether the models know classes that there are no images of."""
        return 0 < len(getattr(self.batches, "classes_present", None) or ()) < classes

    def _class_names(self):
        own = [subject.class_names for subject in self.subjects if subject.class_names]
        names = getattr(self.batches, "class_names", None) or (own[0] if own else None)
        if names and class_names.are_imagenet(names):
            words = class_names.read(class_names.IMAGENET)
            return [words[name] for name in names]
        return names

    def _check(self, record, images, labels, answers, classes):
        warnings = subjects.check(self.subjects, images, labels, answers, classes)
        files.write_json(record / "warnings.json", warnings)

    def _read_warnings(self, record):
        path = record / "warnings.json"
        return files.read_json(path) if path.exists() else {}

    def _write(self, measured, classes, warnings):
        alexnet = classes == metrics.IMAGENET_CLASSES and self.size == 224
        figures = robustness_figures.compute(
            measured, self.names, self.seed, alexnet, self._has_some_classes(classes)
        )
        names = self._class_names()
        content = self._content(measured, figures, classes, warnings)
        report.write_table(self.folder / TABLE, figures.rows)
        rows = robustness_figures.image_rows(measured, self.names, names)
        report.write_table(self.folder / IMAGES, rows)
        short = short_names([course.name for course in self.courses])
        fragile = self._draw_fragile(measured, names, short)
        robustness_page.write(
            self.folder / PAGE, content, fragile, lambda text: short.get(text, text)
        )
        # Last: where it is, the report is complete.
        files.write_json(self.folder / RESULTS, content)
        self._print(figures)

    def _content(self, measured, figures, classes, warnings):
        cells = sum(name != metrics.CLEAN for name, _ in measured.cells)
        degraded = {name for name, _ in measured.cells} - {metrics.CLEAN}
        images = len(measured.labels)
        return {
            "title": "How robust: " + ", ".join(self.names),
            "description": (
                f"{images} images of {len(np.unique(measured.labels))} classes, clean and at "
                f"{cells} levels of {len(degraded)} degradations."
            ),
            "command": self.command,
            "models": [
                {
                    "name": subject.name,
                    "source": subject.source,
                    "classes": classes,
                    "values": subject.values,
                }
                for subject in self.subjects
            ],
            "warnings": [f"{name}: {text}" for name, text in warnings.items()],
            "mean": figures.means,
            "differences": figures.differences,
            "units": {course.name: course.tested.unit for course in self.courses},
            "falling": [
                course.name
                for course in self.courses
                if course.breaking and course.breaking[0] > course.breaking[-1]
            ],
            "resamples": bootstrap.RESAMPLES,
            "bins": calibration.BINS,
            "breaking": figures.breaking,
            "notes": self._notes(images),
            "images": figures.rows,
        }

    def _notes(self, images):
        notes = []
        if self.courses:
            notes.append(
                "Degraded here, as 8-bit values. The draws of an image depend on the seed "
                f"({self.seed}), the degradation, the level and the image's place in the data: "
                "they are the same for all models and whatever else is measured."
            )
            notes.append(f"Severities are those for images of {self.size} pixels.")
        else:
            notes.append("Stored images, as they are.")
        if self.final_jpeg is not None:
            notes.append(
                f"Each degraded image was then coded as JPEG of quality {self.final_jpeg}; the "
                "clean ones were not."
            )
        for course in self.courses:
            if course.tested.layer.codec_name:
                notes.append(f"{course.name}: {course.tested.layer.codec_name}.")
            if "frost" in course.name and not getattr(course.tested.layer, "folder", None):
                notes.append(
                    "frost: textures made here instead of the original's photos, which are easier; "
                    """--degradations='imagenet_c:folder="PHOTOS"' takes those."""
                )
        packages = ("tensorflow", "keras", "onnxruntime", "ai-edge-litert")
        notes.append("Versions: " + ", ".join(filter(None, map(_version, packages))) + ".")
        if images < 1000:
            notes.append(f"Only {images} images: mind the intervals.")
        return notes

    def _draw_fragile(self, measured, names, short):
        """Returns {model: list of pairs of photos}; see `robustness_page.write`."""
        chosen = {
            name: robustness_figures.most_fragile(measured, model, SHOWN_FRAGILE)
            for model, name in enumerate(self.names)
        }
        wanted = {one.image for found in chosen.values() for one in found}
        if not wanted:
            return chosen
        pixels, place = {}, 0
        for batch in self.batches:
            count = len(batch["label"])
            for image in sorted(wanted):
                if place <= image < place + count:
                    pixels[image] = np.asarray(batch["image"][image - place])
            place += count
            if len(pixels) == len(wanted):
                break
        courses = {course.name: course for course in self.courses}
        return {
            name: [
                self._draw_pair(
                    model, one, pixels[one.image], courses[one.degradation], names, short
                )
                for one in found
                if one.degradation in courses
            ]
            for model, (name, found) in enumerate(chosen.items())
        }

    def _draw_pair(self, model, one, clean, course, names, short):
        level = course.breaking[one.place]
        broken = np.asarray(self.degrader(course.tested, level, clean[None], [one.image]))[0]
        said = [self._say(model, image, names) for image in (clean, broken)]
        return {
            "clean": _to_8_bits(clean),
            "broken": _to_8_bits(broken),
            "caption_clean": [f"clean: {said[0]}"],
            "caption_broken": [
                f"{short[course.name]} at {level:g}: {said[1]}",
                f"holds {100 * one.score:.0f} % of all levels",
            ],
        }

    def _say(self, model, image, names):
        logits = self.subjects[model].classify(image[None].astype(np.float32))
        answers = robustness.Answers.of([logits], np.zeros(1, int))
        number = int(answers.classes[0, 0])
        said = names[number] if names and 0 <= number < len(names) else str(number)
        return f"{said} ({100 * answers.confidence[0, 0]:.0f} %)"

    def _print(self, figures):
        width = max(len(name) for name in self.names)
        for name, means in figures.means.items():
            shown = [
                f"{figure} {means[figure]:.2f} ({means[f'{figure}_low']:.2f}-"
                f"{means[f'{figure}_high']:.2f})"
                for figure in ("clean", "accuracy", "mce", "relative_mce")
                if figure in means
            ]
            print(f"{name:<{width}}  {'  '.join(shown)}")
        print(f"Results: {self.folder / RESULTS}, {self.folder / TABLE}, {self.folder / IMAGES}")
        print(f"Page: {self.folder / PAGE}")


def short_names(texts):
    """Returns {text: the degradation's name, or its text without folders if that is not enough}."""
    labels = [degradations.label(text) for text in texts]
    names = [label.partition(":")[0] for label in labels]
    return {
        text: name if names.count(name) == 1 and "|" not in text and "/" not in label else label
        for text, label, name in zip(texts, labels, names, strict=True)
    }


def _to_8_bits(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _version(package):
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None

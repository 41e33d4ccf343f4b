"""A report of how robust classifiers are: measured, or gone on with, and written."""

import dataclasses
import hashlib
import pathlib
import shutil

import numpy as np
from absl import flags

from classifiers import (
    class_names,
    fragile_images,
    levels,
    metrics,
    robustness,
    robustness_content,
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
# Ratios at which JPEG 2000 leaves something of images of so many pixels: its header has 250 bytes.
_JPEG2000 = {
    224: "jpeg2000:10-200,step=10",
    64: "jpeg2000:2-30,step=1",
    32: "jpeg2000:1-8,step=0.5",
}
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
    flags.FLAGS["degradations"].help = (
        "One degradation to measure: a name, 'noise:0-50,step=5', fog@3, 'blur:2|jpeg:10', or a "
        "group such as imagenet_c. Repeat the flag for several. Default: ImageNet-C's 15, and "
        "JPEG, JPEG 2000, blur and noise over their ranges."
    )


def create_report(flags, data, command):
    """Returns the `Report` that the flags describe.

    Args:
        flags: values of the flags of `define_flags` and of the dataloader.
        data: `Data` of labelled images.
        command: the command line, for the page.

    Raises:
        ValueError: for models, degradations or data that cannot be used.
    """
    check_free(flags.output_path, flags.overwrite)
    chosen = flags.degradations
    if not chosen and "data_corruptions" not in flags:  # those images are degraded already
        chosen = default_degradations(flags.degradation_size)
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
        "models' contents": [_fingerprint(text) for text in flags.models]
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


def default_degradations(size):
    """Returns ImageNet-C's 15, and ranges from mild to hard, for images of `size` pixels."""
    ranges = "jpeg:1-100", _JPEG2000[size], "blur:0.1-5,step=0.1", "noise:1-50,step=1"
    return ["imagenet_c", *ranges]


def check_free(folder, overwrite):
    """Raises FileExistsError if a folder holds a finished report and `overwrite` is false."""
    if (pathlib.Path(folder) / RESULTS).exists() and not overwrite:
        raise FileExistsError(
            f"--output_path={folder} holds a report already. Give another folder, or --overwrite."
        )


def _fingerprint(text):
    """Returns what changes with the weights in a file, a SavedModel folder or a run."""
    path = pathlib.Path(text if pathlib.Path(text).exists() else text.partition(":")[2])
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        return str(run_folder.find_checkpoint(path))
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    digest = hashlib.sha256()
    for file in filter(pathlib.Path.is_file, found):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


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
        check_free(self.folder, overwrite)
        record, results = self.folder / RECORD, self.folder / RESULTS
        classes = self._count_classes()
        if results.exists():
            # What was begun before is not gone on with.
            shutil.rmtree(record, ignore_errors=True)
            results.unlink()
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

    def _check(self, record, images, labels, answers, classes):
        warnings = subjects.check(self.subjects, images, labels, answers, classes)
        files.write_json(record / "warnings.json", warnings)

    def _read_warnings(self, record):
        path = record / "warnings.json"
        return files.read_json(path) if path.exists() else {}

    def _write(self, measured, classes, warnings):
        some = self._has_some_classes(classes)
        alexnet = classes == metrics.IMAGENET_CLASSES and self.size == 224
        figures = robustness_figures.compute(measured, self.names, self.seed, alexnet, some)
        names = self._class_names()
        rows = robustness_figures.image_rows(measured, self.names, names)
        report.write_table(self.folder / TABLE, figures.rows)
        report.write_table(self.folder / IMAGES, rows)
        content = robustness_content.describe(
            measured, figures, self.subjects, self.courses, classes
        )
        content |= {
            "command": self.command,
            "warnings": [f"{name}: {text}" for name, text in warnings.items()],
            "notes": robustness_content.list_notes(
                self.courses, len(measured.labels), self.seed, self.size, self.final_jpeg
            ),
        }
        texts = robustness_content.short_names([course.name for course in self.courses])
        drawn = (self.batches, self.courses, self.degrader, names)
        fragile = fragile_images.draw(
            measured, self.subjects, *drawn, lambda text: texts.get(text, text)
        )
        robustness_page.write(
            self.folder / PAGE, content, fragile, lambda text: texts.get(text, text)
        )
        # Last: where it is, the report is complete.
        files.write_json(self.folder / RESULTS, content)
        self._print(figures)

    def _class_names(self):
        """Returns names of the classes for people, `None` if there are none."""
        own = [subject.class_names for subject in self.subjects if subject.class_names]
        names = getattr(self.batches, "class_names", None) or (own[0] if own else None)
        if names and class_names.are_imagenet(names):
            words = class_names.read(class_names.IMAGENET)
            return [words[name] for name in names]
        return names

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

"""What results.json of a robustness report holds: its figures, and what is needed to read them."""

import importlib.metadata

import numpy as np

import degradations
from classifiers import bootstrap, calibration, metrics

# Below so many images intervals are wide.
_FEW_IMAGES = 1000
_PACKAGES = ("tensorflow", "keras", "onnxruntime", "ai-edge-litert")


def describe(measured, figures, subjects, courses, classes):
    """Returns {name: JSON value}, which `robustness_page` shows, without the notes.

    Args:
        measured: `robustness.Measured`.
        figures: `robustness_figures.Figures`.
        subjects: list of the M `Subject`s.
        courses: list of `robustness.Course`, empty for stored corruptions.
        classes: number of classes of the models.
    """
    degraded = [name for name, _ in measured.cells if name != metrics.CLEAN]
    return {
        "title": "How robust: " + ", ".join(subject.name for subject in subjects),
        "description": (
            f"{len(measured.labels)} images of {len(np.unique(measured.labels))} classes, clean "
            f"and at {len(degraded)} levels of {len(set(degraded))} degradations."
        ),
        "models": [
            {"name": one.name, "source": one.source, "classes": classes, "values": one.values}
            for one in subjects
        ],
        "mean": figures.means,
        "differences": figures.differences,
        "units": {course.name: course.tested.unit for course in courses},
        # From mild to hard these levels fall.
        "falling": [
            course.name
            for course in courses
            if course.breaking and course.breaking[0] > course.breaking[-1]
        ],
        "resamples": bootstrap.RESAMPLES,
        "bins": calibration.BINS,
        "breaking": figures.breaking,
        "images": figures.rows,
    }


def list_notes(courses, images, seed, size, final_jpeg):
    """Returns what has to be known to read the figures, a list of texts.

    Args:
        courses: list of `robustness.Course`, empty for stored corruptions.
        images: how many images were measured.
        seed: of all draws.
        size: whose severities: 224, 64 or 32.
        final_jpeg: quality of the JPEG step behind each degradation, or `None`.
    """
    notes = ["Stored images, as they are."]
    if courses:
        notes = [
            f"Degraded here, as 8-bit values. The draws of an image depend on the seed ({seed}), "
            "the degradation, the level and the image's place in the data: they are the same for "
            "all models and whatever else is measured.",
            f"Severities are those for images of {size} pixels.",
        ]
    if final_jpeg is not None:
        notes.append(
            f"Each degraded image was then coded as JPEG of quality {final_jpeg}; the clean ones "
            "were not."
        )
    for course in courses:
        if course.tested.layer.codec_name:
            notes.append(f"{course.name}: {course.tested.layer.codec_name}.")
        if "frost" in course.name and not getattr(course.tested.layer, "folder", None):
            notes.append(
                "frost: textures made here instead of the original's photos, which are easier; "
                """--degradations='imagenet_c:folder="PHOTOS"' takes those."""
            )
    if images < _FEW_IMAGES:
        notes.append(f"Only {images} images: mind the intervals.")
    return [*notes, "Versions: " + ", ".join(filter(None, map(_version, _PACKAGES))) + "."]


def short_names(texts):
    """Returns {text: the degradation's name, or its text without folders if that is not enough}."""
    labels = [degradations.label(text) for text in texts]
    names = [label.partition(":")[0] for label in labels]
    return {
        text: label if "|" in label or "/" in label or names.count(name) > 1 else name
        for text, label, name in zip(texts, labels, names, strict=True)
    }


def _version(package):
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None

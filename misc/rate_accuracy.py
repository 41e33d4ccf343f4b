"""Command: accuracy against the size of compressed images, over several results, on one page.

    python -m misc.rate_accuracy --results=jpeg=results/jpeg,webp=results/webp \\
        --output_path=results/rate_accuracy

Each of --results is a folder that validate.py wrote with --degradations of a codec, or a run whose
epochs.csv has bytes; `LABEL=` before it names its curve, and paths with the same label are points
of one curve (networks that were each trained for one quality). Written are index.html, which holds
all it shows, rate_accuracy.png, .csv and .json, and bd.csv: Bjontegaard's differences.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib
import shlex
import sys

from absl import flags

from misc.images import files, locks
from misc.reports import rate_accuracy
from misc.training import common_flags

FILES = ("index.html", "rate_accuracy.png", "rate_accuracy.csv", "bd.csv", "rate_accuracy.json")


def define_flags():
    """Defines the flags of this command."""
    common_flags.define_names(
        "results",
        None,
        "Folders of validate.py's results, or of runs, each maybe as LABEL=FOLDER; those with the "
        "same label are one curve.",
        repeats=True,
    )
    flags.mark_flag_as_required("results")
    flags.DEFINE_string("output_path", None, "Folder for the page and the tables.", required=True)
    flags.DEFINE_enum(
        "rate", "bytes", list(rate_accuracy.RATES), "What the horizontal axis is, per image."
    )
    flags.DEFINE_string(
        "reference", None, "Label of the curve that others are compared with; default: the first."
    )
    flags.DEFINE_bool("overwrite", False, "Replace results that --output_path holds already.")


def main(settings):
    """Draws the curves; returns the exit status."""
    files.check_free(settings.output_path, FILES, settings.overwrite)
    with locks.hold(settings.output_path):
        series, clean = collect(settings.results)
        reference = settings.reference or next(iter(series))
        if reference not in series:
            raise ValueError(
                f"--reference must be one of the curves {', '.join(series)}. Received: {reference}"
            )
        command = shlex.join(["python", "-m", "misc.rate_accuracy", *sys.argv[1:]])
        texts = rate_accuracy.write(
            settings.output_path, series, clean, reference, settings.rate, command
        )
    print("\n\n".join(texts))
    print(f"\nPage: {pathlib.Path(settings.output_path) / FILES[0]}")
    return 0


def collect(paths):
    """Returns {label: list of points} and the accuracies on clean images, {} where they differ.

    Args:
        paths: list of texts, a path or LABEL=PATH each.

    Raises:
        ValueError: if a path holds no such results.
    """
    series, cleans = {}, []
    for text in paths:
        label, path = _split(text)
        try:
            found, clean = rate_accuracy.read(path)
        except ValueError as error:
            raise ValueError(f"--results={text}: {error}") from error
        cleans.append(clean)
        for codec, points in found.items():
            name = label if len(found) == 1 else f"{label} {codec}"
            series.setdefault(name, []).extend(points)
    same = all(clean == cleans[0] for clean in cleans)
    return series, cleans[0] if same else {}


def _split(text):
    label, sign, path = text.partition("=")
    if sign and label and not pathlib.Path(text).exists():
        return label, path
    path = pathlib.Path(text)
    return (path if path.is_dir() else path.parent).resolve().name, text


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)

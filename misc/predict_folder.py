"""Applies a trained model, or a frozen file of one, to an image file or a folder of them.

Models of images write one image for each; score predictors write one table, the best image first;
classifiers one table of the likeliest classes of each image, and a contact sheet.

python -m misc.predict_folder --model=eusr --restore_path=runs/eusr --scale=4 \\
        --input_path=photos --output_path=photos_x4
python -m misc.predict_folder --frozen_path=eusr.pb --scale=4 --input_path=a.jpg --output_path=out
python -m misc.predict_folder --model=mobilenetv2 --restore_path=train/ava.h5 \\
        --input_path=photos --output_path=scores
python -m misc.predict_folder --restore_path=runs/clean/best --input_path=photos --output_path=out
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import dataclasses
import pathlib
import sys

import keras
import tensorflow as tf
from absl import flags, logging

from classifiers import classify_files
from eusr import upscale_files
from misc.export import frozen
from misc.images import image_files, progress
from misc.training import common_flags
from score_predictors import score_files

FLAGS = flags.FLAGS
SAME_EXTENSION = "same"
# Flags that only one kind of model takes.
IMAGE_FLAGS = ("scale", "output_extension", "output_suffix", "tile", "overlap", "self_ensemble")
SCORE_FLAGS = ("scoring", "scoring_patches", "scoring_patch_size", "scoring_batch_size")
CLASS_FLAGS = (
    *("classify_top", "classify_resize", "classify_crop", "classify_names"),
    *("classify_batch_size", "classify_sheet"),
)


def define_flags(with_model):
    """Defines the command's flags.

    Args:
        with_model: whether a model is restored, whose module defines the flags for tiles, or a
            frozen file is loaded.
    """
    common_flags.define_device_flags()
    if with_model:
        common_flags.define_restore_flags()
        flags.DEFINE_enum(
            "precision", "float32", common_flags.PRECISIONS, "Number format of the inner layers."
        )
    else:
        common_flags.define_tiling_flags(default_tile=None)
    flags.DEFINE_string(
        "frozen_path",
        None,
        "Frozen model to use instead of --model: .pb, SavedModel, ONNX, TFLite.",
    )
    flags.DEFINE_string("input_path", None, "Image file, or folder whose images are all used.")
    flags.DEFINE_string(
        "output_path",
        None,
        "Folder for results, with the input's subfolders; or, for a file, a file.",
    )
    flags.DEFINE_integer("scale", None, "Upscaling factor; default: the model's, if it has one.")
    flags.DEFINE_enum(
        "output_extension",
        "png",
        [SAME_EXTENSION, "png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"],
        "Format of results; PNG and TIFF keep grey, alpha and 16 bits.",
    )
    flags.DEFINE_string("output_suffix", "", "Text that is added to the names of results.")
    flags.DEFINE_enum(
        "scoring",
        "centre",
        score_files.SCORING,
        "What a score predictor sees of an image: the central patch, several, or all of it.",
    )
    flags.DEFINE_integer("scoring_patches", 5, "Patches of --scoring=patches.", lower_bound=1)
    flags.DEFINE_integer(
        "scoring_patch_size", None, "Side of the patches; default: as trained.", lower_bound=1
    )
    flags.DEFINE_integer(
        "scoring_batch_size", 32, "Patches or equal images at a time.", lower_bound=1
    )
    _define_class_flags()
    flags.DEFINE_bool("skip_broken", False, "Go on after files that cannot be read or written.")
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Replace existing results; otherwise images that have one are skipped, and existing tables "
        "of scores or classes are an error.",
    )


def _define_class_flags():
    flags.DEFINE_integer("classify_top", 5, "Likeliest classes to write of an image.")
    flags.DEFINE_integer(
        "classify_resize",
        None,
        "Length that the shorter side is resized to for a classifier, 0: none; default: as in the "
        "evaluation of its run.",
    )
    flags.DEFINE_integer(
        "classify_crop",
        None,
        "Side of the central square that a classifier sees; default: as in the evaluation of its "
        "run.",
    )
    flags.DEFINE_string(
        "classify_names",
        None,
        "Text file with the name of a class in each line; default: the names in the run's data.",
    )
    flags.DEFINE_integer("classify_batch_size", 32, "Images that are classified at a time.")
    flags.DEFINE_bool(
        "classify_sheet",
        True,
        f"Also write a contact sheet of the images with their class: of at most "
        f"{classify_files.SHEET_IMAGES}, spread over the list.",
    )


def main(selection):
    """Applies the model; returns 0 if every image has its result now, else 1."""
    for name in ("input_path", "output_path"):
        if not FLAGS[name].value:
            raise ValueError(f"--{name} is missing.")
    if selection is None:
        model = frozen.load(FLAGS.frozen_path)
    else:
        keras.config.set_dtype_policy(FLAGS.precision)
        model = selection.restore(FLAGS)
    run, others = find_kind(model)
    misplaced = [f"--{name}" for name in others if name in FLAGS and FLAGS[name].present]
    if misplaced:
        raise ValueError(
            f"{', '.join(misplaced)} is for another kind of model. This one has the outputs "
            f"{', '.join(model.export_names['outputs'])}."
        )
    return run(model)


def find_kind(model):
    """Returns the function that applies such a model, and the flags which it does not take.

    Raises:
        ValueError: when files cannot be made from the model's outputs.
    """
    kinds = {
        ("output",): (make_images, SCORE_FLAGS + CLASS_FLAGS),
        ("scores", "features"): (make_scores, IMAGE_FLAGS + CLASS_FLAGS),
        ("logits",): (make_classes, IMAGE_FLAGS + SCORE_FLAGS),
        ("votes", "logits"): (make_classes, IMAGE_FLAGS + SCORE_FLAGS),
    }
    outputs = tuple(model.export_names["outputs"])
    if outputs not in kinds:
        known = "; ".join(", ".join(names) for names in kinds)
        raise ValueError(
            f"Results are made from models with these outputs: {known}. "
            f"Received: {', '.join(outputs)}"
        )
    return kinds[outputs]


def make_scores(model):
    """Scores all images; returns the exit status."""
    if FLAGS["scoring_patches"].present and FLAGS.scoring != "patches":
        raise ValueError("--scoring_patches is for --scoring=patches.")
    score_files.check_free(FLAGS.output_path, FLAGS.overwrite)
    paths, folder = find_inputs(FLAGS.input_path, FLAGS.output_path)
    scorer = score_files.FileScorer(
        model,
        FLAGS.scoring,
        FLAGS.scoring_patches,
        FLAGS.scoring_patch_size,
        FLAGS.scoring_batch_size,
    )
    distributions, broken = scorer(paths, FLAGS.skip_broken)
    description = {
        "model": str(FLAGS.frozen_path or FLAGS.restore_path),
        "scoring": scorer.scoring,
        "patches": scorer.patches if scorer.scoring == "patches" else 1,
        "patch_size": None if scorer.scoring == "whole" else scorer.patch_size,
        "broken": [str(path) for path in broken],
    }
    if distributions:
        values = scorer.values(len(next(iter(distributions.values()))))
        score_files.write_results(
            FLAGS.output_path, distributions, folder, values, description, FLAGS.overwrite
        )
    print(f"{len(distributions)} of {len(paths)} images scored, {len(broken)} failed")
    return 1 if broken else 0


def make_classes(model):
    """Classifies all images; returns the exit status."""
    classify_files.check_free(FLAGS.output_path, FLAGS.overwrite)
    paths, folder = find_inputs(FLAGS.input_path, FLAGS.output_path)
    names = classify_files.read_names(FLAGS.classify_names) if FLAGS.classify_names else None
    classifier = classify_files.FileClassifier(
        model,
        FLAGS.classify_resize,
        FLAGS.classify_crop,
        names,
        FLAGS.classify_top,
        FLAGS.classify_batch_size,
    )
    keep = classify_files.spread(paths) if FLAGS.classify_sheet else ()
    predictions, names, broken = classifier(paths, FLAGS.skip_broken, keep)
    description = {
        "model": _source(),
        "resize": classifier.resize,
        "crop": classifier.crop,
        "broken": [str(path) for path in broken],
    }
    if predictions:
        classify_files.write_results(
            FLAGS.output_path,
            predictions,
            folder,
            names,
            description,
            classifier.pictures,
            FLAGS.overwrite,
        )
    print(f"{len(predictions)} of {len(paths)} images classified, {len(broken)} failed")
    return 1 if broken else 0


def make_images(model):
    """Writes one image for each; returns the exit status."""
    jobs = plan(
        FLAGS.input_path,
        FLAGS.output_path,
        FLAGS.output_extension,
        FLAGS.output_suffix,
    )
    process = upscale_files.FileUpscaler(
        model, FLAGS.scale, FLAGS.tile, FLAGS.overlap, FLAGS.self_ensemble
    )
    todo = [job for job in jobs if FLAGS.overwrite or not job.target.exists()]
    failed = apply(process, todo, FLAGS.skip_broken)
    print(
        f"{len(todo) - failed} of {len(jobs)} images written to {FLAGS.output_path}, "
        f"{len(jobs) - len(todo)} skipped because their results exist, {failed} failed"
    )
    return 1 if failed else 0


def _source():
    """Returns where the model comes from; some are made from weights that other flags name."""
    for name in ("frozen_path", "restore_path", "ensemble_weights", "weights"):
        if name in FLAGS and FLAGS[name].value:
            return FLAGS[name].value
    return None


@dataclasses.dataclass(frozen=True)
class Job:
    """One image file and where its result goes."""

    source: pathlib.Path
    target: pathlib.Path


def plan(input_path, output_path, extension="png", suffix=""):
    """Returns a `Job` for each image.

    Args:
        input_path: image file, or folder that is searched with its subfolders.
        output_path: folder for results; or a file, when `input_path` is one.
        extension: extension of results without dot, or "same".
        suffix: text added to the names of results.

    Raises:
        ValueError: when there are no images, or two results (or a result and an image) would be
            the same file.
    """
    source, output = pathlib.Path(input_path), pathlib.Path(output_path)
    found, folder = find_inputs(source, output)
    if source.is_file() and output.suffix.lower() in image_files.EXTENSIONS:
        jobs = [Job(source, output)]
    else:
        jobs = [
            Job(path, output / _result_name(path.relative_to(folder), extension, suffix))
            for path in found
        ]
    _check_targets(jobs)
    return jobs


def find_inputs(input_path, output_path):
    """Returns the list of images, and the folder that they are in.

    Args:
        input_path: image file, or folder that is searched with its subfolders.
        output_path: folder for results, which is not searched.

    Raises:
        ValueError: when there are no images.
    """
    source, output = pathlib.Path(input_path), pathlib.Path(output_path)
    if source.is_dir():
        found = image_files.find_images(source)
        if output.resolve() != source.resolve():
            # Results of an earlier run below the input folder are no input.
            found = [path for path in found if output.resolve() not in path.resolve().parents]
        folder = source
    elif source.is_file():
        found, folder = [source], source.parent
    else:
        raise ValueError(f"--input_path is an image file or a folder. Received: {input_path}")
    if not found:
        raise ValueError(
            f"--input_path={input_path} holds no images ({', '.join(image_files.EXTENSIONS)})"
        )
    return found, folder


def apply(process, jobs, skip_broken=False):
    """Runs the process on each job with a progress bar; returns how many failed.

    Args:
        process: callable of source, target and `on_pixels`.
        jobs: list of `Job`.
        skip_broken: report files that cannot be used and go on, instead of stopping.

    Raises:
        ValueError: for the first file that fails, without `skip_broken`; the message names it.
    """
    sizes = [_count_pixels(job.source) for job in jobs]
    failed = 0
    with progress.track(total=sum(sizes), description=process.description, unit="pixel") as bar:
        bar.unit_scale = True
        for job, size in zip(jobs, sizes, strict=True):
            start = bar.n
            try:
                process(job.source, job.target, bar.update)
            except (ValueError, OSError, MemoryError, tf.errors.ResourceExhaustedError) as error:
                message = _message(job.source, error)
                if not skip_broken:
                    raise ValueError(message) from error
                bar.clear()
                logging.error("skipped: %s", message)
                failed += 1
            bar.update(start + size - bar.n)
    return failed


def _message(source, error):
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        error = "out of memory; a smaller --tile needs less"
    return str(error) if str(source) in str(error) else f"{source}: {error}"


def _count_pixels(path):
    try:
        height, width = image_files.image_size(path)
        return height * width
    except ValueError:
        return 0  # reported when its turn comes


def _result_name(path, extension, suffix):
    extension = path.suffix if extension == SAME_EXTENSION else f".{extension}"
    return path.with_name(path.stem + suffix + extension)


def _check_targets(jobs):
    sources = {}
    for job in jobs:
        if job.target in sources:
            raise ValueError(
                f"{sources[job.target]} and {job.source} would both become {job.target}: "
                f"--output_extension={SAME_EXTENSION} keeps them apart."
            )
        sources[job.target] = job.source
    inputs = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in inputs:
            raise ValueError(
                f"The result {job.target} would replace an input: give another --output_path, or "
                "an --output_suffix."
            )


def _uses_frozen_file(argv):
    # As for models: which flags there are depends on one of them.
    private = flags.FlagValues()
    private.set_gnu_getopt(True)
    flags.DEFINE_string("frozen_path", None, "", flag_values=private)
    private(argv, known_only=True)
    return private.frozen_path is not None


if __name__ == "__main__":
    from_frozen_file = _uses_frozen_file(sys.argv)
    define_flags(with_model=not from_frozen_file)
    entry_point.run(main, with_model=not from_frozen_file, defaults={"tile": None})

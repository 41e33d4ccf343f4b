"""Applies a trained model, or a frozen file of one, to an image file or a folder of them.

python -m misc.predict_folder --model=eusr --restore_path=runs/eusr --scale=4 \\
        --input_path=photos --output_path=photos_x4
python -m misc.predict_folder --frozen_path=eusr.pb --scale=4 --input_path=a.jpg --output_path=out
"""

from misc import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import dataclasses
import pathlib
import sys

import keras
import tensorflow as tf
from absl import flags, logging

from misc import common_flags, frozen, images, progress, upscale_files

FLAGS = flags.FLAGS
SAME_EXTENSION = "same"
# What is done with files, by the names of a model's outputs.
KINDS = {("output",): upscale_files.FileUpscaler}


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
    flags.DEFINE_bool("skip_broken", False, "Go on after files that cannot be read or written.")
    flags.DEFINE_bool("overwrite", False, "Replace existing results; otherwise they are skipped.")


def main(selection):
    """Applies the model; returns 0 if every image has its result now, else 1."""
    jobs = plan(
        _required("input_path"),
        _required("output_path"),
        FLAGS.output_extension,
        FLAGS.output_suffix,
    )
    if selection is None:
        model = frozen.load(FLAGS.frozen_path)
    else:
        keras.config.set_dtype_policy(FLAGS.precision)
        model = selection.restore(FLAGS)
    process = create_process(model)
    todo = [job for job in jobs if FLAGS.overwrite or not job.target.exists()]
    failed = apply(process, todo, FLAGS.skip_broken)
    print(
        f"{len(todo) - failed} of {len(jobs)} images written to {FLAGS.output_path}, "
        f"{len(jobs) - len(todo)} skipped because their results exist, {failed} failed"
    )
    return 1 if failed else 0


def create_process(model):
    """Returns the function of source and target path that fits the model's outputs.

    Raises:
        ValueError: when files cannot be made from such outputs.
    """
    outputs = tuple(model.export_names["outputs"])
    if outputs not in KINDS:
        known = "; ".join(", ".join(names) for names in KINDS)
        raise ValueError(
            f"Results are made from models with these outputs: {known}. "
            f"Received: {', '.join(outputs)}"
        )
    return KINDS[outputs](model, FLAGS.scale, FLAGS.tile, FLAGS.overlap, FLAGS.self_ensemble)


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
    if source.is_dir():
        found = images.find_images(source)
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
            f"--input_path={input_path} holds no images ({', '.join(images.EXTENSIONS)})"
        )
    if source.is_file() and output.suffix.lower() in images.EXTENSIONS:
        jobs = [Job(source, output)]
    else:
        jobs = [
            Job(path, output / _result_name(path.relative_to(folder), extension, suffix))
            for path in found
        ]
    _check_targets(jobs)
    return jobs


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
        height, width = images.image_size(path)
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


def _required(name):
    value = FLAGS[name].value
    if not value:
        raise ValueError(f"--{name} is missing.")
    return value


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

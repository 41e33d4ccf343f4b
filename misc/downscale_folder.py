"""Command: makes the LR images of a folder of HR images.

    python -m misc.downscale_folder --input_path=DIV2K/HR --output_path=DIV2K/LR --scale=2,4,8

Methods:
    matlab: imresize(image, 1/scale, 'bicubic'), pixel for pixel; ceil(n/scale) pixels a side.
    cv: OpenCV's INTER_CUBIC, which has no antialiasing; floor(n/scale).
    tf: TensorFlow 1's resize_bicubic with align_corners, clipped and truncated; floor(n/scale).
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib

import cv2
import numpy as np
import tensorflow as tf
from absl import flags

from degradations import resize
from misc.images import files, image_files, locks, result_folder, threads
from misc.training import common_flags

METHODS = ("matlab", "cv", "tf")
RECORD_FOLDER = ".downscale_folder"


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_string("input_path", None, "Folder of HR images.", required=True)
    flags.DEFINE_string(
        "output_path",
        None,
        "Folder for the LR images: directly for one scale, in x2/, x4/, ... for several.",
        required=True,
    )
    common_flags.define_numbers(
        "scale", None, "Factor to reduce by, or several: 2,4,8.", order="distinct", at_least=2
    )
    flags.mark_flag_as_required("scale")
    flags.DEFINE_enum("method", "matlab", METHODS, "Whose bicubic interpolation.")
    flags.DEFINE_enum(
        "edges",
        "mirror",
        resize.EDGES,
        "What matlab assumes beyond the border: mirror (MATLAB today), clamp (older versions).",
    )
    flags.DEFINE_bool(
        "crop",
        False,
        "First crop the HR image at the bottom and right to a multiple of the scale, as "
        "super-resolution benchmarks do.",
    )
    flags.DEFINE_bool("overwrite", False, "Write images again that are there already.")
    flags.DEFINE_bool("skip_broken", False, "Report and leave out broken images.")


def downscale(image, scale, method="matlab", edges="mirror", crop=False):
    """Returns the image reduced by a whole factor.

    Args:
        image: uint8 RGB `[H, W, 3]`.
        scale: factor to reduce by, a positive integer.
        method: `'matlab'`, `'cv'` or `'tf'`, see the module.
        edges: `'mirror'` or `'clamp'`, for matlab.
        crop: whether to crop to a multiple of the scale first.

    Returns:
        uint8 `[H/scale, W/scale, 3]`, rounded up for matlab, down for the others.

    Raises:
        ValueError: if the result would be empty, or the method is unknown.
    """
    rows, columns = (length // scale for length in image.shape[:2])
    if min(rows, columns) < 1 and (crop or method != "matlab"):
        raise ValueError(
            f"the image is smaller than the scale {scale}. "
            f"Received: {image.shape[0]}x{image.shape[1]}"
        )
    if crop:
        image = image[: rows * scale, : columns * scale]
    if method == "matlab":
        return resize.matlab_bicubic(image, 1 / scale, edges=edges)
    if method == "cv":
        return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_CUBIC)
    if method == "tf":
        return _tensorflow_bicubic(image, (rows, columns))
    raise ValueError(f"method must be one of {METHODS}. Received: {method!r}")


def downscale_folder(
    input_path,
    output_path,
    scales,
    method="matlab",
    edges="mirror",
    crop=False,
    overwrite=False,
    skip_broken=False,
):
    """Reduces all images of a folder to PNG files, and leaves those alone that it made before.

    Args:
        input_path: folder of images; subfolders are kept.
        output_path: folder for the results; with several scales, for x2/, x4/, ... of them.
        scales: list of integers above 1.
        method: see `downscale`.
        edges: see `downscale`.
        crop: see `downscale`.
        overwrite: whether to write again what is there.
        skip_broken: whether to leave out broken images instead of raising.

    Returns:
        Counts: `{"written": ..., "present": ..., "skipped": ...}`.

    Raises:
        ValueError: for scales that are not allowed, a missing or empty folder, two images that
            would become one file, results among the images, other images or results of other
            settings in their place, or a broken image (named).
        OSError: if another process writes to the folder, or the disk takes no more.
    """
    if not scales or min(scales) < 2 or len(set(scales)) < len(scales):
        raise ValueError(f"--scale must be different integers above 1. Received: {scales}")
    output_path = pathlib.Path(output_path)
    found, folder = image_files.find_inputs(input_path, output_path, apart=True)
    folders = {
        scale: output_path / f"x{scale}" if len(scales) > 1 else output_path for scale in scales
    }
    items = [(path, path.relative_to(folder).with_suffix(".png")) for path in found]
    for results in folders.values():
        image_files.check_targets([(path, results / target) for path, target in items])

    def work(item):
        path, target = item
        wanted = {
            scale: folder / target
            for scale, folder in folders.items()
            if overwrite or not (folder / target).exists()
        }
        if wanted:
            image = image_files.read_rgb(path)
        for scale, result in wanted.items():
            try:
                reduced = downscale(image, scale, method, edges, crop)
            except ValueError as error:
                raise ValueError(f"Cannot reduce {path}: {error}") from error
            image_files.write_image(result, reduced)
        return len(wanted)

    settings = {"method": method, "edges": edges, "crop": crop}
    with locks.hold(output_path):
        for scale, results in folders.items():
            targets = [results / target for _, target in items]
            _claim(results, targets, settings | {"scale": scale}, overwrite, folder)
        written, skipped = threads.for_each(work, items, "Downscaling", skip_broken)
    counts = [count for count in written if count is not None]
    return {
        "written": sum(counts),
        "present": len(counts) * len(scales) - sum(counts),
        "skipped": len(skipped),
    }


def _claim(results, targets, settings, overwrite, originals):
    """Prepares a folder, and raises ValueError if what is there was not made here that way."""
    record = results / RECORD_FOLDER
    # Among the originals, what bears a result's name may be one of them.
    may_replace = overwrite and not image_files.lies_within(results, originals)
    found = next((target for target in targets if target.exists()), None)
    if found and not result_folder.is_kept(record) and not may_replace:
        raise ValueError(
            f"{found} is there already, and was not made by this command: give another "
            "--output_path" + (", or move it away." if overwrite else ", or --overwrite.")
        )
    files.sweep({target.parent for target in targets})
    result_folder.keep_settings(record, settings, replaced=overwrite or not found)


def _tensorflow_bicubic(image, size):
    resized = tf.compat.v1.image.resize_bicubic(image[None], size, align_corners=True)
    return np.clip(resized[0].numpy(), 0, 255).astype(np.uint8)


def main(settings):
    """Runs the command; returns 0 if every image has its result now, else 1."""
    counts = downscale_folder(
        settings.input_path,
        settings.output_path,
        settings.scale,
        settings.method,
        settings.edges,
        settings.crop,
        settings.overwrite,
        settings.skip_broken,
    )
    print(
        f"{counts['written']} images written, {counts['present']} were there already, "
        f"{counts['skipped']} inputs skipped"
    )
    return 1 if counts["skipped"] else 0


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)

"""Upscales image files, keeping grey, alpha, 16 bits and colour profile."""

import dataclasses
import functools
import pathlib

import cv2
import numpy as np
import scipy.ndimage
import tensorflow as tf
from absl import flags, logging

from misc.export import tiling
from misc.export.self_ensemble import self_ensemble
from misc.images import files, image_files, pixel_store, progress
from misc.training import common_flags

# What models give that are applied here, and what for.
OUTPUTS = (("output",),)
TASK = "upscale"
SAME_EXTENSION = "same"


def define_flags():
    """Defines the flags of upscaling files."""
    flags.DEFINE_integer(
        "scale", None, "Upscaling factor; default: the model's, if it has one.", lower_bound=1
    )
    flags.DEFINE_enum(
        "output_extension",
        "png",
        [SAME_EXTENSION, *(extension[1:] for extension in image_files.EXTENSIONS)],
        "Format of results; PNG and TIFF keep grey, alpha and 16 bits.",
    )
    flags.DEFINE_string("output_suffix", "", "Text that is added to the names of results.")
    common_flags.define_tiling_flags(default_tile=None)


def create_predictor(flags, model, source):
    """Returns `upscale_files` with the model and the settings of the flags."""
    del source  # images do not tell it
    upscaler = FileUpscaler(model, flags.scale, flags.tile, flags.overlap, flags.self_ensemble)
    return functools.partial(upscale_files, upscaler, flags.output_extension, flags.output_suffix)


def on_pixels(model, scale):
    """Returns a function of uint8 or float32 `[H, W, 3]` in 0-255 that upscales it as it is."""
    return FileUpscaler(model, scale).upscale


def upscale_files(
    upscaler, extension, suffix, found, folder, output_path, overwrite=False, skip_broken=False
):
    """Writes one image for each that has none, or for all; prints how many; see `plan`, `apply`.

    Returns the exit status: 0 if every image has its result now.
    """
    jobs = plan(found, folder, output_path, extension, suffix)
    files.sweep({job.target.parent for job in jobs})
    todo = [job for job in jobs if overwrite or not job.target.exists()]
    failed = apply(upscaler, todo, skip_broken)
    print(
        f"{len(todo) - failed} of {len(jobs)} images written to {output_path}, "
        f"{len(jobs) - len(todo)} skipped because their results exist, {failed} failed"
    )
    return 1 if failed else 0


@dataclasses.dataclass(frozen=True)
class Job:
    """One image file and where its result goes."""

    source: pathlib.Path
    target: pathlib.Path


def plan(found, folder, output_path, extension="png", suffix=""):
    """Returns a `Job` for each image found in a folder.

    Args:
        found: paths of the images.
        folder: folder that they are in.
        output_path: folder for results; or a file, for a single image.
        extension: extension of results without dot, or "same".
        suffix: text added to the names of results.

    Raises:
        ValueError: when two results (or a result and an image) would be the same file.
    """
    output = pathlib.Path(output_path)
    if len(found) == 1 and output.suffix.lower() in image_files.EXTENSIONS:
        jobs = [Job(found[0], output)]
    else:
        jobs = []
        for path in found:
            ending = suffix + (path.suffix if extension == SAME_EXTENSION else f".{extension}")
            target = output / path.relative_to(folder)
            jobs.append(Job(path, target.with_name(path.stem + ending)))
    image_files.check_targets(
        [(job.source, job.target) for job in jobs],
        f"give another --output_path, an --output_suffix, or --output_extension={SAME_EXTENSION}, "
        "which keeps names apart.",
    )
    return jobs


def apply(process, jobs, skip_broken=False):
    """Calls `process(source, target, on_pixels)` for each job, with a progress bar.

    Returns how many failed and were reported; without `skip_broken` the first is a ValueError. A
    disk that takes no more is a DiskFullError.
    """
    sizes = [_count_pixels(job.source) for job in jobs]
    failed = 0
    with progress.track(total=sum(sizes), description="writing images", unit="pixel") as bar:
        bar.unit_scale = True
        for job, size in zip(jobs, sizes, strict=True):
            start = bar.n
            try:
                process(job.source, job.target, bar.update)
            except files.DiskFullError:
                raise  # the next image would meet it as well
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


class FileUpscaler:
    """Applies a model with images as "output" to files."""

    def __init__(self, model, scale=None, tile=None, overlap=None, ensemble=False):
        """Checks how a `Method` or `FrozenMethod` can be applied.

        Args:
            model: what gives "output"; its metadata may say that it needs `whole_images`.
            scale: one of the model's scales; may be left out if it has only one or none.
            tile: side of the tiles that larger images are cut into, in input pixels; 0 for whole
                images, `None` for what a part of the memory takes; see `tiling.choose_tile`.
            overlap: input pixels by which tiles reach over each other; `None` for as many as make
                the result equal to the untiled one.
            ensemble: whether to average over the 8 flips and rotations of the input.

        Raises:
            ValueError: for a scale that the model does not have, or tiles that cannot be.
        """
        self.scale = choose_scale(model, scale)
        self.factor = model.factor(self.scale)
        if model.metadata.get("whole_images"):
            if tile:
                raise ValueError(f"This model needs whole images. Received: --tile={tile}")
            tile = 0
        if overlap is None:
            overlap = _exact_overlap(model, self.scale, tile)
        self.overlap = overlap
        self.tile = tile
        # An accelerator has a memory of its own.
        on_cpu = not tf.config.list_physical_devices("GPU")
        self._output_bytes = model.output_bytes(self.scale) if on_cpu else None
        tiling.check(tile or 0, self.overlap)
        self._function = model.compiled("output", self.scale)
        if ensemble:
            self._function = self_ensemble(self._function)

    def __call__(self, source, target, on_pixels=None):
        """Reads the image file `source` and writes it upscaled, in the format of `target`.

        `on_pixels` is called with the number of input pixels done since. A file that cannot be
        read, or a format that cannot hold the result, is a ValueError.
        """
        image = image_files.read_image(source)
        pixels = image.pixels
        if image.alpha is not None:
            pixels = fill_transparent(pixels, image.alpha)
        height, width = (length * self.factor for length in pixels.shape[:2])
        pixel_store.check_memory(
            pixels.itemsize * 3 * height * width,
            f"{source}, enlarged to {height}x{width},",
        )
        function = _grey(self._function) if image.grey else self._function
        output = self.upscale(pixels, function, on_pixels)
        alpha = None if image.alpha is None else resize_alpha(image.alpha, output.shape[:2])
        if image.grey:
            output = output[..., 0]
        image_files.write_image(target, output, alpha, image.icc_profile)

    def upscale(self, pixels, function=None, on_pixels=None):
        """Returns pixels upscaled, of the same type; see `tiling.apply_tiled`.

        `function` takes the place of the model's own.
        """
        tile = self.tile
        if tile is None:
            size = pixels.shape[:2]
            tile = tiling.choose_tile(size, self.factor, self.overlap, self._output_bytes)
        return tiling.apply_tiled(
            function or self._function,
            pixels,
            tile,
            self.overlap,
            self.factor,
            pixels.dtype,
            on_pixels,
        )


def choose_scale(model, scale):
    """Returns `scale`, or the only one that the model has; else a ValueError."""
    scales = list(model.scales)
    if not scales:
        if scale is not None:
            raise ValueError(f"This model takes no --scale. Received: {scale}")
        return None
    if scale is None and len(scales) == 1:
        return scales[0]
    if scale not in scales:
        raise ValueError(f"--scale is one of {scales}. Received: {scale}")
    return scale


def fill_transparent(pixels, alpha):
    """Returns pixels `[height, width, 3]` with the nearest visible colours where alpha is 0.

    What is stored under transparent pixels is arbitrary, often black, and would otherwise bleed
    into the visible edge.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    rows, columns = scipy.ndimage.distance_transform_edt(
        hidden, return_distances=False, return_indices=True
    )
    filled = pixels.copy()
    filled[hidden] = pixels[rows[hidden], columns[hidden]]
    return filled


def resize_alpha(alpha, size):
    """Returns an alpha channel resized to (height, width), by bicubic interpolation."""
    return cv2.resize(alpha, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def _exact_overlap(model, scale, tile):
    radius = model.receptive_radius(scale)
    if radius is not None or tile == 0:
        return radius or 0
    raise ValueError(
        "The frozen file does not say how far its outputs see: give --overlap in input pixels "
        "(its receptive radius, about 96 for the published EUSR), or --tile=0."
    )


def _grey(function):
    return lambda batch: np.mean(np.asarray(function(batch)), axis=-1, keepdims=True)

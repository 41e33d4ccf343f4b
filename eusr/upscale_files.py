"""Upscales image files, keeping grey, alpha, 16 bits and colour profile."""

import cv2
import numpy as np
import scipy.ndimage
import tensorflow as tf

from misc.export import frozen, tiling
from misc.export.self_ensemble import self_ensemble
from misc.images import image_files


class FileUpscaler:
    """Applies a model with images as "output" to files."""

    description = "upscaling"

    def __init__(self, model, scale=None, tile=None, overlap=None, ensemble=False):
        """Checks how the model can be applied.

        Args:
            model: `Method` or `FrozenMethod`.
            scale: one of the model's scales; may be left out if it has only one or none.
            tile: side of the tiles that larger images are cut into, in input pixels; 0 for whole
                images, `None` for a size that keeps memory low.
            overlap: input pixels by which tiles reach over each other; `None` for as many as make
                the result equal to the untiled one.
            ensemble: whether to average over the 8 flips and rotations of the input.

        Raises:
            ValueError: for a scale that the model does not have, or tiles that cannot be.
        """
        self.scale = choose_scale(model, scale)
        self.factor = model.factor(self.scale)
        if overlap is None:
            overlap = _exact_overlap(model, self.scale, tile)
        self.overlap = overlap
        self.tile = tiling.default_tile(self.factor, overlap) if tile is None else tile
        tiling.check(self.tile, self.overlap)
        self._function = _image_function(model, self.scale)
        if ensemble:
            self._function = self_ensemble(self._function)

    def __call__(self, source, target, on_pixels=None):
        """Reads the image file `source` and writes it upscaled as `target`.

        Args:
            source: path of an image file.
            target: path to write; its extension is the format.
            on_pixels: called now and then with the number of input pixels done since.

        Raises:
            ValueError: when a file cannot be read, or the target's format cannot hold the result.
        """
        image = image_files.read_image(source)
        pixels = image.pixels
        if image.alpha is not None:
            pixels = fill_transparent(pixels, image.alpha)
        function = _grey(self._function) if image.grey else self._function
        output = tiling.apply_tiled(
            function, pixels, self.tile, self.overlap, self.factor, on_pixels=on_pixels
        )
        alpha = None if image.alpha is None else resize_alpha(image.alpha, output.shape[:2])
        if image.grey:
            output = output[..., 0]
        image_files.write_image(target, output, alpha, image.icc_profile)


def choose_scale(model, scale):
    """Returns the scale to use: `scale`, or the only one that there is.

    Raises:
        ValueError: when the model has several and none is given, or does not have it.
    """
    scales = list(model.scales)
    if not scales and model.export_names["scale"] is None:
        if scale is not None:
            raise ValueError(f"This model takes no --scale. Received: {scale}")
        return None
    if scale is None and len(scales) == 1:
        return scales[0]
    if scale is None or (scales and scale not in scales):
        raise ValueError(
            f"--scale is one of {scales or 'the scales of the graph'}. Received: {scale}"
        )
    return scale


def fill_transparent(pixels, alpha):
    """Returns pixels with the colours of the nearest visible pixel where alpha is 0.

    What is stored under transparent pixels is arbitrary, often black, and would otherwise bleed
    into the visible edge.

    Args:
        pixels: `[height, width, 3]`.
        alpha: `[height, width]`.
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
    if radius is not None:
        return radius
    if tile == 0:
        return 0
    raise ValueError(
        "The frozen file does not say how far its outputs see: give --overlap in input pixels "
        "(its receptive radius, about 96 for the published EUSR), or --tile=0."
    )


def _image_function(model, scale):
    if isinstance(model, frozen.FrozenMethod):
        return lambda batch: model.predict(batch, scale)["output"]
    # One trace serves all sizes.
    return tf.function(
        lambda batch: model.predict(batch, scale)["output"],
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)],
    )


def _grey(function):
    return lambda batch: np.mean(np.asarray(function(batch)), axis=-1, keepdims=True)

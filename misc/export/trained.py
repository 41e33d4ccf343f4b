"""Trained models as functions of pixels; see `misc.export.load`."""

import functools
import pathlib
import warnings

import numpy as np

from misc.export import loading
from misc.training import registry, trained_weights


class Trained:
    """A trained model, which upscales and repairs, scores or classifies pixels.

    Pixels are RGB in 0-255, uint8 or floating point, of one image `[H, W, 3]` or of several of one
    size `[B, H, W, 3]`; what is wrong with them is a ValueError. Of several, results are a list, or
    one array for images. What a model was not trained for is a ValueError, too.

    Attributes:
        source: what it was loaded from.
        model: the `Method` or `FrozenMethod`.
        task: "upscale", "score" or "classify".
    """

    def __init__(self, source):
        """Loads the model; see `misc.export.load`."""
        self.source = source
        _check_source(str(source))
        self.model = loading.restore_trained(source)
        outputs = tuple(self.model.export_names["outputs"])
        kinds = registry.load_parts("predict_files")
        found = [kind for kind in kinds if outputs in kind.OUTPUTS]
        if not found:
            raise ValueError(
                f"{source} gives {', '.join(outputs)}, of which nothing is made here: call "
                "misc.export.loading.restore_trained(...).predict."
            )
        self.task = found[0].TASK
        self._create = functools.cache(functools.partial(found[0].on_pixels, self.model))

    def __repr__(self):
        return f"load({str(self.source)!r})"

    def upscale(self, pixels, scale=None):
        """Returns images of `scale` times the size, worked on in tiles where they are large.

        Args:
            pixels: see the class; uint8 gives uint8, others float32 that is not cut to 0-255.
            scale: one of the model's scales; may be left out if it has only one.
        """
        self._check_task("upscale")
        scales = list(self.model.scales)
        if scale not in scales and not (scale is None and len(scales) < 2):
            raise ValueError(f"{self} upscales by {scales}. Received: scale={scale}")
        return self._apply(pixels, scale)

    def repair(self, pixels):
        """Returns images of the same size, repaired by weights for scale 1 or by SyMPIE."""
        self._check_task("upscale")
        scales = list(self.model.scales) or [None]
        repairing = [scale for scale in scales if self.model.factor(scale) == 1]
        if not repairing:
            raise ValueError(
                f"{self} upscales by {list(self.model.scales)}, and repairs nothing: that takes "
                "weights for scale 1."
            )
        return self._apply(pixels, repairing[0])

    def score(self, pixels):
        """Returns (mean, deviation, distribution) of an image's scores, by its central patch.

        The distribution, `[K]`, sums to 1. Floating-point pixels are rounded to 8 bits.
        """
        self._check_task("score")
        return self._apply(pixels)

    def classify(self, pixels, top=5):
        """Returns the `top` likeliest classes of an image, the best first.

        Each is {"class": its name, "number": its number, "probability": 0-1}, of several
        classifiers with their "votes". Images are resized and cut as in the evaluation of the run.
        Floating-point pixels are rounded to 8 bits.
        """
        self._check_task("classify")
        return self._apply(pixels, top)

    def _check_task(self, task):
        if self.task != task:
            raise ValueError(f"{self} is a model to {self.task}, and does not {task}.")

    def _apply(self, pixels, *options):
        images = check_pixels(pixels)
        function = self._create(*options)
        if images.ndim == 3:
            return function(images)
        results = [function(image) for image in images]
        return np.stack(results) if isinstance(results[0], np.ndarray) else results


def _check_source(source):
    names = trained_weights.paths()
    # A checkpoint is named without the ends of its files.
    if source in names or any(pathlib.Path(source + end).exists() for end in ("", ".index")):
        return
    known = f", and no name of trained weights ({', '.join(names)})" if names else ""
    raise FileNotFoundError(f"There is no file or folder {source}{known}.")


def check_pixels(pixels):
    """Returns pixels as an array, uint8 or float32; a ValueError says what is wrong with them."""
    if isinstance(pixels, str | pathlib.Path):
        raise ValueError(f"Pixels are an array, such as np.asarray(PIL.Image.open({pixels!r})).")
    pixels = np.asarray(pixels)
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise ValueError(f"Pixels are RGB [H, W, 3] or [B, H, W, 3]. Received: {pixels.shape}")
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise ValueError(f"Pixels are uint8 or floating point. Received: {pixels.dtype}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):  # also false for NaN
        raise ValueError(f"Pixels are in 0-255. Received: {low:g} to {high:g}")
    if 0 < high <= 1:
        warnings.warn(
            f"Pixels are in 0-255, and all of these are at most {high:g}: multiply by 255 what is "
            "in 0-1.",
            stacklevel=4,
        )
    return pixels.astype(np.float32)

"""The part of a picture that a predictor sees, decoded without the rest where the file allows it.

A JPEG file is decoded in the window alone. The pixels are those of the whole decoded picture.
"""

import dataclasses

import cv2
import numpy as np

from misc.images.image_windows import read_window

SMALL = ("resize", "pad")
# Numbers in [0, 1) that one random window takes: place of the square, row, column, mirror, upside
# down.
DRAWS = 5


@dataclasses.dataclass(frozen=True)
class Cropping:
    """How a patch is cut out of a picture.

    Attributes:
        patch_size: rows and columns of the patch.
        square: whether first a square of the short side is cut out, then the patch of that: in
            oblong pictures this prefers the middle. tf-perceptual-eusr does so for AVA.
        small: what becomes of pictures whose short side is below the patch: `'resize'` enlarges a
            square of the short side (bilinear); `'pad'` surrounds the picture with black.
    """

    patch_size: int
    square: bool
    small: str

    def __post_init__(self):
        if self.patch_size < 1:
            raise ValueError(f"input_patch_size must be positive. Received: {self.patch_size}")
        if self.small not in SMALL:
            raise ValueError(f"small must be one of {SMALL}. Received: {self.small!r}")

    def window(self, height, width, uniform=None):
        """Returns (top, left, rows, columns) of what is cut out of a picture.

        Args:
            height: rows of the picture.
            width: its columns.
            uniform: `DRAWS` numbers in [0, 1), for a random place; None for the centre.
        """
        sides = (height, width)
        short, patch = min(sides), self.patch_size
        if self.square or (self.small == "resize" and short < patch):
            # The sum of both places: the patch is never cut out of a square that exists.
            side = min(short, patch)
            starts = [
                _place(length - short, None if uniform is None else uniform[0])
                + _place(short - side, None if uniform is None else uniform[1 + axis])
                for axis, length in enumerate(sides)
            ]
            return (*starts, side, side)
        kept = [min(length, patch) for length in sides]
        starts = [
            _place(length - size, None if uniform is None else uniform[1 + axis])
            for axis, (length, size) in enumerate(zip(sides, kept, strict=True))
        ]
        return (*starts, *kept)

    def fit(self, pixels):
        """Returns the window's pixels as a patch, uint8 `[patch_size, patch_size, 3]`."""
        rows, columns = pixels.shape[:2]
        patch = self.patch_size
        if (rows, columns) == (patch, patch):
            return pixels
        if self.small == "resize":
            # Pixels' centres are aligned, as in tf.image.resize of TensorFlow 2. OpenCV is exact
            # with floating-point numbers only.
            resized = cv2.resize(
                pixels.astype(np.float32), (patch, patch), interpolation=cv2.INTER_LINEAR
            )
            return np.rint(resized).astype(np.uint8)
        padded = np.zeros((patch, patch, 3), np.uint8)
        top, left = (patch - rows) // 2, (patch - columns) // 2
        padded[top : top + rows, left : left + columns] = pixels
        return padded


def read_patch(path, cropping, uniform=None):
    """Returns a patch of an image file, uint8 `[patch_size, patch_size, 3]`.

    Args:
        path: image file.
        cropping: `Cropping`.
        uniform: `DRAWS` numbers in [0, 1): random place, and flips; None: the centre, no flips.

    Raises:
        ValueError: when the file is missing or broken; the message names it. Damage to a JPEG file
            behind the window may stay unnoticed.
    """
    pixels, _ = read_window(path, lambda *size: cropping.window(*size, uniform))
    patch = cropping.fit(pixels)
    if uniform is not None:
        # OpenCV turns pixels many times as fast as a copy of NumPy's strided views.
        patch = cv2.flip(patch, 1) if uniform[3] >= 0.5 else patch
        patch = cv2.flip(patch, 0) if uniform[4] >= 0.5 else patch
    return np.ascontiguousarray(patch)


def _place(room, uniform):
    return room // 2 if uniform is None else int(uniform * (room + 1))

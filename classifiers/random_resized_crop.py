"""Windows of random size, shape and place, resized to a square: how ImageNet is trained on.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6: 8 to 100 % of the area, with
sides in proportions between 3/4 and 4/3. Tries and what follows when none fits are torchvision's.
"""

import math

import numpy as np
import PIL.Image

from misc.images import image_files, image_windows
from misc.images.resizing import resize_and_crop

AREA = (0.08, 1.0)
PROPORTIONS = (3 / 4, 4 / 3)
TRIES = 10
# Numbers in [0, 1) for one window: area and proportion of each try, row, column.
DRAWS = 2 * TRIES + 2


def choose_window(height, width, uniform, area=AREA):
    """Returns (top, left, rows, columns) of a random window.

    Args:
        height: rows of the image.
        width: its columns.
        uniform: `DRAWS` numbers in [0, 1).
        area: smallest and largest share of the image's area, in (0, 1].
    """
    low, high = (math.log(value) for value in PROPORTIONS)
    uniform = [float(value) for value in uniform]
    row, column = uniform[-2:]
    for share, proportion in zip(uniform[0:-2:2], uniform[1:-2:2], strict=True):
        pixels = height * width * (area[0] + (area[1] - area[0]) * share)
        ratio = math.exp(low + (high - low) * proportion)
        rows, columns = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = int(row * (height - rows + 1)), int(column * (width - columns + 1))
            return top, left, rows, columns
    # The middle of the image, as much of it as the proportions allow.
    rows = min(height, round(width / PROPORTIONS[0]))
    columns = min(width, round(height * PROPORTIONS[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def read(path, size, uniform, area=AREA):
    """Returns a random window of an image file, uint8 RGB `[size, size, 3]`; see `choose_window`.

    Windows that are much larger than `size` come from a reduced JPEG, which saves most of the time
    that large photos take and changes the result little.

    Raises:
        ValueError: when the file is missing or broken; the message names it.
    """
    pixels, box = image_windows.read_window(
        path, lambda height, width: choose_window(height, width, uniform, area), size
    )
    # Pillow's filter grows with the reduction, as torchvision's default does.
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR, box))


def read_shifted(path, resize, size, uniform, interpolation):
    """Returns a square of random place of a resized image file, uint8 RGB `[size, size, 3]`.

    Args:
        path: image file.
        resize: length of the shorter side, or `None`.
        size: side of the square.
        uniform: numbers in [0, 1), of which the last two count: row and column.
        interpolation: see `resize_and_crop`.

    Raises:
        ValueError: when the file is missing, broken, or smaller than the square.
    """
    pixels = resize_and_crop(image_files.read_rgb(path), resize, None, interpolation)
    rows, columns = (length - size + 1 for length in pixels.shape[:2])
    if min(rows, columns) < 1:
        height, width = pixels.shape[:2]
        raise ValueError(f"{path}: {height}x{width} pixels are less than the square of {size}")
    top, left = (int(float(u) * n) for u, n in zip(uniform[-2:], (rows, columns), strict=True))
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])

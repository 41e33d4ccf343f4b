"""Image files as networks take them: resized, and the middle cut out."""

import cv2
import numpy as np
import PIL.Image

from misc.images import image_files, pixel_store

INTERPOLATIONS = ("bilinear", "area", "bicubic")


def resize_and_crop(image, resize=None, crop=None, interpolation="bilinear", size=None):
    """Returns the image as ImageNet-C prepares it: resized bilinearly, its middle cut out.

    Args:
        image: uint8 RGB, or a picture of Pillow in RGB.
        resize: length of the shorter side, or None.
        crop: side of the central square, or None.
        interpolation: one of `INTERPOLATIONS`: Pillow's bilinear or bicubic filter, as torchvision
            uses them, or OpenCV's INTER_AREA.
        size: side that the square is resized to at last, or None.

    Raises:
        ValueError: if the image is smaller than the square, or too large for the memory.
    """
    if resize:
        height, width = _sides(image)
        shorter = min(height, width)
        image = _resize(
            image, *(int(resize * side / shorter) for side in (height, width)), interpolation
        )
    if crop:
        height, width = _sides(image)
        if min(height, width) < crop:
            raise ValueError(
                f"an image of {height}x{width} pixels is smaller than the square of {crop} pixels "
                "that is cut out"
            )
        # The rounding of torchvision's CenterCrop, which the authors used.
        top, left = round((height - crop) / 2.0), round((width - crop) / 2.0)
        if isinstance(image, np.ndarray):
            image = image[top : top + crop, left : left + crop]
        else:
            image = image.crop((left, top, left + crop, top + crop))
    if size not in (None, crop):
        image = _resize(image, size, size, interpolation)
    return np.ascontiguousarray(image)


def _sides(image):
    return image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]


def _resize(image, height, width, interpolation):
    pixel_store.check_pixels(height, width, "A resized image")
    if interpolation == "area":
        return cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_AREA)
    picture = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return picture.resize((width, height), PIL.Image.Resampling[interpolation.upper()])


def read_and_crop(path, upright=True, **kwargs):
    """Returns an image file as `resize_and_crop` prepares it.

    Args:
        path: image file.
        upright: see `image_files.read_rgb`.
        **kwargs: as of `resize_and_crop`.

    Raises:
        ValueError: if the file is missing, broken, or does not fit; names it.
    """
    picture = image_files.read_picture(path, upright)
    try:
        return resize_and_crop(picture, **kwargs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

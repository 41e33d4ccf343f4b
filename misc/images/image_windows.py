"""Part of an image file, decoded without the rest where the file allows it.

A JPEG file is decoded in the window alone, and, on request, reduced while it is decoded.
"""

import io

import PIL.Image
import tensorflow as tf

from misc.images import image_files

# By which libjpeg reduces images while it decodes them.
REDUCTIONS = (1, 2, 4, 8)
# A reduced window is still so many times as large as it is wanted: resizing it further then gives
# what resizing the whole one does within half a grey level on average, a quarter of the difference
# between bilinear and bicubic filters.
_MARGIN = 2


def read_window(path, choose, size=None):
    """Returns part of an image file: what `misc.images.image_files.read_rgb` gives, cut.

    Args:
        path: image file.
        choose: function of height and width that returns (top, left, rows, columns).
        size: side of a square that the part is then resized to. Much larger parts of JPEG files
            come reduced to a half, a quarter or an eighth, which is still at least twice `size`.

    Returns:
        (uint8 RGB, box): the box (left, top, right, bottom) of these pixels, in fractions of them,
        is the window.

    Raises:
        ValueError: when the file is missing or broken; the message names it.
    """
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError as error:
        raise ValueError(f"Cannot read the image {path}: {error.strerror}") from error
    whole = _plain_jpeg_size(encoded)
    if whole is None:
        pixels = image_files.read_rgb(path)
        top, left, rows, columns = choose(*pixels.shape[:2])
        return pixels[top : top + rows, left : left + columns], (0, 0, columns, rows)
    top, left, rows, columns = choose(*whole)
    wanted = min(rows, columns) / (_MARGIN * size) if size else 1
    reduction = max(r for r in REDUCTIONS if r <= max(wanted, 1))
    # All reduced pixels that the window touches.
    first, start = top // reduction, left // reduction
    last, end = -(-(top + rows) // reduction), -(-(left + columns) // reduction)
    try:
        pixels = _decode_window(
            encoded, whole[1], first, start, last - first, end - start, reduction
        )
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"Cannot read the image {path}: broken JPEG file") from error
    box = (
        left / reduction - start,
        top / reduction - first,
        (left + columns) / reduction - start,
        (top + rows) / reduction - first,
    )
    return pixels, box


def _plain_jpeg_size(encoded):
    """Returns (height, width) of a grey or RGB JPEG file that stands upright, else None."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with PIL.Image.open(io.BytesIO(encoded)) as image:
            upright = image.getexif().get(image_files.ORIENTATION_TAG, 1) not in range(2, 9)
            if image.format != "JPEG" or image.mode not in ("L", "RGB") or not upright:
                return None
            return image.size[::-1]
    except Exception:
        # Whatever is wrong with it, reading it whole says so and names the file.
        return None


def _decode_window(encoded, width, top, left, rows, columns, reduction):
    # At the left and right end of what it decodes, libjpeg interpolates the chroma without its
    # neighbours: one more column on each side makes the window's own pixels exact.
    start, end = max(left - 1, 0), min(left + columns + 1, -(-width // reduction))
    with tf.device("CPU:0"):
        pixels = tf.io.decode_and_crop_jpeg(
            encoded,
            [top, start, rows, end - start],
            channels=3,
            ratio=reduction,
            dct_method="INTEGER_ACCURATE",  # what Pillow uses
        )
    return pixels.numpy()[:, left - start : left - start + columns]

"""The straight-through gradient of the JPEG round trip: its linear steps, transposed.

With every rounding taken as the identity, the round trip is a conversion to YCbCr, averages of
chroma, two cosine transforms that undo each other, a triangle filter that enlarges chroma, and a
conversion to RGB; values that were cut to 0-255 have no gradient. Each function here is the
transpose of the one that `jpeg_color` holds.
"""

import numpy as np
from keras import ops

from degradations.jpeg_color import FACTORS, RGB_OF_CHROMA, YCBCR_OF_RGB, weigh_channels

# Red, green and blue each hold luma once, and chroma by its weights.
_YCBCR_OF_GRADIENT = np.concatenate([np.ones((3, 1)), RGB_OF_CHROMA * 2.0**-16], axis=1).astype(
    np.float32
)


def backward(gradient, uncut, subsampling, arithmetic):
    """Returns the gradient of a loss by the images, float32 [B, H, W, C].

    Args:
        gradient: by the decoded images, float32 [B, H, W, C].
        uncut: masks of the decoded values within 0-255: of luma, bool [B, h, w] with h and w
            multiples of 8; for colour also of Cb and Cr, [B, 2, h', w'], and of RGB [B, H, W, 3].
        subsampling: "444", "422", "420", or "400" for none but luma.
        arithmetic: see `jpeg_color.weigh_channels`.
    """
    height, width, channels = gradient.shape[1:]
    if len(uncut) == 1:
        y = _code_planes(ops.sum(gradient, axis=-1), uncut[0], "444")
        return ops.expand_dims(y, -1) if channels == 1 else _from_luma(y)
    uncut_y, uncut_chroma, uncut_rgb = uncut
    gradient = gradient * ops.cast(uncut_rgb, "float32")
    planes = weigh_channels(gradient, _YCBCR_OF_GRADIENT, arithmetic)
    y = _code_planes(planes[0], uncut_y, "444")
    uncut_chroma = ops.transpose(uncut_chroma, (1, 0, 2, 3))
    chroma = _code_planes(
        ops.reshape(planes[1:], (-1, height, width)),
        ops.reshape(uncut_chroma, (-1, *uncut_chroma.shape[2:])),
        subsampling,
    )
    chroma = ops.reshape(chroma, (2, 1, -1, height, width))
    weights = (YCBCR_OF_RGB * 2.0**-16)[:, :, None, None, None]
    planes = weights[:, 0] * y + weights[:, 1] * chroma[0] + weights[:, 2] * chroma[1]
    return ops.reshape(ops.transpose(planes, (1, 2, 3, 0)), (-1, height, width, 3))


def _from_luma(y):
    return ops.stack([y * (weight / 65536) for weight in (19595, 38470, 7471)], axis=-1)


def _code_planes(gradient, uncut, subsampling):
    height, width = gradient.shape[1:]
    rows, columns = uncut.shape[1:]
    gradient = enlarge(gradient, subsampling, rows, columns)
    gradient = gradient * ops.cast(uncut, "float32")
    return reduce(gradient, subsampling, height, width)


def enlarge(gradient, subsampling, rows, columns):
    """Returns the gradient [B, rows, columns] by decoded planes, of one [B, H, W] by enlarged."""
    across, down = FACTORS[subsampling]
    height, width = gradient.shape[1:]
    real_rows, real_columns = -(-height // down), -(-width // across)
    if across == 2:
        gradient = _pad(gradient, down * real_rows, 2 * real_columns)
        interpolated = real_columns > 2
        gradient = _halve(gradient, 2, interpolated)
        gradient = _halve(gradient, 1, interpolated) if down == 2 else gradient
    return _pad(gradient, rows, columns)


def _halve(gradient, axis, interpolated):
    """Transposes the doubling of an axis, by the triangle filter or by repetition."""
    even, odd = _every_second(gradient, axis)
    if not interpolated:
        return even + odd
    count = even.shape[axis]
    # What the left neighbours gave comes back from the left; the border repeats itself.
    left = ops.concatenate(
        [_cut(even, axis, 1, count), _cut(odd, axis, count - 1, count)], axis=axis
    )
    right = ops.concatenate([_cut(even, axis, 0, 1), _cut(odd, axis, 0, count - 1)], axis=axis)
    return 0.75 * (even + odd) + 0.25 * (left + right)


def reduce(gradient, subsampling, height, width):
    """Returns the gradient [B, H, W] by planes, of one [B, h, w] by the averaged and padded."""
    across, down = FACTORS[subsampling]
    rows = -(-height // down)
    gradient = _fold(gradient, rows, axis=1)
    if across == 2:
        gradient = ops.repeat(gradient * (0.5 / down), 2, axis=2)
    gradient = ops.repeat(gradient, 2, axis=1) if down == 2 else gradient
    return _fold(_fold(gradient, height, axis=1), width, axis=2)


def _every_second(values, axis):
    if axis == 1:
        return values[:, 0::2], values[:, 1::2]
    return values[:, :, 0::2], values[:, :, 1::2]


def _cut(values, axis, first, last):
    return values[:, first:last] if axis == 1 else values[:, :, first:last]


def _fold(gradient, side, axis):
    """Adds what belongs to copies of the last row or column to that row or column."""
    count = gradient.shape[axis]
    if count == side:
        return gradient
    last = ops.sum(_cut(gradient, axis, side - 1, count), axis=axis, keepdims=True)
    return ops.concatenate([_cut(gradient, axis, 0, side - 1), last], axis=axis)


def _pad(values, rows, columns):
    missing = [rows - values.shape[1], columns - values.shape[2]]
    return ops.pad(values, [[0, 0], [0, missing[0]], [0, missing[1]]]) if any(missing) else values

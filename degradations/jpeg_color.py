"""JPEG's colour conversion, padding and chroma resampling, exactly as libjpeg-turbo computes them.

All values are whole numbers in float32; every product and sum stays below 2**24, so float32 is
exact on every device (no matrix products here). `jpeg_gradient` holds their transposes.

Sources: JFIF 1.02 (colour matrix), in the 16-bit fixed point of libjpeg-turbo's jccolor.c and
jdcolor.c; averaging biases of jcsample.c, "fancy" triangle upsampling of jdsample.c; padding of
jcprepct.c and jccoefct.c.
"""

import numpy as np
from keras import ops

# Horizontal and vertical chroma reduction of each subsampling.
FACTORS = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}


def to_ycbcr(images):
    """Returns Y, Cb and Cr, float32 [B, H, W] of whole values 0-255, of RGB images [B, H, W, 3]."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    y = luma(images)
    # Chroma adds half less one unit: so 255.5 never rounds to 256.
    half = float(128 * 65536 + 32767)
    cb = ops.floor((-11059.0 * red - 21709.0 * green + 32768.0 * blue + half) * 2.0**-16)
    cr = ops.floor((32768.0 * red - 27439.0 * green - 5329.0 * blue + half) * 2.0**-16)
    return y, cb, cr


def luma(images):
    """Returns Y alone, as Pillow's conversion to grey."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    return ops.floor((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * 2.0**-16)


def to_rgb(y, cb, cr):
    """Returns RGB images, float32 [B, H, W, 3] of whole values, not yet cut to 0-255."""
    cb, cr = cb - 128.0, cr - 128.0
    red = y + ops.floor((91881.0 * cr + 32768.0) * 2.0**-16)
    green = y + ops.floor((-22554.0 * cb - 46802.0 * cr + 32768.0) * 2.0**-16)
    blue = y + ops.floor((116130.0 * cb + 32768.0) * 2.0**-16)
    return ops.stack([red, green, blue], axis=-1)


def reduce(planes, subsampling):
    """Pads planes [B, H, W] to whole blocks and averages them as the subsampling says.

    The right is padded before averaging; the bottom after it, except for one row where two rows are
    averaged and the height is odd.

    Returns:
        float32 [B, h, w], h and w multiples of 8.
    """
    across, down = FACTORS[subsampling]
    height, width = planes.shape[1:]
    planes = _repeat_last(planes, -width % (8 * across), axis=2)
    if down == 2:
        planes = _repeat_last(planes, height % 2, axis=1)
    columns = planes.shape[2] // across
    # The bias alternates by column, so that averages are not all rounded the same way.
    if subsampling == "422":
        bias = np.tile([0.0, 1.0], columns // 2).astype(np.float32)
        planes = ops.floor((planes[:, :, 0::2] + planes[:, :, 1::2] + bias) * 0.5)
    elif subsampling == "420":
        bias = np.tile([1.0, 2.0], columns // 2).astype(np.float32)
        quads = ops.reshape(planes, (-1, planes.shape[1] // 2, 2, columns, 2))
        sums = quads[:, :, 0, :, 0] + quads[:, :, 0, :, 1]
        sums = sums + quads[:, :, 1, :, 0] + quads[:, :, 1, :, 1]
        planes = ops.floor((sums + bias) * 0.25)
    return _repeat_last(planes, -planes.shape[1] % 8, axis=1)


def enlarge(planes, subsampling, height, width):
    """Cuts decoded planes to their real samples and brings them back to [B, height, width].

    Neighbours beyond the border repeat the last real sample, never decoded padding. Planes of one
    or two columns are repeated instead of interpolated, as libjpeg does.
    """
    across, down = FACTORS[subsampling]
    rows, columns = -(-height // down), -(-width // across)
    planes = planes[:, :rows, :columns]
    if across == 1:
        return planes
    if columns <= 2:
        planes = ops.repeat(planes, across, axis=2)
        planes = ops.repeat(planes, down, axis=1) if down == 2 else planes
        return planes[:, :height, :width]
    if down == 2:
        above, below = _neighbours(planes, axis=1)
        planes = ops.stack([3.0 * planes + above, 3.0 * planes + below], axis=2)
        planes = ops.reshape(planes, (-1, 2 * rows, columns))[:, :height]
    # Sixteenths after both directions, quarters after one; the two roundings differ by column.
    halves, scale = ((8.0, 7.0), 1 / 16) if down == 2 else ((1.0, 2.0), 1 / 4)
    left, right = _neighbours(planes, axis=2)
    even = ops.floor((3.0 * planes + left + halves[0]) * scale)
    odd = ops.floor((3.0 * planes + right + halves[1]) * scale)
    planes = ops.reshape(ops.stack([even, odd], axis=3), (-1, planes.shape[1], 2 * columns))
    return planes[:, :, :width]


def _neighbours(planes, axis):
    """Returns the planes shifted by one sample each way along an axis, borders repeated."""
    if axis == 1:
        before = ops.concatenate([planes[:, :1], planes[:, :-1]], axis=1)
        return before, ops.concatenate([planes[:, 1:], planes[:, -1:]], axis=1)
    before = ops.concatenate([planes[:, :, :1], planes[:, :, :-1]], axis=2)
    return before, ops.concatenate([planes[:, :, 1:], planes[:, :, -1:]], axis=2)


def _repeat_last(planes, count, axis):
    """Appends `count` copies of the last row (axis 1) or column (axis 2)."""
    if count == 0:
        return planes
    last = planes[:, -1:] if axis == 1 else planes[:, :, -1:]
    return ops.concatenate([planes, ops.repeat(last, count, axis=axis)], axis=axis)

"""JPEG's colour conversion, padding and chroma resampling, exactly as libjpeg-turbo computes them.

All values are whole numbers in float32; every product and sum stays below 2**24, so float32 is
exact, in matrix products too where a device does not shorten their factors (`weigh_channels`).
`jpeg_gradient` holds the transposes.

Sources: JFIF 1.02 (colour matrix), in the 16-bit fixed point of libjpeg-turbo's jccolor.c and
jdcolor.c; averaging biases of jcsample.c, "fancy" triangle upsampling of jdsample.c; padding of
jcprepct.c and jccoefct.c.
"""

import numpy as np
from keras import ops

# Horizontal and vertical chroma reduction of each subsampling.
FACTORS = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}


# Weights of red, green and blue (rows) in Y, Cb and Cr (columns), and those of Cb and Cr (columns)
# in red, green and blue beside Y, in units of 2**-16.
YCBCR_OF_RGB = np.array(
    [[19595, -11059, 32768], [38470, -21709, -27439], [7471, 32768, -5329]], np.float32
)
RGB_OF_CHROMA = np.array([[0, 91881], [-22554, -46802], [116130, 0]], np.float32)

# Halves that Y, Cb and Cr add before rounding down. Chroma adds half less one unit: so 255.5 never
# rounds to 256.
_HALVES = np.array([32768, 128 * 65536 + 32767, 128 * 65536 + 32767], np.float32)


def weigh_channels(images, weights, arithmetic):
    """Returns planes [D, B, H, W]: sums of an image's channels [B, H, W, C] by `weights` [C, D].

    "float32" takes a matrix product, which is fastest on a CPU. Accelerators may shorten its
    factors, so that "int32" weighs one channel after the other.
    """
    if arithmetic == "float32":
        return ops.einsum("bhwc,cd->dbhw", images, weights)
    weights = weights[:, :, None, None, None]
    return sum(weights[i] * images[..., i][None] for i in range(len(weights)))


def to_ycbcr(images, arithmetic):
    """Converts RGB images.

    Args:
        images: float32 [B, H, W, 3] of whole values 0-255.
        arithmetic: see `weigh_channels`.

    Returns:
        Y [B, H, W]; Cb of all images before Cr [2 B, H, W]; whole values 0-255.
    """
    planes = weigh_channels(images, YCBCR_OF_RGB, arithmetic) + _HALVES[:, None, None, None]
    planes = ops.floor(planes * 2.0**-16)
    return planes[0], ops.reshape(planes[1:], (-1, *planes.shape[2:]))


def luma(images):
    """Returns Y alone, as Pillow's conversion to grey."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    return ops.floor((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * 2.0**-16)


def to_rgb(y, chroma):
    """Returns RGB images, float32 [B, H, W, 3] of whole values, not yet cut to 0-255.

    Args:
        y: luma, [B, H, W].
        chroma: Cb of all images before Cr, [2 B, H, W].
    """
    chroma = ops.reshape(chroma, (2, 1, -1, *y.shape[1:])) - 128.0
    weights = RGB_OF_CHROMA[:, :, None, None, None]
    sums = weights[:, 0] * chroma[0] + weights[:, 1] * chroma[1]
    planes = y + ops.floor((sums + 32768.0) * 2.0**-16)
    # Planes first: writing one value of three at a time costs more than one transposition.
    return ops.transpose(planes, (1, 2, 3, 0))


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

"""Bicubic resizing equal to MATLAB's imresize, in NumPy."""

import math

import numpy as np

EDGES = ("mirror", "clamp")

# Output rows computed by one matrix product. The weights form a band: whole matrices would be
# mostly zeros, single rows would leave the matrix product without work.
_BLOCK = 16


def matlab_bicubic(image, scale=None, size=None, edges="mirror"):
    """Resizes an image as MATLAB's `imresize(image, ..., 'bicubic')` does.

    Cubic convolution with a = -0.5 (Keys, "Cubic convolution interpolation for digital image
    processing", IEEE Trans. ASSP 1981, eq. 15); when shrinking, the kernel is stretched by
    1/scale, which removes what the smaller grid cannot hold (MathWorks' documentation of
    `imresize`, 'Antialiasing'). The two dimensions are resized one after the other, the one with
    the smaller factor first and rows first where they are equal. 8-bit images are rounded to
    8 bits after each of the two passes: without it one pixel in ten differs from MATLAB's.

    Args:
        image: `[H, W]` or `[H, W, C]`; uint8 in 0-255, or floating point of any range.
        scale: output size divided by input size, e.g. `1 / 4`; the output has
            `ceil(scale * H)` rows and `ceil(scale * W)` columns.
        size: `(rows, columns)` of the output, instead of `scale`.
        edges: `'mirror'` repeats the image mirrored beyond its border (MATLAB today), `'clamp'`
            repeats the border pixels (older versions).

    Returns:
        Resized image: uint8 for uint8; float64, neither rounded nor clipped, for floating point
        (as MATLAB does with double images).

    Raises:
        ValueError: for another shape or type, an empty image, both or none of `scale` and
            `size`, values that are not positive, or an unknown `edges`.
    """
    image = np.asarray(image)
    _check_image(image)
    if edges not in EDGES:
        raise ValueError(f"edges must be one of {EDGES}. Received: {edges!r}")
    factors, sizes = _factors_and_sizes(image.shape[:2], scale, size)
    for axis in np.argsort(factors, kind="stable"):
        image = _resize_axis(image, axis, factors[axis], sizes[axis], edges)
    return image


def _check_image(image):
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"image must be [H, W] or [H, W, C], not empty. Received: {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be uint8 or floating point. Received: {image.dtype}")


def _factors_and_sizes(shape, scale, size):
    if (scale is None) == (size is None):
        raise ValueError(f"give either scale or size. Received: scale={scale}, size={size}")
    if size is not None:
        sizes = tuple(int(length) for length in size)
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(f"size must be two positive integers. Received: {size}")
        return [new / old for new, old in zip(sizes, shape, strict=True)], sizes
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale must be a positive number. Received: {scale}")
    return [scale, scale], tuple(math.ceil(scale * length) for length in shape)


def _resize_axis(image, axis, factor, new_length, edges):
    """Resizes one axis; 8-bit images come back rounded to 8 bits."""
    moved = np.moveaxis(image, axis, 0)
    columns = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    taps, weights = _taps(moved.shape[0], new_length, factor)
    first_tap = taps.min()
    source = _source_rows(moved.shape[0], first_tap, taps.max(), edges)
    eight_bit = image.dtype == np.uint8
    result = np.empty((new_length, columns.shape[1]), np.uint8 if eight_bit else np.float64)
    for start in range(0, new_length, _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, matrix = _dense_block(taps[block] - first_tap, weights[block])
        values = matrix @ columns[source[rows]].astype(np.float64)
        if eight_bit:
            # MATLAB's uint8() rounds halves up and saturates.
            values += 0.5
            np.clip(np.floor(values, out=values), 0, 255, out=values)
        result[block] = values
    return np.moveaxis(result.reshape(new_length, *moved.shape[1:]), 0, axis)


def _taps(old_length, new_length, factor):
    """Returns input positions (may lie outside) and weights, each `[new_length, taps]`."""
    stretch = max(1.0, 1.0 / factor)
    # Centre of each output pixel on the input's axis, pixel 0 covering [-0.5, 0.5].
    centre = (np.arange(new_length) + 0.5) / factor - 0.5
    first = np.floor(centre - 2 * stretch).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(4 * stretch) + 2)
    weights = _cubic((centre[:, None] - taps) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    return taps[:, used], weights[:, used]


def _cubic(x):
    """Keys' cubic convolution kernel, a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


def _source_rows(length, first, last, edges):
    """Returns the row inside the image that stands for each of the positions first..last."""
    positions = np.arange(first, last + 1)
    if edges == "clamp":
        return np.clip(positions, 0, length - 1)
    positions = np.mod(positions, 2 * length)
    return np.minimum(positions, 2 * length - 1 - positions)


def _dense_block(taps, weights):
    """Returns the rows that a few outputs need, as a slice, and their weights as a matrix."""
    first, last = taps.min(), taps.max()
    matrix = np.zeros((len(taps), last - first + 1))
    np.put_along_axis(matrix, taps - first, weights, axis=1)
    return slice(first, last + 1), matrix

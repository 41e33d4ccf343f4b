"""Filters and resampling on batches of images, with a different kernel for each image.

All take float32 [B, H, W, C]. They are built from matrix products, Fourier transforms and gathers
of whole rows, which are fast on a CPU and on an accelerator alike.
"""

import numpy as np
from keras import ops

from degradations import random

# Rows that one small matrix product makes at once in `convolve_columns`.
_BLOCK = 32


def border_index(index, size, border):
    """Maps positions outside an axis back into 0 ... size - 1.

    Args:
        index: int32 tensor or array of positions.
        size: length of the axis.
        border: "nearest" (the edge repeats), "mirror" (mirrored about the edge pixel's centre, as
            OpenCV's default), or "reflect" (about the edge pixel's outer side, as SciPy's default).
    """
    # Arrays stay arrays, so that constants can be built from them while a graph is traced.
    library = np if isinstance(index, np.ndarray) and isinstance(size, int) else ops
    if border == "nearest":
        return library.clip(index, 0, size - 1)
    if border == "mirror":
        period = library.maximum(2 * (size - 1), 1)
        index = library.mod(index, period)
        return library.minimum(library.minimum(index, period - index), size - 1)
    if border == "reflect":
        index = library.mod(index, 2 * size)
        return library.minimum(index, 2 * size - 1 - index)
    raise ValueError(f"border must be nearest, mirror or reflect. Received: {border!r}")


def static_sides(images, who):
    """Returns (H, W) as integers.

    Raises:
        ValueError: if a graph is traced with an unknown height or width.
    """
    height, width = images.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            f"{who} needs a known height and width while a graph is traced: crop or resize to a "
            f"fixed size before it, or use set_shape. Received: {tuple(images.shape)}"
        )
    return height, width


def gaussian_kernels(deviations, largest, truncate):
    """Returns normalised Gaussian kernels [B, 2R + 1], cut at `truncate` deviations.

    As in SciPy, the kernel of deviation s reaches int(truncate s + 1/2) pixels; R is that of the
    largest. A deviation of 0 gives the identity.
    """
    reach = int(truncate * largest + 0.5)
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    deviations = ops.expand_dims(deviations, -1)
    inside = np.abs(offsets) <= ops.floor(truncate * deviations + 0.5)
    # ops.square, not a power: optimised graphs make one of the other, with other last bits.
    weights = ops.exp(-0.5 * ops.square(offsets / ops.maximum(deviations, 1e-6)))
    weights = weights * ops.cast(inside, "float32")
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def gaussian(images, deviations, largest, truncate=4.0, border="nearest"):
    """Blurs each image [B, H, W, C] with its own deviation, in pixels.

    Args:
        images: float32 [B, H, W, C].
        deviations: [B], or [1] for all.
        largest: the largest deviation that can occur, a plain number.
        truncate: where the kernel ends, in deviations.
        border: see `border_index`.
    """
    kernels = gaussian_kernels(deviations, largest, truncate)
    if kernels.shape[-1] == 1:
        return images
    images = convolve_columns(images, kernels, border)
    images = convolve_columns(ops.transpose(images, [0, 2, 1, 3]), kernels, border)
    return ops.transpose(images, [0, 2, 1, 3])


def convolve_columns(images, kernels, border):
    """Correlates the columns of each image, the second axis, with its own [B or 1, 2R + 1]."""
    batch, height, width, channels = ops.shape(images)
    reach = kernels.shape[-1] // 2
    if isinstance(height, int) and height <= _BLOCK + 2 * reach:
        # The kernel is as long as the image: one full matrix, its outer parts folded inwards.
        rows = np.arange(-reach, height + reach)
        folded = np.asarray(border_index(rows, height, border))[:, None] == np.arange(height)
        matrix = ops.matmul(_banded(kernels, height), folded.astype(np.float32))
        result = ops.matmul(matrix, ops.reshape(images, [batch, height, width * channels]))
        return ops.reshape(result, [batch, height, width, channels])
    window = _BLOCK + 2 * reach
    blocks = -(-height // _BLOCK)
    # Overlapping windows of rows; one banded matrix turns each into a block of results.
    rows = ops.expand_dims(ops.arange(blocks) * _BLOCK, -1) + np.arange(window) - reach
    rows = ops.reshape(border_index(rows, height, border), [-1])
    windows = ops.take(images, rows, axis=1)
    windows = ops.reshape(windows, [batch, blocks, window, width * channels])
    result = ops.matmul(ops.expand_dims(_banded(kernels, _BLOCK), 1), windows)
    return ops.reshape(result, [batch, blocks * _BLOCK, width, channels])[:, :height]


def _banded(kernels, rows):
    """Returns [B, rows, rows + 2R], whose row i holds the kernel [B, 2R + 1] from column i on."""
    reach = kernels.shape[-1] // 2
    columns = rows + 2 * reach
    band = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    inside = ((band >= 0) & (band <= 2 * reach)).astype(np.float32)
    matrix = ops.take(kernels, np.clip(band, 0, 2 * reach).ravel(), axis=1)
    return ops.reshape(matrix, [-1, rows, columns]) * inside


def correlate_lines(images, dy, dx, weights, reach, border, who):
    """Sums shifted copies of each image: out[y, x] = sum over i of weights[i] in[y+dy[i], x+dx[i]].

    Args:
        images: float32 [B, H, W, C].
        dy: int32 [B, K], shift of each copy along the rows.
        dx: int32 [B, K], shift along the columns.
        weights: float32 [B, K].
        reach: the largest absolute shift, a plain integer.
        border: see `border_index`.
        who: name for error messages.
    """

    def transfer(rows, columns):
        # The kernel's spectrum: a sum of plane waves, one per copy.
        row_phase = _phase(rows, dy)
        column_phase = _phase(columns, dx)
        weighted = ops.expand_dims(weights, -2)
        row_cos, row_sin = ops.cos(row_phase) * weighted, ops.sin(row_phase) * weighted
        column_cos = ops.transpose(ops.cos(column_phase), [0, 2, 1])
        column_sin = ops.transpose(ops.sin(column_phase), [0, 2, 1])
        real = ops.matmul(row_cos, column_cos) - ops.matmul(row_sin, column_sin)
        imaginary = ops.matmul(row_sin, column_cos) + ops.matmul(row_cos, column_sin)
        return real, imaginary

    return _filter_by_spectrum(images, transfer, reach, border, who)


def correlate_symmetric(images, kernels, border, who):
    """Correlates each image with its own 2-D kernel, equal to its mirror images.

    Args:
        images: float32 [B, H, W, C].
        kernels: float32 [B or 1, 2R + 1, 2R + 1], symmetric in both axes.
        border: see `border_index`.
        who: name for error messages.
    """
    reach = kernels.shape[-1] // 2

    def transfer(rows, columns):
        offsets = np.arange(-reach, reach + 1)
        row_waves = np.cos(2 * np.pi / rows * np.outer(np.arange(rows), offsets))
        column_waves = np.cos(2 * np.pi / columns * np.outer(offsets, np.arange(columns)))
        row_waves, column_waves = np.float32(row_waves), np.float32(column_waves)
        return ops.matmul(ops.matmul(row_waves, kernels), column_waves), None

    return _filter_by_spectrum(images, transfer, reach, border, who)


def _phase(size, shifts):
    # The product is taken modulo the size in integers, so that the angle stays small and exact.
    product = np.arange(size, dtype=np.int32)[:, None] * ops.expand_dims(shifts, -2)
    return ops.cast(ops.mod(product, size), "float32") * np.float32(2 * np.pi / size)


def _filter_by_spectrum(images, transfer, reach, border, who):
    height, width = static_sides(images, who)
    batch, channels = ops.shape(images)[0], images.shape[-1]
    rows, columns = fast_length(height + 2 * reach), fast_length(width + 2 * reach)
    real_transfer, imaginary_transfer = transfer(rows, columns)
    planes = ops.transpose(images, [0, 3, 1, 2])
    planes = _extend(planes, 2, reach, rows - height - reach, border)
    planes = _extend(planes, 3, reach, columns - width - reach, border)
    # A real kernel filters the two halves of a complex plane independently, so that two channels
    # share one transform. Channels of different images may share only where the kernel is shared.
    shared = real_transfer.shape[0] == 1
    planes = ops.reshape(planes, [1, -1, rows, columns]) if shared else planes
    count = batch * channels if shared else channels
    half = (count + 1) // 2
    planes = ops.concatenate([planes, ops.zeros_like(planes[:, :1])], axis=1)
    real, imaginary = ops.fft2((planes[:, :half], planes[:, half : 2 * half]))
    factor = ops.expand_dims(real_transfer, 1)
    if imaginary_transfer is None:
        real, imaginary = real * factor, imaginary * factor
    else:
        other = ops.expand_dims(imaginary_transfer, 1)
        real, imaginary = real * factor - imaginary * other, imaginary * factor + real * other
    real, imaginary = ops.ifft2((real, imaginary))
    area = np.s_[:, :, reach : reach + height, reach : reach + width]
    planes = ops.concatenate([real[area], imaginary[area]], axis=1)[:, :count]
    planes = ops.reshape(planes, [batch, channels, height, width])
    return ops.transpose(planes, [0, 2, 3, 1])


def _extend(planes, axis, before, after, border):
    # Only what is added is gathered; gathering the whole axis would copy value by value.
    side = planes.shape[axis]
    first = border_index(np.arange(-before, 0), side, border)
    last = border_index(np.arange(side, side + after), side, border)
    parts = [ops.take(planes, first, axis=axis), planes, ops.take(planes, last, axis=axis)]
    return ops.concatenate(parts, axis=axis)


def fast_length(length):
    """Returns the smallest product of 2, 3 and 5 that is at least `length`, and even."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1 and length % 2 == 0:
            return length
        length += 1


def sample(images, y, x, border, reach=None):
    """Samples images at fractional positions, bilinearly.

    Args:
        images: float32 [B, H, W, C].
        y: row of each sample, float32 [B, H', W'].
        x: column of each sample, float32 [B, H', W'].
        border: see `border_index`.
        reach: how far outside the image a position can lie, in pixels, if that is known; less than
            the sides, it saves divisions.

    Returns:
        float32 [B, H', W', C].
    """
    batch, height, width, channels = ops.shape(images)
    top, left = ops.floor(y), ops.floor(x)
    below, right = ops.expand_dims(y - top, -1), ops.expand_dims(x - left, -1)
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")

    def inside(index, side):
        if reach is None or not isinstance(side, int) or reach + 2 >= side or border == "nearest":
            return border_index(index, side, border)
        # One reflection at either end, without the division of the general case.
        if border == "mirror":
            return (side - 1) - ops.absolute((side - 1) - ops.absolute(index))
        index = ops.maximum(index, -1 - index)
        return ops.minimum(index, 2 * side - 1 - index)

    rows = [inside(top + i, height) * width for i in (0, 1)]
    columns = [inside(left + i, width) for i in (0, 1)]
    first = ops.reshape(ops.arange(batch) * (height * width), [-1, 1, 1])
    rows = [first + row for row in rows]
    pixels = ops.reshape(images, [-1, channels])

    def pick(row, column):
        return random.look_up(pixels, row + column)

    # Weights as wide as the pixels: a product that broadcasts along the last axis is slow.
    ones = np.ones([1, channels], np.float32)
    below, right = ops.matmul(below, ones), ops.matmul(right, ones)
    upper = [pick(rows[0], column) for column in columns]
    lower = [pick(rows[1], column) for column in columns]
    upper = upper[0] + right * (upper[1] - upper[0])
    lower = lower[0] + right * (lower[1] - lower[0])
    return upper + below * (lower - upper)

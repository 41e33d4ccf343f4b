"""Edges, distances and histograms of single planes [B, H, W], for spatter."""

import numpy as np
from keras import ops

from degradations.filters import border_index

# Slopes at which OpenCV's edge detector changes the direction it compares along.
_TAN_22 = 0.41421356
_TAN_67 = 2.41421356


def neighbourhood(plane, border):
    """Returns a function (dy, dx) -> the plane shifted by -1, 0 or 1: out[y, x] = in[y+dy, x+dx].

    Args:
        plane: float32 [B, H, W] with known H and W.
        border: "zero", or as for `filters.border_index`.
    """
    height, width = plane.shape[1:]
    if border == "zero":
        padded = ops.pad(plane, [[0, 0], [1, 1], [1, 1]])
    else:
        rows = border_index(np.arange(-1, height + 1), height, border)
        columns = border_index(np.arange(-1, width + 1), width, border)
        padded = ops.take(ops.take(plane, rows, axis=1), columns, axis=2)
    return lambda dy, dx: padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]


def canny(plane, low, high):
    """Returns 1 on the edges of 8-bit planes [B, H, W], else 0.

    Canny, "A Computational Approach to Edge Detection" (IEEE TPAMI, 1986), with OpenCV's choices:
    3x3 Sobel filters, |dx| + |dy| as magnitude, maxima along the nearest of four directions, pixels
    above `high` and those above `low` that are connected to them.
    """
    near = neighbourhood(plane, "nearest")
    middle_row = near(0, 1) - near(0, -1)
    dx = near(-1, 1) - near(-1, -1) + 2 * middle_row + near(1, 1) - near(1, -1)
    middle_column = near(1, 0) - near(-1, 0)
    dy = near(1, -1) - near(-1, -1) + 2 * middle_column + near(1, 1) - near(-1, 1)
    across, down = ops.absolute(dx), ops.absolute(dy)
    magnitude = across + down
    near = neighbourhood(magnitude, "zero")

    flat = ops.cast(down < across * _TAN_22, "float32")
    steep = ops.cast(down > across * _TAN_67, "float32")
    opposed = ops.cast(dx * dy < 0, "float32")
    # What a maximum must reach: one more than neighbours that it must exceed, since magnitudes are
    # whole numbers. Few comparisons: those are slow on a CPU.
    falling = ops.maximum(near(-1, -1), near(1, 1)) + 1
    rising = ops.maximum(near(-1, 1), near(1, -1)) + 1
    least = falling + opposed * (rising - falling)
    least += flat * (ops.maximum(near(0, -1) + 1, near(0, 1)) - least)
    least += steep * (ops.maximum(near(-1, 0) + 1, near(1, 0)) - least)
    weak = ops.cast(magnitude >= ops.maximum(least, float(low // 1 + 1)), "float32")
    return _grow(weak * ops.cast(magnitude > high, "float32"), weak)


def _grow(strong, weak):
    """Adds the weak pixels that touch a strong one, directly or through others."""

    def body(edges, _):
        near = neighbourhood(edges, "zero")
        grown = ops.maximum(edges, ops.maximum(near(-1, 0), near(1, 0)))
        near = neighbourhood(grown, "zero")
        grown = ops.maximum(grown, ops.maximum(near(0, -1), near(0, 1))) * weak
        return grown, ops.sum(grown) > ops.sum(edges)

    edges, _ = ops.while_loop(
        lambda _, changed: changed, body, (strong, ops.convert_to_tensor(True))
    )
    return edges


def distance(edges, limit):
    """Returns each pixel's distance to the nearest edge, at most `limit`; [B, H, W].

    As OpenCV's distanceTransform does with a mask of 5: along paths whose steps reach one pixel
    across, one diagonally, or two across and one aside (Borgefors, "Distance transformations in
    digital images", Computer Vision, Graphics, and Image Processing, 1986).
    """
    height, width = edges.shape[1:]
    far = float(limit)
    # Along the columns, distances add up, so that each pass doubles how far it looks.
    vertical = (1.0 - edges) * far
    step = 1
    while step < limit and step < height:
        padded = ops.pad(vertical, [[0, 0], [step, step], [0, 0]], constant_values=far)
        nearest = ops.minimum(padded[:, :height], padded[:, 2 * step :])
        vertical = ops.minimum(vertical, nearest + float(step))
        step *= 2
    reach = min(limit - 1, width - 1)
    # Across the second axis, along which shifted copies are contiguous.
    vertical = ops.transpose(ops.minimum(vertical, far), (0, 2, 1))
    padded = ops.pad(vertical, [[0, 0], [reach, reach], [0, 0]], constant_values=far)

    def shifted(offset):
        return ops.slice(padded, (0, reach + offset, 0), ops.shape(vertical))

    def body(shift, lowest):
        across = ops.cast(shift, "float32")
        down = ops.minimum(shifted(-shift), shifted(shift))
        return shift + 1, ops.minimum(lowest, _path_length(across, down))

    # No path is shorter than its shift, so that further ones lower nothing.
    _, lowest = ops.while_loop(
        lambda shift, lowest: ops.cast(shift, "float32") < ops.max(lowest),
        body,
        (1, vertical),
        maximum_iterations=reach,
    )
    return ops.transpose(lowest, (0, 2, 1))


# Lengths of a diagonal step and of one of two pixels across and one aside, beside 1 across: 1.4 and
# 2.1969 in OpenCV's 16 binary places, with which float32 adds exactly.
_DIAGONAL, _KNIGHT = 91750 / 65536, 143976 / 65536


def _path_length(across, down):
    longer, shorter = ops.maximum(across, down), ops.minimum(across, down)
    # Two kinds of steps at most; the wrong pair gives less.
    flat = longer + (_KNIGHT - 2) * shorter
    steep = (_KNIGHT - _DIAGONAL) * longer + (2 * _DIAGONAL - _KNIGHT) * shorter
    return ops.maximum(flat, steep)


def box(plane):
    """Returns the mean of 3x3 pixels, borders mirrored."""
    near = neighbourhood(plane, "mirror")
    rows = near(-1, 0) + near(0, 0) + near(1, 0)
    near = neighbourhood(rows, "mirror")
    return (near(0, -1) + near(0, 0) + near(0, 1)) / 9.0


def equalize(plane, largest):
    """Spreads whole values 0 ... largest over 0-255 by their cumulative histogram, as OpenCV does.

    The lowest value that occurs becomes 0; a plane of a single value stays as it is.
    """
    height, width = plane.shape[1:]
    counts = [
        ops.sum(ops.cast(plane <= float(value), "float32"), axis=(1, 2))
        for value in range(largest + 1)
    ]
    cumulative = ops.stack(counts, axis=-1)
    total = float(height * width)
    # The count of the lowest value that occurs: the smallest cumulative count above 0.
    first = ops.min(cumulative + total * ops.cast(cumulative == 0, "float32"), axis=-1)
    first = ops.expand_dims(first, -1)
    scale = 255.0 / ops.maximum(total - first, 1.0)
    table = ops.maximum(ops.round((cumulative - first) * scale), 0.0)
    single = ops.cast(first >= total, "float32")
    table = table * (1 - single) + np.arange(largest + 1, dtype=np.float32) * single
    start = ops.arange(ops.shape(plane)[0]) * (largest + 1)
    index = ops.cast(plane, "int32") + ops.reshape(start, [-1, 1, 1])
    return ops.take(ops.reshape(table, [-1]), index)

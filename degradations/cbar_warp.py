"""The corruptions of ImageNet-C-bar and CIFAR-10-C-bar that sample the image at moved points.

The conventions are those of `degradations.cbar_noise`: float32 images `[B, H, W, C]` in 0-255, one
level `v` per image for the amount `v * maximum / 10`, draws as tensors, results neither cut nor
rounded (except where the definition does it in between).

Source: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural
Corruption Robustness", NeurIPS 2021, appendix and published parameters. Cubic splines: Unser,
"Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 1999.
"""

import math

import numpy as np
from keras import ops

from degradations.cbar_noise import amount, image_side, per_pixel, pixel_grid, shorter_side
from degradations.filters import border_index

# Caustics: constants of the published pattern.
CAUSTIC_ROUNDS = 5
CAUSTIC_OFFSET = 250.0
CAUSTIC_INTENSITY = 0.005
REFRACTION_INDEX = 4.0
# The published refraction leaves rays alone that meet the surface within this of a right angle.
STRAIGHT_RAY = 1.0 - 1e-3

ROTATIONS = 21
ROTATION_POSITIONS = np.linspace(-1.0, 1.0, ROTATIONS)
ROTATION_WEIGHTS = np.exp(-2.0 * ROTATION_POSITIONS**2)
# Values of a batch that is rotated as a whole: 256 images of 32x32, 5 of 224x224.
ROTATED_AT_ONCE = 256 * 32 * 32 * 3

# Pole of the cubic B-spline's inverse filter; 0.268^13 is below the precision of float32.
SPLINE_POLE = math.sqrt(3.0) - 2.0
SPLINE_RADIUS = 13


def filter_separably(images, kernel, border):
    """Correlates rows and columns with a symmetric kernel.

    Args:
        images: `[B, H, W, C]`.
        kernel: array of odd length.
        border: see `filters.border_index`.
    """
    radius = len(kernel) // 2
    for axis in (1, 2):
        length = ops.shape(images)[axis]
        index = ops.arange(length, dtype="int32")
        images = sum(
            float(weight)
            * ops.take(images, border_index(index + (tap - radius), length, border), axis=axis)
            for tap, weight in enumerate(kernel)
        )
    return images


def sample_bilinearly(images, rows, columns):
    """Samples images at points; pixels outside the image are 0.

    Args:
        images: float32 `[B, H, W, C]`.
        rows: `[B, H', W']`, pixels.
        columns: `[B, H', W']`, pixels.

    Returns:
        `[B, H', W', C]`.
    """
    shape = ops.shape(images)
    height, width = shape[1], shape[2]
    # Far outside everything is 0; the cut keeps the integer indices small.
    rows = ops.clip(rows, -2.0, ops.cast(height + 1, "float32"))
    columns = ops.clip(columns, -2.0, ops.cast(width + 1, "float32"))
    top, left = ops.floor(rows), ops.floor(columns)
    flat = ops.reshape(images, (-1, images.shape[-1]))
    batch = ops.reshape(ops.arange(shape[0], dtype="int32"), (-1, 1, 1)) * (height * width)
    sampled = 0.0
    for row, row_weight in ((top, top + 1.0 - rows), (top + 1.0, rows - top)):
        for column, column_weight in ((left, left + 1.0 - columns), (left + 1.0, columns - left)):
            row_index, column_index = ops.cast(row, "int32"), ops.cast(column, "int32")
            inside = ops.logical_and(
                ops.logical_and(row_index >= 0, row_index < height),
                ops.logical_and(column_index >= 0, column_index < width),
            )
            weight = ops.where(inside, row_weight * column_weight, 0.0)
            index = batch + row_index * width + column_index
            pixels = ops.take(flat, ops.where(inside, index, 0), axis=0)
            sampled = sampled + weight[..., None] * pixels
    return sampled


def ripple(images, levels, wavelengths, phases):
    """Moves every pixel by a sine of its own row and column.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; amplitude `p(0.025)` of the side.
        wavelengths: `[B, 2]`, along rows and columns, pixels.
        phases: `[B, 2]`, radians.
    """
    rows, columns = pixel_grid(images)
    amplitude = per_pixel(amount(levels, 0.025)) * image_side(images)

    def move(position, axis):
        angle = 2.0 * math.pi * position / per_pixel(wavelengths[:, axis])
        return position + amplitude * ops.sin(angle + per_pixel(phases[:, axis]))

    still = 0.0 * (rows + columns)
    return sample_bilinearly(images, move(rows, 0) + still, move(columns, 1) + still)


def twirl_cells(height, width):
    """Returns cell size in pixels and the numbers of cells down and right of `pinch_and_twirl`.

    A square image has 3 by 3 cells, from 128 pixels on 5 by 5 (the published sets have 3 at 32 and
    5 at 224 pixels); an oblong one has more along its longer side.
    """
    side = shorter_side(height, width)
    if isinstance(side, int):
        cells = 5 if side >= 128 else 3
    else:
        cells = ops.where(side >= 128, 5, 3)
    return side // cells, cells * height // side, cells * width // side


def pinch_and_twirl(images, levels, signs):
    """Pinches and turns the image inside a grid of disks.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; exponent `p(0.4) + 0.1` of the pinch, turn `p(pi / 2)` in the middle.
        signs: `[B, rows, columns]` of -1 and 1, direction of each turn; as many as `twirl_cells`
            says.
    """
    shape = ops.shape(images)
    size, _, _ = twirl_cells(shape[1], shape[2])
    cells_down, cells_right = ops.shape(signs)[1], ops.shape(signs)[2]
    size = ops.cast(ops.maximum(size, 1), "float32")
    radius = size / 2.0
    rows, columns = pixel_grid(images)
    cell_row, cell_column = ops.floor(rows / size), ops.floor(columns / size)
    centre_row, centre_column = cell_row * size + radius, cell_column * size + radius
    down, right = rows - centre_row, columns - centre_column
    distance = ops.sqrt(ops.square(down) + ops.square(right))
    cell_row = ops.cast(cell_row, "int32") + 0 * ops.cast(cell_column, "int32")
    cell_column = ops.cast(cell_column, "int32") + 0 * cell_row
    moved = ops.logical_and(distance <= radius, distance >= 0.0005)
    moved = ops.logical_and(
        moved, ops.logical_and(cell_row < cells_down, cell_column < cells_right)
    )

    index = ops.where(moved, cell_row * cells_right + cell_column, 0)
    sign = ops.take(ops.reshape(signs, (-1, cells_down * cells_right)), index[0], axis=1)
    relative = ops.where(moved, distance / radius, 1.0)
    exponent = per_pixel(amount(levels, 0.4) + 0.1)
    pinch = ops.power(ops.sin(relative * (math.pi / 2.0)), -exponent)
    angle = sign * per_pixel(amount(levels, math.pi / 2.0)) * ops.square(1.0 - relative)
    sine, cosine = ops.sin(angle) * pinch, ops.cos(angle) * pinch
    from_row = ops.where(moved, centre_row + down * cosine - right * sine, rows)
    from_column = ops.where(moved, centre_column + down * sine + right * cosine, columns)
    return sample_bilinearly(images, from_row, from_column)


def caustics(rows, columns, time, size):
    """Returns the light pattern of water, `[B, H, W]` in 0..1, before it is softened.

    Args:
        rows: `[1, H, 1]`, pixels.
        columns: `[1, 1, W]`, pixels.
        time: `[B]`.
        size: `[B]`, period in pixels.
    """
    time, size = per_pixel(time), per_pixel(size)
    turn_y = 2.0 * math.pi * ((rows / size) % 1.0) + 0.0 * columns
    turn_x = 2.0 * math.pi * ((columns / size) % 1.0) + 0.0 * rows
    # The offset enters sines as its remainder, which float32 holds more precisely.
    offset = math.fmod(-CAUSTIC_OFFSET, 2.0 * math.pi)
    phase_y, phase_x = turn_y + offset, turn_x + offset
    angle_y, angle_x = phase_y, phase_x
    brightness = 1.0
    for step in range(CAUSTIC_ROUNDS):
        moment = time * (1.0 - 3.5 / (step + 1))
        angle_y, angle_x = (
            phase_y + ops.cos(moment - angle_y) + ops.sin(moment + angle_x),
            phase_x + ops.sin(moment - angle_x) + ops.cos(moment + angle_y),
        )
        # 1 / |(p0 / (s / c), p1 / (t / c))| without dividing by a sine that may be 0.
        sine = ops.sin(angle_y + moment) / CAUSTIC_INTENSITY
        cosine = ops.cos(angle_x + moment) / CAUSTIC_INTENSITY
        product = ops.abs(sine * cosine)
        across = ops.square((turn_y - CAUSTIC_OFFSET) * cosine)
        across = across + ops.square((turn_x - CAUSTIC_OFFSET) * sine)
        brightness = brightness + product / ops.sqrt(ops.maximum(across, 1e-12))
    brightness = ops.abs(1.17 - ops.power(brightness / CAUSTIC_ROUNDS, 1.4))
    return ops.minimum(ops.square(ops.square(ops.square(brightness))), 1.0)


def refract(slope_y, slope_x):
    """Returns how far a ray along (0, 0, 1) is turned by a surface with these slopes.

    The surface normal is `n = (slope_y, slope_x, 1)`, normalised. Snell's law with index 4 turns
    the ray in the plane of itself and `n`, so that the two first components are
    `(n_y, n_x) (sqrt(1 - m^2 / 16) - n_z / 4)` with `m` the length of `(n_y, n_x)`.

    Returns:
        The first two components, each shaped as the slopes.
    """
    length = ops.sqrt(ops.square(slope_y) + ops.square(slope_x) + 1.0)
    normal_z = 1.0 / length
    squared_sine = 1.0 - ops.square(normal_z)
    turn = ops.sqrt(1.0 - squared_sine / REFRACTION_INDEX**2) - normal_z / REFRACTION_INDEX
    turn = ops.where(normal_z >= STRAIGHT_RAY, 0.0, turn * normal_z)
    return slope_y * turn, slope_x * turn


def caustic_refraction(images, levels, time, size):
    """Looks at the image through moving water, with its light and shadow.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; the water is `p(S / 2)` pixels deep, its light `p(2)` strong.
        time: `[B]`.
        size: `[B]`, period of the waves in pixels.
    """
    rows, columns = pixel_grid(images)
    light = caustics(rows, columns, time, size)[..., None]
    light = filter_separably(light, _gaussian_kernel(), "reflect")[..., 0]
    padded = ops.pad(light, ((0, 0), (1, 1), (1, 1)))
    slope_y = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    slope_x = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    depth = per_pixel(amount(levels, 0.5)) * image_side(images)
    shift_y, shift_x = refract(slope_y, slope_x)
    shift_y = ops.round(shift_y * depth * 1000.0) / 1000.0
    shift_x = ops.round(shift_x * depth * 1000.0) / 1000.0
    refracted = sample_bilinearly(images, rows + shift_y, columns + shift_x)
    lighting = per_pixel(amount(levels, 2.0)) * (slope_y - slope_x)
    return refracted + 255.0 * lighting[..., None]


def _gaussian_kernel():
    # Deviation 1, cut at four deviations.
    kernel = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    return kernel / kernel.sum()


def spline_weights(distance):
    """Returns the cubic B-spline at these distances (any shape)."""
    distance = ops.abs(distance)
    near = 2.0 / 3.0 - ops.square(distance) * (1.0 - distance / 2.0)
    left = ops.maximum(2.0 - distance, 0.0)
    far = ops.square(left) * left / 6.0
    return ops.where(distance < 1.0, near, far)


def spline_coefficients(images):
    """Returns the coefficients of the cubic spline through the pixels, mirrored at the borders."""
    taps = np.abs(np.arange(-SPLINE_RADIUS, SPLINE_RADIUS + 1))
    kernel = math.sqrt(3.0) * SPLINE_POLE**taps
    return filter_separably(images, kernel, "mirror")


def _rotate(windows, sine, cosine, height, width):
    # windows: [B * (H + 3) * (W + 3), 4 C], four neighbouring pixels of a row side by side, so that
    # one lookup fetches them all.
    middle_row = (ops.cast(height, "float32") - 1.0) / 2.0
    middle_column = (ops.cast(width, "float32") - 1.0) / 2.0
    down = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1)) - middle_row
    right = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1)) - middle_column
    rows = cosine * down + sine * right + middle_row
    columns = cosine * right - sine * down + middle_column
    inside = ops.logical_and(
        ops.logical_and(rows >= 0.0, rows <= 2.0 * middle_row),
        ops.logical_and(columns >= 0.0, columns <= 2.0 * middle_column),
    )
    top = ops.where(inside, ops.floor(rows), 0.0)
    left = ops.where(inside, ops.floor(columns), 0.0)
    batch = ops.reshape(ops.arange(ops.shape(sine)[0], dtype="int32"), (-1, 1, 1))
    start = (batch * (height + 3) + ops.cast(top, "int32")) * width + ops.cast(left, "int32")
    channels = windows.shape[-1] // 4
    taps = ops.arange(4, dtype="float32") - 1.0
    row_weights = spline_weights((rows - top)[..., None] - taps)
    column_weights = spline_weights((columns - left)[..., None] - taps)
    column_weights = ops.where(inside[..., None], column_weights, 0.0)[..., None]
    rotated = 0.0
    for tap in range(4):
        pixels = ops.take(windows, start + tap * width, axis=0)
        pixels = ops.reshape(pixels, (sine.shape[0] or -1, height, width, 4, channels))
        line = ops.sum(pixels * column_weights, axis=-2)
        rotated = rotated + row_weights[..., tap : tap + 1] * line
    return rotated


def circular_motion_blur(images, levels):
    """Averages 21 rotations about the middle, interpolated by cubic splines, black outside.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; rotations by `t p(15)` degrees, `t` from -1 to 1, weighted by `exp(-2 t^2)`.
    """
    largest = amount(levels, 15.0) * (math.pi / 180.0)
    values = math.prod(images.shape) if None not in images.shape else ROTATED_AT_ONCE + 1
    if values <= ROTATED_AT_ONCE:
        return _average_rotations(images, largest)
    # One after the other: 21 rotations of a large batch need gigabytes.
    return ops.map(lambda one: _average_rotations(one[0][None], one[1][None])[0], (images, largest))


def _average_rotations(images, largest):
    shape = ops.shape(images)
    height, width = shape[1], shape[2]
    coefficients = spline_coefficients(images)
    rows = border_index(ops.arange(height + 3, dtype="int32") - 1, height, "mirror")
    coefficients = ops.take(coefficients, rows, axis=1)
    index = ops.arange(width, dtype="int32") - 1
    windows = ops.concatenate(
        [
            ops.take(coefficients, border_index(index + tap, width, "mirror"), axis=2)
            for tap in range(4)
        ],
        axis=-1,
    )
    windows = ops.reshape(windows, (-1, 4 * images.shape[-1]))
    positions = ops.convert_to_tensor(ROTATION_POSITIONS.astype("float32"))
    weights = ops.convert_to_tensor((ROTATION_WEIGHTS / ROTATION_WEIGHTS.sum()).astype("float32"))

    def add_rotation(step, total):
        angle = per_pixel(ops.take(positions, step) * largest)
        rotated = _rotate(windows, ops.sin(angle), ops.cos(angle), height, width)
        return total + ops.take(weights, step) * rotated

    return ops.fori_loop(0, ROTATIONS, add_rotation, ops.zeros_like(images))


def _zoom_matrix(length, scales):
    """Returns `[B, length, length]`: the middle of a zoom by `scales`, `[B]`, as weights."""
    size = ops.cast(length, "float32")
    zoomed = ops.round(size * scales)
    # Grids are aligned at the corners; the crop starts at a whole pixel.
    edge = ops.floor((zoomed - size) / 2.0)
    step = (size - 1.0) / ops.maximum(zoomed - 1.0, 1.0)
    outputs = ops.reshape(ops.arange(length, dtype="float32"), (1, -1, 1))
    position = (outputs + per_pixel(edge)) * per_pixel(step)
    inputs = ops.reshape(ops.arange(length, dtype="float32"), (1, 1, -1))
    last = size - 1.0
    weights = spline_weights(position - inputs)
    # Mirrored pixels beyond the borders, the border itself once.
    weights = weights + ops.where(inputs > 0.0, spline_weights(position + inputs), 0.0)
    beyond = spline_weights(position - (2.0 * last - inputs))
    return weights + ops.where(inputs < last, beyond, 0.0)


def transverse_chromatic_abberation(images, levels, order):
    """Zooms the channels by 1, `1 + p(0.5) / 2` and `1 + p(0.5)`, in drawn order.

    The definition weighs the pixels themselves by the cubic B-spline, without its inverse filter,
    so that every channel is softened a little, also the one zoomed by 1.

    Args:
        images: float32 `[B, H, W, C]`, 0-255; C is 3, or 1 for grey images, which take the first
            factor of the order.
        levels: `[B]`.
        order: `[B, 3]`, a permutation of 0, 1, 2: twice the share of `p(0.5)` of each channel.
    """
    shape = ops.shape(images)
    channels = []
    for channel in range(images.shape[-1]):
        scales = 1.0 + amount(levels, 0.5) * ops.cast(order[:, channel], "float32") / 2.0
        rows, columns = _zoom_matrix(shape[1], scales), _zoom_matrix(shape[2], scales)
        zoomed = ops.matmul(rows, images[..., channel])
        channels.append(ops.matmul(zoomed, ops.transpose(columns, (0, 2, 1))))
    # The definition's zoom rounds to whole levels.
    return ops.floor(ops.stack(channels, axis=-1) + 0.5)

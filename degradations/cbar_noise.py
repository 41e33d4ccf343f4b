"""The patterns that ImageNet-C-bar adds to, blends with or cuts out of an image.

Every function takes float32 images `[B, H, W, C]` in 0-255, one level per image `[B]` (a level `v`
stands for the amount `v * maximum / 10`) and the draws as tensors, and returns images of the same
shape, neither cut to 0-255 nor rounded. Where the definition speaks of the side `S` of a square
image, an oblong image counts with its shorter side.

Source: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural
Corruption Robustness", NeurIPS 2021, appendix and published parameters.
"""

import math

from keras import ops

from degradations.base import per_image

GREY = 128.0
WHITE = 255.0

# Ray lengths vary by a quarter of the radius; between 50 and 199 rays.
RAY_VARIATION = 0.25
MAXIMUM_RAYS = 200

# The lattice of Perlin noise has 224 / 32 = 7 cells along the side; five octaves.
PERLIN_CELLS = 7
PERLIN_FREQUENCIES = (1, 2, 4, 8, 16)
PERLIN_GAIN = 1.5

# Cells are at least a tenth of the side, so 2 * sqrt(2) * 10 < 32 of them cross a square image.
CHECKERBOARD_GRID = 32


def amount(levels, maximum):
    """Returns the amounts `levels * maximum / 10` that levels stand for."""
    return levels * (maximum / 10.0)


def per_pixel(values):
    """Reshapes one value per image, `[B]`, to `[B, 1, 1]`, for arithmetic with `[B, H, W]`."""
    return ops.reshape(values, (-1, 1, 1))


def shorter_side(height, width):
    """Returns the smaller of two lengths: an integer where both are, else an int32 scalar."""
    # Array shapes must stay plain integers wherever the backend knows them.
    if isinstance(height, int) and isinstance(width, int):
        return min(height, width)
    return ops.minimum(height, width)


def image_side(images):
    """Returns the shorter side of the images in pixels, a float32 scalar."""
    return ops.cast(shorter_side(*ops.shape(images)[1:3]), "float32")


def pixel_grid(images):
    """Returns the rows `[1, H, 1]` and columns `[1, 1, W]` of the pixels as float32."""
    shape = ops.shape(images)
    rows = ops.arange(shape[1], dtype="float32")
    columns = ops.arange(shape[2], dtype="float32")
    return ops.reshape(rows, (1, -1, 1)), ops.reshape(columns, (1, 1, -1))


def blend(images, colour, weight):
    """Returns `images` where `weight` is 0 and `colour` where it is 1."""
    return images + weight * (colour - images)


def single_frequency_greyscale(images, levels, frequency_x, frequency_y, phase):
    """Adds one plane wave.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; amplitude `p(196)` grey levels.
        frequency_x: `[B]`, radians per column.
        frequency_y: `[B]`, radians per row.
        phase: `[B]`, radians.
    """
    rows, columns = pixel_grid(images)
    wave = ops.sin(
        columns * per_pixel(frequency_x) + rows * per_pixel(frequency_y) + per_pixel(phase)
    )
    return images + (per_pixel(amount(levels, 196.0)) * wave)[..., None]


def cocentric_sine_waves(images, levels, centre, petals, amplitude, ring_width):
    """Adds saw-tooth rings around a point, their outline waved like the petals of a flower.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; height of a tooth `p(128)` grey levels.
        centre: `[B, 2]`, row and column in pixels.
        petals: `[B]`, waves per turn.
        amplitude: `[B]`, height of those waves in pixels.
        ring_width: `[B]`, pixels.
    """
    rows, columns = pixel_grid(images)
    down = rows - per_pixel(centre[:, 0])
    right = columns - per_pixel(centre[:, 1])
    wave = ops.sin(per_pixel(petals) * ops.arctan2(right, down)) * per_pixel(amplitude)
    ring_width = ops.maximum(per_pixel(ring_width), 1e-3)
    rings = (ops.sqrt(ops.square(down) + ops.square(right)) + wave) / ring_width
    teeth = rings - ops.floor(rings) - 0.5
    return images + (per_pixel(amount(levels, 128.0)) * teeth)[..., None]


def plasma_colour(rows, columns, time, iterations, sharpness, scale):
    """Returns plasma colours `[B, H, W, 3]` in -1..1 of the pixels at `rows` and `columns`."""
    time, sharpness = per_pixel(time), per_pixel(sharpness)
    x = columns / per_pixel(scale) + 0.0 * rows
    y = rows / per_pixel(scale) + 0.0 * columns
    frequency, delay, damping = 1.0, 1.0, 1.0
    # The definition's fourth number i3 starts at 0 and is only ever multiplied: it stays 0.
    for step in range(6):
        first = ops.cos(y * frequency + time / delay) / damping
        second = ops.sin(x * frequency + time / delay) / damping
        active = per_pixel(ops.cast(iterations > step, "float32"))
        x = x + active * (first - 0.3 * second)
        y = y + active * (second + 0.3 * first)
        frequency, delay, damping = frequency * 1.93, delay * 1.15, damping * (2.25 - sharpness)
    red = ops.sin(x - time)
    green = ops.sin((x + y + ops.sin(time)) / 2.0)
    blue = ops.sin(y + time)
    return ops.stack([red, green, blue], axis=-1)


def plasma_noise(images, levels, time, iterations, sharpness, scale):
    """Blends with coloured plasma; on grey images with the mean of its colours.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; `(1 - p(64) / 255) image + p(64) colour`, colour in -1..1.
        time: `[B]`, radians.
        iterations: `[B]`, 4 to 6.
        sharpness: `[B]`, 0.5 to 1.
        scale: `[B]`, pixels.
    """
    colour = plasma_colour(*pixel_grid(images), time, iterations, sharpness, scale)
    if images.shape[-1] == 1:
        colour = ops.mean(colour, axis=-1, keepdims=True)
    intensity = per_image(amount(levels, 64.0), images)
    return (1.0 - intensity / 255.0) * images + intensity * colour


def point_symmetric_phases(uniform):
    """Turns numbers `[B, H, W]` in 0..1 into phases with `phase(-f) = phase(f)` about the middle.

    The middle of an image with odd height and width has phase 0.
    """
    shape = ops.shape(uniform)
    count = shape[1] * shape[2]
    flat = ops.reshape(uniform, (-1, count)) * (2.0 * math.pi)
    index = ops.arange(count, dtype="int32")[None]
    mirrored = ops.where(index < count // 2, flat, ops.flip(flat, axis=1))
    is_middle = ops.equal(index * 2 + 1, count)
    return ops.reshape(ops.where(is_middle, 0.0, mirrored), shape)


def fourier_noise(phases, amplitude):
    """Returns noise `[B, H, W]` of standard deviation 1 with a radial amplitude spectrum.

    Args:
        phases: `[B, H, W]`, radians, of the frequencies with the zero frequency in the middle.
        amplitude: function from the squared frequency (in cycles per side) to the amplitude.
    """
    shape = ops.shape(phases)
    height, width = shape[1], shape[2]
    side = ops.cast(shorter_side(height, width), "float32")
    rows = ops.arange(height, dtype="float32") / ops.cast(height, "float32") - 0.5
    columns = ops.arange(width, dtype="float32") / ops.cast(width, "float32") - 0.5
    power = amplitude(ops.square(rows[:, None] * side) + ops.square(columns[None, :] * side))
    shift = (height // 2, width // 2)
    real = ops.roll(power * ops.cos(phases), shift, axis=(1, 2))
    imaginary = ops.roll(power * ops.sin(phases), shift, axis=(1, 2))
    noise, _ = ops.ifft2((real, imaginary))
    deviation = ops.std(noise, axis=(1, 2), keepdims=True)
    # A single pixel has no deviation and therefore no noise.
    is_flat = deviation <= 1e-12
    return ops.where(is_flat, 0.0, noise / ops.where(is_flat, 1.0, deviation))


def blue_noise_sample(images, levels, phases):
    """Blackens the pixels where blue noise lies under the threshold `p(3) - 2.5`.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`.
        phases: `[B, H, W]` as `point_symmetric_phases` returns them.
    """
    noise = fourier_noise(phases, ops.sqrt)
    kept = noise > per_pixel(amount(levels, 3.0) - 2.5)
    return images * ops.cast(kept, "float32")[..., None]


def brownish_noise(images, levels, phases):
    """Adds noise of amplitude `1 / (f^2 + 1)`, of its own for each channel.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; deviation `p(64)` grey levels.
        phases: `[B, C, H, W]`, point-symmetric in each channel.
    """
    shape = ops.shape(phases)
    flat = ops.reshape(phases, (-1, shape[2], shape[3]))
    noise = fourier_noise(flat, lambda squared: 1.0 / (squared + 1.0))
    noise = ops.transpose(ops.reshape(noise, shape), (0, 2, 3, 1))
    return images + per_image(amount(levels, 64.0), images) * noise


def checkerboard_cutout(images, levels, angle, cell, grid):
    """Cuts grey squares out of a rotated checkerboard.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; a share `p(1)` of the squares of one colour is cut.
        angle: `[B]`, radians.
        cell: `[B]`, side of a square in pixels.
        grid: `[B, 32, 32]`, numbers in 0..1, one per square; it repeats beyond 32 squares.
    """
    rows, columns = pixel_grid(images)
    sine, cosine = per_pixel(ops.sin(angle)), per_pixel(ops.cos(angle))
    size = per_pixel(cell)
    first = ops.cast(ops.floor((cosine * rows + sine * columns) / size), "int32")
    second = ops.cast(ops.floor((cosine * columns - sine * rows) / size), "int32")
    same_parity = ops.equal(ops.mod(first + second, 2), 0)
    batch = ops.reshape(ops.arange(ops.shape(images)[0], dtype="int32"), (-1, 1, 1))
    index = (batch * CHECKERBOARD_GRID + ops.mod(first, CHECKERBOARD_GRID)) * CHECKERBOARD_GRID
    chance = ops.take(ops.reshape(grid, (-1,)), index + ops.mod(second, CHECKERBOARD_GRID))
    cut = ops.logical_and(same_parity, chance < per_pixel(amount(levels, 1.0)))
    return ops.where(cut[..., None], GREY, images)


def sparkle_weight(images, centre, ray_lengths, rays, exponent):
    """Returns the brightness `[B, H, W]` of a star in 0..1.

    With `f` the position between two neighbouring rays and `length` interpolated between theirs,
    it is `(1 - (f - 1/2)^2) * (length^2 / (distance^2 + 1e-4))^exponent`, cut to 1.

    Args:
        images: gives height and width.
        centre: `[B, 2]`, row and column in pixels.
        ray_lengths: `[B, 200]`, pixels; the first `rays` of them count.
        rays: `[B]`, int32.
        exponent: `[B]`, or None for 1.
    """
    rows, columns = pixel_grid(images)
    down = rows - per_pixel(centre[:, 0])
    right = columns - per_pixel(centre[:, 1])
    rays = per_pixel(rays)
    turn = (ops.arctan2(right, down) / (2.0 * math.pi) + 0.5) * ops.cast(rays, "float32")
    index = ops.cast(ops.floor(turn), "int32")
    between = turn - ops.floor(turn)
    following = ops.mod(index + 1, rays)
    index = ops.mod(index, rays)
    table = ops.reshape(ray_lengths, (-1,))
    batch = ops.arange(ops.shape(ray_lengths)[0], dtype="int32") * ray_lengths.shape[1]
    start = ops.take(table, per_pixel(batch) + index)
    end = ops.take(table, per_pixel(batch) + following)
    length = start + between * (end - start)
    glow = ops.square(length) / (ops.square(down) + ops.square(right) + 1e-4)
    if exponent is not None:
        glow = ops.power(glow, per_pixel(exponent))
    return ops.minimum((1.0 - ops.square(between - 0.5)) * glow, 1.0)


def sparkles(images, levels, centres, ray_normals, rays):
    """Lays white stars over the image, one after the other.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; radius `p(0.1)` of the side.
        centres: `[B, N, 2]`, row and column in pixels.
        ray_normals: `[B, N, 200]`, standard normal; the rays' lengths are
            `max(1, radius (1 + normal / 4))`.
        rays: `[B, N]`, int32.
    """
    radius = amount(levels, 0.1)[:, None] * image_side(images)
    for star in range(centres.shape[1]):
        lengths = ops.maximum(radius * (1.0 + RAY_VARIATION * ray_normals[:, star]), 1.0)
        weight = sparkle_weight(images, centres[:, star], lengths, rays[:, star], None)
        images = blend(images, WHITE, weight[..., None])
    return images


def inverse_sparkles(images, levels, centre, ray_normals, rays):
    """Keeps the image inside one star, and is white outside.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; the fall-off's exponent is `p(65) / 50`.
        centre: `[B, 2]`, row and column in pixels.
        ray_normals: `[B, 200]`, standard normal; lengths `radius (1 + normal / 4)`, the radius
            being a quarter of the side.
        rays: `[B]`, int32.
    """
    lengths = 0.25 * image_side(images) * (1.0 + RAY_VARIATION * ray_normals)
    weight = sparkle_weight(images, centre, lengths, rays, amount(levels, 65.0) / 50.0)
    return blend(ops.full_like(images, WHITE), images, weight[..., None])


def perlin_lattice_size(length, side):
    """Returns how many lattice points Perlin noise needs along `length` pixels.

    Args:
        length: height or width.
        side: the shorter of both.
    """
    cells = -(-PERLIN_CELLS * length // side)
    return PERLIN_FREQUENCIES[-1] * cells + 2


def _lattice_weights(length, spacing, frequency, points):
    # The fade curve t^2 (3 - 2t) of the distance to each lattice point, and the signed distance
    # times it. Only the two neighbours of a pixel have a weight; as matrices they turn the lookups
    # of gradient noise into products.
    position = ops.arange(length, dtype="float32")[:, None] * frequency / spacing
    offset = position - ops.arange(points, dtype="float32")[None, :]
    nearness = ops.maximum(1.0 - ops.abs(offset), 0.0)
    fade = ops.square(nearness) * (3.0 - 2.0 * nearness)
    return fade, fade * offset


def turbulence(angles, height, width):
    """Returns the sum of `|gradient noise(f p)| / f` over five octaves, `[B, height, width]`.

    Args:
        angles: `[B, rows, columns]`, direction of the gradient at each lattice point in radians,
            as many as `perlin_lattice_size` says.
        height: pixels.
        width: pixels.
    """
    spacing = ops.cast(shorter_side(height, width), "float32") / PERLIN_CELLS
    gradient_y, gradient_x = ops.sin(angles), ops.cos(angles)
    shape = ops.shape(angles)
    total = 0.0
    for frequency in PERLIN_FREQUENCIES:
        # Low octaves reach only the first lattice points.
        share = PERLIN_FREQUENCIES[-1] // frequency
        rows, columns = (shape[1] - 2) // share + 2, (shape[2] - 2) // share + 2
        fade_y, slope_y = _lattice_weights(height, spacing, frequency, rows)
        fade_x, slope_x = _lattice_weights(width, spacing, frequency, columns)
        along_y = ops.matmul(slope_y, gradient_y[:, :rows, :columns])
        along_x = ops.matmul(fade_y, gradient_x[:, :rows, :columns])
        noise = ops.matmul(along_y, ops.transpose(fade_x)) + ops.matmul(
            along_x, ops.transpose(slope_x)
        )
        total = total + ops.abs(PERLIN_GAIN * noise) / frequency
    return total


def perlin_noise(images, levels, angles):
    """Blends with grey turbulence.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; share `p(0.5)` of the turbulence `t`, drawn as `t / 2 + 1/2`.
        angles: `[B, rows, columns]`, radians, see `turbulence`.
    """
    shape = ops.shape(images)
    value = ops.clip(0.5 * turbulence(angles, shape[1], shape[2]) + 0.5, 0.0, 1.0)
    return blend(images, 255.0 * value[..., None], per_image(amount(levels, 0.5), images))


def lines(images, levels, centres, turns, angle, angle_variation):
    """Draws grey anti-aliased lines across the image.

    Args:
        images: float32 `[B, H, W, C]`, 0-255.
        levels: `[B]`; `int(p(1) S)` lines.
        centres: `[B, N, 2]`, row and column in pixels; N is at least the number of lines.
        turns: `[B, N]` in 0..1; a line has the angle `angle + 2 pi angle_variation (turn - 1/2)`.
        angle: `[B]`, radians.
        angle_variation: `[B]`.
    """
    rows, columns = pixel_grid(images)
    side = image_side(images)
    # Levels like 0.7 / 10 * 100 must not fall under the whole number they stand for.
    count = ops.cast(ops.floor(amount(levels, 1.0) * side + 1e-4), "int32")
    angles = angle[:, None] + 2.0 * math.pi * angle_variation[:, None] * (turns - 0.5)
    reach = ops.stack([ops.cos(angles), ops.sin(angles)], axis=-1) * side
    # Ends are cut to whole pixels, towards zero.
    starts, ends = ops.trunc(centres - reach), ops.trunc(centres + reach)

    def draw_line(index, kept):
        start, end = ops.take(starts, index, axis=1), ops.take(ends, index, axis=1)
        coverage = _line_coverage(rows, columns, start, end)
        drawn = per_pixel(ops.cast(index < count, "float32"))
        return index + 1, kept * (1.0 - drawn * coverage)

    # Each line blends towards the same grey: what is left of the image is a product.
    kept = ops.ones_like(images[..., 0])
    most = ops.max(count)
    _, kept = ops.while_loop(
        lambda index, _: index < most, draw_line, (ops.convert_to_tensor(0, "int32"), kept)
    )
    return blend(ops.full_like(images, GREY), images, kept[..., None])


def _line_coverage(rows, columns, start, end):
    """Returns `1 - distance to the line`, cut to 0..1, `[B, H, W]`: Bresenham's line, smoothed."""
    step = end - start
    down, right = per_pixel(step[:, 0]), per_pixel(step[:, 1])
    top, left = per_pixel(start[:, 0]), per_pixel(start[:, 1])
    length = ops.maximum(ops.sqrt(ops.square(down) + ops.square(right)), 1.0)
    distance = ((rows - top) * right - (columns - left) * down) / length
    # Lines end square to the axis along which they are longer.
    is_steep = ops.abs(down) >= ops.abs(right)
    position = ops.where(
        is_steep, (rows - top) * ops.sign(down), (columns - left) * ops.sign(right)
    )
    extent = ops.maximum(ops.abs(down), ops.abs(right))
    within = ops.logical_and(position >= 0.0, position <= extent)
    return ops.where(within, ops.maximum(1.0 - ops.abs(distance), 0.0), 0.0)

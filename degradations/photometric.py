"""Changes of brightness, contrast, saturation and resolution, and elastic deformation."""

import functools

import numpy as np
from keras import ops

from degradations import filters, random
from degradations.base import ROUNDING_SLACK, Degradation, is_grey, per_image, register


def split(images):
    """Returns the three channels of [B, H, W, 3] as a list of [B, H, W]."""
    # Whole planes are several times as fast on a CPU as operations that broadcast over channels.
    planes = ops.transpose(images, [3, 0, 1, 2])
    return [planes[i] for i in range(images.shape[-1])]


def join(planes):
    """Returns [B, H, W, C] from a list of planes [B, H, W]."""
    return ops.transpose(ops.stack(planes, axis=0), [1, 2, 3, 0])


@register
class Brightness(Degradation):
    """Adds to the value of HSV: ImageNet-C's brightness.

    Hue and saturation stay, so that all channels grow by one factor. Grey images get the amount
    added. Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "brightness"
    parameters = ("amount",)
    unit = "added HSV value, share of the full scale"
    limits = ((-1.0, 1.0),)

    def apply(self, images, levels, seed):
        """Brightens images [B, H, W, C] by `levels` [B]; nothing is drawn from the seed."""
        added = ops.reshape(255.0 * levels, [-1, 1, 1])
        if is_grey(images):
            return images + ops.expand_dims(added, -1)
        red, green, blue = split(images)
        value = ops.maximum(ops.maximum(red, green), blue)
        brighter = ops.clip(value + added, 0.0, 255.0)
        # Black has no hue: a factor can't lift it, so it gets the difference added to each channel.
        black = ops.cast(value <= 0, "float32")
        factor = brighter / (value + black)
        lift = brighter * black
        return join([plane * factor + lift for plane in (red, green, blue)])


@register
class Saturate(Degradation):
    """Scales and shifts the saturation of HSV: ImageNet-C's saturate.

    Pixels without a hue turn red where the offset is positive, as in the reference; grey images
    stay. Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "saturate"
    parameters = ("factor", "offset")
    unit = "factor and offset of the HSV saturation"
    limits = ((0.0, 100.0), (-1.0, 1.0))

    def apply(self, images, levels, seed):
        """Saturates images [B, H, W, C] by `levels` [B, 2]; nothing is drawn from the seed."""
        if is_grey(images):
            return images
        factor, offset = (
            ops.reshape(levels[:, 0], [-1, 1, 1]),
            ops.reshape(levels[:, 1], [-1, 1, 1]),
        )
        red, green, blue = split(images)
        value = ops.maximum(ops.maximum(red, green), blue)
        spread = value - ops.minimum(ops.minimum(red, green), blue)
        # Each channel's distance from the value grows as the saturation spread / value does.
        colourless = ops.cast(spread <= 0, "float32")
        distance = ops.clip(factor * spread + offset * value, 0.0, value)
        growth = distance / (spread + colourless)
        grey_growth = distance * colourless
        return join(
            [
                value - (value - red) * growth,
                value - (value - green) * growth - grey_growth,
                value - (value - blue) * growth - grey_growth,
            ]
        )


@register
class Contrast(Degradation):
    """Shrinks the distance from each channel's mean: ImageNet-C's contrast.

    Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "contrast"
    parameters = ("factor",)
    unit = "factor of the distance from the mean"
    limits = ((0.0, 100.0),)

    def apply(self, images, levels, seed):
        """Scales the contrast of images [B, H, W, C] by `levels` [B]; nothing is drawn."""
        factor = per_image(levels, images)
        means = ops.mean(images, axis=(1, 2), keepdims=True)
        return images * factor + means * (1 - factor)


@register
class Pixelate(Degradation):
    """Shrinks by averaging boxes and enlarges by repetition: ImageNet-C's pixelate.

    Source: Hendrycks & Dietterich (ICLR 2019): Pillow's box filter to int(share side) pixels and
    back. As Pillow does, each pass rounds to 8 bits.
    """

    severity_table = "pixelate"
    parameters = ("share",)
    unit = "size of the small image, share of the side"
    limits = ((0.001, 1.0),)
    shares_level = True
    whole = True

    def apply(self, images, levels, seed):
        """Pixelates images [B, H, W, C] by `levels` [B]; nothing is drawn from the seed.

        Raises:
            ValueError: if the small image would have no pixels.
        """
        height, width = filters.static_sides(images, type(self).__name__)
        if int(min(height, width) * self.smallest("share") + 1e-4) < 1:
            raise ValueError(
                f"{type(self).__name__} needs images of at least {1 / self.smallest('share'):.1f} "
                f"pixels a side at this level. Received: {tuple(images.shape)}"
            )
        batch, channels = ops.shape(images)[0], images.shape[-1]
        ends = self.smallest("share"), self.largest("share")
        down_y, up_y, rows = _boxes(height, levels, *ends)
        down_x, up_x, columns = _boxes(width, levels, *ends)
        # Along the rows first, then along the columns, as Pillow does.
        small = ops.reshape(ops.transpose(images, [0, 2, 1, 3]), [batch, width, height * channels])
        small = _round(ops.matmul(down_x, small))
        small = ops.transpose(ops.reshape(small, [batch, columns, height, channels]), [0, 2, 1, 3])
        small = ops.reshape(small, [batch, height, columns * channels])
        small = _round(ops.matmul(down_y, small))
        small = ops.transpose(ops.reshape(small, [batch, rows, columns, channels]), [0, 2, 1, 3])
        wide = ops.transpose(_repeat(small, up_x), [0, 2, 1, 3])
        return _repeat(wide, up_y)


def _round(values):
    # Half goes up; the slack covers sums that should end in exactly one half.
    return ops.floor(values + (0.5 + ROUNDING_SLACK))


def _boxes(side, shares, smallest, largest):
    """Returns (shrinking matrix [B, count, side], source of each pixel [B, side], count)."""
    least, most = (max(int(side * share + 1e-4), 1) for share in (smallest, largest))
    tables = pillow_boxes(side, least, most)
    row = ops.cast(ops.floor(side * shares + 1e-4), "int32") - least
    first, end, source = (ops.take(table, row, axis=0) for table in tables)
    pixels = np.arange(side, dtype=np.int32)
    first, end = ops.expand_dims(first, -1), ops.expand_dims(end, -1)
    weights = ops.cast(ops.logical_and(pixels >= first, pixels < end), "float32")
    weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1.0)
    return weights, source, most


@functools.lru_cache(maxsize=8)
def pillow_boxes(side, least, most):
    """Returns what Pillow's box filter takes where an axis is resized to `least` ... `most` pixels.

    On paper many borders of boxes lie in the middle of a pixel: the last bit of Pillow's float64
    numbers decides which box gets it.

    Returns:
        Three int32 arrays, with one row for each number of boxes: the first pixel of each box
        [N, most] and the one after its last (both 0 where there is no box), and, enlarging again,
        the box of each pixel [N, side].
    """
    firsts, ends = np.zeros([2, most - least + 1, most], np.int32)
    sources = np.zeros([most - least + 1, side], np.int32)
    for row, count in enumerate(range(least, most + 1)):
        scale = side / count
        centre = (np.arange(count) + 0.5) * scale
        first = (centre - 0.5 * scale + 0.5).astype(np.int32)
        end = np.minimum((centre + 0.5 * scale + 0.5).astype(np.int32), side)
        # More than half a box to the left is out, half a box to the right is in.
        first += (first - centre + 0.5) * (1 / scale) <= -0.5
        end -= (end - 1 - centre + 0.5) * (1 / scale) > 0.5
        firsts[row, :count], ends[row, :count] = first, end
        sources[row] = (np.arange(side) + 0.5) * (count / side)
    return firsts, ends, sources


def _repeat(images, rows):
    """Returns images[b, rows[b]] for rows [B or 1, H']."""
    if rows.shape[0] == 1:
        return ops.take(images, rows[0], axis=1)
    batch, count = ops.shape(images)[:2]
    rows = rows + ops.expand_dims(ops.arange(batch) * count, -1)
    return ops.take(ops.reshape(images, [batch * count, *images.shape[2:]]), rows, axis=0)


# Further outside an image than any place, in pixels.
_FAR = 1e9


@register
class ElasticTransform(Degradation):
    """A random affine map, then a smooth random displacement: ImageNet-C's elastic transform.

    Source: Hendrycks & Dietterich (ICLR 2019), after Simard, Steinkraus & Platt (ICDAR 2003): three
    points, the centre +- a third of the side, move by U(-shift, shift) in each direction and the
    image with them (bilinear, mirrored); then each pixel moves by strength G(U(-1, 1)), G a
    Gaussian filter cut at 3 deviations (bilinear, mirrored).
    """

    severity_table = "elastic_transform"
    parameters = ("strength", "deviation", "shift")
    unit = "strength and smoothing of the displacement and shift of the affine map, in pixels"
    limits = ((0.0, 10000.0), (0.0, 1000.0), (0.0, 1000.0))
    shares_level = True

    def apply(self, images, levels, seed):
        """Deforms images [B, H, W, C] by `levels` [B, 3] with maps drawn from the seed."""
        batch = ops.shape(images)[0]
        height, width = filters.static_sides(images, type(self).__name__)
        moved = random.uniform([batch, 3, 2], random.fold_in(seed, 0), -1.0, 1.0)
        matrix = affine_maps(moved * ops.reshape(levels[:, 2], [-1, 1, 1]), height, width)
        y = ops.reshape(ops.arange(height, dtype="float32"), [1, -1, 1])
        x = ops.reshape(ops.arange(width, dtype="float32"), [1, 1, -1])

        def linear(row):
            a, b, c = (ops.reshape(matrix[:, row, i], [-1, 1, 1]) for i in range(3))
            # The bound changes nothing but keeps optimised graphs from reordering the three terms:
            # the last bit of a place can decide on a grey level.
            return a * x + ops.maximum(b * y + c, -_FAR)

        # Corners lie at most two sides of the triangle outside it and move as much more.
        reach = 6 * self.largest("shift") + 1
        images = filters.sample(images, linear(1), linear(0), "mirror", reach)
        field = random.uniform([batch, height, width, 2], random.fold_in(seed, 1), -1.0, 1.0)
        largest = self.largest("deviation")
        field = filters.gaussian(field, levels[:, 1], largest, truncate=3.0, border="reflect")
        field = field * per_image(levels[:, 0], field)
        reach = self.largest("strength") + 1
        return filters.sample(images, y + field[..., 1], x + field[..., 0], "reflect", reach)


def affine_maps(shifts, height, width):
    """Returns matrices [B, 2, 3] from places (x, y, 1) after the map to places before it.

    Args:
        shifts: [B, 3, 2], how far (x, y) the three points move: the centre + (s, s), (s, -s) and
            (-s, -s), where s is a third of the shorter side.
        height: of the images.
        width: of the images.
    """
    third = min(height, width) // 3
    # The reference takes (rows, columns) for (x, y) here; for its square images it's the same.
    centre = np.float32([height // 2, width // 2])
    points = centre + third * np.float32([[1, 1], [1, -1], [-1, -1]])
    moved = points + shifts
    # Solved by hand: edges of the triangle before and after, and the inverse of a 2x2 matrix.
    before = np.float32([points[0] - points[1], points[1] - points[2]])
    first, second = moved[:, 0] - moved[:, 1], moved[:, 1] - moved[:, 2]
    determinant = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    rows = []
    for axis in range(2):
        a = before[0, axis] * second[:, 1] - before[1, axis] * first[:, 1]
        b = before[1, axis] * first[:, 0] - before[0, axis] * second[:, 0]
        a, b = a / determinant, b / determinant
        rows.append(
            ops.stack([a, b, points[0, axis] - a * moved[:, 0, 0] - b * moved[:, 0, 1]], axis=-1)
        )
    return ops.stack(rows, axis=1)

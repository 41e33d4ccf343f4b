"""Blurs: Gaussian, defocus, motion, zoom, and glass."""

import functools
import math

import numpy as np
from keras import ops

from degradations import filters, random
from degradations.base import Degradation, per_image, register, to_8_bits
from degradations.bitstreams import check_flag

# Where FusionDistill's blur ends, in deviations.
_CUT = 3.0


@register
class Blur(Degradation):
    """Gaussian blur as FusionDistill uses it: cut at 3 deviations, the edge pixel repeated.

    Source: Daultani & Larochelle (WACV-W 2024), deviations 0 to 5 in steps of 0.1.

    Args:
        authors_variant: blur 8-bit values as the authors' library does, SciPy's gaussian_filter: it
            filters the height, truncates, filters the width, and truncates; about half a grey
            level darker.
        **kwargs: see `Degradation`.
    """

    parameters = ("deviation",)
    options = ("authors_variant",)
    unit = "standard deviation in pixels"
    limits = ((0.0, 100.0),)
    shares_level = True

    def __init__(self, level=None, authors_variant=False, **kwargs):
        super().__init__(level, **kwargs)
        self.authors_variant = check_flag("authors_variant", authors_variant)

    def apply(self, images, levels, seed):
        """Blurs images [B, H, W, C] by `levels` [B] pixels; nothing is drawn from the seed."""
        largest = self.largest("deviation")
        if self.authors_variant:
            return _blur_8_bits(images, levels, largest)
        return filters.gaussian(images, levels, largest, truncate=_CUT)


def _blur_8_bits(images, deviations, largest):
    kernels = filters.gaussian_kernels(deviations, largest, _CUT)
    reach = kernels.shape[-1] // 2
    is_centre = np.float32(np.arange(-reach, reach + 1) == 0)
    sides = kernels * (1 - is_centre)
    total = ops.sum(sides, axis=-1, keepdims=True)
    # How far rounding may take a sum of differences that should be a whole number.
    slack = per_image(total[:, 0] * 2.0**-14, images)
    row = ops.round(10 * deviations)
    is_known = ops.logical_and(ops.absolute(10 * deviations - row) < 1e-3, row < len(_lost()))
    row = ops.reshape(256 * ops.cast(ops.where(is_known, row, 0), "int32"), [-1, 1, 1, 1])
    images = to_8_bits(images)
    for _ in range(2):
        # Only the change is summed up: float32 can't tell 200 - 1e-5, which becomes 199, from 200.
        change = filters.convolve_columns(images, sides - total * is_centre, "nearest")
        lost = random.look_up(_lost().ravel(), row + ops.cast(images, "int32"))
        lost = lost * ops.cast(ops.absolute(change) <= slack, "float32")
        images = images + ops.floor(change + slack) - lost
        images = ops.transpose(images, [0, 2, 1, 3])
    return images


@functools.cache
def _lost():
    """Returns what SciPy takes off even areas, float32 [51 deviations 0, 0.1, ..., 5; 256 values].

    Its float64 sums may end just below the whole number that they stand for, and are truncated.
    """
    values, lost = np.arange(256), np.zeros([51, 256], np.float32)
    for tenths in range(1, 51):
        reach = int(_CUT * (tenths / 10) + 0.5)
        weights = np.exp(-0.5 / (tenths / 10) ** 2 * np.arange(-reach, reach + 1) ** 2)
        weights /= weights.sum()
        total = values * weights[reach]
        for weight in weights[:reach]:
            total = total + 2 * values * weight
        lost[tenths] = total < values
    return lost


@register
class GaussianBlur(Degradation):
    """ImageNet-C's Gaussian blur: cut at 4 deviations, the edge pixel repeated.

    Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "gaussian_blur"
    parameters = ("deviation",)
    unit = "standard deviation in pixels"
    limits = ((0.0, 100.0),)
    shares_level = True

    def apply(self, images, levels, seed):
        """Blurs images [B, H, W, C] by `levels` [B] pixels; nothing is drawn from the seed."""
        return filters.gaussian(images, levels, self.largest("deviation"))


@register
class DefocusBlur(Degradation):
    """A disk, smoothed at its rim: ImageNet-C's defocus.

    Source: Hendrycks & Dietterich (ICLR 2019): a disk on a grid of 17 (radius up to 8; else
    2r + 1) pixels, smoothed by a Gaussian of 3x3 (else 5x5) taps; mirrored borders.
    """

    severity_table = "defocus_blur"
    parameters = ("radius", "smoothing")
    unit = "radius of the disk and deviation of its smoothing, in pixels"
    limits = ((0.0, 50.0), (0.0, 10.0))
    shares_level = True

    def apply(self, images, levels, seed):
        """Blurs images [B, H, W, C] by `levels` [B, 2]; nothing is drawn from the seed."""
        radius = self.largest("radius")
        # No drawn disk reaches further than this, whatever the grid of the reference.
        reach = 8 if radius <= 8 else math.ceil(radius)
        kernels = disks(levels[:, 0], levels[:, 1], reach)
        if radius + 1 < reach:
            trim = reach - math.floor(radius) - 1
            kernels = kernels[:, trim:-trim, trim:-trim]
        return filters.correlate_symmetric(images, kernels, "mirror", type(self).__name__)


def disks(radii, smoothing, reach):
    """Returns smoothed disks [B, 2 reach + 1, 2 reach + 1], each of sum about 1."""
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = offsets[:, None] ** 2 + offsets**2
    radii, smoothing = ops.reshape(radii, [-1, 1, 1]), ops.reshape(smoothing, [-1, 1, 1])
    disk = ops.cast(distance <= radii**2 + 1e-4, "float32")
    disk = disk / ops.sum(disk, axis=(1, 2), keepdims=True)
    # 3 taps up to radius 8, 5 above. OpenCV takes a deviation of 0 as "choose one from the size",
    # which none of the tables uses; here it leaves the disk as it is.
    taps = np.arange(-2, 3, dtype=np.float32)
    present = ops.cast(np.abs(taps) <= ops.where(radii <= 8, 1.0, 2.0), "float32")
    weights = ops.exp(-0.5 * (taps / ops.maximum(smoothing, 1e-3)) ** 2) * present
    weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    # As a matrix, with the grid's own mirrored border (a disk of radius 8 touches it).
    size = 2 * reach + 1
    columns = filters.border_index(np.arange(size)[:, None] + np.arange(-2, 3), size, "mirror")
    folded = (columns[..., None] == np.arange(size)).astype(np.float32)
    matrix = ops.einsum("bt,itj->bij", weights[:, 0], folded)
    return ops.matmul(ops.matmul(matrix, disk), ops.transpose(matrix, [0, 2, 1]))


@register
class MotionBlur(Degradation):
    """A blur to one side along a line at a random angle: ImageNet-C's motion blur.

    Source: Hendrycks & Dietterich (ICLR 2019) by way of ImageMagick: 2r + 1 taps one pixel apart,
    weights exp(-i^2 / (2 s^2)), each sampled at the nearest pixel, the edge repeated; the angle is
    uniform in -45 to 45 degrees.
    """

    severity_table = "motion_blur"
    parameters = ("radius", "deviation")
    unit = "radius and standard deviation in pixels"
    limits = ((0.0, 100.0), (0.01, 100.0))

    def apply(self, images, levels, seed):
        """Blurs images [B, H, W, C] by `levels` [B, 2] at angles drawn from the seed."""
        angles = random.uniform([ops.shape(images)[0]], seed, -45.0, 45.0)
        reach = 2 * math.floor(self.largest("radius") + 0.5)
        return move(images, levels[:, 0], levels[:, 1], angles, reach, type(self).__name__)


def move(images, radius, deviation, angles, reach, who):
    """Motion blur of each image [B, H, W, C] by its own radius, deviation and angle.

    Args:
        images: float32 [B, H, W, C].
        radius: [B], in pixels; rounded.
        deviation: [B], in pixels.
        angles: [B], in degrees.
        reach: twice the largest radius, a plain integer.
        who: name for error messages.
    """
    taps = np.arange(reach + 1, dtype=np.float32)
    radius = ops.expand_dims(ops.floor(radius + 0.5), -1)
    weights = ops.exp(-0.5 * (taps / ops.expand_dims(deviation, -1)) ** 2)
    weights = weights * ops.cast(taps <= 2 * radius, "float32")
    weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    angles = ops.expand_dims(angles * (math.pi / 180), -1)
    # The copy i moves by -ceil(i sin - 1/2); the pixel comes from the opposite side.
    dy = ops.cast(ops.ceil(taps * ops.sin(angles) - 0.5), "int32")
    dx = ops.cast(ops.ceil(taps * ops.cos(angles) - 0.5), "int32")
    return filters.correlate_lines(images, dy, dx, weights, reach, "nearest", who)


@register
class GlassBlur(Degradation):
    """Shuffles pixels within a few pixels' reach between two Gaussian blurs: ImageNet-C's glass.

    Source: Hendrycks & Dietterich (ICLR 2019). In scan order from the bottom right, each pixel is
    meant to change places with one at a random offset from [-reach, reach) in both directions. On
    colour images the authors' code, and so ImageNet-C itself, copies the other pixel instead (an
    assignment between NumPy views of one array); that is done here.

    Every pixel copies, directly or through pixels that copied before it, from one pixel of the
    round's start. These chains are followed for all pixels at once, by doubling their length.
    """

    severity_table = "glass_blur"
    parameters = ("deviation", "reach", "rounds")
    unit = "deviation of the blurs and reach of the offsets in pixels, rounds"
    limits = ((0.0, 20.0), (1.0, 20.0), (0.0, 10.0))
    shares_level = True

    def apply(self, images, levels, seed):
        """Distorts images [B, H, W, C] by `levels` [B, 3] with offsets drawn from the seed."""
        batch, height, width, channels = ops.shape(images)
        deviation, largest = levels[:, 0], self.largest("deviation")
        images = to_8_bits(filters.gaussian(images, deviation, largest))
        origin = ops.reshape(ops.arange(batch * height * width), [batch, height, width])
        source = None
        for i in range(math.floor(self.largest("rounds") + 0.5)):
            reach = ops.cast(ops.floor(levels[:, 1] + 0.5), "int32")
            if self.smallest("rounds") < i + 0.5:
                # A reach of 0 moves nothing: this image has had all its rounds.
                reach = reach * ops.cast(levels[:, 2] >= i + 0.5, "int32")
            offset = self._offsets(origin, reach, random.fold_in(seed, i))
            copied = follow_copies(origin, offset, None, doublings(self.largest("reach")))
            source = copied if source is None else random.look_up(ops.reshape(source, [-1]), copied)
        source = origin if source is None else source
        pixels = ops.take(ops.reshape(images, [-1, channels]), source, axis=0)
        return filters.gaussian(ops.reshape(pixels, ops.shape(images)), deviation, largest)

    def _offsets(self, origin, reach, seed):
        """Draws each pixel's partner, as its offset in the flat batch, int32 [B, H, W]."""
        batch, height, width = ops.shape(origin)
        side = ops.reshape(ops.cast(2 * reach, "float32"), [-1, 1, 1])
        reach = ops.reshape(reach, [-1, 1, 1])
        draws = random.uniform([batch, height, width], seed) * side
        dy = ops.floor(draws)
        # What the first draw leaves over is uniform again; 24 bits are plenty for two offsets.
        dx = ops.floor((draws - dy) * side)
        y, x = ops.expand_dims(ops.arange(height), -1), ops.arange(width)
        rows = ops.logical_and(y > reach, y <= height - reach)
        columns = ops.logical_and(x > reach, x <= width - reach)
        processed = ops.cast(ops.logical_and(rows, columns), "float32")
        # Indices within an image are exact in float32.
        width = ops.cast(width, "float32")
        offset = dy * width + dx - side * (0.5 * width + 0.5)
        return ops.cast(offset * processed, "int32")


def doublings(reach):
    """Returns how often chains of copies are doubled, so that one in 10^8 remains unfinished."""
    reach = math.floor(reach + 0.5)
    onwards = (reach - 1) * (2 * reach + 1) / (4 * reach**2)
    return math.ceil(math.log2(math.log(1e-8) / math.log(onwards))) if onwards > 0 else 0


def follow_copies(origin, offset, earlier, times):
    """Returns the pixel that each pixel's value stems from after one round of sequential copies.

    Args:
        origin: int32 [B, H, W], every pixel's own flat index.
        offset: int32 [B, H, W]; pixel p copies from p + offset, pixels in falling order.
        earlier: int32 [B, H, W], 1 where p + offset was itself overwritten before it; None for
            all positive offsets, which gives the same, as pixels that stay have an offset of 0.
        times: number of doublings; chains of up to 2^times copies are followed.
    """
    partner = ops.reshape(origin + offset, [-1])
    forward = ops.maximum(offset, 0) if earlier is None else offset * earlier
    last = ops.reshape(origin + forward, [-1])
    for _ in range(times):
        last = random.look_up(last, last)
    return random.look_up(partner, ops.reshape(last, ops.shape(origin)))


@register
class ZoomBlur(Degradation):
    """The mean of an image and of zooms into its centre: ImageNet-C's zoom blur.

    Source: Hendrycks & Dietterich (ICLR 2019): evenly spaced zooms from 1 to the largest; each
    crops ceil(side / zoom) pixels from the centre, enlarges bilinearly with the corners aligned (as
    scipy.ndimage.zoom of order 1) to round(zoom crop) pixels, and trims to the side. The image
    itself counts once more.
    """

    severity_table = "zoom_blur"
    parameters = ("largest_zoom", "zooms")
    unit = "largest zoom, number of zooms from 1"
    limits = ((1.0, 4.0), (1.0, 100.0))
    shares_level = True

    # Side of the tiles that are computed at once: a zoom needs few pixels around each.
    _TILE = 32
    # All zooms of the tables are such hundredths. Where a crop times its zoom ends in 1/2 on paper,
    # the last bit of these float64 numbers decides whether the original rounds up.
    _HUNDREDTHS = np.arange(1, 4.005, 0.01)

    def apply(self, images, levels, seed):
        """Blurs images [B, H, W, C] by `levels` [B, 2]; nothing is drawn from the seed."""
        height, width = filters.static_sides(images, type(self).__name__)
        count = ops.floor(levels[:, 1:] + 0.5)
        most = math.floor(self.largest("zooms") + 0.5)
        steps = np.arange(most, dtype=np.float32)
        zooms = 1 + (levels[:, :1] - 1) * steps / ops.maximum(count - 1, 1)
        weights = ops.cast(steps < count, "float32") / (count + 1)
        # Unused zooms weigh nothing; kept within reach of the tiles.
        zooms = ops.minimum(zooms, levels[:, :1])
        planes = ops.transpose(images, [0, 3, 1, 2])
        largest = self.largest("largest_zoom")
        row_tiles = [
            (first, last, matrix * ops.reshape(weights, [-1, most, 1, 1]))
            for first, last, matrix in self._tiles(height, zooms, largest)
        ]
        columns = []
        for first, last, matrix in self._tiles(width, zooms, largest):
            # [b, K, tile, window] to [b, 1, window, K * tile], then one product for all zooms.
            wide = ops.transpose(matrix, [0, 3, 1, 2])
            wide = ops.reshape(wide, [-1, 1, last - first, most * matrix.shape[2]])
            zoomed = ops.matmul(planes[..., first:last], wide)
            # Rows and zooms together are what the second product sums over.
            zoomed = ops.reshape(zoomed, [-1, images.shape[-1], height * most, matrix.shape[2]])
            columns.append(ops.concatenate([_mix(tile, zoomed, most) for tile in row_tiles], 2))
        blurred = ops.transpose(ops.concatenate(columns, axis=3), [0, 2, 3, 1])
        return blurred + images / ops.reshape(count + 1, [-1, 1, 1, 1])

    def _tiles(self, side, zooms, largest):
        """Yields (first, last, matrix [B, K, tile, last - first]) for each tile of an axis."""
        sizes = self._sizes(side, ops.expand_dims(zooms, -1))
        for start in range(0, side, self._TILE):
            position = np.arange(start, min(start + self._TILE, side), dtype=np.float32)
            bounds = [
                zoomed(position, side, *zoom_sizes(side, np.float32(zoom))) for zoom in (1, largest)
            ]
            first = max(math.floor(np.min(bounds)) - 2, 0)
            last = min(math.ceil(np.max(bounds)) + 3, side)
            source = ops.expand_dims(zoomed(position, side, *sizes), -1)
            distance = ops.absolute(source - np.arange(first, last, dtype=np.float32))
            yield first, last, ops.maximum(1.0 - distance, 0.0)

    def _sizes(self, side, zooms):
        """Does what `zoom_sizes` does, but for whole hundredths as in float64."""
        crops = np.ceil(side / self._HUNDREDTHS)
        exact = crops, np.round(crops * self._HUNDREDTHS)
        place = 100 * (zooms - 1)
        index = ops.round(place)
        is_whole = ops.absolute(place - index) < 1e-3
        index = ops.cast(index, "int32")
        return [
            ops.where(is_whole, ops.take(known.astype(np.float32), index), size)
            for known, size in zip(exact, zoom_sizes(side, zooms), strict=True)
        ]


def _mix(tile, zoomed, most):
    first, last, matrix = tile
    matrix = ops.transpose(matrix, [0, 2, 3, 1])
    matrix = ops.reshape(matrix, [-1, 1, matrix.shape[1], (last - first) * most])
    return ops.matmul(matrix, zoomed[:, :, first * most : last * most])


def zoom_sizes(side, zoom):
    """Returns how many pixels of an axis a zoom crops from the centre, and enlarges them to."""
    # Arrays stay arrays, for bounds that are needed while a graph is traced. The slack keeps
    # quotients that are whole numbers from being rounded up.
    library = ops if ops.is_tensor(zoom) else np
    crop = library.ceil(side / zoom - 1e-4)
    return crop, library.round(crop * zoom)


def zoomed(position, side, crop, enlarged):
    """Returns where each position of an axis lies in the image before a zoom into its centre.

    Args:
        position: positions on the axis, pixels.
        side: length of the axis.
        crop: see `zoom_sizes`.
        enlarged: see `zoom_sizes`.
    """
    library = ops if ops.is_tensor(crop) else np
    first = library.floor((side - crop) / 2)
    trim = library.floor((enlarged - side) / 2)
    return first + (position + trim) * (crop - 1) / library.maximum(enlarged - 1, 1)

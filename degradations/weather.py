"""Weather: fog, frost, snow, and spatter on the lens."""

import math
import pathlib

import numpy as np
from keras import ops

from degradations import blur, edges, filters, frost_texture, random
from degradations.base import Degradation, choose, is_grey, per_image, register, to_8_bits
from degradations.photometric import join, split

# Weights of red, green and blue in a grey value, ITU-R BT.601, as OpenCV takes them.
GREY_WEIGHTS = (0.299, 0.587, 0.114)


def luminance(planes):
    """Returns the grey value of a list of colour planes; of a single plane, itself."""
    if len(planes) == 1:
        return planes[0]
    return sum(weight * plane for weight, plane in zip(GREY_WEIGHTS, planes, strict=True))


@register
class Fog(Degradation):
    """Adds a plasma fractal and lowers the contrast: ImageNet-C's fog.

    Source: Hendrycks & Dietterich (ICLR 2019): (x + amount f) max(x) / (max(x) + amount), f from
    the diamond-square algorithm on the next power of two, scaled to 0-1, its top left part.
    """

    severity_table = "fog"
    parameters = ("amount", "decay")
    unit = "amount of fog, decay of the fractal's detail per level"
    limits = ((0.0, 100.0), (1.0, 100.0))

    def apply(self, images, levels, seed):
        """Puts fog over images [B, H, W, C] by `levels` [B, 2] with fractals from the seed."""
        height, width = filters.static_sides(images, type(self).__name__)
        rounds = max(math.ceil(math.log2(max(height, width))), 0)
        fractal = plasma(ops.shape(images)[0], rounds, levels[:, 1], seed)
        amount = levels[:, 0]
        brightest = ops.max(images, axis=(1, 2, 3)) / 255.0
        scale = brightest / ops.maximum(brightest + amount, 1e-6)
        haze = fractal[:, :height, :width] * ops.reshape(255.0 * amount * scale, [-1, 1, 1])
        planes = [plane * ops.reshape(scale, [-1, 1, 1]) + haze for plane in split(images)]
        return join(planes)


def plasma(batch, rounds, decay, seed):
    """Returns periodic plasma fractals [batch, 2^rounds, 2^rounds], each scaled to 0-1.

    Diamond-square, after Fournier, Fussell & Carpenter (Communications of the ACM, 1982), in the
    variant of ImageNet-C: each new point is the mean of four neighbours plus w U(-w, w), where w is
    100, divided by the decay after each round.

    Args:
        batch: number of fractals.
        rounds: number of rounds; each doubles the resolution.
        decay: float32 [batch].
        seed: int32 tensor of shape [2].
    """
    points = ops.zeros([batch, 1, 1])
    # The scale drops out at the end; starting from 1 keeps the numbers small.
    spread = ops.ones([batch, 1, 1])
    decay = ops.reshape(decay, [-1, 1, 1])

    def around(sums, draws):
        return sums / 4 + spread * draws

    for i in range(rounds):
        side = 2**i
        draws = random.uniform([batch, 3, side, side], random.fold_in(seed, i), -1.0, 1.0)
        pairs = points + ops.roll(points, -1, axis=1)
        squares = around(pairs + ops.roll(pairs, -1, axis=2), draws[:, 0])
        below = squares + ops.roll(squares, 1, axis=1)
        right = points + ops.roll(points, -1, axis=2)
        tops = around(below + right, draws[:, 1])
        across = squares + ops.roll(squares, 1, axis=2)
        down = points + ops.roll(points, -1, axis=1)
        lefts = around(across + down, draws[:, 2])
        upper = ops.reshape(ops.stack([points, tops], axis=-1), [batch, side, 1, 2 * side])
        lower = ops.reshape(ops.stack([lefts, squares], axis=-1), [batch, side, 1, 2 * side])
        points = ops.reshape(ops.concatenate([upper, lower], axis=2), [batch, 2 * side, 2 * side])
        spread = spread / decay**2
    points = points - ops.min(points, axis=(1, 2), keepdims=True)
    return points / ops.maximum(ops.max(points, axis=(1, 2), keepdims=True), 1e-12)


# Factors of the photos of frost, by `size`.
_SCALES = {64: 0.3, 32: 0.2}


@register
class Frost(Degradation):
    """Adds a window of a frost photo: ImageNet-C's frost.

    Source: Hendrycks & Dietterich (ICLR 2019): weights of the image and of a random window of one
    of the first five photos of a folder. With `size` 64 (Tiny-ImageNet-C) photos are scaled by 0.3,
    with 32 (CIFAR-10-C) by 0.2, bilinearly and without smoothing them before, as OpenCV does.
    Photos smaller than the image are enlarged to cover it.

    Args:
        folder: folder with photos of frost; None makes crystal textures of our own instead. At each
            severity of each size, what they add has the mean and the spread of the authors' photos
            within 3 %, the differences between neighbouring pixels within 15 %.
        photos: how many photos of the folder, in order of their names, are used; the authors' draw
            never reaches their sixth.
        **kwargs: see `Degradation`.
    """

    severity_table = "frost"
    parameters = ("image_weight", "frost_weight")
    options = ("folder", "photos")
    unit = "weights of the image and of the frost"
    limits = ((0.0, 10.0), (0.0, 10.0))

    def __init__(self, level=None, folder=None, photos=5, **kwargs):
        super().__init__(level, **kwargs)
        if not isinstance(photos, int) or isinstance(photos, bool) or photos < 1:
            raise ValueError(f"photos must be a whole number from 1. Received: {photos!r}")
        self.folder, self.photos = None if folder is None else str(folder), photos
        if self.folder is None:
            self._textures = frost_texture.frost_textures(photos)
        else:
            self._textures = _read_photos(self.folder, photos)
        if self.size in _SCALES:
            self._textures = [_scale(texture, _SCALES[self.size]) for texture in self._textures]
        self._prepared = {}

    def apply(self, images, levels, seed):
        """Adds frost to images [B, H, W, C] by `levels` [B, 2], windows drawn from the seed."""
        height, width = filters.static_sides(images, type(self).__name__)
        pixels, firsts, sides = self._prepare(height, width)
        batch = ops.shape(images)[0]
        draws = random.uniform([batch, 3], seed)
        index = ops.cast(ops.floor(draws[:, 0] * len(firsts)), "int32")
        first, side = ops.take(firsts, index), ops.take(sides, index, axis=0)
        # As the authors' draw, which never reaches the last place.
        room = ops.cast(ops.maximum(side - np.int32([height, width]), 1), "float32")
        corner = ops.cast(ops.floor(draws[:, 1:] * room), "int32")
        rows = corner[:, :1] + np.arange(height, dtype=np.int32)
        columns = corner[:, 1:] + np.arange(width, dtype=np.int32)
        start = ops.expand_dims(first, -1) + rows * side[:, 1:]
        window = ops.expand_dims(start, -1) + ops.expand_dims(columns, 1)
        frost = ops.take(pixels, window, axis=0)
        if is_grey(images):
            frost = ops.expand_dims(luminance(split(frost)), -1)
        return images * per_image(levels[:, 0], images) + frost * per_image(levels[:, 1], images)

    def _prepare(self, height, width):
        """Returns all photos' pixels in one array [N, 3], each one's first row, and their sides."""
        if (height, width) not in self._prepared:
            photos = []
            for photo in self._textures:
                factor = max(height / photo.shape[0], width / photo.shape[1], 1.0)
                photos.append(photo if factor == 1 else _enlarge(photo, factor, height, width))
            sides = np.int32([photo.shape[:2] for photo in photos])
            firsts = np.cumsum([0, *(h * w for h, w in sides[:-1])]).astype(np.int32)
            pixels = np.concatenate([photo.reshape(-1, 3) for photo in photos])
            self._prepared[height, width] = pixels.astype(np.float32), firsts, sides
        return self._prepared[height, width]


def _read_photos(folder, count):
    from PIL import Image

    path = pathlib.Path(folder)
    if not path.is_dir():
        raise ValueError(f"folder must be a folder with photos of frost. Received: {folder!r}")
    suffixes = {".png", ".jpg", ".jpeg"}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"folder holds no .png, .jpg or .jpeg file. Received: {folder!r}")
    photos = []
    for file in files[:count]:
        try:
            with Image.open(file) as image:
                photos.append(np.asarray(image.convert("RGB")))
        except Exception as error:  # Pillow raises many kinds on damaged files
            raise ValueError(f"{file} is no whole image: {error}") from error
    return photos


def _scale(photo, factor):
    import cv2

    return cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def _enlarge(photo, factor, height, width):
    import cv2

    height, width = (
        max(math.ceil(side * factor - 1e-9), least)
        for side, least in zip(photo.shape, (height, width), strict=False)
    )
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)


@register
class Snow(Degradation):
    """Bleaches the image and adds streaks: ImageNet-C's snow.

    Source: Hendrycks & Dietterich (ICLR 2019): N(mean, spread) per pixel, zoomed into its centre,
    values under the threshold set to 0, cut to 0-1, truncated to 8 bits, motion blur at an angle
    from -135 to -45 degrees, truncated again; the image w x + (1 - w) max(x, 1.5 grey(x) + 0.5);
    the layer and its half-turn are added.
    """

    severity_table = "snow"
    parameters = ("mean", "spread", "zoom", "threshold", "radius", "deviation", "image_weight")
    unit = (
        "mean, spread, zoom and threshold of the flakes, radius and deviation of the blur, weight"
    )
    limits = (
        (-10.0, 10.0),
        (0.0, 10.0),
        (1.0, 20.0),
        (0.0, 1.0),
        (0.0, 100.0),
        (0.01, 100.0),
        (0.0, 1.0),
    )

    def apply(self, images, levels, seed):
        """Lets it snow on images [B, H, W, C] by `levels` [B, 7], flakes drawn from the seed."""
        height, width = filters.static_sides(images, type(self).__name__)
        batch = ops.shape(images)[0]
        mean, spread, zoom, threshold, radius, deviation, weight = (
            ops.reshape(levels[:, i], [-1, 1, 1]) for i in range(7)
        )
        # Only the part that the zoom shows is drawn.
        least = self.smallest("zoom")
        rows, columns = (math.ceil(side / least - 1e-4) for side in (height, width))
        flakes = random.normal([batch, rows, columns], random.fold_in(seed, 0))
        flakes = flakes * spread + mean
        flakes = ops.matmul(_enlarging(height, rows, zoom), flakes)
        across = ops.transpose(_enlarging(width, columns, zoom), [0, 2, 1])
        flakes = ops.matmul(flakes, across)
        flakes = flakes * ops.cast(flakes >= threshold, "float32")
        flakes = ops.expand_dims(to_8_bits(255.0 * flakes), -1)
        angles = random.uniform([batch], random.fold_in(seed, 1), -135.0, -45.0)
        reach = 2 * math.floor(self.largest("radius") + 0.5)
        streaks = blur.move(
            flakes, radius[:, 0, 0], deviation[:, 0, 0], angles, reach, type(self).__name__
        )
        # ImageMagick, which the authors blur with, truncates too.
        streaks = to_8_bits(streaks)[..., 0]
        streaks = streaks + ops.flip(streaks, axis=(1, 2))
        planes = split(images)
        bleached = 1.5 * luminance(planes) + 127.5
        planes = [
            plane * weight + ops.maximum(plane, bleached) * (1 - weight) + streaks
            for plane in planes
        ]
        return join(planes)


def _enlarging(side, most, zoom):
    """Returns matrices [B, side, most] that zoom a drawn crop of ceil(side / zoom) to the side."""
    crop, enlarged = blur.zoom_sizes(side, zoom)
    first = ops.floor((side - crop) / 2)
    position = ops.expand_dims(np.arange(side, dtype=np.float32), -1)
    source = blur.zoomed(position, side, crop, enlarged) - first
    return ops.maximum(1.0 - ops.absolute(source - np.arange(most, dtype=np.float32)), 0.0)


@register
class Spatter(Degradation):
    """Drops of water or splashes of mud on the lens: ImageNet-C's spatter.

    Source: Hendrycks & Dietterich (ICLR 2019): N(mean, spread) per pixel, blurred, values under the
    threshold set to 0. Water (mud below 1/2): the layer times a function of the distance to its
    edges (Canny 50 / 150, cut at 20, 3x3 box, histogram equalised, embossed, 3x3 box), divided by
    its maximum, times the strength, in pale turquoise. Mud: where the layer is above the threshold,
    blurred by the strength and cut below 0.8, in brown.
    """

    severity_table = "spatter"
    parameters = ("mean", "spread", "deviation", "threshold", "strength", "mud")
    unit = "mean, spread, blur and threshold of the drops, strength (mud: blur), mud 0 or 1"
    limits = (
        (-10.0, 10.0),
        (0.0, 10.0),
        (0.0, 50.0),
        (0.0, 1.0),
        (0.0, 50.0),
        (0.0, 1.0),
    )

    _WATER = (175.0, 238.0, 238.0)
    _MUD = (63.0, 42.0, 20.0)
    _EMBOSS = (((-1, -1), -2), ((-1, 0), -1), ((0, -1), -1), ((0, 0), 1), ((0, 1), 1))
    _EMBOSS += (((1, 0), 1), ((1, 1), 2))

    def apply(self, images, levels, seed):
        """Spatters images [B, H, W, C] by `levels` [B, 6], drops drawn from the seed."""
        height, width = filters.static_sides(images, type(self).__name__)
        mean, spread, threshold = (ops.reshape(levels[:, i], [-1, 1, 1]) for i in (0, 1, 3))
        layer = random.normal([ops.shape(images)[0], height, width], seed) * spread + mean
        layer = ops.expand_dims(layer, -1)
        layer = filters.gaussian(layer, levels[:, 2], self.largest("deviation"))[..., 0]
        planes = split(images)
        if self.largest("mud") < 0.5:
            return join(self._water(planes, layer, threshold, levels[:, 4]))
        if self.smallest("mud") >= 0.5:
            return join(self._mud(planes, layer, threshold, levels[:, 4]))
        water = join(self._water(planes, layer, threshold, levels[:, 4]))
        mud = join(self._mud(planes, layer, threshold, levels[:, 4]))
        return choose(levels[:, 5] >= 0.5, mud, water)

    def _water(self, planes, layer, threshold, strength):
        layer = layer * ops.cast(layer >= threshold, "float32")
        layer = ops.floor(ops.clip(layer, 0.0, 1.0) * 255.0)
        depth = edges.distance(edges.canny(layer, 50.0, 150.0), 20)
        depth = edges.equalize(ops.floor(edges.box(depth)), 20)
        near = edges.neighbourhood(depth, "mirror")
        depth = sum(weight * near(*shift) for shift, weight in self._EMBOSS)
        depth = ops.floor(edges.box(ops.clip(depth, 0.0, 255.0)) + 0.5)
        mask = layer * depth
        mask = mask / ops.maximum(ops.max(mask, axis=(1, 2), keepdims=True), 1.0)
        mask = mask * ops.reshape(strength, [-1, 1, 1])
        return [
            plane + ops.minimum(mask * colour, 255.0)
            for plane, colour in zip(planes, _colour(planes, self._WATER), strict=True)
        ]

    def _mud(self, planes, layer, threshold, strength):
        mask = ops.expand_dims(ops.cast(layer > threshold, "float32"), -1)
        mask = filters.gaussian(mask, strength, self.largest("strength"))[..., 0]
        mask = mask * ops.cast(mask >= 0.8, "float32")
        return [
            plane * (1 - mask) + mask * colour
            for plane, colour in zip(planes, _colour(planes, self._MUD), strict=True)
        ]


def _colour(planes, colour):
    return colour if len(planes) == 3 else [luminance(colour)]

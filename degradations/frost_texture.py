"""Textures like frost on a window, drawn from feathers of ice.

Each has the mean and the spread of one of the photos that ImageNet-C draws frost from.
"""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Lines are drawn at twice the size, then averaged: Pillow's lines are not smooth.
OVERSAMPLING = 2
# Deviation of the blur in pixels; ice refracts, it has no sharp lines.
BLUR = 0.6
# Deviation of the noise of single pixels, beside ice whose values deviate by about 40.
GRAIN = 12.0
# Feathers of ice per texture, from large to small, and their lengths as shares of the side.
FEATHERS = 330
LONGEST, SHORTEST = 0.34, 0.05
# Side branches of ice leave the stem at up to 60 degrees, the angle of its crystals.
BRANCH_ANGLES = (math.radians(25.0), math.radians(60.0))
# Means and deviations of red, green and blue of the photos frost1.png to frost5.jpg that
# Hendrycks & Dietterich (ICLR 2019) use; the second and the third have the same.
LOOKS = (
    ((78, 149, 166), (27, 17, 15)),
    ((201, 205, 215), (21, 22, 23)),
    ((201, 205, 215), (21, 22, 23)),
    ((138, 153, 165), (29, 29, 30)),
    ((112, 123, 135), (44, 43, 42)),
)
# Where the dark edge of a branch lies beside it.
EDGE = 0.8 + 0.8j


@functools.lru_cache(maxsize=8)
def frost_textures(count, side=512):
    """Returns a tuple of uint8 images [side, side, 3], always the same ones; not to be changed."""
    return tuple(
        _frost_texture(np.random.default_rng(index), side, *LOOKS[index % len(LOOKS)])
        for index in range(count)
    )


def _frost_texture(generator, side, means, deviations):
    canvas = Image.new("L", (side * OVERSAMPLING,) * 2, 60)
    draw = ImageDraw.Draw(canvas)
    # Neighbouring feathers grow in similar directions, as they start from the same scratches.
    directions = _smooth_field(generator, side, 1.6) * 1.4 + generator.uniform(0, 2 * math.pi)
    for share in np.linspace(0.0, 1.0, FEATHERS):
        root = generator.uniform(-0.1, 1.1, 2) * side
        row, column = np.clip(root.astype(int), 0, side - 1)
        angle = directions[row, column] + generator.normal(0, 0.35)
        length = side * LONGEST * (SHORTEST / LONGEST) ** share * generator.uniform(0.7, 1.3)
        _draw_feather(draw, generator, root, angle, length)
    canvas = canvas.filter(ImageFilter.GaussianBlur(BLUR * OVERSAMPLING))
    ice = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float64)
    value = ice * (1.0 + 0.35 * _smooth_field(generator, side, 1.6))
    value += GRAIN * generator.standard_normal((side, side))
    value = (value - value.mean()) / value.std()
    pixels = np.array(means) + np.array(deviations) * value[..., None]
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def _draw_feather(draw, generator, root, angle, length):
    """Draws a stem with branches that grow shorter towards its tip, each with a dark edge."""
    brightness = generator.uniform(110.0, 250.0)
    spread = generator.uniform(*BRANCH_ANGLES)
    ratio = generator.uniform(0.15, 0.4)
    bend = generator.normal(0, 0.25)
    along = np.linspace(0.0, 1.0, max(6, int(length / generator.uniform(2.5, 4.5))))
    # Points of the plane are complex numbers: column + i row.
    root = complex(root[1], root[0])
    headings = angle + bend * along
    starts = root + along * length * np.exp(1j * headings)
    reaches = ratio * length * (1.0 - along) ** 0.7 * generator.uniform(0.5, 1.0, along.size)
    # One side of a feather lies in the light, the other in its shadow.
    for side, light in ((1.0, 1.0), (-1.0, 0.72)):
        ends = starts + reaches * np.exp(1j * (headings + side * spread))
        shades = brightness * light * generator.uniform(0.55, 1.05, along.size)
        for start, end, shade in zip(starts, ends, shades, strict=True):
            _line(draw, start + EDGE, end + EDGE, 0.35 * shade)
            _line(draw, start, end, shade)
    _line(draw, root, starts[-1], brightness)


def _line(draw, start, end, value):
    start, end = start * OVERSAMPLING, end * OVERSAMPLING
    points = (start.real, start.imag, end.real, end.imag)
    draw.line(points, fill=min(255, int(value)), width=OVERSAMPLING)


def _smooth_field(generator, side, exponent):
    """Returns noise [side, side] of amplitude `1 / f^exponent` and standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1.0 / side
    waves = np.fft.rfft2(generator.standard_normal((side, side))) / frequency**exponent
    values = np.fft.irfft2(waves, (side, side))
    return (values - values.mean()) / values.std()

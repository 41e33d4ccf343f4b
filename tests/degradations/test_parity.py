"""The deterministic corruptions against SciPy, scikit-image, OpenCV and Pillow."""

import os

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.color
import skimage.data
from PIL import Image

import degradations
from benchmarks import imagecorruptions_peer
from degradations import blur, severity

PHOTO = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((224, 224)))


def here(text, image=PHOTO):
    return np.asarray(degradations.parse(text)(np.float32(image)[None], seed=1))[0]


def table(name, level):
    return severity.table(name)[level - 1]


def gaussian_blur(x, level):
    deviation = table("gaussian_blur", level)[0]
    return scipy.ndimage.gaussian_filter(x, (deviation, deviation, 0), mode="nearest")


def defocus_blur(x, level):
    radius, smoothing = table("defocus_blur", level)
    reach = 8 if radius <= 8 else int(radius)
    grid = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disk = (grid <= radius).astype(np.float64)
    taps = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=taps, sigmaX=smoothing)
    return scipy.ndimage.correlate(x, kernel[..., None], mode="mirror")


# What ImageNet-C and CIFAR-10-C zoom by, in float64.
ZOOMS = {
    224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    32: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
}


def zoom_blur(x, level, size=224):
    end, step = ZOOMS[size][level - 1]
    zooms = np.arange(1, end, step)
    side = x.shape[0]
    total = x.copy()
    for zoom in zooms:
        crop = int(np.ceil(side / zoom))
        first = (side - crop) // 2
        part = x[first : first + crop, first : first + crop]
        part = scipy.ndimage.zoom(part, (zoom, zoom, 1), order=1)
        first = (part.shape[0] - side) // 2
        total += part[first : first + side, first : first + side]
    return total / (len(zooms) + 1)


def contrast(x, level):
    mean = x.mean(axis=(0, 1))
    return (x - mean) * table("contrast", level)[0] + mean


def brightness(x, level):
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + table("brightness", level)[0], 0, 1)
    return skimage.color.hsv2rgb(hsv)


def saturate(x, level):
    factor, offset = table("saturate", level)
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    return skimage.color.hsv2rgb(hsv)


@pytest.mark.parametrize("level", [1, 3, 5])
@pytest.mark.parametrize(
    "reference", [gaussian_blur, defocus_blur, zoom_blur, contrast, brightness, saturate]
)
def test_within_one_grey_level_of_a_float64_reference(reference, level):
    expected = np.clip(reference(PHOTO / 255.0, level), 0, 1) * 255
    difference = np.abs(here(f"{reference.__name__}@{level}") - np.floor(expected))
    assert difference.max() <= 1
    assert np.abs(here(f"{reference.__name__}@{level}:quantize=none") - expected).max() < 0.02


# A crop times its zoom ends in 1/2 at 32 (26 x 1.25), 79 (75 x 1.06) and 10 (10 x 1.05): the first
# two were rounded up, the last down.
@pytest.mark.parametrize(("side", "levels"), [(32, (1, 5)), (79, (1,)), (10, (1,))])
def test_zoom_blur_of_small_images(side, levels):
    photo = PHOTO[60 : 60 + side, 80 : 80 + side]
    layer = degradations.parse("zoom_blur@1-5:quantize=none", size=32)
    for level in levels:
        expected = 255 * zoom_blur(photo / 255.0, level, 32)
        found = here(f"zoom_blur:severity={level},size=32,quantize=none", photo)
        assert np.abs(found - expected).max() < 0.02
        found = layer.call_at(np.float32(photo)[None], float(level), 1)[0]
        assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize("deviation", [0.2, 0.3, 2.3])
def test_authors_blur_equals_scipy_on_8_bits(deviation):
    photo = PHOTO[:64, :96]
    planes = [
        scipy.ndimage.gaussian_filter(photo[..., i], deviation, truncate=3.0, mode="nearest")
        for i in range(3)
    ]
    layer = degradations.parse("blur:0-5,step=0.1,authors_variant=true")
    for found in (
        here(f"blur:{deviation},authors_variant=true", photo),
        np.asarray(layer.call_at(np.float32(photo)[None], deviation, 1))[0],
    ):
        difference = np.abs(found - np.stack(planes, axis=-1))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


# On odd sides borders of boxes lie in the middle of pixels.
@pytest.mark.parametrize("shape", [(224, 224), (101, 101)])
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_pixelate_equals_pillow(level, shape):
    photo = PHOTO[: shape[0], : shape[1]]
    sides = [int(side * table("pixelate", level)[0]) for side in reversed(shape)]
    box = Image.Resampling.BOX
    expected = Image.fromarray(photo).resize(sides, box).resize(shape[::-1], box)
    np.testing.assert_array_equal(here(f"pixelate@{level}", photo), np.float32(expected))


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_copies_are_followed_as_one_after_the_other(reach):
    generator = np.random.default_rng(reach)
    height, width = 40, 37
    dy, dx = generator.integers(-reach, reach, (2, height, width))
    origin = np.arange(height * width, dtype=np.int32).reshape(1, height, width)
    inside = np.zeros((height, width), bool)
    inside[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    # ImageNet-C's own statement, on a colour image: views of one array, hence copies, not swaps.
    pixels = np.repeat(origin[0][..., None], 3, axis=-1)
    for y in range(height - reach, reach, -1):
        for x in range(width - reach, reach, -1):
            y2, x2 = y + dy[y, x], x + dx[y, x]
            pixels[y, x], pixels[y2, x2] = pixels[y2, x2], pixels[y, x]
    expected = pixels[..., 0]
    offset = np.where(inside, dy * width + dx, 0).astype(np.int32)[None]
    earlier = (offset > 0) & inside.ravel()[origin + offset]
    times = blur.doublings(reach)
    result = blur.follow_copies(origin, offset, earlier.astype(np.int32), times)
    np.testing.assert_array_equal(np.asarray(result)[0], expected)


ORACLE = os.environ.get("IMAGECORRUPTIONS_FOLDER")


@pytest.mark.skipif(
    not imagecorruptions_peer.is_installed(ORACLE),
    reason="imagecorruptions is not installed; IMAGECORRUPTIONS_FOLDER may name its folder",
)
@pytest.mark.parametrize(
    "name",
    [
        "defocus_blur",
        "zoom_blur",
        "gaussian_blur",
        "brightness",
        "saturate",
        "contrast",
        "pixelate",
    ],
)
def test_within_one_grey_level_of_imagecorruptions(name):
    peer = getattr(imagecorruptions_peer.load(ORACLE), name)
    for level in range(1, 6):
        expected = np.asarray(peer(Image.fromarray(PHOTO), level)).astype(np.uint8)
        assert np.abs(here(f"{name}@{level}") - expected).max() <= 1


@pytest.mark.parametrize("text", ["shot_noise@{}", "shot_noise:{}-{}"])
@pytest.mark.parametrize("photons", [3, 60])
def test_shot_noise_follows_poisson(text, photons):
    level = {60: 1, 3: 5}[photons]
    # A range of almost no width takes the way of drawn levels.
    text = text.format(level) if "@" in text else text.format(photons, photons * 1.00001)
    for grey in (0, 20, 255):
        draws = here(
            text + ("," if "-" in text else ":") + "quantize=none", np.full((90, 90, 3), grey)
        )
        counts = np.bincount(np.round(draws.ravel() / 255 * photons).astype(int), minlength=9)
        expected = scipy.stats.poisson.pmf(np.arange(len(counts)), photons * grey / 255)
        expected[photons:] = 0
        counts = counts.astype(float)
        counts[photons:] = 0
        spread = np.sqrt(draws.size * expected * (1 - expected)) + 1
        assert (np.abs(counts - draws.size * expected) < 5 * spread).all()
